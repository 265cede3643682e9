"""Asset checks of a mapping: whether the target holds what the source has."""

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import dagster as dg

from mapper_core import LoadMode, SettingsError, Verification, history, verify

from . import metadata
from .asked import loads_to_be_checked
from .failures import in_words
from .mapping import Mapping
from .resources import DatabaseResource, MapperResource, resource_of
from .translator import MappingTranslator
from .windows import PartitionLoad, in_units, time_zone_of, window_of

# Missing partitions that a check names.
_LISTED = 10


def build_mapping_checks(
    mapping: Mapping,
    *,
    compare: str | None = Verification.COUNT.value,
    blocking: bool = False,
    max_reject_share: float | None = None,
    columns: bool = True,
    due_within: timedelta | None = None,
    translator: MappingTranslator | None = None,
) -> list[dg.AssetChecksDefinition]:
    """Return the checks of a mapping's asset.

    Args:
        mapping: the mapping that the asset was built from.
        compare: "count" or "checksum": whether source and target hold the same rows; if a partition
            is checked, in that partition. For load modes that replace; None leaves this check out.
        blocking: whether downstream assets wait for the comparison, and do not run if it fails.
        max_reject_share: the largest share of a load's rows that may have been left out, 0 to 1.
        columns: whether to check that the query's columns are still those of the latest load.
        due_within: how long after its end a partition by time must have been loaded.
        translator: the translator that the asset was built with.

    Raises:
        SettingsError: a check does not fit the mapping.
    """
    key = (translator or MappingTranslator()).get_asset_spec(mapping).key
    if compare not in {None, Verification.COUNT, Verification.CHECKSUM}:
        raise SettingsError(
            f"mapping {mapping.name}: compare {compare!r} is none of 'count', 'checksum' and None"
        )
    if due_within is not None and not isinstance(due_within, timedelta):
        raise SettingsError(f"mapping {mapping.name}: due_within {due_within!r} is no timedelta")
    case = _Case(mapping, key)
    found = []
    if compare is not None:
        found.append(_comparison(case, compare, blocking=blocking))
    if max_reject_share is not None:
        found.append(_reject_share(case, max_reject_share))
    if columns:
        found.append(_columns(case))
    if due_within is not None:
        found.append(_due(case, due_within))
    return found


@dataclass(frozen=True, slots=True)
class _Case:
    mapping: Mapping
    key: dg.AssetKey

    def loads(self, context: Any) -> Sequence[PartitionLoad]:
        """Return what the checked partitions ask for; the whole without partitions."""
        return loads_to_be_checked(context, self.mapping, self.key)

    def check(
        self, name: str, description: str, *, resources: set[str], blocking: bool = False
    ) -> Callable[[Callable[[Any], dg.AssetCheckResult]], dg.AssetChecksDefinition]:
        decorate = dg.asset_check(
            asset=self.key,
            name=name,
            description=description,
            blocking=blocking,
            required_resource_keys=resources,
            partitions_def=self.mapping.partitions_def,
        )

        def build(function: Callable[[Any], dg.AssetCheckResult]) -> dg.AssetChecksDefinition:
            with warnings.catch_warnings():
                # Checks by partition are new in Dagster; there is no other way to count by month.
                warnings.simplefilter("ignore", dg.PreviewWarning)
                return decorate(function)

        return build


