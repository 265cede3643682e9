"""What a load would do can be printed before it runs, and moves nothing."""

import pytest

from mapper_core import MapperError, Snapshot, plan


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
