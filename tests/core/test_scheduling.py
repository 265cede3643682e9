"""A thread that passes rows on gives way to the servers; nobody else's threads do."""

import os
import sqlite3
import sys
import threading
from contextlib import closing, suppress
from pathlib import Path

import pytest

from mapper_core.loading.scheduling import giving_way

from ..waiting import assert_nothing_left, wait_until
from .running import PAUSE_AT_THE_END, Background, at_the_gate, gate, load

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has such a policy")

ROWS = 500
QUERY = "select * from orders order by id"


@pytest.fixture
def orders(source, target, run):
    """Rows to load; the target lets no chunk's rows end while a lock is held."""
    table = "create table orders (id int primary key, note text)"
    run(source, table, f"insert into orders select i, 'n' || i from generate_series(1, {ROWS}) i")
    run(target, table, *PAUSE_AT_THE_END)
    yield
    assert_nothing_left(source, target)


def mine():
    return os.sched_getscheduler(0)


def of_all_threads():
    """The policies of this process's threads."""
    found = []
    for thread in Path("/proc/self/task").iterdir():
        with suppress(ProcessLookupError):
            found.append(os.sched_getscheduler(int(thread.name)))
    return found


@pytest.mark.usefixtures("orders")
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_give_way_while_they_pass_rows_on(source, target, workers):
    options = {"max_workers": workers, "chunk_size": 100, "min_rows_for_parallel": 0}
    with gate(target):
        loading = Background(load, source, QUERY, target, "orders", **options)
        wait_until(
            lambda: of_all_threads().count(os.SCHED_BATCH) == workers, "the workers to give way"
        )
        assert mine() == os.SCHED_OTHER
    assert loading.result().rows_written == ROWS
    assert os.SCHED_BATCH not in of_all_threads()


@pytest.mark.usefixtures("orders")
def test_workers_that_take_rows_apart_stay_as_they_are(target, tmp_path):
    """Libraries that help with that have threads of their own, which would inherit it."""
    source = f"sqlite:///{tmp_path / 'orders.db'}"
    with closing(sqlite3.connect(tmp_path / "orders.db")) as connection:
        connection.execute("create table orders (id integer primary key, note text)")
        connection.execute("insert into orders values (1, 'a'), (2, 'b')")
        connection.commit()
    with gate(target):
        loading = Background(load, source, QUERY, target, "orders", max_workers=1)
        at_the_gate(target)
        assert os.SCHED_BATCH not in of_all_threads()
    assert loading.result().rows_written == 2


@pytest.mark.usefixtures("orders")
def test_a_lone_worker_in_the_callers_thread_leaves_it_as_it_was(source, target):
    before = mine()
    result = load(source, QUERY, target, "orders", max_workers=1)
    assert (result.rows_written, mine()) == (ROWS, before)


@pytest.mark.usefixtures("orders")
@pytest.mark.parametrize(
    "kind", ["transformation_func", "transform_batch"], ids=["rows", "record batches"]
)
def test_threads_that_a_function_begins_are_as_any_other(source, target, kind):
    seen = set()

    def function(rows):
        begun = threading.Thread(target=lambda: seen.add(mine()))
        begun.start()
        begun.join()
        return rows

    result = load(source, QUERY, target, "orders", max_workers=1, **{kind: function})
    assert (result.rows_written, seen) == (ROWS, {os.SCHED_OTHER})


def test_an_error_takes_it_back():
    with pytest.raises(ZeroDivisionError), giving_way():
        mine() / 0
    assert mine() == os.SCHED_OTHER


def test_a_policy_that_somebody_chose_stays():
    seen = []

    def look():
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        with giving_way():
            seen.append(mine())
        seen.append(mine())

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [os.SCHED_IDLE, os.SCHED_IDLE]


@pytest.mark.parametrize("forbidden", ["sched_getscheduler", "sched_setscheduler"])
def test_where_nobody_may_ask_or_choose_rows_are_passed_on_all_the_same(monkeypatch, forbidden):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, forbidden, refuse)
    passed = []
    with giving_way():
        passed.append("a row")
    assert passed == ["a row"]
