"""The seam: the few verbs a database must have. Each docstring is its contract.

An adapter has one class that keeps `Source`, `Target` or both. Nothing has to be inherited, and
half the databases will only ever be sources.
"""

from .database import Checksum, Database, Place
from .source import Reader, Source
from .survey import BlockCuts, Blocker, KeyCuts, Survey
from .target import (
    STAGE_CHUNK,
    STAGE_RANK,
    Access,
    LedgerDialect,
    Merged,
    Target,
    Transaction,
    Writer,
)

__all__ = [
    "STAGE_CHUNK",
    "STAGE_RANK",
    "Access",
    "BlockCuts",
    "Blocker",
    "Checksum",
    "Database",
    "KeyCuts",
    "LedgerDialect",
    "Merged",
    "Place",
    "Reader",
    "Source",
    "Survey",
    "Target",
    "Transaction",
    "Writer",
]
