"""Backends and processes that die at random moments, in every mode and strategy.

STORMS=20 in the environment makes that many rounds of each case instead of one.
"""

import os
import random
import threading
import time
from contextlib import closing

import psycopg
import pytest

from mapper_core import RetryConfig, RetryHandler, execute_query_parallel

from ..waiting import assert_nothing_left, backends, wait_until
from . import loading

ROUNDS = range(int(os.environ.get("STORMS", "1")))
ROWS = 3_000
PATIENT = RetryHandler(
    RetryConfig(max_retries=100, initial_delay=0.02, max_delay=0.1, max_elapsed=120)
)
CASES = {
    "append-key": {"sql": "order by id"},
    "append-physical": {"strategy": "physical"},
    "append-stream": {"strategy": "stream_once"},
    "append-one-pass": {"strategy": "one_pass"},
    "atomic-key": {"sql": "order by id", "publish": "atomic"},
    "replace-physical": {"strategy": "physical", "load_mode": "replace"},
    "replace-stream": {"strategy": "stream_once", "load_mode": "replace"},
    "upsert-key": {"sql": "order by id", "load_mode": "upsert", "primary_key": "id"},
    "in-server": {"strategy": "same_database"},
    "in-server-replace": {"strategy": "same_database", "load_mode": "replace"},
}


@pytest.fixture
def orders(source, target, run):
    """3,000 orders; each twenty-fifth takes its time to be read. Empty copies in both databases."""
    run(
        source,
        "create table orders (id int primary key, note text, version int not null)",
        f"insert into orders select i, 'n' || i, 1 from generate_series(1, {ROWS}) i",
        "create function slow(i int) returns boolean language plpgsql stable as $$ begin"
        " if i % 25 = 0 and current_query() ~* '^(copy|insert)' then"
        "   perform pg_sleep(0.01); end if;"
        " return true; end $$",
        "create table copies (id int, note text, version int)",
        "vacuum analyze orders",
    )
    run(target, "create table copies (id int, note text, version int)")
    yield
    assert_nothing_left(source, target)


def keywords(source, target, case, **more):
    given = dict(CASES[case])
    tail = given.pop("sql", "")
    return {
        "source_conn": source,
        "source_sql": f"select * from orders where slow(id) {tail}",
        "target_conn": source if case.startswith("in-server") else target,
        "target_table": "copies",
        "chunk_size": 200,
        "max_workers": 3,
        "min_rows_for_parallel": 0,
        "enable_progress": False,
        **given,
        **more,
    }


class Storm(threading.Thread):
    """Ends a random session of a load every few hundredths of a second, and changes the source."""

    def __init__(self, url, others, dice):
        super().__init__(name="storm")
        self.killed = 0
        self._url, self._urls, self._dice = url, [url, *others], dice
        self._over = threading.Event()
        self.start()

    def run(self):
        number = 0
        with closing(psycopg.connect(self._url, autocommit=True)) as writing:
            while not self._over.wait(self._dice.uniform(0.01, 0.08)):
                number += 1
                writing.execute(
                    "update orders set version = version + 1 where id %% 7 = %s", (number % 7,)
                )
                writing.execute("delete from orders where id = %s", (self._dice.randrange(ROWS),))
                writing.execute("insert into orders values (%s, 'late', 0)", (ROWS + number,))
                url = self._dice.choice(self._urls)
                # Not the one that holds the snapshot: another test's storm.
                busy = "state <> 'idle' and query not like 'select pg_export_snapshot%'"
                if self.killed < 15 and (victims := backends(url, extra=busy)):
                    with psycopg.connect(url, autocommit=True) as killer:
                        killer.execute(
                            "select pg_terminate_backend(%s)", (self._dice.choice(victims),)
                        )
                    self.killed += 1

    def over(self):
        self._over.set()
        self.join()


@pytest.mark.parametrize("seed", ROUNDS)
@pytest.mark.parametrize("case", CASES)
def test_sessions_that_die_at_random_cost_no_row_and_double_none(
    orders, source, target, run, case, seed, record_property
):
    """While the source changes all along: what arrives is the query at the load's snapshot."""
    given = keywords(source, target, case, retry_handler=PATIENT, load_id="storm")
    ledger = given["target_conn"]
    came_to = []
    job = threading.Thread(target=lambda: came_to.append(execute_query_parallel(**given)))
    with closing(psycopg.connect(source)) as still:
        job.start()
        # The snapshot is held from before the plan is stored until the load has ended.
        point = wait_until(lambda: _planned(ledger), "a plan")
        still.execute("set transaction isolation level repeatable read, read only")
        still.execute(f"set transaction snapshot '{point}'")
        still.execute("select 1")
        storm = Storm(source, {ledger} - {source}, random.Random(f"{case} {seed}"))
        job.join(150)
        storm.over()
        assert not job.is_alive()
        wanted = still.execute("select count(*), sum(hashtext(o::text)) from orders o").fetchall()
    (result,) = came_to
    record_property("killed", storm.killed)

    # How many died is a matter of timing, and so no matter of this test's; it is recorded.
    assert ("succeeded", True) == (result.status, result.published), result
    assert wanted[0][0] == result.total_rows_successful == result.total_rows_processed
    assert wanted == run(ledger, "select count(*), sum(hashtext(c::text)) from copies c")


def _planned(url):
    try:
        with psycopg.connect(url, autocommit=True) as asking:
            found = asking.execute(
                "select plan::json #>> '{snapshot,0}' from mapper.load"
            ).fetchall()
    except psycopg.errors.UndefinedTable:
        return None
    return found[0][0] if found else None


@pytest.mark.parametrize("seed", ROUNDS)
@pytest.mark.parametrize("case", CASES)
def test_a_process_killed_at_random_moments_is_continued_to_the_end(
    orders, source, target, run, case, seed, record_property
):
    """Three times killed, then left alone: every row once; nothing of it seen before, if staged."""
    dice = random.Random(f"{case} {seed}")
    given = keywords(source, target, case, load_id="again")
    killed = 0
    for _ in range(3):
        process = loading.start(**given)
        time.sleep(dice.uniform(0.5, 1.4))
        killed += process.poll() is None
        loading.kill(process)
        for url in (source, target):
            wait_until(lambda url=url: not backends(url), "the dead process's sessions to end")
    record_property("killed", killed)

    result = loading.result_of(loading.start(**given))

    assert result.get("status") == "succeeded", result
    copies = "select count(*), sum(hashtext(c::text)) from {} c"
    assert run(source, copies.format("orders")) == run(
        given["target_conn"], copies.format("copies")
    )
    assert [(0,)] == run(
        given["target_conn"], "select count(*) from pg_class where relname like 'stage%'"
    )
