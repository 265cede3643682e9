"""Whether partitions were loaded in time."""

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone

import dagster as dg

from mapper_core import SettingsError

from ..windows import in_units, window_of
from .check import Case, Check, Finding

# Missing partitions that a check names.
_LISTED = 10


def partitions_on_time(case: Case, within: timedelta) -> Check:
    """Return the check for late partitions. Raises SettingsError where none can be late."""
    mapping, definition = case.mapping, case.mapping.partitions_def
    if not isinstance(within, timedelta):
        raise SettingsError(f"mapping {mapping.name}: due_within {within!r} is not a timedelta")
    if within < timedelta(0):
        raise SettingsError(
            f"mapping {mapping.name}: due_within is negative: give a timedelta of 0 or more"
        )
    if not isinstance(definition, dg.TimeWindowPartitionsDefinition):
        raise SettingsError(f"mapping {mapping.name}: due_within is for partitions by time")

    def find(context: dg.AssetCheckExecutionContext) -> Finding:
        due = datetime.now(timezone.utc) - within
        loaded = context.instance.get_materialized_partitions(case.key)
        missing = [
            key
            for key in definition.get_partition_keys()
            if key not in loaded and window_of(definition, key)[1] <= due
        ]
        return Finding(
            not missing,
            _missing(missing) if missing else "all are loaded",
            {"mapper/partitions_missing": len(missing)},
        )

    return Check(
        name="partitions_on_time",
        description=f"Every partition that ended more than {in_units(within)} ago has been loaded.",
        find=find,
        by_partition=False,
    )


def _missing(partitions: Sequence[str]) -> str:
    """Return which partitions are missing, in words: the last ones of many."""
    listed = ", ".join(partitions[-_LISTED:])
    if len(partitions) <= _LISTED:
        return f"not loaded: {listed}"
    return f"{len(partitions)} are not loaded, the last of them {listed}"
