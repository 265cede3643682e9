"""Dagster as it is deployed: web server, daemon and code server as processes, kept in PostgreSQL.

Everything is asked for over GraphQL, as Dagit asks for it; and once in a browser, by clicking.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from mapper_dagster.sensors.requests import TABLE as REQUESTS

from ..databases import making_databases
from ..waiting import backends, wait_until
from .conftest import TABLE

CHECKOUT = Path(__file__).parents[2]
LOCATION = {
    "repositoryLocationName": "service",
    "repositoryName": "__repository__",
}
MONTHS = [f"2024-{month:02d}-01" for month in range(9, 13)]
ROWS = 12_000

LAUNCH = """mutation($params: ExecutionParams!) { launchRun(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
BACKFILL = """mutation($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) { __typename
    ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
REEXECUTE = """mutation($params: ReexecutionParams!) {
  launchRunReexecution(reexecutionParams: $params) { __typename
    ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
TERMINATE = """mutation($id: String!) { terminateRun(runId: $id) { __typename } }"""
STATUS = "query($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
BACKFILL_STATUS = """query($id: String!) { partitionBackfillOrError(backfillId: $id) {
  ... on PartitionBackfill { status } } }"""
SENSOR = """mutation($selector: SensorSelector!) { startSensor(sensorSelector: $selector) {
  __typename ... on PythonError { message } } }"""
LOGS = """query($id: ID!) { logsForRun(runId: $id) { ... on EventConnection { events {
  ... on MessageEvent { message } } } } }"""
REQUESTED = """query($filter: RunsFilter!) { runsOrError(filter: $filter) {
  ... on Runs { results { runId status } } } }"""
COUNTS = """query($key: AssetKeyInput!, $keys: [String!]) { assetNodeOrError(assetKey: $key) {
  ... on AssetNode { latestMaterializationByPartition(partitions: $keys) { partition
    metadataEntries { label ... on IntMetadataEntry { intValue } } } } } }"""


class Service:
    """Dagster's processes, and what is asked of them."""

    def __init__(self, home, environment):
        self.gate = home / "gate"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        workspace = home / "workspace.yaml"
        workspace.write_text(
            "load_from:\n  - python_module:\n      module_name: tests.dagster_layer.service\n"
            f"      attribute: defs\n      working_directory: {CHECKOUT}\n"
            "      location_name: service\n"
        )
        self.log = (home / "log").open("wb")
        self.home, self.workspace = home, workspace
        self.environment = {**os.environ, **environment, "DAGSTER_HOME": str(home)}
        web = ("dagster-webserver", "--host", "127.0.0.1", "--port", str(self.port))
        self.processes = [self._start(*web), self._start("dagster-daemon", "run")]

    def _start(self, name, *words):
        return subprocess.Popen(
            [Path(sys.executable).with_name(name), *words, "--workspace", self.workspace],
            env=self.environment,
            cwd=self.home,
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
        )

    def kill_daemon(self):
        """Kill the daemon, and start another."""
        self.processes[1].kill()
        self.processes[1].wait()
        self.processes[1] = self._start("dagster-daemon", "run")

    def close(self):
        """End everything that was started, run workers included."""
        family = []
        for process in self.processes:
            with suppress(psutil.Error):
                family += psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGINT)
        for process in self.processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()
            process.wait()
        _, alive = psutil.wait_procs(family, timeout=10)
        for left in alive:
            left.kill()
        self.log.close()

    def ask(self, query, **variables):
        """Return the answer's one field."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(
            f"{self.url}/graphql", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            told = json.load(answer)
        assert not told.get("errors"), told["errors"]
        (value,) = told["data"].values()
        return value

    def up(self):
        """Whether the code is loaded."""
        with suppress(OSError, AssertionError):
            return "service" in str(
                self.ask(
                    "query { repositoriesOrError { ... on RepositoryConnection"
                    " { nodes { location { name } } } } }"
                )
            )
        return False

    def launch(self, asset, partition):
        """Start a run of an asset's partition; return its id."""
        told = self.ask(
            LAUNCH,
            params={
                "selector": {
                    **LOCATION,
                    "jobName": "__ASSET_JOB",
                    "assetSelection": [{"path": [asset]}],
                },
                "runConfigData": {},
                "mode": "default",
                "executionMetadata": {"tags": [{"key": "dagster/partition", "value": partition}]},
            },
        )
        assert told["__typename"] == "LaunchRunSuccess", told
        return told["run"]["runId"]

    def again(self, run_id, strategy):
        """Execute a run again; return the new one's id."""
        params = {"parentRunId": run_id, "strategy": strategy}
        told = self.ask(REEXECUTE, params=params)
        assert told["__typename"] == "LaunchRunSuccess", told
        return told["run"]["runId"]

    def status(self, run_id):
        """Return a run's status."""
        return self.ask(STATUS, id=run_id)["status"]

    def ended(self, run_id):
        """Wait for a run; return its status."""
        last = {"SUCCESS", "FAILURE", "CANCELED"}
        return wait_until(lambda: (s := self.status(run_id)) in last and s, "the run to end", 150)

    def worker(self, run_id):
        """Return the process id of a run's worker, as Dagster itself tells it."""
        words = str(self.ask(LOGS, id=run_id))
        found = re.search(r"Started process for run \(pid: (\d+)\)", words)
        assert found, words
        return int(found[1])

    def counts(self, asset, partitions):
        """Return what Dagit shows as the row count of each partition."""
        found = self.ask(COUNTS, key={"path": [asset]}, keys=list(partitions))
        return {
            shown["partition"]: next(
                entry["intValue"]
                for entry in shown["metadataEntries"]
                if entry["label"] == "dagster/partition_row_count"
            )
            for shown in found["latestMaterializationByPartition"]
            if shown
        }


@pytest.fixture(scope="module")
def databases(server):
    """A source with a year of events, an empty target, and Dagster's own database."""
    with making_databases(server) as make:
        yield {name: make(name) for name in ("source", "target", "storage")}


@pytest.fixture(scope="module")
def service(databases, tmp_path_factory):
    """Dagster on its PostgreSQL, with the instance that `deploy/` has."""
    import psycopg

    home = tmp_path_factory.mktemp("dagster")
    deployed = (CHECKOUT / "deploy" / "dagster.yaml").read_text()
    # Sooner: nothing here is about how long a killed run's worker is not missed.
    sooner = re.sub(r"\b(poll_interval_seconds): \d+", r"\1: 3", deployed)
    (home / "dagster.yaml").write_text(sooner)
    with psycopg.connect(databases["source"], autocommit=True) as source:
        source.execute(f"create table events {TABLE}")
        source.execute(
            "insert into events select i, date '2024-01-01' + i % 366, 'n' || i"
            f" from generate_series(1, {ROWS}) i"
        )
    with psycopg.connect(databases["target"], autocommit=True) as target:
        for name in ("fact_events", "slow_events", "clicked_events"):
            target.execute(f"create table {name} {TABLE}")
        target.execute(REQUESTS)
    storage = databases["storage"].replace("postgresql://", "postgresql+psycopg2://")
    started = Service(
        home,
        {
            "EVENTS_SOURCE_URL": databases["source"],
            "EVENTS_TARGET_URL": databases["target"],
            "EVENTS_GATE": str(home / "gate"),
            "DAGSTER_PG_URL": storage,
            "PYTHONPATH": str(CHECKOUT),
        },
    )
    try:
        wait_until(started.up, "Dagster to load the code", 120)
        yield started
    finally:
        started.close()


def of_month(url, table, run):
    month = "date_trunc('month', happened_on)::date::text"
    return dict(run(url, f"select {month}, count(*) from {table} group by 1"))


def test_a_backfill_counts_each_month_apart(service, databases, run):
    """Partitions of several runs, each with its own number, all equal to a SELECT on the target."""
    told = service.ask(
        BACKFILL,
        params={"assetSelection": [{"path": ["fact_events"]}], "partitionNames": MONTHS},
    )
    assert told["__typename"] == "LaunchBackfillSuccess", told
    backfill = told["backfillId"]

    last = {"COMPLETED_SUCCESS", "COMPLETED_FAILED", "CANCELED", "FAILED"}

    def status():
        found = service.ask(BACKFILL_STATUS, id=backfill)["status"]
        return found in last and found

    assert wait_until(status, "the backfill to end", 280) == "COMPLETED_SUCCESS"
    shown = service.counts("fact_events", MONTHS)
    there = of_month(databases["source"], "events", run)
    assert {month: there[month] for month in MONTHS} == shown
    assert of_month(databases["target"], "fact_events", run) == shown


def test_a_row_in_a_table_asks_for_a_load_and_hears_of_it(service, databases, run):
    """From an INSERT to the status in the same row; the daemon between them is killed midway."""
    run(databases["source"], "insert into events values (90001, '2024-05-05', 'new')")
    run(
        databases["target"],
        "insert into load_request values (1, 'fact_events', '2024-05-01', 'requested')",
    )
    selector = {**LOCATION, "sensorName": "load_requests"}
    told = service.ask(SENSOR, selector=selector)
    assert told["__typename"] == "Sensor", told

    def runs():
        tags = [{"key": "mapper/load_request", "value": "1"}]
        return service.ask(REQUESTED, filter={"tags": tags})["results"]

    wait_until(runs, "the request to be seen", 120)
    service.kill_daemon()

    def status():
        (found,) = run(databases["target"], "select status, run_id from load_request")
        return found[0] in {"succeeded", "failed"} and found

    found, run_id = wait_until(status, "the request to be answered", 150)

    assert (found, "SUCCESS") == ("succeeded", service.status(run_id))
    assert [run_id] == [each["runId"] for each in runs()]
    assert [(1,)] == run(databases["target"], "select count(*) from fact_events where id = 90001")


def test_a_terminated_run_ends_and_is_gone_on_with(service, databases, run):
    """Within seconds; executed again, it loads what is missing."""
    service.gate.touch()
    run_id = service.launch("slow_events", "2024-02-01")
    wait_until(lambda: finished(run, databases["target"], run_id), "a chunk", 120)

    assert service.ask(TERMINATE, id=run_id)["__typename"] == "TerminateRunSuccess"
    assert service.ended(run_id) == "CANCELED"
    service.gate.unlink()
    assert {} == of_month(databases["target"], "slow_events", run)

    assert service.ended(service.again(run_id, "ALL_STEPS")) == "SUCCESS"
    february = of_month(databases["source"], "events", run)["2024-02-01"]
    assert {"2024-02-01": february} == of_month(databases["target"], "slow_events", run)
    assert {"2024-02-01": february} == service.counts("slow_events", ["2024-02-01"])


@pytest.mark.parametrize("strategy", ["FROM_FAILURE", "ALL_STEPS", "by the daemon"])
def test_the_run_of_a_killed_worker_is_completed(service, databases, run, strategy):
    """Whichever way it is executed again, and by whom: no row is missing, none is there twice."""
    run(databases["target"], "truncate slow_events")
    partition = {"FROM_FAILURE": "2024-03-01", "ALL_STEPS": "2024-04-01"}.get(
        strategy, "2024-06-01"
    )
    expected = of_month(databases["source"], "events", run)[partition]
    service.gate.touch()
    run_id = service.launch("slow_events", partition)
    wait_until(lambda: finished(run, databases["target"], run_id), "a chunk", 120)

    os.kill(service.worker(run_id), signal.SIGKILL)
    service.gate.unlink()

    if strategy == "by the daemon":

        def loaded():
            return of_month(databases["target"], "slow_events", run)

        wait_until(loaded, "the daemon to have it executed again", 200)
    else:
        assert service.ended(run_id) == "FAILURE"
        assert service.ended(service.again(run_id, strategy)) == "SUCCESS"
    assert {partition: expected} == of_month(databases["target"], "slow_events", run)
    ids = "select count(distinct id) from slow_events"
    assert [(expected,)] == run(databases["target"], ids)


def finished(run, target, run_id):
    there = run(target, "select to_regclass('mapper.claim') is not null")[0][0]
    asked = f"select count(*) from mapper.claim where done = 1 and load_id like '{run_id}%'"
    return there and run(target, asked)[0][0]


def test_a_month_is_loaded_by_clicking(service, databases, run, tmp_path):
    """Open Dagit, materialize a partition, see its rows and its check."""
    browser_at = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if browser_at is None:
        pytest.skip("there is no Chromium here: apt-get install chromium")
    sync_api = pytest.importorskip("playwright.sync_api")
    january = of_month(databases["source"], "events", run)["2024-01-01"]

    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_at, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(60_000)
        page.goto(f"{service.url}/assets/clicked_events?view=partitions&partition=2024-01-01")
        page.get_by_role("button", name="Materialize").first.click()
        page.get_by_role("button", name=re.compile("^Launch")).click()

        def loaded():
            rows = of_month(databases["target"], "clicked_events", run)
            return rows.get("2024-01-01") == january

        wait_until(loaded, "the month to be there", 150)
        page.goto(f"{service.url}/assets/clicked_events?view=partitions&partition=2024-01-01")
        page.get_by_text("dagster/partition_row_count").wait_for()
        page.get_by_text(str(january), exact=True).first.wait_for()
        page.goto(f"{service.url}/assets/clicked_events?view=checks")
        page.get_by_text("source_equals_target").first.wait_for()
        page.get_by_text("Succeeded").first.wait_for()
        browser.close()


@pytest.fixture(autouse=True, scope="module")
def nothing_stays(databases, service):
    """In the end no session of a load is left."""
    yield
    for name in ("source", "target"):
        wait_until(lambda name=name: not backends(databases[name]), "sessions to end", 60)
