"""What a command answers: text for people, or one JSON object."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime, timezone
from typing import Any

from ..history import LoadChunks
from ..ledger.lists import LoadSummary
from ..model import Chunk
from ..results import (
    ChunkResult,
    ChunkStatus,
    LoadStatus,
    ParallelProcessingResult,
    Reject,
)

# Failed chunks that a summary shows; --json has all of them.
_SHOWN_FAILURES = 10


def as_json(value: Any) -> str:
    """Return frozen values, or what holds them, as one JSON object."""
    return json.dumps(value, indent=2, default=_plain)


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else asdict(value)


def result_text(result: ParallelProcessingResult, target: str, again: Sequence[str]) -> str:
    """Return what a load came to; `again` is the command that continues it."""
    rows, seconds = result.total_rows_successful, result.processing_time
    facts = [
        ("rows", _rows(result)),
        ("chunks", _chunks(result)),
        ("strategy", f"{result.strategy}: {result.strategy_reason}"),
        ("data path", str(result.data_path)),
        ("snapshot", str(result.snapshot)),
        *([("verified", result.verified)] if result.verified else []),
        *_failures(result),
        *_rejects(result),
    ]
    if result.error:
        facts.append(("error", result.error))
    if result.status is not LoadStatus.SUCCEEDED:
        cause = "" if result.status is LoadStatus.STOPPED else "fix the cause, then run "
        facts.append(("continue", f"{cause}{shlex.join(again)}"))
        if any(word == "URL" or word.endswith("=URL") for word in again):
            facts.append(("", "with your own URL in place of URL"))
        if "-" in again:
            facts.append(("", "with the same query on standard input"))
    return _block(
        f"load {result.load_id} {result.status}: {rows:,} rows into {target} in {seconds:,.1f} s"
        f" ({rows / max(seconds, 1e-9):,.0f} rows/s)",
        facts,
    )


def _rows(result: ParallelProcessingResult) -> str:
    # Rows of a stage that was not published: they are in the database, and in nobody's sight.
    staged = not result.published and result.chunks_succeeded and not result.rows_written
    waiting = _taken(result, ChunkStatus.SUCCEEDED) if staged else 0
    failed = result.total_rows_failed - (0 if result.publishing_in_doubt else waiting)
    counts = [
        (result.total_rows_successful, "loaded"),
        (waiting, f"staged, {'perhaps' if result.publishing_in_doubt else 'not'} published"),
        (_taken(result, ChunkStatus.SKIPPED), "loaded earlier"),
        (result.rows_rejected, "rejected"),
        (failed - result.rows_rejected, "failed"),
    ]
    said = [f"{n:,} {what}" for n, what in counts if n or what in {"loaded", "failed"}]
    return ", ".join(said)


def _taken(result: ParallelProcessingResult, status: ChunkStatus) -> int:
    """Return how many rows of the chunks of a status were not rejected."""
    chunks = [chunk for chunk in result.chunk_results if chunk.status is status]
    return sum((chunk.rows_read or 0) - chunk.rows_rejected for chunk in chunks)


def _chunks(result: ParallelProcessingResult) -> str:
    begun = result.chunks_succeeded + result.chunks_failed + result.chunks_skipped
    in_doubt = result.chunks_in_doubt
    counts = [
        (result.chunks_skipped, "finished earlier"),
        (result.chunks_failed - in_doubt, "failed"),
        (in_doubt, "in doubt"),
        (result.chunks_total - begun, "not started"),
    ]
    others = [f"{n:,} {what}" for n, what in counts if n]
    return ", ".join([f"{result.chunks_succeeded:,} of {result.chunks_total:,} finished", *others])


def _failures(result: ParallelProcessingResult) -> list[tuple[str, str]]:
    errors = result.chunk_errors
    lines = [
        f"chunk {error['chunk_id']}"
        f" ({_count(error['rows_in_chunk'], 'row')}, {_count(error['attempts'], 'attempt')}):"
        f" {error['error']}"
        for error in errors[:_SHOWN_FAILURES]
    ]
    if len(errors) > _SHOWN_FAILURES:
        lines.append(f"... and {len(errors) - _SHOWN_FAILURES:,} more; --json lists all")
    return [("failed" if number == 0 else "", line) for number, line in enumerate(lines)]


def _rejects(result: ParallelProcessingResult) -> list[tuple[str, str]]:
    if not result.rows_rejected:
        return []
    return [("rejects", f"mapper rejects --load-id {shlex.quote(result.load_id or '')} lists them")]


def _count(number: int | None, what: str) -> str:
    if number is None:
        return f"{what}s not counted"
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def rejects_text(rejects: Sequence[Reject]) -> str:
    """Return a line for each row that was left out, its values as JSON."""
    if not rejects:
        return "no rejects"
    return "\n".join(
        f"chunk {reject.chunk_id}  {json.dumps(reject.row)}  {_why(reject)}" for reject in rejects
    )


def _why(reject: Reject) -> str:
    """Return code and error; where there is no code but the error's own kind, that once."""
    return f"{reject.code}: {reject.error.removeprefix(f'{reject.code}: ')}"


