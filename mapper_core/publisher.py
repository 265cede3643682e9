"""Make a load's rows visible, in one transaction with the ledger's word that it is complete."""

from .errors import TargetError, TransferError
from .ledger import Ledger
from .model import Mapping, Plan
from .protocols import STAGE_CHUNK, Target, Transaction


def publish(
    transaction: Transaction,
    target: Target,
    ledger: Ledger,
    plan: Plan,
    mapping: Mapping,
) -> None:
    """Publish a load whose planned chunks are all finished.

    Raises:
        IncompleteLoadError: a planned chunk is missing; nothing changed.
        StaleLoadError: another run has taken the load over or published it.
        TargetError: the stage holds rows that do not belong into the window.
    """
    # Two loads of one window would each delete what they see and insert their own rows.
    transaction.lock_table(mapping.target_parts)
    if not ledger.seal(transaction, plan):
        return
    if plan.stage_table is not None:
        _replace_window(transaction, target, ledger, mapping, plan.load_id, plan.stage_table)


def _replace_window(  # noqa: PLR0917 - the stage, the table, and who counts
    transaction: Transaction,
    target: Target,
    ledger: Ledger,
    mapping: Mapping,
    load_id: str,
    stage_table: str,
) -> None:
    """Replace the window's rows with the stage's. Readers see the old rows until the commit."""
    window = mapping.window
    assert window is not None  # noqa: S101 - a mapping without one has no stage
    table, stage = target.quote(*mapping.target_parts), target.quote(*ledger.table(stage_table))
    column = target.quote(window.column)
    inside = f"{column} >= :window_start and {column} < :window_end"
    bounds = dict(zip(("window_start", "window_end"), target.window_bounds(window), strict=True))

    staged = transaction.execute(f"select count(*) from {stage}")[0][0]
    claimed = ledger.rows_written(transaction, load_id)
    if staged != claimed:
        msg = (
            f"the stage of load {load_id} holds {staged} rows, the ledger counts {claimed}:"
            " something else wrote to it. Start a new load"
        )
        raise TransferError(msg)
    outside = transaction.execute(
        f"select count(*), min({column}), max({column}) from {stage}"
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
    columns = [
        column.name
        for column in transaction.columns(ledger.table(stage_table))
        if column.name != STAGE_CHUNK
    ]
    listed = ", ".join(target.quote(name) for name in columns)
    transaction.execute(f"delete from {table} where {inside}", bounds)
    moved = transaction.change(f"insert into {table} ({listed}) select {listed} from {stage}")
    if moved != staged:
        msg = (
            f"{staged} rows were staged and {mapping.target_name} took {moved}: a trigger or rule"
            " on it drops or adds rows; disable it for the load"
        )
        raise TransferError(msg)
    transaction.execute(f"drop table {stage}")
