"""What a load would do can be printed before it runs, and moves nothing."""

from typing import Any

import pytest

from mapper_core import MapperError, QueryError, SettingsError, Snapshot, plan
from mapper_core.model import StrategyName

from ..waiting import assert_nothing_left


@pytest.fixture
def orders(source, target, run):
    """1,000 orders with an index, a target of the same shape."""
    table = "create table orders (id int primary key, note text)"
    run(
        source, table, "insert into orders select i, 'n' from generate_series(1, 1000) i", "analyze"
    )
    run(target, table)


@pytest.mark.usefixtures("orders")
def test_a_plan_says_what_would_happen_and_does_nothing(source, target, run):
    """Strategy, reason, key, chunks, connections, snapshot, data path and target are all there."""
    decided = plan(
        source,
        "SELECT * FROM orders ORDER BY id",
        target_conn=target,
        target_table="orders",
        chunk_size=100,
        min_rows_for_parallel=0,
        max_workers=3,
    )

    words = str(decided)
    for expected in (
        "target     orders (append)",
        "key: ranges of id (the query's ORDER BY)",
        "binary copy: every column has the same built-in type",
        "snapshot ",
        "id integer, note text",
        "3, with 4 source and 3 target connections",
        "10 of about 100 rows",
        "[... to 101)",
        "[901 to ...)",
    ):
        assert expected in words
    assert [(0,)] == run(target, "select count(*) from orders")
    assert [(None,)] == run(target, "select to_regclass('mapper.chunk')")


@pytest.mark.usefixtures("orders")
def test_a_plan_in_one_pass_says_why(source):
    """Without a target rows are only read; the reason for one pass is the strategy's."""
    words = str(plan(source, "SELECT * FROM orders LIMIT 10"))

    assert "none: rows are read and counted" in words
    assert "one_pass: the query cannot be split: it has LIMIT" in words
    assert "every row" in words


@pytest.mark.usefixtures("orders")
def test_a_long_plan_shows_its_first_and_last_chunks(source):
    """A plan of hundreds of chunks stays readable."""
    words = str(
        plan(source, "SELECT * FROM orders ORDER BY id", chunk_size=5, min_rows_for_parallel=0)
    )

    assert "200 of about 5 rows" in words
    assert 12 == sum(" to " in line for line in words.splitlines())
    assert "..." in words


@pytest.mark.usefixtures("orders")
def test_a_mistake_is_found_by_planning(source, target):
    """Planning checks what loading would check before rows move."""
    with pytest.raises(MapperError, match="has no column extra"):
        plan(
            source,
            "SELECT id, note, 1 AS extra FROM orders",
            target_conn=target,
            target_table="orders",
        )


@pytest.mark.usefixtures("orders")
@pytest.mark.parametrize(("volatility", "strategy"), [("volatile", "one_pass"), ("stable", "key")])
def test_a_volatile_function_of_the_users_is_called_in_one_pass(source, run, volatility, strategy):
    """Reading a query in ranges calls its functions in other rows' company, and more often."""
    body = "language plpgsql as 'begin return 1; end'"
    run(source, f"create function noise() returns int {volatility} {body}")

    decided = plan(
        source, "SELECT id, noise() AS n FROM orders ORDER BY id", min_rows_for_parallel=0
    )

    assert strategy == decided.strategy
    assert ("noise() is volatile" in decided.strategy_reason) == (volatility == "volatile")


@pytest.mark.usefixtures("orders")
@pytest.mark.parametrize(
    ("view", "words"),
    [
        ("select (random() * 1e6)::int as id from orders", "random() is volatile"),
        ("select id, row_number() over (order by note) as n from orders", "a window function"),
        ("select id from orders limit 500", "LIMIT"),
    ],
)
def test_what_a_view_hides_is_found(source, run, view, words):
    """Reading such a view in ranges would lose rows and read others twice."""
    run(source, f"create view hidden as {view}")

    decided = plan(source, "SELECT * FROM hidden ORDER BY id", min_rows_for_parallel=0)

    assert "one_pass" == decided.strategy
    assert words in decided.strategy_reason


def test_a_snapshot_of_a_server_that_was_restarted_is_another_one():
    """Ids begin anew with every life of a server."""
    before = Snapshot("00000003-2-1", "snapshot", server="1")

    assert before.is_same_point(Snapshot("00000003-2-1", "the same, resumed", server="1"))
    assert not before.is_same_point(Snapshot("00000003-2-1", "snapshot", server="2"))
    assert not Snapshot(None, "none").is_same_point(Snapshot(None, "none"))


