"""The one read point: who may take it, what happens when its holder dies."""

import logging
import os

import psutil
import pytest

from mapper_core import DatabaseError, ParallelProcessor, SnapshotLostError, snapshot_holder

from ..waiting import assert_nothing_left, backends, wait_until
from .running import PAUSE, Background, at_the_gate, gate, load, multiset, terminate

ROWS = 2_000
HOLDER = "query like 'select pg_export_snapshot%'"
ORDERS = "select id, note from orders order by id"


@pytest.fixture
def orders(source, target, run):
    """2,000 orders in the source, an empty table of the same shape in the target."""
    table = "create table orders (id int, note text)"
    run(source, table, f"insert into orders select i, 'n' from generate_series(1, {ROWS}) i")
    run(source, "create unique index on orders (id)", "analyze orders", PAUSE)
    run(target, table)
    yield
    assert_nothing_left(source, target)


@pytest.fixture
def plain(orders, source, run):
    """The source's URL for a user who may read the orders, but share no snapshot."""
    run(
        source,
        "drop role if exists plain",
        "create role plain login",
        "grant select on orders to plain",
        "revoke execute on function pg_export_snapshot() from public",
    )
    yield source.replace("postgres@", "plain@")
    run(source, "drop owned by plain", "drop role plain")


@pytest.mark.parametrize("strategy", [None, "key", "physical", "stream_once"])
def test_who_may_share_no_snapshot_is_told_so(plain, target, run, strategy):
    """With the cure, before a row moves."""
    with pytest.raises(SnapshotLostError, match=r"permission denied.*Pass snapshot=False"):
        load(plain, ORDERS, target, "orders", strategy=strategy)

    assert [(0,)] == run(target, "select count(*) from orders")


def test_who_gives_up_the_snapshot_goes_on_and_is_told_so(plain, source, target):
    """Each worker reads at its own moment, which the result says."""
    result = load(plain, ORDERS, target, "orders", snapshot=False)

    assert ("succeeded", "key", ROWS) == (
        result.status,
        result.strategy,
        result.total_rows_successful,
    )
    assert "each worker reads at its own moment (snapshot=False)" in str(result.snapshot)
    assert multiset(source, ORDERS) == multiset(target, ORDERS)


def test_a_plan_step_says_in_words_that_no_snapshot_can_be_shared(plain, target):
    """The process that would hold it says it to the one that plans."""
    options = {"target_conn": target, "target_table": "orders"}

    with pytest.raises(SnapshotLostError, match=r"permission denied.*Pass snapshot=False"):
        ParallelProcessor().plan_load(plain, ORDERS, "run/orders", **options)


@pytest.mark.usefixtures("orders")
def test_a_plan_step_says_why_the_source_lets_nobody_in(source, target):
    """In the source's words, as every other errand does; nothing was lost."""
    options = {"target_conn": target, "target_table": "orders"}
    stranger = source.replace("postgres@", "a_stranger@")

    with pytest.raises(DatabaseError, match=r"^could not open the source .*a_stranger"):
        ParallelProcessor().plan_load(stranger, ORDERS, "run/orders", **options)


@pytest.mark.parametrize("strategy", ["key", "physical", "stream_once"])
def test_that_the_holder_is_lost_is_told_at_once_and_who_reads_there_goes_on(
    orders, source, target, run, caplog, strategy
):
    """A warning while the load is still under way, and every row of the read point."""
    sql = "select id, note || left(pause(id, 900)::text, 0) as note from orders order by id"
    sent = multiset(source, ORDERS)
    with caplog.at_level(logging.WARNING, logger="mapper_core"), gate(source):
        running = Background(
            load, source, sql, target, "orders", strategy=strategy, max_workers=1, load_id="nightly"
        )
        at_the_gate(source)
        terminate(source, backends(source, extra=HOLDER))
        wait_until(lambda: "has ended early" in caplog.text, "the warning")
        assert "load nightly: the session that holds snapshot" in caplog.text
        assert running.is_alive()
        run(source, "update orders set note = 'changed'", "vacuum orders")
    result = running.result()

    assert ("succeeded", ROWS) == (result.status, result.total_rows_successful)
    assert sent == multiset(target, ORDERS)


def test_a_holding_process_ends_at_once_with_its_session(orders, source, target):
    """Nobody could join what it no longer holds; 15 idle minutes would be a lie."""
    watch = snapshot_holder.Watch(source, target, ORDERS, "mapper", "lost")
    ParallelProcessor().process_mapper_job(
        source, ORDERS, target_conn=target, target_table="orders", enable_progress=False
    )

    with snapshot_holder.started(watch):
        (process,) = (p for p in psutil.process_iter() if _holds_a_snapshot(p, source))
        terminate(source, backends(source, "mapper snapshot of lost"))
        wait_until(
            lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE,
            "the process to end",
        )


def _holds_a_snapshot(process, url):
    """Whether a process holds snapshots for others, and has a session of this test's server."""
    try:
        if "snapshot_holder" not in " ".join(process.cmdline()):
            return False
        environment = process.environ()
    except psutil.Error:
        return False
    return environment.get("PYTEST_CURRENT_TEST", "") == os.environ["PYTEST_CURRENT_TEST"]
