"""Failed runs that Dagster's daemon executes again by itself."""

import dagster as dg

WILL_RETRY = "dagster/will_retry"
"""Dagster's tag of a failed run: whether it does. A moment passes before a failed run has it."""


def will_be_retried(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool | None:
    """Return whether Dagster executes a failed run again by itself; None if it has yet to say."""
    if (said := run.tags.get(WILL_RETRY)) is not None:
        return said == "true"
    return None if instance.run_retries_enabled else False
