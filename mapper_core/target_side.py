"""The target's side of a load: the table as found, where rows go, the ledger's answers."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from .errors import QueryError, TargetError
from .fitting import match_columns, seen_by, shape, spelled
from .ledger import Ledger, LoadRecord
from .model import (
    Column,
    DataPath,
    LoadMode,
    Mapping,
    Plan,
    Snapshot,
)
from .origins import note
from .protocols import STAGE_CHUNK, STAGE_RANK, Access, Place, Target, Transaction
from .query import Query
from .results import ChunkResult
from .stopping import InUse


@dataclass(frozen=True, slots=True)
class WrittenTable:
    """What a load's rows are written to: the target table itself, or its stage."""

    database: Target
    ledger: Ledger
    name: tuple[str, ...]
    columns: tuple[Column, ...]
    """The target's columns."""
    staged: bool
    direct: bool = False
    """Whether rows are appended by Oracle's direct path load, into a stage that is empty."""


@dataclass(frozen=True, slots=True)
class FoundTable:
    """The target table before a load writes to it."""

    columns: tuple[Column, ...]
    """Its columns, or those that it will be created with."""
    access: Access
    """What stands against writing to it, and in what kind of session; it may be written at all."""


@dataclass(frozen=True, slots=True)
class TargetSide:
    """The database that a mapping writes to, its table there, and its ledger."""

    database: Target
    ledger: Ledger
    mapping: Mapping
    sets_rejects_apart: bool = False
    """Whether rows may be refused one by one, so that a stage must refuse them too."""
    in_use: InUse = field(default_factory=InUse, repr=False, compare=False)
    """The sessions of open transactions."""

    @property
    def table(self) -> tuple[str, ...]:
        """The parts of the target table's name."""
        return self.mapping.target_parts

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Open one transaction on a session of its own."""
        with (
            self.database.open_writer() as writer,
            self.in_use.using(writer),
            writer.begin() as transaction,
        ):
            yield transaction

    def sharing(self, plan: Plan) -> "TargetSide":
        """Return the same, each session of which means by its SQL what the plan's did."""
        return replace(self, database=self.database.sharing(plan.target_settings))

    def found(self, columns: Sequence[Column]) -> FoundTable:
        """Return the target table, or what it will be that is created for a query's `columns`.

        Raises TargetError when it is not there, or not ours to write.
        """
        name = self.mapping.target_name
        if self.mapping.load_mode is LoadMode.UPSERT and not self.database.merges:
            msg = (
                "load_mode='upsert' is for PostgreSQL, Oracle and SQLite, not for"
                f" {self.database.kind}"
            )
            raise TargetError(msg)
        if why := self.database.table_blocker(self.table):
            msg = f"{name} {why}: load into a table that others see, or copy the rows afterwards"
            raise TargetError(msg)
        with self.transaction() as transaction:
            table = transaction.columns(self.table)
            if not table and len(self.table) == 1 and "." in name:
                schema, _, last = name.rpartition(".")
                msg = (
                    f"the target has no table named {name!r}: give the schema separately, as"
                    f" target_schema={schema!r}, target_table={last!r}"
                )
                raise TargetError(msg)
            if not table and self.mapping.create_target:
                made = _to_create(self.database.as_created(columns), name)
                return FoundTable(made, Access(settings=transaction.settings()))
            if not table:
                raise TargetError(self._missing(transaction))
            access = transaction.access(self.table, self.mapping.privileges)
            names = {column.name for column in table}
            key, blocker = spelled(self.mapping.primary_key, names), None
            if key and set(key) <= names and not access.refusal:
                blocker = transaction.merge_blocker(self.table, key)
        if access.refusal:
            msg = f"{name} may not be written: {access.refusal}"
            raise TargetError(msg)
        if blocker:
            msg = f"load_mode='upsert' is not possible for {name}: {blocker}"
            raise TargetError(msg)
        if ours := sorted(names & {STAGE_CHUNK, STAGE_RANK}):
            msg = (
                f"{name} has a column {', '.join(ours)}, which is a name that loads use"
                " themselves: rename the column"
            )
            raise TargetError(msg)
        return FoundTable(table, access)

    def _missing(self, transaction: Transaction) -> str:
        """Return that the target is not there, and what to do about it."""
        words = f"the target has no table {self.mapping.target_name}"
        *schema, table = self.table
        if schema and table.startswith(f"{schema[0]}."):
            meant = (schema[0], table.removeprefix(f"{schema[0]}."))
            if transaction.columns(meant):
                return (
                    f"{words}, but it has {'.'.join(meant)}: give target_table without the schema"
                )
        # What SQL would have made of the name without quotes.
        for fold in (str.lower, str.upper):
            folded = tuple(map(fold, self.table))
            if folded != self.table and transaction.columns(folded):
                return f"{words}, but it has {'.'.join(folded)}: names are taken exactly as written"
        named = "" if schema else ", name its schema (target_schema)"
        return (
            f"{words}: create it, correct the name{named}, or pass create_target=True to create it"
            " with the query's columns"
        )

    def data_path(
        self,
        columns: Sequence[Column],
        table: Sequence[Column],
        offered: frozenset[DataPath],
    ) -> tuple[DataPath, str]:
        """Choose how rows travel into a table of these columns, having checked that they fit.

        Raises TargetError when they do not.
        """
        self._check_direct_path(columns, table)
        name, window = self.mapping.target_name, self.mapping.window
        names = {column.name for column in table}
        if window and spelled((window.column,), names)[0] not in names:
            msg = f"the window's column {window.column} is not a column of {name}"
            raise TargetError(msg)
        for each in (*self.mapping.primary_key, *filter(None, [self.mapping.order_column])):
            if spelled((each,), names)[0] not in names:
                msg = f"{each}, which upsert goes by, is not a column of {name}"
                raise TargetError(msg)
        if not columns and not self.mapping.transform:
            raise QueryError("the query selects no columns: name those to load")
        if self.mapping.transform_batch:
            return _arrow_path(offered)
        if self.mapping.transform:
            if not (seen := seen_by(columns, self.mapping.transform_columns)):
                return DataPath.ROWS, "the transform needs Python rows"
            wanted = ", ".join(column.name for column in seen)
            others = match_columns(columns[len(seen) :], table, name, complete=False)
            # Only to have refused what would not arrive as it is.
            self.database.data_path(offered, others, table)
            return DataPath.ROWS, f"the transform needs Python values of {wanted}"
        pairs = match_columns(columns, table, name)
        selected = {theirs.name for _, theirs in pairs}
        key = spelled(self.mapping.primary_key, names)
        if missing := [each for each in key if each not in selected]:
            msg = f"the query does not select {', '.join(missing)} of the primary key: select it"
            raise TargetError(msg)
        if window and spelled((window.column,), names)[0] not in selected:
            msg = (
                f"the query does not select {window.column}, so it cannot be checked that its rows"
                " lie in the window: select it"
            )
            raise TargetError(msg)
        return self.database.data_path(offered, pairs, table)

    def _check_direct_path(self, columns: Sequence[Column], table: Sequence[Column]) -> None:
        if not self.mapping.direct_path:
            return
        written = [column for column in table if not column.generated]
        if not self.mapping.transforms:
            pairs = match_columns(columns, table, self.mapping.target_name)
            written = [theirs for _, theirs in pairs]
        if words := self.database.no_direct_path(written):
            msg = f"direct_path is not possible: {words}"
            raise TargetError(msg)

    def insert_select_blocker(
        self,
        query: Query,
        snapshot: Snapshot,
        place: Place | None,
        pairs: Sequence[tuple[Column, Column]],
    ) -> str | None:
        """Return why INSERT ... SELECT inside the target's database would not do, or None."""
        limit = self.database.limit
        if self.database.sole or limit == 1:
            return "the ledger needs a second connection to the target, which has only one"
        return self.database.insert_select_blocker(query, snapshot, place, self.table, pairs)

    def begin_anew(self, plan: Plan, reading: str) -> Plan:
        """Empty the stage of a load and forget its chunks; return the plan under a new epoch."""
        with self.transaction() as transaction:
            begun = self.ledger.begin_anew(transaction, plan, reading)
            self.create_stage(transaction, begun)
        return begun

    def create_tables(self, transaction: Transaction, plan: Plan) -> bool:
        """Create what the plan needs: a missing target, if that was asked for, and a stage.

        Returns False, having made nothing, where another load has made the target since, otherwise
        than it was planned for.
        """
        if self.mapping.create_target:
            if not (table := transaction.columns(self.table)):
                transaction.create_table(self.table, plan.target_columns)
            elif shape(table) != shape(plan.target_columns):
                return False
        self.create_stage(transaction, plan)
        return True

    def create_stage(self, transaction: Transaction, plan: Plan) -> None:
        """Create the plan's stage, emptying an old one; nothing for a plan without one."""
        if plan.stage_table is None:
            return
        table = transaction.columns(self.table)
        if self.mapping.transforms:
            # What a transform adds is not known yet.
            names = [column.name for column in table if not column.generated]
        else:
            pairs = match_columns(plan.columns, table, self.mapping.target_name)
            names = [theirs.name for _, theirs in pairs]
        stage = self.ledger.table(plan.stage_table)
        transaction.create_stage(stage, self.table, names, checked=self.sets_rejects_apart)

    def written_table(self, plan: Plan) -> WrittenTable:
        """Return what the plan's workers write to: the table, or its stage."""
        with self.transaction() as transaction:
            columns = transaction.columns(self.table)
        stage = plan.stage_table
        return WrittenTable(
            database=self.database,
            ledger=self.ledger,
            name=self.table if stage is None else self.ledger.table(stage),
            columns=columns,
            staged=stage is not None,
            direct=self.mapping.direct_path,
        )

    def find(self, load_id: str) -> LoadRecord | None:
        """Return what the ledger has of a load, or None; makes the ledger where it is missing."""
        with self.transaction() as transaction:
            self.prepare_ledger(transaction)
            return self.ledger.find(transaction, load_id)

    def so_far(self, load_id: str) -> tuple[LoadRecord | None, dict[int, ChunkResult]]:
        """Return what a ledger that is there has of a load, and its finished chunks by their id."""
        with self.transaction() as transaction:
            record = self.ledger.find(transaction, load_id)
            return record, self.ledger.finished(transaction, load_id)

    def prepare_ledger(self, transaction: Transaction) -> None:
        """Make the ledger where it is missing; see `Ledger.prepare`."""
        try:
            self.ledger.prepare(transaction)
        except Exception as error:
            if not self.database.is_transient(error):  # what is left is mostly a right
                note(error, self._ledger_needs())
            raise

    def _ledger_needs(self) -> str:
        *schema, table = self.ledger.table("load")
        if not schema:
            return (
                f"creating the ledger's tables, {table} and others: let the target's user create"
                " tables"
            )
        return (
            f"creating the ledger in schema {schema[0]}: let the target's user create schemas,"
            " create it for that user, or name another as ledger_schema"
        )

    def rows_rejected(self, load_id: str) -> int:
        """Return how many rows of a load have been refused so far."""
        with self.transaction() as transaction:
            finished = self.ledger.finished(transaction, load_id)
        return sum(chunk.rows_rejected for chunk in finished.values())

    def finished(self, load_id: str) -> dict[int, ChunkResult]:
        """Return the finished chunks of a load by their id."""
        with self.transaction() as transaction:
            return self.ledger.finished(transaction, load_id)

    def touch(self, load_id: str, chunk_id: int) -> None:
        """Wait until a finished chunk, and all that committed before, is on the target's disk."""
        with self.transaction() as transaction:
            self.ledger.touch(transaction, load_id, chunk_id)


def _arrow_path(offered: frozenset[DataPath]) -> tuple[DataPath, str]:
    if DataPath.ARROW in offered:
        return DataPath.ARROW, "the batch transform takes Arrow record batches"
    return DataPath.ROWS, "rows are made into Arrow record batches for the batch transform"


def _to_create(columns: Sequence[Column], name: str) -> tuple[Column, ...]:
    """Return the columns of a target that is made for a query."""
    if untyped := [column.name for column in columns if not column.type]:
        msg = (
            f"{name} cannot be created: the source does not give the type of {', '.join(untyped)}."
            " Create it yourself"
        )
        raise TargetError(msg)
    return tuple(replace(column, required=False, generated=False) for column in columns)
