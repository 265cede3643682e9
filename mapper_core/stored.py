"""Plans as the text that the ledger keeps: JSON, so that people and other tools can read it."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import astuple

from .model import Chunk, ChunkKind, Column, DataPath, Mapping, Plan, Snapshot


def query_hash(mapping: Mapping) -> str:
    """Return a fingerprint of what a load reads and where it writes; equal for a resumable one."""
    window = mapping.window
    parts = (
        mapping.source_sql,
        repr(sorted((mapping.bind_values or {}).items())),
        mapping.target_name,
        mapping.load_mode.value,
        repr((window.column, window.start, window.end)) if window else "",
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def plan_text(plan: Plan) -> str:
    """Write everything of a plan but its chunks as JSON."""
    return json.dumps(
        {
            "strategy": plan.strategy,
            "strategy_reason": plan.strategy_reason,
            "chunk_key": plan.chunk_key,
            "key_types": plan.key_types,
            "columns": [[c.name, c.type, c.type_id] for c in plan.columns],
            "data_path": plan.data_path.value,
            "data_path_reason": plan.data_path_reason,
            "workers": plan.workers,
            "chunk_size": plan.chunk_size,
            "stage_table": plan.stage_table,
            "snapshot": list(astuple(plan.snapshot)),
        }
    )


def plan_from(load_id: str, epoch: int, text: str, chunks: Sequence[tuple[int, str]]) -> Plan:
    """Read back what `plan_text` and `chunk_text` wrote."""
    found = json.loads(text)
    return Plan(
        load_id=load_id,
        epoch=epoch,
        chunks=tuple(_chunk_from(chunk_id, bounds) for chunk_id, bounds in chunks),
        columns=tuple(Column(name, kind, number) for name, kind, number in found["columns"]),
        snapshot=snapshot_from(text),
        data_path=DataPath(found["data_path"]),
        chunk_key=tuple(found["chunk_key"]),
        key_types=tuple(found["key_types"]),
        **{
            name: found[name]
            for name in (
                "strategy",
                "strategy_reason",
                "data_path_reason",
                "workers",
                "chunk_size",
                "stage_table",
            )
        },
    )


def snapshot_from(text: str) -> Snapshot:
    """Read back the read point alone of what `plan_text` wrote."""
    return Snapshot(*json.loads(text)["snapshot"])


def chunk_text(chunk: Chunk) -> str:
    """Write a chunk's bounds as JSON."""
    return json.dumps([chunk.kind.value, chunk.low, chunk.high, chunk.expected_rows])


def _chunk_from(chunk_id: int, bounds: str) -> Chunk:
    kind, low, high, expected = json.loads(bounds)
    return Chunk(
        chunk_id,
        ChunkKind(kind),
        None if low is None else tuple(low),
        None if high is None else tuple(high),
        expected,
    )
