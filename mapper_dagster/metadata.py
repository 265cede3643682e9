"""What a load looks like in Dagit: the one place that names metadata keys."""

import shlex
from collections.abc import Mapping as Dict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import dagster as dg

from mapper_core import ChunkResult, Column, LoadMode, ParallelProcessingResult, Plan
from mapper_core.history import LoadChunks
from mapper_core.results import RejectCause
from mapper_core.row_values import left_out

from . import timeline
from .mapping import Mapping

# Names that Dagit knows. Source: Dagster's documentation, "Asset metadata", standard metadata.
ROW_COUNT = "dagster/row_count"
PARTITION_ROW_COUNT = "dagster/partition_row_count"
TABLE_NAME = "dagster/table_name"
COLUMN_SCHEMA = "dagster/column_schema"
COLUMN_LINEAGE = "dagster/column_lineage"

TIMELINE = "mapper/timeline"
LOAD_ID = "mapper/load_id"
ROWS_READ = "mapper/rows_read"
REJECTED = "mapper/rejected"
CHUNKS_MISSING = "mapper/chunks_missing"
LIST_REJECTS = "mapper/list_rejects"

FAILED_CHUNKS = "mapper/failed_chunks"

LANES = "mapper/lanes"
"""Of an observation: what each lane of a load has told of its failures, the one that ends first."""

# Causes of rejects, and failed chunks, that are listed; how many more there are is told.
SHOWN_REJECTS = 50
SHOWN_FAILED = 20


def of_mapping(mapping: Mapping) -> Dict[str, Any]:
    """Return the metadata of a mapping's asset, before anything is loaded."""
    return {
        TABLE_NAME: mapping.table_name,
        "mapper/source_sql": dg.MetadataValue.md(f"```sql\n{mapping.source_sql.strip()}\n```"),
        "mapper/load_mode": mapping.mode.value,
    }


def of_result(mapping: Mapping, result: ParallelProcessingResult) -> Dict[str, Any]:
    """Return the numbers of a load and what they depend on. All counts are the ledger's."""
    seconds = result.processing_time
    rows = result.total_rows_processed
    counts = {}
    # What an append or an upsert adds is not what the table holds; a window's rows are its
    # partition's, and what replaces everything is all there is.
    if mapping.mode is LoadMode.REPLACE_WINDOW:
        counts[PARTITION_ROW_COUNT] = result.rows_written
    elif mapping.mode is LoadMode.REPLACE:
        counts[ROW_COUNT] = result.rows_written
    elif mapping.partitions_def is not None and mapping.order_column is None:
        # Of several rows with one key an order column leaves one, and nobody counts those.
        counts[PARTITION_ROW_COUNT] = result.rows_written
    return {
        **counts,
        ROWS_READ: rows,
        "mapper/rows_written": result.rows_written,
        REJECTED: result.rows_rejected,
        "mapper/bytes": sum(chunk.bytes for chunk in result.chunk_results),
        "mapper/chunks": result.chunks_total,
        "mapper/seconds": round(seconds, 3),
        "mapper/rows_per_second": round(rows / seconds) if seconds else 0,
        "mapper/strategy": result.strategy.value,
        "mapper/strategy_reason": result.strategy_reason,
        "mapper/data_path": result.data_path.value,
        "mapper/snapshot": str(result.snapshot),
        "mapper/verified": result.verified,
        LOAD_ID: result.load_id,
    }


def load_id_of(shown: Dict[str, dg.MetadataValue[Any]]) -> Any:
    """Return the id of the load that a materialization is of; None where it is of none."""
    found = shown.get(LOAD_ID)
    return None if found is None else found.value


def of_part(
    known: LoadChunks, *, chunks_failed: int, rows_failed: int, chunks_uncounted: int
) -> Dict[str, Any]:
    """Return what a load that did not end well has come to, all lanes together.

    Missing are chunks that are neither in nor known to have failed: others may be at work on them.
    Rows that were rejected are among those failed, as in a load's result.
    """
    rejected = known.rows_rejected
    return {
        LOAD_ID: known.record.load_id,
        "mapper/chunks_in": len(known.finished),
        "mapper/chunks_failed": chunks_failed,
        CHUNKS_MISSING: max(0, len(known.missing) - chunks_failed),
        "mapper/rows_in": known.rows_in,
        "mapper/rows_failed": rows_failed + rejected,
        REJECTED: rejected,
        **({"mapper/chunks_uncounted": chunks_uncounted} if chunks_uncounted else {}),
    }


@dataclass(frozen=True, slots=True)
class LaneFailures:
    """What one lane of a load has to tell of its failures, for those that end after it."""

    lane: int
    """Its number, from 1."""
    lanes: int
    chunks_failed: int
    rows_failed: int
    chunks_uncounted: int
    listed: tuple[Dict[str, Any], ...] = ()
    """Its failed chunks, as they are shown: the first ones."""


def failures_of(lane: int, lanes: int, failed: Sequence[ChunkResult]) -> LaneFailures:
    """Return what a lane has to tell of its chunks that failed."""
    return LaneFailures(
        lane=lane,
        lanes=lanes,
        chunks_failed=len(failed),
        rows_failed=sum(chunk.rows_read or 0 for chunk in failed),
        chunks_uncounted=sum(chunk.rows_read is None for chunk in failed),
        listed=tuple(
            {
                "lane": lane,
                "chunk": chunk.chunk_id,
                "attempts": chunk.attempts,
                "rows": "not counted" if chunk.rows_read is None else str(chunk.rows_read),
                "error": left_out(chunk.error or ""),
            }
            for chunk in failed[:SHOWN_FAILED]
        ),
    )


