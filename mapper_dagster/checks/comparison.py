"""Whether source and target have the same rows."""

import dagster as dg

from mapper_core import LoadMode, SettingsError, Verification, verify

from .. import metadata
from ..resources import DatabaseResource, resource_of
from ..windows import PartitionLoad, time_zone_of
from .check import Case, Check, Finding, values_of


def source_equals_target(case: Case, method: str, *, blocking: bool) -> Check:
    """Return the check that compares them. Raises SettingsError where they may well differ."""
    mapping = case.mapping
    if method not in {Verification.COUNT, Verification.CHECKSUM}:
        raise SettingsError(
            f"mapping {mapping.name}: compare {method!r} is unknown: use 'count', 'checksum' or"
            " None"
        )
    if mapping.mode not in {LoadMode.REPLACE, LoadMode.REPLACE_WINDOW}:
        raise SettingsError(
            f"mapping {mapping.name}: load_mode {mapping.mode.value!r} leaves rows in the target"
            " that the source need not have, so they cannot be compared: use compare=None"
        )
    if mapping.transformation_func or mapping.transform_batch:
        raise SettingsError(
            f"mapping {mapping.name}: rows pass through a function, so the target's need not be"
            " the source's: use compare=None"
        )

    def find(context: dg.AssetCheckExecutionContext) -> Finding:
        source = resource_of(context, mapping.source, DatabaseResource)
        target = resource_of(context, mapping.target, DatabaseResource)
        loads = case.loads(context)
        compared = [
            verify(
                source.url,
                mapping.source_sql,
                target.url,
                _target_sql(case, load, target),
                params=values_of(mapping, load),
                method=method,
                time_zone=time_zone_of(mapping.partitions_def) or "UTC",
            )
            for load in loads
        ]
        rows_of_target = sum(found.target_rows for found in compared)
        different = [
            f"{load.partition_key or 'all'}: {found}{_left_out(case, context, load)}"
            for load, found in zip(loads, compared, strict=True)
            if not found.equal
        ]
        return Finding(
            not different,
            "\n".join(different) or f"{rows_of_target:,} rows on both sides",
            {
                "mapper/source_rows": sum(found.source_rows for found in compared),
                "mapper/target_rows": rows_of_target,
                "mapper/compared": len(compared),
                "mapper/method": str(method),
            },
        )

    return Check(
        name="source_equals_target",
        description=(
            "The target has the source's rows, each read by one statement at its own moment."
        ),
        find=find,
        resources=frozenset({mapping.source, mapping.target}),
        blocking=blocking,
    )


def _target_sql(case: Case, load: PartitionLoad, target: DatabaseResource) -> str:
    names = [part for part in (case.mapping.target_schema, case.mapping.target_table) if part]
    # As the engine writes it: spelled as the database has it, quoted so that any name is safe.
    table = target.quote(*names)
    if load.window is None:
        return f"SELECT * FROM {table}"
    column = target.quote(load.window.column)
    return f"SELECT * FROM {table} WHERE {column} >= :window_start AND {column} < :window_end"


def _left_out(case: Case, context: dg.AssetCheckExecutionContext, load: PartitionLoad) -> str:
    """Return how many rows the latest load was not let have, in words; nothing if none."""
    _, shown = case.latest(context, [load.partition_key])
    if not (rejected := shown.get(metadata.REJECTED)):
        return ""
    listed = f" ({shown[metadata.LIST_REJECTS]})" if metadata.LIST_REJECTS in shown else ""
    return f"; the latest load left out {rejected:,} rows of the source that were refused{listed}"
