"""Parallel, exactly-once loads from a SQL query into a table.

>>> import mapper_core
>>> sorted(mapper_core.__all__) == mapper_core.__all__
True
"""

from .errors import (
    ChunksFailedError,
    DatabaseError,
    DatabaseUnavailableError,
    IncompleteLoadError,
    InDoubtError,
    LedgerError,
    MapperError,
    QueryError,
    RejectLimitError,
    SettingsError,
    SnapshotLostError,
    SourceValueError,
    StaleLoadError,
    TargetError,
    TransferError,
    TransformError,
    TransformProcessError,
    TransformRowError,
    VerificationError,
)
from .model import (
    Chunk,
    ChunkKind,
    Column,
    DataPath,
    LoadMode,
    LoadWindow,
    Plan,
    Snapshot,
    StrategyName,
    TransformScope,
    Verification,
)
from .opening import LoadOptions
from .parallel_query_executor import execute_query_parallel, list_rejects, plan
from .processor import ParallelProcessor
from .results import ChunkResult, ChunkStatus, LoadStatus, ParallelProcessingResult, Reject
from .retry import RetryConfig, RetryHandler, create_retry_handler
from .settings import Settings
from .tracker import ProgressSnapshot, ProgressTracker, create_progress_callback
from .verification import Comparison, Difference, verify

__all__ = [
    "Chunk",
    "ChunkKind",
    "ChunkResult",
    "ChunkStatus",
    "ChunksFailedError",
    "Column",
    "Comparison",
    "DataPath",
    "DatabaseError",
    "DatabaseUnavailableError",
    "Difference",
    "InDoubtError",
    "IncompleteLoadError",
    "LedgerError",
    "LoadMode",
    "LoadOptions",
    "LoadStatus",
    "LoadWindow",
    "MapperError",
    "ParallelProcessingResult",
    "ParallelProcessor",
    "Plan",
    "ProgressSnapshot",
    "ProgressTracker",
    "QueryError",
    "Reject",
    "RejectLimitError",
    "RetryConfig",
    "RetryHandler",
    "Settings",
    "SettingsError",
    "Snapshot",
    "SnapshotLostError",
    "SourceValueError",
    "StaleLoadError",
    "StrategyName",
    "TargetError",
    "TransferError",
    "TransformError",
    "TransformProcessError",
    "TransformRowError",
    "TransformScope",
    "Verification",
    "VerificationError",
    "create_progress_callback",
    "create_retry_handler",
    "execute_query_parallel",
    "list_rejects",
    "plan",
    "verify",
]
