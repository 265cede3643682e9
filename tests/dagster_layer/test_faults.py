"""Accidents under Dagster's multiprocess executor, each while a writer changes the source.

The writer gives every event the same new version in one transaction. So rows read at one moment
all have one version, and rows of two moments are found out.

STORMS=20 in the environment makes that many rounds of each accident instead of one.
"""

import os
import random
import signal
import threading
from contextlib import closing, suppress

import dagster as dg
import psutil
import psycopg
import pytest

from ..own_server import Guests
from ..proxy import Proxy
from ..waiting import backends, wait_until
from .deployment import STORMY_ROWS
from .runs import ended, finished_chunks

ROUNDS = range(int(os.environ.get("STORMS", "1")))
JOB = ("load_stormy_events", "--tag", "dagster/partition=2024-01-01")
ATTEMPTS = 6


@pytest.fixture
def stormy(own, source, run, monkeypatch):
    """The partition's events in the source, in a server of the test's own an empty target."""
    table = "(id int primary key, happened_on date not null, version int not null)"
    run(
        source,
        f"create table events {table}",
        "insert into events select i, date '2024-01-01' + i % 31, 0"
        f" from generate_series(1, {STORMY_ROWS}) i",
        # Makes a chunk last long enough to be met by an accident.
        "create function slow(i int) returns boolean language plpgsql stable as $$ begin"
        " if i % 50 = 0 and current_query() ~* '^copy' then perform pg_sleep(0.02); end if;"
        " return true; end $$",
        "vacuum analyze events",
    )
    run(own.url, f"create table stormy_events {table}")
    monkeypatch.setenv("EVENTS_SOURCE_URL", source)
    monkeypatch.setenv("EVENTS_TARGET_URL", own.url)


class Writer(threading.Thread):
    """Gives every event a new version, again and again."""

    def __init__(self, url):
        super().__init__(name="writer")
        self._url = url
        self._over = threading.Event()
        self.start()

    def run(self):
        with closing(psycopg.connect(self._url, autocommit=True)) as writing:
            while not self._over.wait(0.05):
                writing.execute("update events set version = version + 1")

    def close(self):
        self._over.set()
        self.join()


class Accident:
    """What may befall a load, again and again while its run lasts."""

    def __init__(self, source, own, process, dice):
        self.source, self.own, self.process, self.dice = source, own, process, dice

    def backends(self):
        """A session of the load dies, on either side."""
        url = self.dice.choice([self.source, self.own.url])
        busy = "state <> 'idle' and query not like 'select pg_export_snapshot%'"
        return self._end(url, backends(url, extra=busy))

    def holder(self):
        """The session that holds the read point dies."""
        return self._end(self.source, backends(self.source, "mapper snapshot%"))

    def step(self):
        """A step's process is killed, if it is at work."""
        return _kill(self.dice, _steps_of(self.process.pid))

    def worker(self):
        """The run's own process is killed; its steps live on."""
        self.process.send_signal(signal.SIGKILL)
        return True

    def restart(self):
        """The target's server is restarted."""
        self.own.restart(self.dice.choice(["fast", "immediate"]))
        return True

    def locked(self):
        """Somebody holds the target and the ledger for a moment."""
        with suppress(psycopg.Error), psycopg.connect(self.own.url) as other:
            other.execute("lock table stormy_events, mapper.chunk in access exclusive mode")
            threading.Event().wait(0.3)
        return True

    def crowded(self):
        """Others take every place that the target's server has, for a moment."""
        with closing(Guests(self.own.url)) as guests:
            guests.take_all_but(0)
            threading.Event().wait(0.2)
        return True

    def altered(self):
        """Somebody renames a column of the target, and takes it back."""
        return self._renamed(
            "alter table stormy_events rename column version to edition",
            "alter table stormy_events rename column edition to version",
        )

    def missing(self):
        """The target is not there for a moment."""
        return self._renamed(
            "alter table stormy_events rename to elsewhere",
            "alter table elsewhere rename to stormy_events",
        )

    def commit(self):
        """COMMITs are lost, on their way there or back: the proxy sees to it."""
        return True

    def _renamed(self, there, back):
        """Rename something, and back again a moment later."""
        with suppress(psycopg.Error), psycopg.connect(self.own.url, autocommit=True) as other:
            other.execute(there)
            threading.Event().wait(0.3)
            other.execute(back)
        return True

    def _end(self, url, victims):
        if not victims:
            return False
        with suppress(psycopg.Error), psycopg.connect(url, autocommit=True) as killer:
            killer.execute("select pg_terminate_backend(%s)", (self.dice.choice(victims),))
        return True


