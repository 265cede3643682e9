"""A Dagster instance of its own for each test, and the databases of `deployment`."""

import os
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import dagster as dg
import pytest

from mapper_dagster import DatabaseResource, MapperResource, build_mapping_asset

from . import deployment

TABLE = "(id int primary key, happened_on date not null, note text)"
EVENTS = 4_000


@pytest.fixture
def managed():
    """The loggers that Dagster is to manage."""
    return []


@pytest.fixture
def instance(request, managed):
    """An instance in memory; on disk, which costs several times as much, for `start_run`."""
    logs = {}
    if managed:
        logs["python_logs"] = {"python_log_level": "INFO", "managed_python_loggers": managed}
    made: AbstractContextManager[dg.DagsterInstance]
    if "start_run" in request.fixturenames:
        made = dg.instance_for_test(overrides={"telemetry": {"enabled": False}, **logs})
    else:
        made = dg.DagsterInstance.ephemeral(settings=logs)
    with made as instance:
        yield instance


@pytest.fixture
def events(source, target, run, monkeypatch, tmp_path):
    """4,000 events over the four months of the partitions; an empty target table."""
    run(
        source,
        f"create table events {TABLE}",
        "insert into events select i, date '2024-01-01' + i % 121, 'n' || i"
        f" from generate_series(1, {EVENTS}) i",
    )
    run(target, f"create table fact_events {TABLE}")
    monkeypatch.setenv("EVENTS_SOURCE_URL", source)
    monkeypatch.setenv("EVENTS_TARGET_URL", target)
    monkeypatch.setenv("EVENTS_GATE", str(tmp_path / "gate"))


@pytest.fixture
def materialize(instance):
    """Materialize a partition of an asset in this process; return the result."""

    def materialize_partition(partition, asset="fact_events", **options):
        job = deployment.defs.resolve_implicit_global_asset_job_def()
        return job.execute_in_process(
            instance=instance,
            partition_key=partition,
            asset_selection=[dg.AssetKey(asset)],
            raise_on_error=False,
            **options,
        )

    return materialize_partition


@pytest.fixture
def start_run(instance):
    """Start a job's run in a process of its own; see `run_job`. Killed after the test."""
    root = Path(__file__).parents[2]
    started = []

    def start(*arguments):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.dagster_layer.run_job", *arguments],
            env={**os.environ, "PYTHONPATH": str(root), "DAGSTER_HOME": instance.root_directory},
            cwd=root,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


@pytest.fixture
def months(run):
    """Count rows and checksum them per month, in a table of a database."""

    def per_month(url, table):
        return run(
            url,
            "select date_trunc('month', happened_on)::date, count(*),"
            f" sum(hashtextextended(t::text, 0)) from {table} t group by 1 order by 1",
        )

    return per_month


@pytest.fixture
def resources(source, target):
    """The resources of a mapping in this process: two databases and few workers."""
    return {
        "source": DatabaseResource(url=source),
        "target": DatabaseResource(url=target),
        "mapper": MapperResource(max_workers=2),
    }


@pytest.fixture
def run_mapping(instance, resources):
    """Materialize a mapping's asset in this process, with its checks; return the result."""

    def run_one(mapping, partition=None, *, checks=(), tags=None, raise_on_error=False):
        defs = dg.Definitions(
            assets=[build_mapping_asset(mapping)], asset_checks=list(checks), resources=resources
        )
        job = defs.resolve_implicit_global_asset_job_def()
        return job.execute_in_process(
            instance=instance,
            partition_key=partition,
            tags=tags,
            asset_selection=[mapping.key],
            raise_on_error=raise_on_error,
        )

    return run_one


@pytest.fixture
def shown(instance):
    """Return what Dagit shows of an asset's latest materialization."""

    def metadata(asset, partition=None):
        only = dg.AssetRecordsFilter(
            dg.AssetKey(asset), asset_partitions=None if partition is None else [partition]
        )
        (record,) = instance.fetch_materializations(only, limit=1).records
        return {k: v.value for k, v in record.asset_materialization.metadata.items()}

    return metadata
