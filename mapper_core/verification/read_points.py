"""Whether rows that are about to be published are older than those they take the place of."""

from datetime import datetime

from .. import moments
from ..ledger import Ledger
from ..model import LoadMode, Mapping, Plan
from ..protocols import Transaction


def overtaken(transaction: Transaction, ledger: Ledger, plan: Plan, mapping: Mapping) -> str | None:
    """Return, in words, which load of the same rows was read later and published before this one.

    None where there is none, or where nobody can tell: the read points must be those of one source,
    in one life of its server.
    """
    if mapping.load_mode is LoadMode.APPEND or (ours := _read_at(plan)) is None:
        return None
    later = [
        (read_at, other)
        for other in ledger.published_meanwhile(transaction, plan, mapping)
        if _source(other) == _source(plan) and (read_at := _read_at(other)) and read_at > ours
    ]
    if not later:
        return None
    newest = max(later, key=lambda each: each[0])[1]
    return (
        f"its rows are older than those of load {newest.load_id}, which was published before it:"
        f" they were read at {plan.snapshot.instant}, the others at {newest.snapshot.instant}. To"
        " have the newest rows, load them again as a new load"
    )


def _source(plan: Plan) -> tuple[str | None, tuple[str, ...]]:
    """Return what tells one source from another: its server in this life, and the database."""
    return plan.snapshot.server, plan.read_in[:1]


def _read_at(plan: Plan) -> datetime | None:
    """Return the moment of a plan's read point by the source's clock; None where it has none."""
    return None if (text := plan.snapshot.instant) is None else moments.read(text)[0]
