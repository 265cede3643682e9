"""Partition keys <-> load windows. Pure: a partition is the half-open window of its key."""

import re
from collections.abc import Iterable
from collections.abc import Mapping as Dict
from dataclasses import dataclass, field
from datetime import datetime, timezone

import dagster as dg

from mapper_core import LoadWindow

from .mapping import Mapping

# Dagster's mapping keys take letters, digits and _ only, and long ones are unreadable.
_FORBIDDEN = re.compile(r"[^A-Za-z0-9]+")
_SLUG_LENGTH = 100

_LANE_KEY = re.compile(r"w(?P<place>\d+)_.*_lane_(?P<lane>\d+)_of_(?P<lanes>\d+)")


@dataclass(frozen=True, slots=True)
class PartitionLoad:
    """What one partition of a run asks for."""

    partition_key: str | None
    window: LoadWindow | None
    """What is replaced; None for a mapping that replaces no window."""
    bounds: Dict[str, datetime] = field(default_factory=dict)
    """The ends by their names in the query, where there is no `window` to bind them."""


@dataclass(frozen=True, slots=True)
class Lane:
    """The chunks handed to one step: every `lanes`-th of a partition's plan."""

    place: int
    """Which of the run's partitions."""
    lane: int
    lanes: int


def partition_loads(mapping: Mapping, partition_keys: Iterable[str]) -> tuple[PartitionLoad, ...]:
    """Return one load per partition of the run, in the run's order; one without partitions.

    Windows are in UTC: two ends in one time zone that knows summer time cannot be subtracted.
    """
    definition, column = mapping.partitions_def, mapping.window_column
    if definition is None:
        return (PartitionLoad(None, None),)
    loads = []
    for key in partition_keys:
        span = definition.time_window_for_partition_key(key)
        start, end = (t.astimezone(timezone.utc) for t in (span.start, span.end))
        if column is None:
            loads.append(PartitionLoad(key, None, {"window_start": start, "window_end": end}))
        else:
            loads.append(PartitionLoad(key, LoadWindow(column, start, end)))
    return tuple(loads)


def lane_key(lane: Lane, partition_key: str | None) -> str:
    """Return the mapping key of a lane's step, readable in the run's timeline.

    >>> lane_key(Lane(0, 1, 4), "2013-01-01")
    'w0_2013_01_01_lane_1_of_4'
    """
    slug = _FORBIDDEN.sub("_", partition_key or "all")[:_SLUG_LENGTH]
    return f"w{lane.place}_{slug}_lane_{lane.lane}_of_{lane.lanes}"


def lane_of(key: str) -> Lane:
    """Return the lane of a mapping key; the inverse of `lane_key`.

    >>> lane_of("w0_2013_01_01_lane_1_of_4")
    Lane(place=0, lane=1, lanes=4)
    """
    match = _LANE_KEY.fullmatch(key)
    if match is None:
        raise dg.DagsterInvariantViolationError(f"{key!r} is not the key of a lane")
    return Lane(*(int(match[part]) for part in ("place", "lane", "lanes")))
