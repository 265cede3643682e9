"""What a load looks like in Dagit: the one place that names metadata keys."""

from collections.abc import Mapping as Dict
from collections.abc import Sequence
from typing import Any

import dagster as dg

from mapper_core import ChunkResult, ParallelProcessingResult, Plan

PARTITION_ROW_COUNT = "dagster/partition_row_count"
TABLE_NAME = "dagster/table_name"


def of_result(result: ParallelProcessingResult, *, partitioned: bool) -> Dict[str, Any]:
    """Return the metadata of a materialization. All counts are the ledger's."""
    seconds = result.processing_time
    rows = result.total_rows_successful
    # What an append adds is not what the table holds; a window's rows are the partition's.
    counts = {PARTITION_ROW_COUNT: result.rows_written} if partitioned else {}
    return {
        **counts,
        "mapper/rows_read": rows,
        "mapper/rows_written": result.rows_written,
        "mapper/rejected": result.rows_rejected,
        "mapper/bytes": sum(chunk.bytes for chunk in result.chunk_results),
        "mapper/chunks": result.chunks_total,
        "mapper/seconds": round(seconds, 3),
        "mapper/rows_per_second": round(rows / seconds) if seconds else 0,
        "mapper/strategy": result.strategy.value,
        "mapper/strategy_reason": result.strategy_reason,
        "mapper/data_path": result.data_path.value,
        "mapper/snapshot": str(result.snapshot),
        "mapper/verified": result.verified,
        "mapper/load_id": result.load_id,
    }


def of_failed_chunks(chunks: Sequence[ChunkResult]) -> Dict[str, dg.MetadataValue[Any]]:
    """Return the metadata of a failed lane: a table of its failed chunks."""
    records = [
        dg.TableRecord(
            {
                "chunk": chunk.chunk_id,
                "attempts": chunk.attempts,
                "rows": "not counted" if chunk.rows_read is None else str(chunk.rows_read),
                "error": chunk.error or "",
            }
        )
        for chunk in chunks
    ]
    return {"mapper/failed_chunks": dg.MetadataValue.table(records)}


def plan_line(plan: Plan, lanes: int) -> str:
    """Return a plan as one line of a run's log."""
    expected = plan.expected_rows
    rows = "rows not counted" if expected is None else f"about {expected:,} rows"
    return (
        f"load {plan.load_id}: {len(plan.chunks)} chunks in {lanes} lanes ({rows}); strategy"
        f" {plan.strategy}: {plan.strategy_reason}; {plan.data_path}: {plan.data_path_reason};"
        f" {plan.snapshot}"
    )
