"""INSERT ... SELECT inside the one database that is source and target, chunk by chunk."""

from dataclasses import replace

from ... import chunker
from ...model import Refused, StrategyName
from . import key, physical
from .case import Answer, Case, Division


def divide(case: Case) -> Answer:
    """Divide as physical ranges or by key, or not at all; no row leaves the server in any event."""
    if case.mapping.transforms:
        return Refused("the transform needs the rows outside the database")
    if reason := case.in_server():
        return Refused(reason)
    found = next(
        (answer for way in (physical, key) if isinstance(answer := way.divide(case), Division)),
        None,
    )
    if found is None:
        why = case.whole or "nothing divides the query"
        whole = chunker.one_chunk(case.expected(case.estimate.rows))
        reason = f"INSERT ... SELECT inside the server, in one statement: {why}"
        return Division(StrategyName.SAME_DATABASE, reason, whole, undivided=why)
    reason = f"INSERT ... SELECT inside the server, by {found.reason}"
    return replace(found, strategy=StrategyName.SAME_DATABASE, reason=reason)
