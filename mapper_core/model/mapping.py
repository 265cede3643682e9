"""What is asked for: a query, where its rows go, and how."""

from collections.abc import Callable
from collections.abc import Mapping as Dict
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any
from zoneinfo import ZoneInfo

from ..errors import SettingsError
from .words import (
    LoadMode,
    Publishing,
    StrategyName,
    TransformScope,
    TransformWorkers,
    Verification,
)

RowTransform = Callable[[list[dict[str, Any]]], list[dict[str, Any]]]
BatchTransform = Callable[[Any], Any]
"""Gets a `pyarrow.RecordBatch`; returns one, or an object with the Arrow C stream interface."""

# What its user must be allowed to do to the target.
_PRIVILEGES = {
    LoadMode.APPEND: ("insert",),
    LoadMode.REPLACE: ("insert", "delete"),
    LoadMode.REPLACE_WINDOW: ("insert", "delete", "select"),
    LoadMode.UPSERT: ("insert", "update", "select"),
}


@dataclass(frozen=True, slots=True)
class LoadWindow:
    """A half-open span `[start, end)` of one column: the rows that one load replaces.

    `start` and `end` are aware datetimes, or naive ones for a column without a time zone.
    """

    column: str
    start: datetime
    end: datetime

    def is_utc_in(self, time_zone: str | None) -> bool:
        """Whether both ends are the same by UTC's clock and by that of a time zone."""
        if self.start.tzinfo is None:
            return True
        try:
            zone = ZoneInfo(time_zone or "")
            return not any(end.astimezone(zone).utcoffset() for end in (self.start, self.end))
        except (KeyError, ValueError, OSError):  # a name that only databases know
            return False
        except OverflowError:  # an end that the zone's calendar has not
            return False

    def __post_init__(self) -> None:
        # Callers without a type checker reach this with dates, numbers and texts.
        column: Any = self.column
        if not isinstance(column, str) or not column:
            msg = f"window column {column!r} must be the name of a column, as a str"
            raise SettingsError(msg)
        if not all(isinstance(end, datetime) for end in (self.start, self.end)):
            raise SettingsError(
                "window start and end must be datetimes, as in datetime(2024, 1, 1)"
            )
        if (self.start.tzinfo is None) != (self.end.tzinfo is None):
            raise SettingsError("window start and end must both have a time zone, or neither")
        if not _fixed(self.start) < _fixed(self.end):
            msg = f"window [{self.start}, {self.end}) is empty: start must lie before end"
            raise SettingsError(msg)