def of_lanes(own: LaneFailures, others: Sequence[LaneFailures]) -> Dict[str, Any]:
    """Return what all lanes have told, the one that ends first, and the chunks that failed."""
    records = []
    for told in (own, *others):
        row = asdict(told)
        del row["listed"]
        records.append(dg.TableRecord(row))
    return {LANES: dg.MetadataValue.table(records), **of_failed_chunks(own, others)}


def lane_of(shown: Dict[str, dg.MetadataValue[Any]]) -> LaneFailures:
    """Return what a lane has told with an observation as it ended; the inverse of `of_lanes`."""
    own = _records(shown, LANES)[0]
    listed = (row for row in _records(shown, FAILED_CHUNKS) if row["lane"] == own["lane"])
    return LaneFailures(**own, listed=tuple(listed))


def _records(shown: Dict[str, dg.MetadataValue[Any]], name: str) -> list[dict[str, Any]]:
    if name not in shown:
        return []
    return [dict(record.data) for record in shown[name].records]  # type: ignore[attr-defined]  # it is a table


def of_resumed(plan: Plan, known: LoadChunks) -> Dict[str, Any]:
    """Return how far a load had come when another run took it up."""
    return {
        LOAD_ID: plan.load_id,
        "mapper/snapshot": str(plan.snapshot),
        "mapper/chunks_in": len(known.finished),
        CHUNKS_MISSING: len(known.missing),
        "mapper/rows_in": known.rows_in,
    }


def of_chunks(chunks: Sequence[ChunkResult]) -> Dict[str, Any]:
    """Return the picture of when each chunk was loaded, where there is one."""
    svg = timeline.drawn(chunks)
    return {} if svg is None else {TIMELINE: dg.MetadataValue.md(timeline.as_markdown(svg))}


def of_columns(
    columns: Sequence[Column], origins: Dict[str, Sequence[tuple[dg.AssetKey, str]]]
) -> Dict[str, Any]:
    """Return the columns that were loaded and, of each, which columns it is made of."""
    lineage = {
        name: [dg.TableColumnDep(asset_key=key, column_name=column) for key, column in origin]
        for name, origin in origins.items()
    }
    found: dict[str, Any] = {COLUMN_SCHEMA: schema_of(columns)}
    if lineage:
        found[COLUMN_LINEAGE] = dg.TableColumnLineage(deps_by_column=lineage)
    return found


def schema_of(columns: Sequence[Column]) -> dg.TableSchema:
    """Return columns as Dagit shows them."""
    return dg.TableSchema(
        columns=[dg.TableColumn(column.name, column.type or "unknown") for column in columns]
    )


def of_total(rows: int) -> Dict[str, Any]:
    """Return how many rows all partitions hold together."""
    return {ROW_COUNT: rows}


def of_rejects(load_id: str, causes: Sequence[RejectCause]) -> Dict[str, Any]:
    """Return how many rows were left out and why, and the command that lists them.

    Their values may be anybody's secrets; the command shows them to who may read the ledger.
    """
    if not causes:
        return {}
    records = [
        dg.TableRecord(
            {"rows": each.rows, "chunks": each.chunks, "code": each.code, "error": each.error}
        )
        for each in causes[:SHOWN_REJECTS]
    ]
    others = sum(each.rows for each in causes[SHOWN_REJECTS:])
    return {
        "mapper/rejects": dg.MetadataValue.table(records),
        **_not_shown("mapper/rejects_not_shown", others),
        LIST_REJECTS: f"mapper rejects --load-id {shlex.quote(load_id)}",
    }


def of_failed_chunks(
    own: LaneFailures, others: Sequence[LaneFailures] = ()
) -> Dict[str, dg.MetadataValue[Any]]:
    """Return a table of failed chunks, a lane's own before others', and how many more there are.

    Of its own none is missing that it would list alone, so `lane_of` finds them again.
    """
    all_lanes = (own, *others)
    rows = [row for told in all_lanes for row in told.listed][:SHOWN_FAILED]
    if not rows:
        return {}
    failed = sum(told.chunks_failed for told in all_lanes)
    return {
        FAILED_CHUNKS: dg.MetadataValue.table([dg.TableRecord(row) for row in rows]),
        **_not_shown("mapper/failed_chunks_not_shown", failed - len(rows)),
    }


def _not_shown(name: str, count: int) -> Dict[str, dg.MetadataValue[Any]]:
    return {name: dg.MetadataValue.int(count)} if count else {}


def plan_line(plan: Plan, lanes: int) -> str:
    """Return a plan as one line of a run's log."""
    expected = plan.expected_rows
    rows = "rows not counted" if expected is None else f"about {expected:,} rows"
    chunks = f"{len(plan.chunks)} chunk{'' if len(plan.chunks) == 1 else 's'}"
    in_lanes = f"{lanes} lane{'' if lanes == 1 else 's'}"
    return (
        f"load {plan.load_id}: {chunks} in {in_lanes} ({rows}); strategy"
        f" {plan.strategy}: {plan.strategy_reason}; {plan.data_path}: {plan.data_path_reason};"
        f" {plan.snapshot}"
    )


def result_line(result: ParallelProcessingResult) -> str:
    """Return what a load that is published came to, as one line of a run's log."""
    left_out_too = f", {result.rows_rejected:,} left out" if result.rows_rejected else ""
    return (
        f"load {result.load_id} is published: {result.total_rows_processed:,} rows read,"
        f" {result.rows_written:,} written{left_out_too} in {result.processing_time:.1f} s"
    )
