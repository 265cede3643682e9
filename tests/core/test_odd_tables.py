"""Tables and queries at the edges of what PostgreSQL has: loaded, or refused in words."""

import pytest

from mapper_core import QueryError, TargetError, execute_query_parallel, plan

SUMS = "select count(*), sum(hashtextextended(t::text, 0)) from item t"


def load(source, target, sql="select * from item", **options):
    options = {"min_rows_for_parallel": 0, "max_workers": 2, "enable_progress": False, **options}
    return execute_query_parallel(
        source, sql, target_conn=target, target_table="item", max_retries=0, **options
    )


def test_a_column_that_is_left_out_may_have_no_binary_form(source, target, run):
    """COPY asks for the ways to read all columns of its table, also those that it has not got."""
    run(
        source,
        "create table item as select i as id, 'n' || i as note from generate_series(1, 50) i",
    )
    run(target, "create table item (id int, note text, granted aclitem)")

    result = load(source, target)

    assert "succeeded" == result.status, result.chunk_errors
    assert [(50, None)] == run(target, "select count(*), max(granted::text) from item")
    planned = plan(source, "select * from item", target_conn=target, target_table="item")
    assert "'granted' of the target is aclitem" in planned.data_path_reason


@pytest.mark.parametrize("kind", ["int2vector", "oidvector"])
def test_an_empty_vector_of_the_catalogs_arrives(source, target, run, kind):
    """Its binary form is one that the server itself does not read."""
    for url in (source, target):
        run(url, f"create table item (id int, v {kind})")
    run(source, "insert into item values (1, ''), (2, '1 2'), (3, null)")

    load(source, target).raise_for_failures()

    assert run(source, SUMS) == run(target, SUMS)


def test_what_has_no_binary_form_is_counted_without_a_target(source, run):
    """Nobody looks into the rows, so their types do not matter."""
    run(source, "create table item (granted aclitem)", "insert into item values (null), (null)")

    result = execute_query_parallel(source, "select * from item", enable_progress=False)

    assert ("succeeded", 2) == (result.status, result.total_rows_successful)


@pytest.mark.parametrize(
    ("strategy", "key", "words"),
    [
        ("key", ["doc"], "chunk_key doc cannot divide the query: .* operator for type json"),
        ("key", ["id", "place"], "chunk_key id, place cannot .* operator for type point"),
        ("offset", ["place"], "chunk_key place cannot divide .* operator for type point"),
    ],
)
def test_a_key_without_an_order_is_named(source, target, run, strategy, key, words):
    """With what to do."""
    for url in (source, target):
        run(url, "create table item (id int, doc json, place point)")
    run(source, "insert into item select i, '1', '(1,1)' from generate_series(1, 50) i")

    with pytest.raises(QueryError, match=rf"{words}\. Name a column of another type, or cast it"):
        load(source, target, strategy=strategy, chunk_key=key, chunk_size=10)


def test_a_column_that_a_key_names_twice_is_in_it_once(source, run):
    """Whichever way it is spelled."""
    run(
        source,
        "create table t (id int, k int)",
        "insert into t select i, 1 from generate_series(1, 90) i",
    )

    decided = plan(
        source,
        "select * from t",
        chunk_key=["k", "id", "ID"],
        chunk_size=30,
        min_rows_for_parallel=0,
    )

    assert (("k", "id"), 3) == (decided.chunk_key, len(decided.chunks))


def test_columns_of_a_key_may_have_any_names(source, target, run):
    """Also those that our own statements could have for their own."""
    for url in (source, target):
        run(url, "create table item (mapper_rank int, place int, key_0 int, q int)")
    run(source, "insert into item select i % 7, i, i, i from generate_series(1, 50) i")

    for key in (["mapper_rank", "place"], ["key_0", "q"], ["q", "mapper_rank", "key_0"]):
        run(target, "truncate item")
        result = load(source, target, strategy="key", chunk_key=key, chunk_size=10)
        assert ("succeeded", 5) == (result.status, result.chunks_total)
        assert run(source, SUMS) == run(target, SUMS)


@pytest.mark.parametrize(
    "options", [{"load_mode": "replace"}, {"publish": "atomic"}, {"load_mode": "append"}], ids=str
)
def test_as_many_columns_as_a_table_has_room_for(source, target, run, options):
    """A stage has one more, so that such a table is loaded without one."""
    listed = ", ".join(f"c{at} int" for at in range(1600))
    for url in (source, target):
        run(url, f"create table item ({listed})")
    run(source, "insert into item (c0, c1599) select i, i from generate_series(1, 9) i")

    if options == {"load_mode": "append"}:
        load(source, target, **options).raise_for_failures()
        assert [(9, 45)] == run(target, "select count(*), sum(c1599) from item")
        return
    with pytest.raises(
        TargetError, match=r"one column more than its 1600, .*: select one column less"
    ):
        load(source, target, **options)


@pytest.mark.parametrize("create", [True, False])
def test_a_table_without_columns_is_not_said_to_be_missing(source, target, run, create):
    """Nor is it made."""
    run(source, "create table item (id int)")
    run(target, "create table item ()")

    with pytest.raises(TargetError, match="item has no columns to load into: add those"):
        load(source, target, create_target=create)


@pytest.mark.parametrize(
    "options", [{}, {"transform_batch": lambda batch: batch}], ids=["", "Arrow"]
)
def test_a_query_without_columns_is_refused(source, target, run, options):
    """There is nothing to write of its rows."""
    for url in (source, target):
        run(url, "create table item (id int)")
    run(source, "insert into item values (1)")

    with pytest.raises(QueryError, match="the query selects no columns: name those"):
        load(source, target, "select from item", **options)
