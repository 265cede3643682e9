"""A source that is a standby: its recovery may end the session that holds the read point."""

from contextlib import contextmanager

import pytest

from ..waiting import assert_nothing_left, wait_until
from .running import PAUSE, Background, at_the_gate, gate, load, multiset

ROWS = 2_000
PAUSED = "select * from orders where pause(id, 900) = id order by id"


@pytest.fixture
def primary(own, target, run):
    """A server with 2,000 orders; an empty table of the same shape in the target."""
    table = "create table orders (id int primary key, note text)"
    run(
        own.url,
        table,
        f"insert into orders select i, 'n' || i from generate_series(1, {ROWS}) i",
        "vacuum analyze orders",
        PAUSE,
    )
    run(target, table)
    yield own
    assert_nothing_left(own.url, target)


@pytest.fixture
def standby_that(primary, run):
    """Start a standby with settings of its own, whose recovery waits for no session."""

    @contextmanager
    def start(**settings):
        with primary.standby(max_standby_streaming_delay=0, **settings) as standby:
            has_all_of(primary, standby, run)
            yield standby
            assert_nothing_left(standby)

    return start


def has_all_of(primary, standby, run):
    # Not what is flushed: a vacuum does not wait for that.
    ((end,),) = run(primary.url, "select pg_current_wal_insert_lsn()")
    has_it = f"select pg_last_wal_replay_lsn() >= '{end}'"
    wait_until(lambda: [(True,)] == run(standby, has_it), "the standby to have it all")


def load_during_a_cleanup(primary, standby, target, run):
    """Load orders while the primary changes and vacuums them, and the standby does so after it."""
    with gate(standby):
        loading = Background(
            load, standby, PAUSED, target, "orders", load_mode="replace", max_workers=1
        )
        at_the_gate(standby)
        run(primary.url, "update orders set note = 'new'", "vacuum orders")
        has_all_of(primary, standby, run)
    return loading.result()


def test_recovery_that_ends_the_read_point_is_told_with_its_cure(
    standby_that, primary, target, run
):
    """By default nothing keeps the primary from cleaning up what is read on a standby."""
    with standby_that() as standby:
        result = load_during_a_cleanup(primary, standby, target, run)

        assert not result.published
        for failed in result.chunk_errors:
            assert failed["error"].startswith("SnapshotLostError: ")
            assert "The source is a standby, whose recovery ends sessions" in failed["error"]
            assert "set hot_standby_feedback there" in failed["error"]
        assert result.chunk_errors
        assert [(0,)] == run(target, "select count(*) from orders")

        again = load(standby, PAUSED, target, "orders", load_mode="replace")

    assert "succeeded" == again.status, again.chunk_errors
    assert multiset(primary.url, "select * from orders") == multiset(target, "select * from orders")


def test_with_the_cure_recovery_ends_nothing(standby_that, primary, target, run):
    """The load has the rows of its read point."""
    sent = multiset(primary.url, "select * from orders")
    with standby_that(hot_standby_feedback="on", wal_receiver_status_interval=1) as standby:
        told = "select 1 from pg_stat_replication where backend_xmin is not null"
        wait_until(lambda: run(primary.url, told), "the primary to know what is read there")
        result = load_during_a_cleanup(primary, standby, target, run)

    assert "succeeded" == result.status, result.chunk_errors
    assert sent == multiset(target, "select * from orders")
    assert sent != multiset(primary.url, "select * from orders")