def test_an_index_over_two_columns_leads_to_their_ranges(source, run):
    """To the planner, two bounds of a row value have nothing to do with each other."""
    run(
        source,
        "create table lines (a int, b int, note text, primary key (a, b))",
        "insert into lines select i / 4, i % 4, repeat('n', 150) from generate_series(1, 300000) i",
        "vacuum (analyze) lines",
    )

    decided = plan(source, "SELECT * FROM lines ORDER BY a, b", chunk_size=5_000)

    assert decided.strategy == "key"
    assert "index" in decided.strategy_reason


def test_a_plan_says_why_each_better_strategy_cannot_serve(orders, source, target):
    """A reason a line, with every strategy that it rules out."""
    words = str(
        plan(
            source,
            "SELECT * FROM orders LIMIT 900",
            target_conn=target,
            target_table="orders",
            max_workers=1,
            min_rows_for_parallel=0,
        )
    )

    for expected in (
        "not same_database: source and target are different databases",
        "not physical, key: the query cannot be split: it has LIMIT",
        "not stream_once: one worker writes no faster from a stage",
        "strategy   one_pass: the query cannot be split: it has LIMIT",
    ):
        assert expected in words


def test_a_strategy_nobody_knows_is_refused_by_the_names_of_all(orders, source):
    """So that the right one can be copied from the message."""
    with pytest.raises(SettingsError, match="strategy='hash' is unknown") as error:
        plan(source, "SELECT * FROM orders", strategy="hash")

    for known in StrategyName:
        assert repr(known.value) in str(error.value)


CANNOT_SERVE = {
    "same_database": "SELECT * FROM orders",
    "physical": "SELECT id FROM orders UNION SELECT -id FROM orders",
    "key": "SELECT note FROM orders",
    "stream_once": "SELECT * FROM orders",
    "offset": "SELECT note FROM orders ORDER BY note",
}


@pytest.mark.usefixtures("orders")
@pytest.mark.parametrize("strategy", CANNOT_SERVE)
def test_a_strategy_asked_for_serves_or_raises(source, strategy):
    """It is never replaced by another one in silence."""
    with pytest.raises(QueryError, match=f"strategy='{strategy}' is not possible: "):
        plan(source, CANNOT_SERVE[strategy], strategy=strategy)


@pytest.mark.usefixtures("orders")
def test_a_strategy_asked_for_serves_a_query_of_any_size(source):
    """Whoever names it has decided that it pays."""
    decided = plan(source, "SELECT * FROM orders WHERE id < 9", strategy="key", chunk_size=3)

    assert ("key", 3) == (decided.strategy, len(decided.chunks))


@pytest.mark.usefixtures("orders")
@pytest.mark.parametrize(
    ("threshold", "strategy"), [(999, "key"), (1_000, "key"), (1_001, "one_pass")]
)
@pytest.mark.parametrize("estimate", ["right", "too low", "too high"])
def test_near_the_threshold_rows_are_counted(source, run, threshold, strategy, estimate):
    """To the row, whatever the planner believes; as many as the threshold are enough."""
    believed = {"right": 1_000, "too low": 30, "too high": 5_000}[estimate]
    run(source, f"update pg_class set reltuples = {believed} where relname = 'orders'")

    decided = plan(
        source,
        "SELECT * FROM orders ORDER BY id",
        min_rows_for_parallel=threshold,
        chunk_size=100,
    )

    assert strategy == decided.strategy
    if strategy == "one_pass":
        assert (
            "the query has 1,000 rows, fewer than the threshold of 1,001" in decided.strategy_reason
        )


@pytest.mark.usefixtures("orders")
@pytest.mark.parametrize(("threshold", "counted"), [(100, 0), (101, 101)])
def test_far_above_the_threshold_nobody_counts(source, run, threshold, counted):
    """Ten times as many rows expected are believed; else rows are counted up to the threshold."""
    run(
        source,
        # The server counts its calls: one for each row that a statement looks at.
        "create function seen(i int) returns boolean language plpgsql stable as"
        " 'begin return true; end'",
        f"alter database {source.split('/')[3].split('?')[0]} set track_functions = 'all'",
    )

    decided = plan(
        source,
        "SELECT * FROM orders WHERE seen(id) OR id > 0",
        min_rows_for_parallel=threshold,
        chunk_size=300,
    )

    assert ("physical", 1_000) == (decided.strategy, decided.expected_rows)
    assert_nothing_left(source)
    calls = run(source, "select calls from pg_stat_user_functions where funcname = 'seen'")
    assert ([(counted,)] if counted else []) == calls


