"""Existing job code, as an asset."""

from collections.abc import Callable, Iterator, Sequence
from collections.abc import Mapping as Dict
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from typing import Any

import dagster as dg

from mapper_core import DatabaseError, SettingsError
from mapper_core.row_values import left_out

from .failures import in_words
from .metadata import PARTITION_ROW_COUNT
from .resources import DatabaseResource, resource_of
from .windows import window_of

ExecuteJob = Callable[[Any, Any, Any, dict[str, Any]], Dict[str, Any]]
"""execute_job(metadata_conn, source_conn, target_conn, session_params) -> {"status": ...}"""

# What a job may call its number of rows.
_ROWS = ("rows_processed", "rows")
_KNOWN = ("SUCCESS", "PARTIAL", "FAILED")


def build_job_asset(
    execute_job: ExecuteJob,
    *,
    name: str,
    session_params: Dict[str, Any] | None = None,
    partitions_def: dg.PartitionsDefinition[Any] | None = None,
    metadata_db: str | None = None,
    source: str = "source",
    target: str = "target",
    key_prefix: str | Sequence[str] = (),
    group_name: str | None = None,
    description: str | None = None,
    deps: Sequence[dg.AssetKey | str] = (),
    pool: str | None = None,
) -> dg.AssetsDefinition:
    """Return an asset that is materialized by calling an existing job function, unchanged.

    The function gets three live DB-API connections and a dict, and returns a dict with a "status".
    "SUCCESS" materializes the asset with the numbers that it returned. "PARTIAL" records them as an
    observation and fails the run. "FAILED" fails the run. A run's configuration may add
    `session_params`.

    Args:
        execute_job: `execute_job(metadata_conn, source_conn, target_conn, session_params)`.
        name: name of the asset, the last part of its key.
        session_params: parameters for every run. The run's own beat these, and those of the
            partition (`partition_key`, and by time `window_start` and `window_end` in UTC) beat
            both.
        partitions_def: partitions of the asset; each run loads one.
        metadata_db: key of the `DatabaseResource` for the first connection; by default the
            target's.
        source: key of the `DatabaseResource` for the second connection.
        target: key of the `DatabaseResource` for the third connection.
        key_prefix: parts of the asset's key before its name.
        group_name: the asset's group.
        description: the asset's description; by default the function's docstring.
        deps: assets that the job reads.
        pool: the Dagster pool of which a run takes a slot.

    Raises:
        SettingsError: an argument cannot be used as given.
    """
    if isinstance(deps, str):
        raise SettingsError(f"{name}: deps is a list: write [{deps!r}]")
    roles = (metadata_db or target, source, target)

    @dg.asset(
        name=name,
        key_prefix=key_prefix or None,
        group_name=group_name,
        description=description or execute_job.__doc__,
        partitions_def=partitions_def,
        deps=list(deps),
        required_resource_keys=set(roles),
        kinds={"mapper"},
        pool=pool,
        config_schema={"session_params": dg.Field(dict, is_required=False, default_value={})},
    )
    def job(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        given = {
            **(session_params or {}),
            **context.op_execution_context.op_config["session_params"],
        }
        given |= _partition(partitions_def, context)
        with ExitStack() as stack:
            metadata_conn, source_conn, target_conn = (
                stack.enter_context(_connected(context, role)) for role in roles
            )
            with in_words(context):
                returned = execute_job(metadata_conn, source_conn, target_conn, given)
                status, numbers = _understood(returned, name)
        partition = context.partition_key if partitions_def is not None else None
        if status == "SUCCESS":
            rows = numbers.get("mapper/rows_processed")
            if partition is not None and rows is not None:
                numbers[PARTITION_ROW_COUNT] = rows
            return dg.MaterializeResult(metadata=numbers)
        if status == "PARTIAL":
            context.log_event(
                dg.AssetObservation(
                    asset_key=context.asset_key, partition=partition, metadata=numbers
                )
            )
        told = ", ".join(f"{key.partition('/')[2]} {value}" for key, value in numbers.items())
        raise dg.Failure(
            description=f"{name} ended with {status}: {told or 'it returned no reason'}",
            metadata=numbers,
        )

    return job


@contextmanager
def _connected(context: dg.AssetExecutionContext, role: str) -> Iterator[Any]:
    """Open a connection of a resource; why there is none is a failure in words."""
    with ExitStack() as stack:
        with in_words(context):
            resource = resource_of(context, role, DatabaseResource)
            try:
                connection = stack.enter_context(resource.connection())
            except DatabaseError as error:
                msg = f"the resource {role!r}: {error}"
                raise type(error)(msg) from error
        yield connection


def _partition(
    definition: dg.PartitionsDefinition[Any] | None, context: dg.AssetExecutionContext
) -> dict[str, Any]:
    if definition is None:
        return {}
    if not context.has_partition_key:
        raise dg.Failure(
            description=(
                "A job runs for one partition at a time: give each partition of the backfill a"
                " run of its own."
            ),
            allow_retries=False,
        )
    found: dict[str, Any] = {"partition_key": context.partition_key}
    if isinstance(definition, dg.TimeWindowPartitionsDefinition):
        found["window_start"], found["window_end"] = window_of(definition, context.partition_key)
    return found


def _understood(returned: Any, name: str) -> tuple[str, dict[str, Any]]:
    """Return the status that a job told, and its numbers and words as metadata."""
    if not isinstance(returned, dict) or "status" not in returned:
        raise SettingsError(f"{name} returned no dict with a status: one of {', '.join(_KNOWN)}")
    status = str(returned["status"]).upper()
    if status not in _KNOWN:
        raise SettingsError(f"{name} ended with status {status!r}: one of {', '.join(_KNOWN)}")
    shown = {key: _number(value) for key, value in returned.items()}
    rows = next((shown[word] for word in _ROWS if word in shown), None)
    rest = {
        f"mapper/{key}": left_out(value) if isinstance(value, str) else value
        for key, value in shown.items()
        if key not in {"status", *_ROWS} and isinstance(value, int | float | str)
    }
    return status, {**({} if rows is None else {"mapper/rows_processed": rows}), **rest}


def _number(value: Any) -> Any:
    """Return a Decimal, which databases count and add up with, as a number that Dagit shows."""
    if not isinstance(value, Decimal):
        return value
    whole = value.is_finite() and value == value.to_integral_value()
    return int(value) if whole else float(value)
