"""Make a load's rows visible, in one transaction with the ledger's word that it is complete."""

from collections.abc import Callable, Iterator, Sequence

from .errors import TargetError, TransferError
from .fitting import as_in_table
from .ledger import Ledger
from .model import LoadMode, LoadWindow, Mapping, Plan
from .protocols import STAGE_CHUNK, STAGE_RANK, Target, Transaction

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
    """
    # From here on names go into SQL as they are.
    mapping = as_in_table(mapping, plan.target_columns)
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
        staged = _count_staged(transaction, target, ledger, plan, stage)
        if mapping.load_mode is LoadMode.UPSERT:
            _merge(transaction, target, ledger, plan, mapping, stage)
        else:
            if mapping.load_mode is LoadMode.REPLACE:
                # Not TRUNCATE, which makes readers wait and shows an old snapshot an empty table.
                transaction.execute(f"delete from {target.quote(*mapping.target_parts)}")
            elif mapping.window is not None:
                _clear(transaction, target, mapping, mapping.window, stage)
            _move(transaction, target, mapping, stage, staged)
        transaction.drop_table(stage)


def _count_staged(
    transaction: Transaction, target: Target, ledger: Ledger, plan: Plan, stage: Sequence[str]
) -> int:
    """Return how many rows wait. Raises TransferError when the ledger says another number."""
    staged = transaction.execute(f"select count(*) from {target.quote(*stage)}")[0][0]
    claimed = ledger.rows_written(transaction, plan.load_id)
    if staged != claimed:
        msg = (
            f"the stage of load {plan.load_id} holds {staged} rows, the ledger counts {claimed}:"
            " something else wrote to it. Start a new load"
        )
        raise TransferError(msg)
    return int(staged)


def _clear(
    transaction: Transaction,
    target: Target,
    mapping: Mapping,
    window: LoadWindow,
    stage: Sequence[str],
) -> None:
    """Delete the window's rows. Readers see them until the commit.

    Raises TargetError when a row of the stage lies outside the window.
    """
    column = target.quote(window.column)
    inside = f"{column} >= :window_start and {column} < :window_end"
    bounds = dict(zip(("window_start", "window_end"), target.window_bounds(window), strict=True))
    outside = transaction.execute(
        f"select count(*), min({column}), max({column}) from {target.quote(*stage)}"
        f" where {column} is null or not ({inside})",
        bounds,
    )[0]
    if outside[0]:
        msg = (
            f"{outside[0]} rows of the query lie outside the window [{window.start}, {window.end})"
            f" of {window.column} (from {outside[1]} to {outside[2]}), so replacing the window"
            " would add them again and again: filter the query by :window_start and :window_end"
        )
        raise TargetError(msg)
    table = target.quote(*mapping.target_parts)
    transaction.execute(f"delete from {table} where {inside}", bounds)


def _move(
    transaction: Transaction, target: Target, mapping: Mapping, stage: Sequence[str], staged: int
) -> None:
    """Add the stage's rows to the target."""
    columns = _staged_columns(transaction, stage)
    listed = ", ".join(target.quote(name) for name in columns)
    table, staged_in = target.quote(*mapping.target_parts), target.quote(*stage)
    moved = transaction.change(f"insert into {table} ({listed}) select {listed} from {staged_in}")
    if moved != staged:
        msg = (
            f"{staged} rows were staged and {mapping.target_name} took {moved}: a trigger or rule"
            " on it drops or adds rows; disable it for the load"
        )
        raise TransferError(msg)


def _merge(  # noqa: PLR0917 - as `publish`
    transaction: Transaction,
    target: Target,
    ledger: Ledger,
    plan: Plan,
    mapping: Mapping,
    stage: Sequence[str],
) -> None:
    """Update the target's rows of a known key, add the others.

    Raises TargetError when rows of the stage cannot be told apart by the key.
    """
    keys = ", ".join(target.quote(name) for name in mapping.primary_key)
    rows = target.quote(*stage)
    nulls = " or ".join(f"{target.quote(name)} is null" for name in mapping.primary_key)
    without = transaction.execute(f"select count(*) from {rows} where {nulls}")[0][0]
    if without:
        msg = (
            f"{without} rows of the query have a NULL in the primary key"
            f" ({', '.join(mapping.primary_key)}), so nobody can tell which rows they are: leave"
            " them out, or give them a key"
        )
        raise TargetError(msg)
    if mapping.order_column is not None:
        order, rank = target.quote(mapping.order_column), target.quote(STAGE_RANK)
        # Rows without an order come last; SQL has no one way to say so.
        rows = (
            f"(select r.*, rank() over (partition by {keys} order by case when {order} is null"
            f" then 1 else 0 end, {order} desc) as {rank} from {rows} r)"
        )
        rows = f"(select * from {rows} ranked where {rank} = 1)"
    twice = transaction.execute(
        f"select {keys}, count(*) from {rows} d group by {keys} having count(*) > 1"
        f" order by count(*) desc, {keys}"
    )
    if twice:
        named = "; ".join(
            f"{', '.join(map(str, values))} ({count} times)" for *values, count in twice[:_NAMED]
        )
        tie = f" with the same {mapping.order_column}" if mapping.order_column else ""
        msg = (
            f"{len(twice)} keys ({', '.join(mapping.primary_key)}) come several times in the"
            f" query{tie}: {named}{'; ...' if len(twice) > _NAMED else ''}. Select each once, or"
            " name the order_column whose highest value counts"
        )
        raise TargetError(msg)
    for columns, part in _written(transaction, target, ledger, plan, mapping, stage, rows):
        transaction.merge(mapping.target_parts, part, columns, mapping.primary_key)


def _written(  # noqa: PLR0917 - as `publish`
    transaction: Transaction,
    target: Target,
    ledger: Ledger,
    plan: Plan,
    mapping: Mapping,
    stage: Sequence[str],
    rows: str,
) -> Iterator[tuple[Sequence[str], str]]:
    """Yield sets of columns and the rows that were written in them.

    The stage has all columns for what a function may return; one that it did not return is not to
    be written over. Mostly there is but one set.
    """
    if not mapping.transforms:
        yield _staged_columns(transaction, stage), rows
        return
    noted = ledger.noted_columns(transaction, plan.load_id)
    chunk = target.quote(STAGE_CHUNK)
    for columns, chunks in noted.items():
        if len(noted) == 1:
            yield columns, rows
            return
        lists = (chunks[at : at + _LISTED] for at in range(0, len(chunks), _LISTED))
        among = " or ".join(f"{chunk} in ({', '.join(map(str, some))})" for some in lists)
        yield columns, f"(select * from {rows} written where {among})"


def _staged_columns(transaction: Transaction, stage: Sequence[str]) -> list[str]:
    return [c.name for c in transaction.columns(stage) if c.name != STAGE_CHUNK]
