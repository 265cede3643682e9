"""Pages of an ordered query: by name only, and only where no two rows are alike in their order."""

import pytest

from mapper_core import LedgerError, QueryError, plan

from ..waiting import assert_nothing_left
from .running import load, multiset

ROWS = 1_000
ORDERED = "select * from orders order by day, id"


@pytest.fixture
def orders(source, target, run):
    """1,000 orders over ten days, an empty table of the same shape in the target."""
    table = "create table orders (id int, day int)"
    run(source, table, f"insert into orders select i, i % 10 from generate_series(1, {ROWS}) i")
    run(target, table)
    yield
    assert_nothing_left(source, target)


def paged(source, target, sql=ORDERED, **options):
    options = {"strategy": "offset", "chunk_size": 300, **options}
    return load(source, sql, target, "orders", **options)


def test_pages_are_never_chosen(orders, source, target):
    """Each page reads all pages before it."""
    for sql in (ORDERED, "select * from orders", f"{ORDERED} limit 10"):
        decided = plan(source, sql, target_conn=target, target_table="orders", chunk_size=10)
        assert "offset" != decided.strategy
        assert "offset" not in dict(decided.refused)


@pytest.mark.parametrize("sql", [ORDERED, "select * from orders order by id desc"])
def test_pages_hold_every_row_once(orders, source, target, sql):
    """Three full ones, and the last one with what is left."""
    result = paged(source, target, sql)

    assert ("succeeded", "offset") == (result.status, result.strategy)
    assert [300, 300, 300, 100] == [chunk.rows_read for chunk in result.chunk_results]
    assert multiset(source, ORDERED) == multiset(target, "select * from orders order by day, id")


@pytest.mark.parametrize(("rows", "pages"), [(0, [0]), (1, [1]), (300, [300]), (301, [300, 1])])
def test_pages_end_where_the_rows_do(orders, source, target, run, rows, pages):
    """Also for none at all, and where the last page is full."""
    result = paged(source, target, f"select * from orders where id <= {rows} order by id")

    assert pages == [chunk.rows_read for chunk in result.chunk_results]
    assert rows == result.total_rows_successful


REFUSED = {
    "no order": ("select * from orders", "add ORDER BY"),
    "days": ("select * from orders order by day", "several rows share day"),
    "two NULLs": (
        "select nullif(nullif(id, 1), 2) as id, day from orders order by id",
        "several rows share id",
    ),
    "LIMIT": (f"{ORDERED} limit 10", "it has LIMIT"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_an_order_that_leaves_two_rows_alike_is_refused(orders, source, target, run, what):
    """Their place could differ from one session to the next."""
    sql, words = REFUSED[what]

    with pytest.raises(QueryError, match=f"strategy='offset' is not possible: .*{words}"):
        paged(source, target, sql)

    assert [(0,)] == run(target, "select count(*) from orders")


def test_pages_of_different_moments_are_refused(orders, source, target):
    """A row deleted in between would shift all that follow it."""
    with pytest.raises(QueryError, match="there is no single snapshot"):
        paged(source, target, snapshot=False)


def test_one_null_has_a_place_in_the_order(orders, source, target):
    """It is the last one."""
    sql = "select nullif(id, 1) as id, day from orders order by id"

    assert "succeeded" == paged(source, target, sql).status
    assert multiset(source, sql) == multiset(target, "select * from orders order by id")


def test_pages_are_not_continued_at_another_read_point(orders, source, target, run):
    """What was row 300 then is row 299 now: rows would be lost and others come twice."""
    run(target, "alter table orders add constraint broken check (id not between 401 and 500)")
    sql = "select * from orders order by id"
    first = paged(source, target, sql, load_id="nightly")
    run(target, "alter table orders drop constraint broken")
    run(source, "delete from orders where id = 1")
    before = multiset(target, sql)

    with pytest.raises(LedgerError, match="was cut into pages"):
        paged(source, target, sql, load_id="nightly")

    assert ("partial", 300) == (first.status, first.total_rows_failed)
    assert before == multiset(target, sql)
