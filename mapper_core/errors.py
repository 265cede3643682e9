"""Every error this package raises on purpose.

MapperError
├── SettingsError        a setting, argument or connection cannot be used; nothing was opened
├── QueryError           the source query cannot be loaded as it stands
├── TargetError          the target table does not fit, or may not be written
├── DatabaseError        a database refused what planning or publishing needs
│   └── DatabaseUnavailableError   it could not do so just now; trying later may help
│       └── InDoubtError   it is not known whether the load has been published
├── LedgerError          the ledger and this call disagree about a load
│   ├── StaleLoadError   another run has taken the load over; this one stops
│   └── IncompleteLoadError   planned chunks are missing at publish time
├── SnapshotLostError    the load's read point is gone
├── RejectLimitError     more rows were refused than the load may leave out
├── TransformError       a transform did not return what it has to return
│   ├── TransformRowError       what it returned for one row cannot be written; the others can
│   └── TransformProcessError   a process that ran it ended; trying again may help
├── SourceValueError     a value of the source has no equal where its row is to go
├── TransferError        a stream of rows ended, and the database did not say that it was complete
├── VerificationError    source and target differ in their rows
└── ChunksFailedError    raised by `result.raise_for_failures()`

Each message names the cause and the cure. The driver's own error, where there is one, is
`__cause__`. All errors can be pickled, because Dagster and process pools pass them between
processes.
"""

from .passwords import hidden


class MapperError(Exception):
    """Base of every error this package raises on purpose. Its message contains no password."""

    def __init__(self, *args: object) -> None:
        super().__init__(*(hidden(each) if isinstance(each, str) else each for each in args))


class SettingsError(MapperError):
    """A setting, argument or connection cannot be used as given."""


class QueryError(MapperError):
    """The source query cannot be loaded as it stands."""


class TargetError(MapperError):
    """The target table does not fit the query, or may not be written."""


class DatabaseError(MapperError):
    """A database refused what planning or publishing needs."""


class DatabaseUnavailableError(DatabaseError):
    """A database could not be reached, or failed for a transient reason; try again later."""


class InDoubtError(DatabaseUnavailableError):
    """The COMMIT that publishes the load got no answer, and the target was not reached since."""


class LedgerError(MapperError):
    """The ledger and this call disagree about a load."""


class StaleLoadError(LedgerError):
    """Another run has taken the load over; nothing this one still holds can be committed."""


class IncompleteLoadError(LedgerError):
    """Planned chunks are not in the ledger, or the load was stopped: it is not published."""


RUN_AGAIN = "Run the load again (in Dagster: re-execute all steps)"
"""What to do when a load can go no further as it was begun, for the end of a message."""


class SnapshotLostError(MapperError):
    """The read point of the load is gone; its remaining chunks cannot be read consistently."""


class RejectLimitError(MapperError):
    """More rows were refused than `reject_limit` lets a load leave out."""


class TransformError(MapperError):
    """The transform did not return what it has to return."""


class TransformRowError(TransformError):
    """What the transform returned for a row cannot be written; `reject_limit` leaves it out."""


class TransformProcessError(TransformError):
    """A process that ran the transform ended before it had an answer."""


class SourceValueError(MapperError):
    """A value of the source has no equal in Python or Arrow; `reject_limit` leaves its row out."""


class TransferError(MapperError):
    """A stream of rows ended, and the database did not say that it was complete."""


class VerificationError(MapperError):
    """Source and target differ in what was compared; the message says where and how."""


class ChunksFailedError(MapperError):
    """At least one chunk of the load failed; the message lists the first of them."""
