"""Make a load's rows visible, in one transaction with the ledger's word that it is complete."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ..errors import TargetError, TransferError
from ..fitting import as_in_table
from ..ledger import Ledger
from ..model import LoadMode, LoadWindow, Mapping, Plan
from ..protocols import STAGE_CHUNK, STAGE_RANK, Target, Transaction
from ..row_values import marked

# Keys that an error lists one by one.
_NAMED = 5

# Values that every database takes in one list.
_LISTED = 1000


def publish(
    transaction: Transaction,
    target: Target,
    ledger: Ledger,
    plan: Plan,
    mapping: Mapping,
    *,
    verify: Callable[[Transaction], None],
) -> None:
    """Publish a load whose planned chunks are all finished, and which `verify` does not refuse.

    Raises:
        IncompleteLoadError: a planned chunk is missing; nothing changed.
        StaleLoadError: another run has taken the load over or published it.
        VerificationError: source and target differ; nothing changed.
        TargetError: the stage holds rows that do not belong into the window.
        TransferError: the target did not take all rows, or something else wrote to the stage.
    """
    # Two loads of one window would each delete what they see and insert their own rows.
    transaction.lock_table(mapping.target_parts)
    stage = None if plan.stage_table is None else ledger.table(plan.stage_table)
    if not ledger.seal(transaction, plan):
        if stage is not None and transaction.columns(stage):
            # Left behind by a run that ended between its commit and the end of its stage.
            transaction.drop_table(stage)
        return
    verify(transaction)
    if stage is not None:
        # From here on names go into SQL as they are.
        spelled = as_in_table(mapping, plan.target_columns)
        _Publishing(transaction, target, ledger, plan, spelled, stage).publish()
        transaction.drop_table(stage)


@dataclass(frozen=True, slots=True)
class _Publishing:
    """A stage whose rows go into the target."""

    transaction: Transaction
    target: Target
    ledger: Ledger
    plan: Plan
    mapping: Mapping
    stage: tuple[str, ...]

    def publish(self) -> None:
        """Put the rows where they belong, as the load mode says."""
        staged = self._count_staged()
        names = set(self._staged_columns())
        written = [column for column in self.plan.target_columns if column.name in names]
        self.transaction.hold_columns(self.mapping.target_parts, written)
        if self.mapping.load_mode is LoadMode.UPSERT:
            self._merge()
            return
        if self.mapping.load_mode is LoadMode.REPLACE:
            # Not TRUNCATE, which makes readers wait and shows an old snapshot an empty table.
            self.transaction.execute(f"delete from {self._table}")
        elif self.mapping.window is not None:
            self._clear(self.mapping.window)
        self._move(staged)

    @property
    def _table(self) -> str:
        """The target's name, quoted."""
        return self.target.quote(*self.mapping.target_parts)

    @property
    def _rows(self) -> str:
        """The stage's name, quoted."""
        return self.target.quote(*self.stage)

    def _count_staged(self) -> int:
        """Return how many rows wait. Raises TransferError when the ledger says another number."""
        staged = self.transaction.execute(f"select count(*) from {self._rows}")[0][0]
        claimed = self.ledger.rows_written(self.transaction, self.plan.load_id)
        if staged != claimed:
            msg = (
                f"the stage of load {self.plan.load_id} holds {staged} rows, but the ledger counts"
                f" {claimed}: something else wrote to it. Start a new load"
            )
            raise TransferError(msg)
        return int(staged)

    def _clear(self, window: LoadWindow) -> None:
        """Delete the window's rows. Readers see them until the commit.

        Raises TargetError when a row of the stage lies outside the window.
        """
        column, ends = self.target.quote(window.column), self.target.window_bounds(window)
        inside = f"{column} >= :window_start and {column} < :window_end"
        bounds = dict(zip(("window_start", "window_end"), ends, strict=True))
        outside = self.transaction.execute(
            f"select count(*), min({column}), max({column}) from {self._rows}"
            f" where {column} is null or not ({inside})",
            bounds,
        )[0]
        if outside[0]:
            msg = (
                f"{outside[0]} rows of the query lie outside the window [{window.start},"
                f" {window.end}) of {window.column} (from {outside[1]} to {outside[2]}), so"
                " replacing the window would add them again each time: filter the query by"
                " :window_start and :window_end"
            )
            raise TargetError(msg)
        self.transaction.execute(f"delete from {self._table} where {inside}", bounds)

    def _move(self, staged: int) -> None:
        """Add the stage's rows to the target."""
        moved = 0
        for columns, part in self._written(self._rows):
            listed = ", ".join(map(self.target.quote, columns))
            moved += self.transaction.change(
                f"insert into {self._table} ({listed}) select {listed} from {part} s"
            )
        if moved != staged:
            msg = (
                f"{staged} rows were staged, but {self.mapping.target_name} took {moved}: a"
                " trigger or rule on it drops or adds rows; disable it for the load"
            )
            raise TransferError(msg)

    def _merge(self) -> None:
        """Update the target's rows of a known key, add the others.

        Raises:
            TargetError: rows of the stage cannot be told apart by the key.
            TransferError: the target did not take all of them.
        """
        key = self.mapping.primary_key
        self._check_key_is_there(key)
        rows = self._rows
        if self.mapping.order_column is not None:
            rows = self._highest(rows, key, self.mapping.order_column)
        self._check_key_is_unique(rows, key)
        for columns, part in self._written(rows):
            merged = self.transaction.merge(self.mapping.target_parts, part, columns, key)
            if merged.due is not None and merged.taken != merged.due:
                msg = (
                    f"{merged.due} rows of the query are new or differ, but"
                    f" {self.mapping.target_name} took {merged.taken}: a trigger on it drops rows,"
                    " or in SQLite an ON CONFLICT clause; disable it for the load"
                )
                raise TransferError(msg)

    def _check_key_is_there(self, key: Sequence[str]) -> None:
        nulls = " or ".join(f"{self.target.quote(name)} is null" for name in key)
        counted = self.transaction.execute(f"select count(*) from {self._rows} where {nulls}")
        if without := counted[0][0]:
            msg = (
                f"{without} rows of the query have a NULL in the primary key ({', '.join(key)}),"
                " so they cannot be identified: leave them out, or give them a key"
            )
            raise TargetError(msg)

    def _highest(self, rows: str, key: Sequence[str], order_column: str) -> str:
        """Return the subquery of those rows of each key that are highest in a column."""
        keys = ", ".join(map(self.target.quote, key))
        order, rank = self.target.quote(order_column), self.target.quote(STAGE_RANK)
        # Rows without an order come last; SQL has no one way to say so.
        ranked = (
            f"(select r.*, rank() over (partition by {keys} order by case when {order} is null"
            f" then 1 else 0 end, {order} desc) as {rank} from {rows} r)"
        )
        return f"(select * from {ranked} ranked where {rank} = 1)"

    def _check_key_is_unique(self, rows: str, key: Sequence[str]) -> None:
        # With the table before it: a column may be called what the database calls its count.
        keys = ", ".join(f"d.{self.target.quote(name)}" for name in key)
        order = self.mapping.order_column
        twice = self.transaction.execute(
            f"select {keys}, count(*) from {rows} d group by {keys} having count(*) > 1"
            f" order by count(*) desc, {keys}"
        )
        if twice:
            named = "; ".join(
                f"{marked(', '.join(map(str, values)))} ({count} times)"
                for *values, count in twice[:_NAMED]
            )
            msg = (
                f"the query has {len(twice):,} key{'s' if len(twice) > 1 else ''}"
                f" ({', '.join(key)}) more than once{f' with the same {order}' if order else ''}:"
                f" {named}{'; ...' if len(twice) > _NAMED else ''}. Select each key once, or name"
                " an order_column whose highest value counts; either way, it is a new load and"
                " needs a new load id"
            )
            raise TargetError(msg)

    def _written(self, rows: str) -> Iterator[tuple[Sequence[str], str]]:
        """Yield sets of columns and the rows that were written in them.

        The stage has all columns for what a function may return; one that it did not return is not
        to be written over. Mostly there is but one set.
        """
        if not self.mapping.transforms:
            yield self._staged_columns(), rows
            return
        noted = self.ledger.noted_columns(self.transaction, self.plan.load_id)
        chunk = self.target.quote(STAGE_CHUNK)
        for columns, chunks in noted.items():
            if len(noted) == 1:
                yield columns, rows
                return
            lists = (chunks[at : at + _LISTED] for at in range(0, len(chunks), _LISTED))
            among = " or ".join(f"{chunk} in ({', '.join(map(str, some))})" for some in lists)
            yield columns, f"(select * from {rows} written where {among})"

    def _staged_columns(self) -> list[str]:
        found = self.transaction.columns(self.stage)
        return [column.name for column in found if column.name != STAGE_CHUNK]
