"""The twelve months of 2013: loaded through Dagster, compared, printed."""

import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import dagster as dg

from demo import environment, flights
from demo.environment import stage
from demo.flights import Fingerprint
from demo.process import DemoError, end_if_asked, say
from demo.server import Urls

ASSET = dg.AssetKey("fact_flights")
# What the publish step records with each materialization.
ROWS, CHUNKS, SECONDS = "dagster/partition_row_count", "mapper/chunks", "mapper/seconds"
QUIET = {"loggers": {"console": {"config": {"log_level": "WARNING"}}}}
NOTHING = Fingerprint(0, "0")


@dataclass(frozen=True, slots=True)
class Load:
    """What Dagster knows about a month's latest materialization."""

    rows: int
    chunks: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Month:
    """One line of the closing table."""

    key: str
    load: Load
    loaded_now: bool
    source: Fingerprint
    target: Fingerprint

    @property
    def intact(self) -> bool:
        """Tell whether source, target and what Dagit shows say the same."""
        return self.source == self.target and self.load.rows == self.target.rows


def main() -> int:
    """Run the demo; 1 when a month's target differs from its source."""
    began = time.monotonic()
    warnings.simplefilter("ignore", dg.BetaWarning)
    warnings.simplefilter("ignore", dg.PreviewWarning)
    with environment.prepared() as urls:
        months, strays = _load_all(urls)
    _print_table(months)
    say()
    different = [month.key[:7] for month in months if not month.intact] + strays
    if different:
        say(f"source != target: {', '.join(different)} (by count or by checksum)")
        return 1
    rows = sum(month.target.rows for month in months)
    say(f"source = target in all {len(months)} months, by count ({rows:,} rows) and by checksum")
    say(f"Took {time.monotonic() - began:.0f} s. Open Dagit on it:  make ui")
    return 0


def _load_all(urls: Urls) -> tuple[list[Month], list[str]]:
    """Return the months as they are after loading, and months nobody asked for."""
    with stage("Dagster: definitions"):
        # Here, not above: it reads the environment that was only now set.
        from mapper_dagster.definitions import defs

        job = defs.resolve_implicit_global_asset_job_def()
        keys = _partition_keys(defs)
    with stage("Compare source and target, month by month"):
        source = flights.fingerprints(urls.source, flights.SOURCE_TABLE)
        before = flights.fingerprints(urls.target, flights.TARGET_TABLE)
    with dg.DagsterInstance.get() as instance:
        known = {key: _latest_load(instance, key) for key in keys}
        pending = [
            key
            for key in keys
            if known[key] is None or source.get(key, NOTHING) != before.get(key, NOTHING)
        ]
        say(f"Load: {len(pending)} of {len(keys)} months are missing or different")
        for number, key in enumerate(pending, start=1):
            known[key] = _materialize(job, instance, key, label=f"{number:>4}/{len(pending)}")
    after = flights.fingerprints(urls.target, flights.TARGET_TABLE)
    months = [
        Month(
            key=key,
            load=load,
            loaded_now=key in pending,
            source=source.get(key, NOTHING),
            target=after.get(key, NOTHING),
        )
        for key, load in known.items()
        if load is not None
    ]
    return months, sorted({*source, *after} - set(keys))


def _partition_keys(defs: dg.Definitions) -> list[str]:
    partitions = defs.resolve_assets_def(ASSET).partitions_def
    if partitions is None:
        raise DemoError(f"The asset {ASSET.to_user_string()} has no partitions.")
    return list(partitions.get_partition_keys())


def _materialize(
    job: dg.JobDefinition, instance: dg.DagsterInstance, key: str, *, label: str
) -> Load:
    say(f"{label}  {key[:7]} ... ", end="")
    run = job.execute_in_process(
        instance=instance,
        partition_key=key,
        asset_selection=[ASSET],
        run_config=QUIET,
        raise_on_error=False,
    )
    end_if_asked()
    load = _latest_load(instance, key) if run.success else None
    if load is None:
        raise DemoError(
            f"The load of {key[:7]} failed, for the reason above. "
            f"`make ui` shows its run, {run.run_id}."
        )
    say(f"{load.rows:>7,} rows  {load.chunks:>3} chunks  {load.seconds:>5.1f} s")
    return load


def _latest_load(instance: dg.DagsterInstance, key: str) -> Load | None:
    found = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=ASSET, asset_partitions=[key]), limit=1
    )
    if not found.records:
        return None
    materialization = found.records[0].asset_materialization
    return _as_load(materialization.metadata) if materialization else None


def _as_load(metadata: Mapping[str, dg.MetadataValue]) -> Load:
    def number(name: str) -> float:
        value = metadata[name].value if name in metadata else 0
        return float(value) if isinstance(value, int | float) else 0.0

    return Load(int(number(ROWS)), int(number(CHUNKS)), number(SECONDS))


def _print_table(months: list[Month]) -> None:
    line = "{:<8} {:>9} {:>7} {:>10}  {}"
    say()
    say(line.format("month", "rows", "chunks", "seconds", "source = target"))
    for month in months:
        seconds = f"{month.load.seconds:.1f}" if month.loaded_now else "unchanged"
        same = "yes" if month.intact else _difference(month)
        rows, chunks = f"{month.load.rows:,}", f"{month.load.chunks:,}"
        say(line.format(month.key[:7], rows, chunks, seconds, same))
    loads = [month.load for month in months]
    rows = f"{sum(load.rows for load in loads):,}"
    chunks = f"{sum(load.chunks for load in loads):,}"
    now = sum(month.load.seconds for month in months if month.loaded_now)
    say(line.format("total", rows, chunks, f"{now:.1f}", "").rstrip())


def _difference(month: Month) -> str:
    if month.source.rows != month.target.rows:
        return f"NO: {month.source.rows:,} rows, {month.target.rows:,} in the target"
    if month.source != month.target:
        return "NO: the checksums differ"
    return f"NO: Dagster counted {month.load.rows:,} rows"
