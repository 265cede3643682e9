"""Whether INSERT ... SELECT inside the database may stand for reading here and writing there."""

from collections.abc import Sequence
from dataclasses import fields

import psycopg

from ...errors import SnapshotLostError
from ...model import Column, Snapshot
from ...protocols import Place
from ...query import Query
from . import catalog, errors, meaning, session
from .target import PostgreSQLWriter

# What may add rows to those inserted, or take some away: how many came could not be told from how
# many went in. On the table itself, its partitions, or what it inherits from.
_MEDDLERS = f"""
{catalog.TREE}
select 'trigger ' || quote_ident(t.tgname) from pg_trigger t join tree on t.tgrelid = tree.oid
-- Bits of tgtype: for each row 1, before 2, insert 4, instead 64.
where not t.tgisinternal and t.tgtype & 5 = 5 and t.tgtype & 66 <> 0 and t.tgenabled <> 'D'
union all
select 'rule ' || quote_ident(r.rulename) from pg_rewrite r join tree on r.ev_class = tree.oid
where r.ev_type = '3' and r.ev_enabled <> 'D'
"""

_WORDS = {
    "server": "are on different servers",
    "database": "are different databases",
    "user": "have different users",
    "search_path": "look for tables in different schemas",
    "time_zone": "have different time zones",
}


def blocker(
    writer: PostgreSQLWriter,
    query: Query,
    snapshot: Snapshot,
    *,
    place: Place | None,
    table: Sequence[str],
    pairs: Sequence[tuple[Column, Column]],
) -> str | None:
    """Return why not, or None; see `Target.insert_select_blocker`."""
    if place is None:
        return "source and target are not one database"
    with writer.begin() as transaction:
        here = transaction.place()
        for each in fields(Place):
            if getattr(here, each.name) != getattr(place, each.name):
                return f"source and target {_WORDS[each.name]}"
        if name := meaning.differs(snapshot.settings, transaction.settings()):
            return f"sessions of source and target have different {name}"
        for ours, theirs in pairs:
            if ours.type_id != theirs.type_id:
                return f"{theirs.name} is {ours.type} in the query and {theirs.type} in the target"
        meddlers = transaction.execute(_MEDDLERS, {"name": session.identifier(*table)})
    if meddlers:
        return f"{meddlers[0][0]} of the target may change how many rows are inserted"
    try:
        with writer.begin(snapshot) as transaction:
            # For which it needs the rights to run it.
            planned = transaction.explain(query, snapshot)
    except (psycopg.Error, SnapshotLostError) as error:
        if errors.is_transient(error):
            raise
        words = errors.words(error) if isinstance(error, psycopg.Error) else str(error)
        return f"the target's session cannot run the query ({words})"
    if "current_setting(" in planned:
        return "the query reads a setting of its session, which may differ in the target's session"
    return None
