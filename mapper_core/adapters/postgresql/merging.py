"""A stage's rows merged into a table: those of a known key where they differ, and the others."""

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg

from . import errors, saying, session

# First version with MERGE.
_MERGE = 150_000

# Whether a trigger may have a row left out. A trigger of a partition counts for its rows.
# Source: PostgreSQL source, src/include/catalog/pg_trigger.h, bits of tgtype (ROW, BEFORE).
FILTERS = """
select exists (
    select from pg_trigger
    where tgrelid in (
        select relid from pg_partition_tree(to_regclass(:name)) union select to_regclass(:name)
    )
    and not tgisinternal and tgenabled <> 'D' and tgtype & 3 = 3
)
"""


@dataclass(frozen=True, slots=True)
class Merge:
    """The statements of one merge."""

    table: Sequence[str]
    rows: str
    """A subquery."""
    columns: Sequence[str]
    key: Sequence[str]

    @property
    def name(self) -> str:
        """The table's name, quoted."""
        return session.identifier(*self.table)

    def statements(self, server_version: int) -> list[str]:
        """Return what updates rows and adds rows; each says how many."""
        listed = ", ".join(map(session.identifier, self.columns))
        given = ", ".join(f"s.{session.identifier(column)}" for column in self.columns)
        assigned = ", ".join(f"{column} = s.{column}" for column in self._others)
        if server_version >= _MERGE:
            update = f" when matched and {self._changed} then update set {assigned}"
            return [
                f"merge into {self.name} t using {self.rows} s on {_same(self.key)}"
                f"{update if self._others else ''}"
                f" when not matched then insert ({listed}) values ({given})"
            ]
        update = (
            f"update {self.name} t set {assigned} from {self.rows} s"
            f" where {_same(self.key)} and {self._changed}"
        )
        insert = (
            f"insert into {self.name} ({listed}) select {given} from {self.rows} s"
            f" where not exists (select from {self.name} t where {_same(self.key)})"
        )
        return [update, insert] if self._others else [insert]

    @property
    def due(self) -> str:
        """The statement that counts what is to be updated and added."""
        missing = f"t.{session.identifier(self.key[0])} is null"
        changed = f" or {self._changed}" if self._others else ""
        return (
            f"select count(*) from {self.rows} s left join {self.name} t on {_same(self.key)}"
            f" where {missing}{changed}"
        )

    @property
    def _others(self) -> list[str]:
        return [session.identifier(column) for column in self.columns if column not in self.key]

    @property
    def _changed(self) -> str:
        # Compared as they are kept: equal numbers may have other digits, JSON knows no equality.
        # Source: PostgreSQL documentation, "Composite Type Comparison", operators of record_image.
        ours, theirs = (", ".join(f"{side}.{c}" for c in self._others) for side in "ts")
        return f"row({ours})::record *<> row({theirs})::record"


def blocker(connection: saying.Connection, table: Sequence[str], key: Sequence[str]) -> str | None:
    """Return why rows cannot be merged into a table by a key, in the server's words, or None."""
    name, names = session.identifier(*table), ", ".join(f"t.{session.identifier(k)}" for k in key)
    # Rows of the key are counted, and the table may have rules.
    asked = [f"explain select {names}, count(*) from {name} t group by {names} order by {names}"]
    if connection.info.server_version >= _MERGE:
        asked.append(
            f"explain merge into {name} t using {name} s on {_same(key)}"
            " when not matched then do nothing"
        )
    try:
        for statement in asked:
            session.tried(connection, statement)
    except (psycopg.ProgrammingError, psycopg.NotSupportedError) as error:
        return errors.words(error)
    return None


def _same(key: Sequence[str]) -> str:
    return " and ".join(f"t.{name} = s.{name}" for name in map(session.identifier, key))