def _fixed(moment: datetime) -> datetime:
    """Return the same moment with its offset alone.

    Python compares two moments of one zone by the clock on its wall, which is set back once a year.
    """
    offset = moment.utcoffset()
    return moment if offset is None else moment.replace(tzinfo=timezone(offset))


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapping:
    """A declared source query -> target table, with its load mode.

    Without a target the query is read, transformed and counted, and nothing is written.
    """

    source_sql: str
    target_schema: str | None = None
    target_table: str | None = None
    load_mode: LoadMode = LoadMode.APPEND
    window: LoadWindow | None = None
    params: Dict[str, Any] | None = None
    chunk_key: tuple[str, ...] | None = None
    strategy: StrategyName | None = None
    """The one strategy wanted; None takes the first that can serve."""
    transform: RowTransform | None = None
    transform_scope: TransformScope = TransformScope.CHUNK
    transform_columns: tuple[str, ...] = ()
    """The only columns that the transform sees and returns; none when it sees all."""
    transform_batch: BatchTransform | None = None
    workers: TransformWorkers = TransformWorkers.THREADS
    primary_key: tuple[str, ...] = ()
    """Columns that say which rows are the same one, for `upsert`."""
    order_column: str | None = None
    """For `upsert`: of several rows with one key, the one highest in this column counts."""
    publishing: Publishing = Publishing.CHUNKS
    create_target: bool = False
    """Whether a missing target is made, with the query's columns."""
    direct_path: bool = False
    """Whether one loader fills an empty stage by Oracle's direct path load."""
    time_zone: str | None = None
    """Time zone of the sessions that run the query; None keeps the connection's own."""
    verify: Verification | None = None
    """How source and target are compared before publishing; None is the load mode's default."""

    def __post_init__(self) -> None:
        if not self.source_sql.strip():
            raise SettingsError("source_sql is empty: give a SELECT statement")
        if self.target_schema and not self.target_table:
            raise SettingsError("target_schema is given without target_table: name the table too")
        self._check_transform()
        if self.load_mode is LoadMode.REPLACE_WINDOW and self.window is None:
            raise SettingsError(
                "load_mode='replace_window' needs window=LoadWindow(column, start, end)"
            )
        if self.load_mode is not LoadMode.REPLACE_WINDOW and self.window is not None:
            msg = f"window goes with load_mode='replace_window', not with {self.load_mode.value!r}"
            raise SettingsError(msg)
        ends = {"window_start", "window_end"} if self.window else set()
        if taken := sorted(ends & set(self.params or {})):
            # Other rows would be read than those whose place they are to take.
            msg = (
                f"params has a value for {' and '.join(taken)}, which the window sets: leave it"
                " out, or use another name"
            )
            raise SettingsError(msg)
        if self.load_mode is LoadMode.UPSERT and not self.primary_key:
            raise SettingsError(
                "load_mode='upsert' needs primary_key, the columns that identify a row"
            )
        if self.load_mode is not LoadMode.UPSERT and (self.primary_key or self.order_column):
            msg = (
                "primary_key and order_column go with load_mode='upsert', not with"
                f" {self.load_mode.value!r}"
            )
            raise SettingsError(msg)
        if self.direct_path and not self.staged:
            raise SettingsError(
                "direct_path loads into an empty stage, but this append has none: add"
                " publish='atomic', or use another load_mode"
            )

    def _check_transform(self) -> None:
        if self.transform is not None:
            if self.transform_batch is not None:
                raise SettingsError(
                    "give transformation_func (dicts) or transform_batch (Arrow), not both"
                )
            return
        if self.transform_columns:
            raise SettingsError("transform_columns goes with transformation_func")
        if self.workers is TransformWorkers.PROCESSES:
            raise SettingsError(
                "workers='processes' is for transformation_func; everything else runs outside"
                " Python's lock anyway"
            )

    @property
    def transforms(self) -> bool:
        """Whether a function stands between source and target."""
        return self.transformed_by is not None

    @property
    def transformed_by(self) -> str | None:
        """The keyword of the function between source and target; None where there is none."""
        if self.transform is not None:
            return "transformation_func"
        return None if self.transform_batch is None else "transform_batch"

    @property
    def target_name(self) -> str:
        """The target as people write it, e.g. `dw.fact_orders`; empty without a target."""
        return ".".join(self.target_parts)

    @property
    def target_parts(self) -> tuple[str, ...]:
        """The parts of the target's name: (schema, table), (table,) or nothing."""
        return tuple(part for part in (self.target_schema, self.target_table) if part)

    @property
    def staged(self) -> bool:
        """Whether rows are loaded aside and published at the end, however they are read."""
        return self.load_mode is not LoadMode.APPEND or self.publishing is Publishing.ATOMIC

    @property
    def privileges(self) -> tuple[str, ...]:
        """What its user must be allowed to do to the target, in SQL's words."""
        return _PRIVILEGES[self.load_mode]

    @property
    def verification(self) -> Verification:
        """How the load is to be verified: what was asked for, or its load mode's default."""
        if self.verify is not None:
            return self.verify
        replaces = self.load_mode.value.startswith("replace")
        return Verification.COUNT if replaces else Verification.NONE

    @property
    def bind_values(self) -> dict[str, Any] | None:
        """Values for `:name` in the SQL; None passes the SQL verbatim."""
        if self.window is None:
            return None if self.params is None else dict(self.params)
        window = {"window_start": self.window.start, "window_end": self.window.end}
        return {**window, **(self.params or {})}