@pytest.mark.usefixtures("orders")
@pytest.mark.parametrize(
    ("options", "expected"),
    [({}, 142), ({"min_rows_for_parallel": 100}, 142), ({"strategy": "one_pass"}, 5)],
    ids=["counted", "sorted", "never counted"],
)
def test_a_plan_expects_as_many_rows_as_were_counted(source, options, expected):
    """And not as many as the planner guessed, where that guess was looked after."""
    decided = plan(source, "SELECT * FROM orders WHERE id % 7 = 0", **options)

    assert expected == decided.expected_rows
    assert f"about {expected:,} rows" in str(decided)


@pytest.mark.usefixtures("orders")
@pytest.mark.parametrize(
    ("size", "expected"), [(600, [600, 400]), (100, [100] * 10), (50_000, [1_000])]
)
def test_the_last_chunk_of_a_key_is_expected_to_have_what_is_left(source, size, expected):
    """An index that is walked counts nothing; the last chunk has what is left."""
    decided = plan(
        source, "SELECT * FROM orders ORDER BY id", chunk_size=size, min_rows_for_parallel=0
    )

    assert expected == [chunk.expected_rows for chunk in decided.chunks]


AUTO: dict[str, Any] = {
    "argument": {"chunk_size": "auto"},
    "job_params": {"job_params": {"chunk_size": "AUTO "}},
    "environment": {},
}


@pytest.mark.usefixtures("orders")
@pytest.mark.parametrize("origin", AUTO)
def test_chunks_of_automatic_size_follow_rows_and_width(source, run, monkeypatch, origin):
    """Few rows give the least size; rows kept out of line count with all their bytes."""
    if origin == "environment":
        monkeypatch.setenv("MAPPER_CHUNK_SIZE", "auto")
    run(
        source,
        "create table wide (id int primary key, body text)",
        # Not compressed, so that they take up what they hold.
        "alter table wide alter body set storage external",
        "insert into wide select i, repeat('x', 1000000) from generate_series(1, 20) i",
        "analyze wide",
        "create table many (id int primary key) with (autovacuum_enabled = false)",
        "insert into many select generate_series(1, 1000)",
        "analyze many",
        "update pg_class set reltuples = 10000000 where relname = 'many'",
    )
    options = {"min_rows_for_parallel": 0, "strategy": "one_pass", **AUTO[origin]}

    small, wide, many = (
        plan(source, f"SELECT * FROM {table}", **options) for table in ("orders", "wide", "many")
    )

    assert (25_000, "auto: about 1,000 rows are expected") == (
        small.chunk_size,
        small.chunk_size_reason,
    )
    assert 50 <= wide.chunk_size <= 67
    assert "auto: rows of about 1,0" in wide.chunk_size_reason
    assert 90_000 <= many.chunk_size <= 110_000
    assert "of about 25,000 rows (auto: about 1,000 rows are expected)" in str(small)


@pytest.mark.parametrize(
    ("options", "size", "chunks", "words"),
    [
        ({}, 250_000, 16, "4 ranges for each worker"),
        ({"max_workers": 1}, 524_288, 8, "ranges of about 32 MiB"),
        ({"chunk_key": "id"}, 80_000, 1, "are expected"),
        ({"transformation_func": list}, 80_000, 50, "are expected"),
        ({"chunk_size": 50_000}, 50_000, 80, ""),
    ],
    ids=["blocks", "one worker", "key", "function", "given"],
)
def test_ranges_of_blocks_are_longer_unless_a_function_needs_their_rows(
    source, run, options, size, chunks, words
):
    run(
        source,
        # Some 200 blocks with few rows in each, which are said to hold many more.
        "create table many (id int primary key, body char(60))"
        " with (autovacuum_enabled = false, fillfactor = 10)",
        "insert into many select i, 'x' from generate_series(1, 2000) i",
        "analyze many",
        "update pg_class set reltuples = 4000000 where relname = 'many'",
    )

    decided = plan(
        source, "SELECT * FROM many", **{"chunk_size": "auto", "max_workers": 4} | options
    )

    assert abs(decided.chunk_size - size) < size / 10, decided.chunk_size_reason
    assert abs(len(decided.chunks) - chunks) <= chunks / 10
    assert words in decided.chunk_size_reason
