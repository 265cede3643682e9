"""What a snapshot does not show: tables emptied, rewritten or attached since it was taken.

Catalog functions tell what is so now, and the catalog's own rows, read at the snapshot, what was so
then. Source: PostgreSQL documentation, "Caveats" of MVCC, and TRUNCATE.
"""

from collections.abc import Sequence

from ...errors import RUN_AGAIN, SnapshotLostError
from ...model import Snapshot
from . import saying

# The lowest oid of what users made.
# Source: PostgreSQL source, access/transam.h, FirstNormalObjectId.
_OF_USERS = 16_384

# Of the tables that this transaction has read, one on which then and now differ. A table that was
# made since has no row in the catalog of then, and no row of then in it either.
CHANGED = f"""
select c.oid::regclass::text,
       case when c.relfilenode = coalesce(pg_relation_filenode(c.oid), 0)
            then 'become a part of another table' else 'been emptied or rewritten' end
from pg_locks l join pg_class c on c.oid = l.relation
where l.pid = pg_backend_pid() and l.locktype = 'relation' and l.mode = 'AccessShareLock'
and l.database = (select oid from pg_database where datname = current_database())
and c.oid >= {_OF_USERS} and c.relkind in ('r', 'm', 'p')
and (c.relfilenode <> coalesce(pg_relation_filenode(c.oid), 0)
     or pg_partition_root(c.oid) <> c.oid and not c.relispartition)
order by c.oid limit 1
"""


def refuse(changed: Sequence[Sequence[str]], snapshot: Snapshot) -> None:
    """Raise SnapshotLostError when `CHANGED` has found a table: some chunks would lack its rows."""
    for table, what in changed:
        msg = (
            f"{table} has {what} since {snapshot.description} was taken, which does not show its"
            f" rows as they were then. {RUN_AGAIN} when that is done; it takes a new snapshot"
        )
        raise SnapshotLostError(msg)


def check(connection: saying.Connection, snapshot: Snapshot) -> None:
    """Raise SnapshotLostError when a table that was read is not any more what the snapshot saw."""
    refuse(saying.run(connection, CHANGED).fetchall(), snapshot)
