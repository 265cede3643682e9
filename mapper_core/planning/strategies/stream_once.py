"""Read once by one reader, written by many workers, published once."""

from ... import chunker
from ...model import Refused, StrategyName
from .case import Answer, Case, Division


def divide(case: Case) -> Answer:
    """Leave the rows undivided; they are numbered in pieces as they come."""
    if case.sequential:
        return Refused(case.sequential)
    if not case.mapping.target_table:
        return Refused("nothing is written")
    if case.one_writer:
        return Refused(case.one_writer)
    if not case.forced and case.workers == 1:
        return Refused("one worker writes no faster from a stage than straight into the target")
    if case.small:
        return Refused(case.small)
    reason = f"one reader, {case.workers} writers, published once at the end: {_why(case)}"
    rows = case.expected(case.estimate.rows)
    return Division(StrategyName.STREAM_ONCE, reason, chunker.one_stream(rows))


def _why(case: Case) -> str:
    if case.forced:
        return "it was requested"
    if whole := case.one_reader or case.unsplittable:
        return whole
    return (case.costly_key if case.key[0] else None) or "the query names no key"