def _comparison(case: _Case, method: str, *, blocking: bool) -> dg.AssetChecksDefinition:
    mapping = case.mapping
    if mapping.mode not in {LoadMode.REPLACE, LoadMode.REPLACE_WINDOW}:
        raise SettingsError(
            f"mapping {mapping.name}: load_mode {mapping.mode.value!r} leaves rows in the target"
            " that the source need not have, so they cannot be compared: compare=None"
        )
    if mapping.transformation_func or mapping.transform_batch:
        raise SettingsError(
            f"mapping {mapping.name}: rows pass through a function, so the target's need not be the"
            " source's: compare=None"
        )

    @case.check(
        "source_equals_target",
        "The target has the source's rows, each read by one statement at its own moment.",
        resources={mapping.source, mapping.target},
        blocking=blocking,
    )
    def source_equals_target(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        compared, different = 0, []
        rows = {"source": 0, "target": 0}
        for load in case.loads(context):
            with in_words(context):
                target = resource_of(context, mapping.target, DatabaseResource)
                found = verify(
                    resource_of(context, mapping.source, DatabaseResource).url,
                    mapping.source_sql,
                    target.url,
                    _target_sql(mapping, load, target),
                    params=_values(mapping, load),
                    method=method,
                    time_zone=time_zone_of(mapping.partitions_def) or "UTC",
                )
            compared += 1
            rows["source"] += found.source_rows
            rows["target"] += found.target_rows
            if not found.equal:
                left_out = _left_out(context, case.key, load)
                different.append(f"{load.partition_key or 'all'}: {found}{left_out}")
        return dg.AssetCheckResult(
            passed=not different,
            description="\n".join(different) or f"{rows['target']:,} rows on both sides",
            metadata={
                "mapper/source_rows": rows["source"],
                "mapper/target_rows": rows["target"],
                "mapper/compared": compared,
                "mapper/method": str(method),
            },
        )

    return source_equals_target


def _left_out(context: dg.AssetCheckExecutionContext, key: dg.AssetKey, load: PartitionLoad) -> str:
    """Return how many rows the latest load was not let have, in words; nothing if none."""
    _, shown = _latest(context, key, [load.partition_key])
    if not (rejected := shown.get(metadata.REJECTED)):
        return ""
    listed = f" ({shown[metadata.LIST_REJECTS]})" if metadata.LIST_REJECTS in shown else ""
    return f"; the latest load left out {rejected:,} rows of the source that were refused{listed}"


def _target_sql(mapping: Mapping, load: PartitionLoad, target: DatabaseResource) -> str:
    names = [part for part in (mapping.target_schema, mapping.target_table) if part]
    # As the engine writes it: spelled as the database has it, quoted so that any name is safe.
    table = target.quote(*names)
    if load.window is None:
        return f"SELECT * FROM {table}"
    column = target.quote(load.window.column)
    return f"SELECT * FROM {table} WHERE {column} >= :window_start AND {column} < :window_end"


def _values(mapping: Mapping, load: PartitionLoad) -> dict[str, Any]:
    window = {}
    if load.window is not None:
        window = {"window_start": load.window.start, "window_end": load.window.end}
    return {**window, **load.bounds, **(mapping.params or {})}


def _reject_share(case: _Case, most: float) -> dg.AssetChecksDefinition:
    if not 0 <= most <= 1:
        raise SettingsError(
            f"mapping {case.mapping.name}: max_reject_share {most} is no share: 0 is none, 1 is"
            " every row"
        )

    @case.check(
        "few_rows_rejected",
        f"At most {most:.2%} of the latest load's rows were left out.",
        resources=set(),
    )
    def few_rows_rejected(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        rejected = read = 0
        for load in case.loads(context):
            _, shown = _latest(context, case.key, [load.partition_key])
            rejected += shown.get(metadata.REJECTED, 0)
            read += shown.get(metadata.ROWS_READ, 0)
        share = rejected / read if read else 0.0
        return dg.AssetCheckResult(
            passed=share <= most,
            description=f"{rejected:,} of {read:,} rows were left out",
            metadata={metadata.REJECTED: rejected, "mapper/reject_share": share},
        )

    return few_rows_rejected


def _columns(case: _Case) -> dg.AssetChecksDefinition:
    mapping = case.mapping

    @case.check(
        "columns_unchanged",
        "The query has the columns, and the types, that it had when it was last loaded.",
        resources={mapping.source, mapping.target, mapping.mapper},
    )
    def columns_unchanged(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        loads = {load.partition_key: load for load in case.loads(context)}
        partition, shown = _latest(context, case.key, loads)
        if metadata.LOAD_ID not in shown:
            return dg.AssetCheckResult(passed=True, description="nothing has been loaded yet")
        with in_words(context):
            record = history.chunks(
                resource_of(context, mapping.target, DatabaseResource).url,
                shown[metadata.LOAD_ID],
                ledger_schema=resource_of(context, mapping.mapper, MapperResource).ledger_schema,
            ).record
            columns = resource_of(context, mapping.source, DatabaseResource).columns(
                mapping.source_sql, _values(mapping, loads[partition]) or None
            )
        before = {column.name: column.type for column in record.plan.columns}
        after = {column.name: column.type for column in columns}
        changes = [
            *(f"{name} is gone" for name in before if name not in after),
            *(f"{name} ({after[name]}) is new" for name in after if name not in before),
            *(
                f"{name} was {before[name]} and is {after[name]}"
                for name in before
                if name in after and before[name] != after[name]
            ),
        ]
        return dg.AssetCheckResult(
            passed=not changes,
            description="; ".join(changes) or "the columns are those of the latest load",
            metadata={metadata.COLUMN_SCHEMA: metadata.schema_of(columns)},
        )

    return columns_unchanged


def _due(case: _Case, within: timedelta) -> dg.AssetChecksDefinition:
    mapping, definition = case.mapping, case.mapping.partitions_def
    if not isinstance(definition, dg.TimeWindowPartitionsDefinition):
        raise SettingsError(f"mapping {mapping.name}: due_within is for partitions by time")

    @dg.asset_check(
        asset=case.key,
        name="partitions_on_time",
        description=f"Every partition that ended more than {in_units(within)} ago has been loaded.",
    )
    def partitions_on_time(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        due = datetime.now(timezone.utc) - within
        loaded = context.instance.get_materialized_partitions(case.key)
        missing = [
            key
            for key in definition.get_partition_keys()
            if key not in loaded and window_of(definition, key)[1] <= due
        ]
        return dg.AssetCheckResult(
            passed=not missing,
            description=_missing(missing) if missing else "all are loaded",
            metadata={"mapper/partitions_missing": len(missing)},
        )

    return partitions_on_time


def _missing(partitions: Sequence[str]) -> str:
    """Return which partitions are missing, in words: the last ones of many."""
    listed = ", ".join(partitions[-_LISTED:])
    if len(partitions) <= _LISTED:
        return f"not loaded: {listed}"
    return f"{len(partitions)} are not loaded, the last of them {listed}"


def _latest(
    context: dg.AssetCheckExecutionContext, key: dg.AssetKey, partitions: Iterable[str | None]
) -> tuple[str | None, dict[str, Any]]:
    """Return the partition and the metadata of the latest materialization of some; or nothing.

    Of an asset without partitions that is the latest one of None.
    """
    of = [partition for partition in partitions if partition is not None]
    only = dg.AssetRecordsFilter(key, asset_partitions=of or None)
    records = context.instance.fetch_materializations(only, limit=1).records
    if not records or (shown := records[0].asset_materialization) is None:
        return None, {}
    metadata_shown = {name: value.value for name, value in shown.metadata.items()}
    return shown.partition, metadata_shown
