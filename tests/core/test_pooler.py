"""Loads by way of a pooler, PgBouncer, that has each transaction on any connection, or too few."""

import pytest

from mapper_core import execute_query_parallel

from ..pooler import pooling
from ..waiting import wait_until

ROWS = 4_000
SUM = "select count(*), sum(hashtext(o::text)) from {} o"


@pytest.fixture
def orders(source, target, run):
    run(
        source,
        "create table orders (id int primary key, note text)",
        f"insert into orders select i, 'note ' || i from generate_series(1, {ROWS}) i",
        "vacuum analyze orders",
    )
    run(target, "create table copies (id int, note text)")


def load(source, target, **options):
    given = {"max_workers": 3, "chunk_size": 250, "min_rows_for_parallel": 0}
    return execute_query_parallel(
        source,
        "select * from orders",
        target_conn=target,
        target_table="copies",
        enable_progress=False,
        **(given | options),
    )


@pytest.mark.parametrize("mode", ["session", "transaction"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"load_mode": "replace", "strategy": "key"},
        {"load_mode": "replace", "verify": "checksum"},
        {"strategy": "stream_once"},
        {"transformation_func": list},
    ],
    ids=["append", "by key", "compared", "stream", "function"],
)
def test_a_load_needs_no_session_of_its_own(orders, server, source, target, run, mode, options):
    """Nothing of it outlives its transactions, so each may have another connection."""
    with pooling(server, pool_mode=mode) as pooled:
        result = load(pooled(source), pooled(target), **options)

    assert "succeeded" == result.status, result.chunk_errors
    assert result.snapshot.id
    assert run(source, SUM.format("orders")) == run(target, SUM.format("copies"))


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_a_load_inside_one_database(orders, server, source, run, mode):
    """Its locks outlive no transaction either."""
    run(source, "create table copies (id int, note text)")
    with pooling(server, pool_mode=mode) as pooled:
        result = load(pooled(source), pooled(source))

    assert "same_database" == result.strategy
    assert "succeeded" == result.status, result.chunk_errors
    assert run(source, SUM.format("orders")) == run(source, SUM.format("copies"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"default_pool_size": 2, "query_wait_timeout": 1}, "query_wait_timeout"),
        ({"max_client_conn": 4}, "max_client_conn"),
    ],
    ids=["of the server", "of the pooler"],
)
def test_a_pooler_with_fewer_connections_than_the_load_would_have(
    orders, server, source, target, run, caplog, settings, words
):
    """A worker that waits in vain leaves its place to the others: it fails no chunk."""

    def once_one_has_asked_in_vain(rows):
        wait_until(lambda: words in caplog.text, "a worker to ask in vain", 20)
        return rows

    with pooling(server, pool_mode="transaction", **settings) as pooled:
        result = load(
            pooled(source),
            pooled(target),
            transformation_func=once_one_has_asked_in_vain,
            max_retries=0,
        )

    assert "succeeded" == result.status, result.chunk_errors
    assert 3 == result.workers
    assert run(source, SUM.format("orders")) == run(target, SUM.format("copies"))
