"""Partition keys <-> load windows. Pure: a partition is the half-open window of its key."""

import re
from collections.abc import Iterable, Sequence
from collections.abc import Mapping as Dict
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

import dagster as dg

from mapper_core import LoadWindow

from .mapping import Mapping

# Dagster's mapping keys take letters, digits and _ only, and long ones are unreadable.
_FORBIDDEN = re.compile(r"[^A-Za-z0-9]+")
_SLUG_LENGTH = 100

# Where "whatever came before" begins: every database has this day.
EARLIEST = datetime(1, 1, 2, tzinfo=timezone.utc)

_LANE_KEY = re.compile(r"(?:.*_)?(?P<number>\d+)_of_(?P<lanes>\d+)(?:_at_(?P<place>\d+))?")


@dataclass(frozen=True, slots=True)
class PartitionLoad:
    """What one partition of a run asks for."""

    partition_key: str | None
    window: LoadWindow | None
    """What is replaced; None for a mapping that replaces no window."""
    bounds: Dict[str, Any] = field(default_factory=dict)
    """What the query asks about the partition by name, where there is no `window` to bind it."""


@dataclass(frozen=True, slots=True)
class Lane:
    """The chunks handed to one step: every `lanes`-th of a partition's plan."""

    place: int
    """Which of the run's partitions."""
    lane: int
    lanes: int

    @property
    def number(self) -> int:
        """Which lane it is, as people count: from 1."""
        return self.lane + 1


ALONE = Lane(place=0, lane=0, lanes=1)
"""All chunks of a load, where nobody else is there to load a part of it."""


def partition_loads(mapping: Mapping, partition_keys: Iterable[str]) -> tuple[PartitionLoad, ...]:
    """Return one load per partition of the run, in the run's order; one without partitions."""
    definition, column = mapping.partitions_def, mapping.window_column
    if definition is None:
        return (PartitionLoad(None, None),)
    loads = []
    for key in partition_keys:
        bounds = _bounds(definition, key)
        if mapping.include_earlier and key == definition.get_first_partition_key():
            bounds["window_start"] = EARLIEST
        if column is None:
            loads.append(PartitionLoad(key, None, bounds))
        else:
            window = LoadWindow(column, bounds["window_start"], bounds["window_end"])
            loads.append(PartitionLoad(key, window))
    return tuple(loads)


def _bounds(definition: dg.PartitionsDefinition[Any], key: str) -> dict[str, Any]:
    """Return what a query may ask about a partition, by the names that it asks by."""
    if isinstance(definition, dg.TimeWindowPartitionsDefinition):
        start, end = window_of(definition, key)
        return {"window_start": start, "window_end": end}
    if isinstance(definition, dg.MultiPartitionsDefinition):
        found: dict[str, Any] = {"partition_key": key}
        for name, part in definition.get_partition_key_from_str(key).keys_by_dimension.items():
            bounds = _bounds(definition.get_partitions_def_for_dimension(name), part)
            found |= {**bounds, name: part, "partition_key": key}
        return found
    return {"partition_key": key}


def window_of(definition: dg.TimeWindowPartitionsDefinition, key: str) -> tuple[datetime, datetime]:
    """Return a partition's ends in UTC: those of a zone that knows summer time do not subtract."""
    span = definition.time_window_for_partition_key(key)
    return span.start.astimezone(timezone.utc), span.end.astimezone(timezone.utc)


def time_zone_of(definition: dg.PartitionsDefinition[Any] | None) -> str | None:
    """Return the time zone in which a partition's dates are meant; None without a time."""
    if isinstance(definition, dg.TimeWindowPartitionsDefinition):
        return definition.timezone
    if isinstance(definition, dg.MultiPartitionsDefinition):
        zones = (time_zone_of(part.partitions_def) for part in definition.partitions_defs)
        return next(filter(None, zones), None)
    return None


def in_units(span: timedelta) -> str:
    """Return a length of time as people say it.

    >>> in_units(timedelta(days=1, minutes=90))
    '1 day 1 hour 30 minutes'
    """
    minutes, seconds = divmod(span.total_seconds(), 60)
    hours, minutes = divmod(int(minutes), 60)
    days, hours = divmod(hours, 24)
    units = {"day": days, "hour": hours, "minute": minutes, "second": seconds}
    told = [f"{n:g} {unit}{'' if n == 1 else 's'}" for unit, n in units.items() if n]
    return " ".join(told) or "0 seconds"


def lane_key(lane: Lane, partition_key: str | None) -> str:
    """Return the mapping key of a lane's step, readable in the run's timeline.

    >>> lane_key(Lane(0, 1, 4), "2013-01-01")
    '2013_01_01_2_of_4'
    >>> lane_key(Lane(3, 0, 4), "2013-01-04")
    '2013_01_04_1_of_4_at_3'
    """
    slug = f"{_FORBIDDEN.sub('_', partition_key)[:_SLUG_LENGTH]}_" if partition_key else ""
    # Two partitions of a run may differ in what a key cannot have.
    place = f"_at_{lane.place}" if lane.place else ""
    return f"{slug}{lane.number}_of_{lane.lanes}{place}"


def lane_of(key: str) -> Lane:
    """Return the lane of a mapping key; the inverse of `lane_key`.

    >>> lane_of("2013_01_04_1_of_4_at_3")
    Lane(place=3, lane=0, lanes=4)
    """
    match = _LANE_KEY.fullmatch(key)
    if match is None:
        raise dg.DagsterInvariantViolationError(f"{key!r} is not the key of a lane")
    return Lane(int(match["place"] or 0), int(match["number"]) - 1, int(match["lanes"]))


def load_of(key: str, loads: Sequence[PartitionLoad]) -> PartitionLoad | None:
    """Return which of a run's loads a lane's mapping key is of; None if it is gone.

    Dynamic partitions may be taken away while a run is under way. Those behind move up then.
    """
    lane = lane_of(key)
    for load in reversed(loads[: lane.place + 1]):
        if lane_key(lane, load.partition_key) == key:
            return load
    return None
