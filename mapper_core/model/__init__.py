"""The nouns of a load: what flows from one stage to the next.

Everything here is frozen, does no I/O, and can be printed, compared and pickled. A window holds
chunks, a chunk arrives as batches; the three words are never used for one another.
"""

from .mapping import BatchTransform, LoadWindow, Mapping, RowTransform
from .plan import Chunk, Column, Estimate, Plan, Refused, Row, Snapshot
from .words import (
    ChunkKind,
    DataPath,
    LoadMode,
    Publishing,
    StrategyName,
    TransformScope,
    TransformWorkers,
    Verification,
    Word,
)

__all__ = [
    "BatchTransform",
    "Chunk",
    "ChunkKind",
    "Column",
    "DataPath",
    "Estimate",
    "LoadMode",
    "LoadWindow",
    "Mapping",
    "Plan",
    "Publishing",
    "Refused",
    "Row",
    "RowTransform",
    "Snapshot",
    "StrategyName",
    "TransformScope",
    "TransformWorkers",
    "Verification",
    "Word",
]
