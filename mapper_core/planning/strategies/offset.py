"""Pages of an ordered query. Each page reads all pages before it: by name only."""

from ... import chunker
from ...model import Refused, StrategyName
from .case import Answer, Case, Division

_EVERY_ROW = 2**62


def divide(case: Case) -> Answer:
    """Cut by row number, in an order that tells any two rows apart."""
    if reason := case.sequential or case.one_reader or case.unsplittable:
        return Refused(reason)
    if not case.one_snapshot:
        return Refused("a deleted row shifts all rows after it, and there is no single snapshot")
    key, _ = case.key
    if not key:
        return Refused("pages need an order that tells any two rows apart: add ORDER BY")
    if not case.survey.is_unique(key):
        return Refused(
            f"several rows share {', '.join(key)}, so pages may overlap: add columns to the ORDER"
            " BY until it tells any two rows apart"
        )
    rows = case.survey.count_up_to(_EVERY_ROW)
    reason = f"pages in the order of {', '.join(key)}"
    return Division(StrategyName.OFFSET, reason, chunker.pages(rows, case.chunk_size), key)