def loads_text(loads: Sequence[LoadSummary]) -> str:
    """Return a table of loads."""
    if not loads:
        return "no loads yet"
    heads = ("LOAD ID", "TARGET", "STATUS", "CHUNKS", "ROWS", "CREATED", "PUBLISHED")
    lines = [
        heads,
        *(
            (
                load.load_id,
                load.target,
                _status(published=load.published),
                f"{load.chunks_finished:,}/{load.chunks_planned:,}",
                f"{load.rows:,}",
                _time(load.created_at),
                _time(load.published_at),
            )
            for load in loads
        ),
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    numbers = {heads.index("CHUNKS"), heads.index("ROWS")}
    return "\n".join(
        "  ".join(
            word.rjust(width) if column in numbers else word.ljust(width)
            for column, (word, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def chunks_text(found: LoadChunks) -> str:
    """Return a load's chunks, finished and missing, in the order of the plan."""
    record, planned = found.record, {chunk.id: chunk for chunk in found.record.plan.chunks}
    finished = {chunk.chunk_id: chunk for chunk in found.finished}
    lines = []
    for number in sorted({*planned, *finished}):
        chunk, result = planned.get(number), finished.get(number)
        bounds = f"{number:>5}  piece" if chunk is None else str(replace(chunk, expected_rows=None))
        state = "missing " if result is None else "finished"
        lines.append(f"  {state}{bounds}  {_detail(chunk, result)}".rstrip())
    status = _status(published=record.published)
    head = (
        f"load {record.load_id} of {_time(record.created_at)} into {record.plan.target}"
        f" ({record.plan.load_mode}): {status}, {len(planned) - len(found.missing):,} of"
        f" {len(planned):,} chunks finished"
    )
    return "\n".join([head, *lines])


def _detail(chunk: Chunk | None, result: ChunkResult | None) -> str:
    if result is not None:
        return (
            f"{_count(result.rows_read, 'row')}, {_count(result.attempts, 'attempt')},"
            f" {result.duration:,.1f} s, {_time(result.finished_at)}"
        )
    expected = chunk.expected_rows if chunk else None
    return "" if expected is None else f"about {_count(expected, 'row')}"


def chunks_json(found: LoadChunks) -> str:
    """Return a load with its chunks; the plan's chunks are those with bounds."""
    record = found.record
    return as_json(
        {
            "load_id": record.load_id,
            "target": record.plan.target,
            "published": record.published,
            "created_at": record.created_at,
            "plan": record.plan,
            "finished": found.finished,
            "missing": found.missing,
        }
    )


def _status(*, published: bool) -> str:
    return "published" if published else "unfinished"


def _time(instant: datetime | None) -> str:
    if instant is None:
        return "-"
    return instant.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M:%SZ")


def _block(head: str, facts: Sequence[tuple[str, str]]) -> str:
    """Return facts under a headline, as a printed plan has them."""
    return "\n".join([head, *(f"  {name:<9}  {said}" for name, said in facts)])