# What befalls one load, turn about, how often in its first run, and how often more in each later
# one. Each load costs several processes of Dagster, so kinds that leave each other room share one.
SERIES = {
    "sessions": (("backends", "locked", "crowded"), 14, 14),
    "holder": (("holder",), 1, 0),
    "processes": (("step", "step", "worker"), 3, 3),
    "restart": (("restart",), 2, 2),
    "target": (("altered", "missing"), 4, 4),
    "commit": (("commit",), 1, 1),
}


@pytest.mark.parametrize("seed", ROUNDS)
@pytest.mark.parametrize("series", SERIES)
def test_an_accident_under_dagster_ends_in_all_rows_of_one_moment_or_in_failure(
    stormy, instance, start_run, own, source, run, series, seed, monkeypatch, record_property
):
    """A run succeeds with every row, or fails with none; executed again, it comes to an end."""
    dice = random.Random(f"{series} {seed}")
    kinds, first, more = SERIES[series]
    happened, parent = 0, None

    def lost(_):
        return dice.choice(["reply", "request"]) if dice.random() < 0.2 else None

    with (
        closing(Writer(source)),
        Proxy(own.url, lose_commit=lost, every_commit=True) as proxy,
    ):
        if series == "commit":
            monkeypatch.setenv("EVENTS_TARGET_URL", proxy.url)
        for attempt in range(ATTEMPTS):
            # Turn about: from where it failed, and in full.
            again: list[str] = []
            if parent:
                again = ["--parent", parent, *(["--from-failure"] if attempt % 2 else [])]
            process = start_run(*JOB, *again)
            wait_until(
                lambda p=process: p.poll() is not None or finished_chunks(run, own.url), "a chunk"
            )
            accident = Accident(source, own, process, dice)
            while process.poll() is None:
                if happened < first + more * attempt and attempt < ATTEMPTS - 2:
                    happened += getattr(accident, kinds[happened % len(kinds)])()
                with suppress(Exception):
                    process.wait(dice.uniform(0.05, 0.3))
            # A run worker that was killed says nothing.
            success = process.returncode == 0 and ended(process)[1]
            seen = run(own.url, "select count(*), count(distinct version) from stormy_events")
            # A run may die after its load is published, but not in between.
            assert seen == [(STORMY_ROWS, 1)] or (seen == [(0, 0)] and not success)
            if success:
                break
            failed = instance.get_runs(limit=1)[0]
            if not failed.is_finished:
                instance.report_run_failed(failed)
            parent = failed.run_id
        record_property("accidents", proxy.cuts or happened)
        record_property("runs", attempt + 1)

        assert success
        # While the proxy is there: through it the load's snapshot holder hears that it has ended.
        for url in (source, own.url):
            wait_until(lambda url=url: not backends(url), "the load's sessions to end")


def test_a_run_whose_host_goes_down_ends_its_statements_and_can_be_executed_again(
    stormy, instance, start_run, own, source, run
):
    """What it had finished stays finished; nothing else of it stays or is seen.

    A run that is terminated in Dagit does as well: see `test_service`.
    """
    fast = run(source, "select prosrc from pg_proc where proname = 'slow'")[0][0]
    stuck = (
        "begin if i > 1500 and current_query() ~* '^copy' then perform pg_sleep(1000); end if;"
        " return true; end"
    )
    define = "create or replace function slow(i int) returns boolean language plpgsql as $${}$$"
    run(source, f"{define.format(stuck)} stable")
    process = start_run(*JOB)
    at_it = "state = 'active' and wait_event = 'PgSleep' and query ~* '^copy'"
    wait_until(lambda: len(backends(source, extra=at_it)) == 2, "both lanes to be in a statement")
    inside = finished_chunks(run, own.url)

    process.send_signal(signal.SIGTERM)
    process.wait(30)

    (terminated,) = instance.get_runs()
    assert terminated.status is dg.DagsterRunStatus.FAILURE
    wait_until(lambda: not backends(source, extra=at_it), "the statements to end")
    assert 0 < inside == finished_chunks(run, own.url)
    assert [(0,)] == run(own.url, "select count(*) from stormy_events")

    run(source, f"{define.format(fast)} stable")
    again = start_run(*JOB, "--parent", terminated.run_id)
    assert ended(again)[1]
    assert [(STORMY_ROWS,)] == run(own.url, "select count(*) from stormy_events")
    shown = instance.get_latest_materialization_event(dg.AssetKey("stormy_events"))
    assert STORMY_ROWS == shown.asset_materialization.metadata["dagster/partition_row_count"].value


def _steps_of(pid):
    """Return the processes that do the steps of a run: the fork server's children."""
    with suppress(psutil.Error):
        for below in psutil.Process(pid).children(recursive=True):
            if "forkserver" in " ".join(below.cmdline()) and (steps := below.children()):
                return [step.pid for step in steps]
    return []


def _kill(dice, pids):
    if not pids:
        return False
    with suppress(ProcessLookupError):
        os.kill(dice.choice(pids), signal.SIGKILL)
    return True
