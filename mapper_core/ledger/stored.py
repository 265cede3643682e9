"""Plans as the text that the ledger keeps: JSON, so that people and other tools can read it."""

import json
from collections.abc import Sequence
from dataclasses import astuple
from datetime import datetime, timezone
from typing import Any

from ..model import (
    Chunk,
    ChunkKind,
    Column,
    DataPath,
    LoadMode,
    Mapping,
    Plan,
    Snapshot,
    StrategyName,
)


def query_hash(mapping: Mapping) -> str:
    """Return a fingerprint of what a load reads and where it writes; equal for a resumable one."""
    from hashlib import sha256  # loads OpenSSL, which importing the package need not

    window = mapping.window
    parts = (
        mapping.source_sql,
        repr(sorted((mapping.bind_values or {}).items())),
        mapping.target_name,
        mapping.load_mode.value,
        mapping.publishing.value,
        repr((mapping.primary_key, mapping.order_column)),
        repr((window.column, window.start, window.end)) if window else "",
        # Not the function, which may have been mended; but rows of two kinds do not make one load.
        *_kind_of_transform(mapping),
        # It empties its stage first.
        *(("direct_path",) if mapping.direct_path else ()),
    )
    return sha256("\0".join(parts).encode()).hexdigest()


def _kind_of_transform(mapping: Mapping) -> tuple[str, ...]:
    if mapping.transform_batch is not None:
        return ("transform_batch",)
    if mapping.transform is None:
        return ()
    return ("transformation_func", repr(mapping.transform_columns))


def plan_text(plan: Plan) -> str:
    """Write everything of a plan but its chunks as JSON."""
    return json.dumps(
        {
            "strategy": plan.strategy.value,
            "strategy_reason": plan.strategy_reason,
            "refused": [[name.value, why] for name, why in plan.refused],
            "chunk_key": plan.chunk_key,
            "key_types": plan.key_types,
            "marks": plan.marks,
            "read_in": plan.read_in,
            "columns": [[c.name, c.type, c.type_id] for c in plan.columns],
            "target": plan.target,
            "load_mode": plan.load_mode.value,
            "target_columns": [[c.name, c.type, c.type_id] for c in plan.target_columns],
            "target_id": plan.target_id,
            "target_settings": dict(plan.target_settings),
            "data_path": plan.data_path.value,
            "data_path_reason": plan.data_path_reason,
            "workers": plan.workers,
            "adaptive": plan.adaptive,
            "chunk_size": plan.chunk_size,
            "chunk_size_reason": plan.chunk_size_reason,
            "stage_table": plan.stage_table,
            "reading": plan.reading,
            "verification": plan.verification,
            "snapshot": list(astuple(plan.snapshot)),
        }
    )


def plan_from(load_id: str, epoch: int, text: str, chunks: Sequence[tuple[int, str]]) -> Plan:
    """Read back what `plan_text` and `chunk_text` wrote."""
    found = json.loads(text)
    return Plan(
        load_id=load_id,
        epoch=epoch,
        chunks=tuple(
            chunk
            for chunk_id, bounds in chunks
            if (chunk := _chunk_from(chunk_id, bounds)).kind is not ChunkKind.SPLIT
        ),
        strategy=StrategyName(found["strategy"]),
        refused=tuple((StrategyName(name), why) for name, why in found["refused"]),
        columns=_columns_from(found["columns"]),
        target_columns=_columns_from(found["target_columns"]),
        load_mode=LoadMode(found["load_mode"]),
        marks=tuple(found["marks"]),
        read_in=tuple(found.get("read_in", ())),
        target_id=found.get("target_id"),
        target_settings=found.get("target_settings", {}),
        snapshot=snapshot_from(text),
        data_path=DataPath(found["data_path"]),
        chunk_key=tuple(found["chunk_key"]),
        key_types=tuple(found["key_types"]),
        adaptive=found.get("adaptive", False),
        **{
            name: found[name]
            for name in (
                "strategy_reason",
                "target",
                "data_path_reason",
                "workers",
                "chunk_size",
                "chunk_size_reason",
                "stage_table",
                "reading",
                "verification",
            )
        },
    )


def _columns_from(found: Sequence[Sequence[Any]]) -> tuple[Column, ...]:
    return tuple(Column(name, kind, number) for name, kind, number in found)


def snapshot_from(text: str) -> Snapshot:
    """Read back the read point alone of what `plan_text` wrote."""
    return Snapshot(*json.loads(text)["snapshot"])


def chunk_text(chunk: Chunk) -> str:
    """Write a chunk's bounds as JSON."""
    return json.dumps([chunk.kind.value, chunk.low, chunk.high, chunk.expected_rows])


# How the text of a chunk begins that was split, for SQL's LIKE.
SPLIT_TEXT = json.dumps([ChunkKind.SPLIT.value])[:-1] + ",%"


def _chunk_from(chunk_id: int, bounds: str) -> Chunk:
    kind, low, high, expected = json.loads(bounds)
    return Chunk(
        chunk_id,
        ChunkKind(kind),
        None if low is None else tuple(low),
        None if high is None else tuple(high),
        expected,
    )


def instant(value: datetime | str) -> datetime:
    """Return a database's timestamp as an aware datetime; some databases keep it as text."""
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    return value if value.tzinfo is not None else value.replace(tzinfo=timezone.utc)
