"""A load's steps share a connection, if it is still good; and nothing is left of it."""

import select
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import patch

import psycopg
import pytest

from mapper_core.connections import Keeper, opener_of

from ..waiting import assert_nothing_left, wait_until
from .running import load, multiset, terminate


@pytest.fixture
def kept(source):
    with Keeper() as keeper:
        yield keeper.keeping(opener_of(source, role="source_conn"))
    assert_nothing_left(source)


def test_a_connection_given_back_is_lent_again(kept):
    first = kept.open()
    kept.release(first)
    second = kept.open()
    third = kept.open()
    assert first is second is not third
    for each in (second, third):
        kept.release(each)
    assert (False, True) == (second.closed, third.closed)  # one is enough


def test_one_that_the_server_has_ended_is_not_lent_again(kept, source):
    first = kept.open()
    kept.release(first)
    terminate(source, [first.info.backend_pid])
    assert select.select([first], [], [], 60)[0]  # the server's last words are there
    second = kept.open()
    assert (1,) == second.execute("select 1").fetchone()
    kept.release(second)


@pytest.mark.parametrize("state", ["closed", "in a transaction", "in a failed transaction"])
def test_one_that_is_not_idle_is_not_lent_again(kept, state):
    first = kept.open()
    if state == "closed":
        first.close()
    elif state == "in a transaction":
        first.execute("select 1")
    else:
        with pytest.raises(psycopg.errors.DivisionByZero):
            first.execute("select 1 / 0")
    kept.release(first)
    second = kept.open()
    assert first is not second
    assert first.closed
    kept.release(second)


def test_what_a_worker_gives_back_is_closed(kept):
    """It makes room for others."""
    with ThreadPoolExecutor(1) as threads:
        connection = threads.submit(kept.open).result()
        threads.submit(kept.release, connection).result()
    assert connection.closed


def test_where_there_is_no_connection_to_be_had_none_is_kept(source, target, run):
    """A load that copies inside one database has no use for the source's while it runs."""
    run(target, "create role cramped login connection limit 1")
    cramped = target.replace("postgres@", "cramped@")
    with Keeper() as keeper:
        first, second = (keeper.keeping(opener_of(cramped, role=role)) for role in ("one", "two"))
        waiting = first.open()
        first.release(waiting)
        with pytest.raises(psycopg.OperationalError):
            second.open()
        assert waiting.closed
        wait_until(lambda: opens(second), "the place to be free")


def opens(opener):
    """Whether there is a connection to be had."""
    try:
        opener.release(opener.open())
    except psycopg.OperationalError:
        return False
    return True


@pytest.mark.parametrize(("workers", "most"), [(1, 3), (2, 7)])
def test_a_load_opens_few_connections(source, target, run, workers, most):
    """The read point's, and one of each side for planning, loading and publishing."""
    run(
        source,
        "create table orders (id int primary key)",
        "insert into orders select generate_series(1, 1000)",
    )
    run(target, "create table orders (id int)")
    with patch.object(psycopg, "connect", autospec=True, side_effect=psycopg.connect) as connect:
        result = load(source, "select * from orders", target, "orders", max_workers=workers)
    assert ("succeeded", workers) == (result.status, result.workers)
    assert connect.call_count <= most
    assert multiset(source, "select * from orders") == multiset(target, "select * from orders")
    assert_nothing_left(source, target)
