"""The source begins with the next chunk while the target finishes this one; nothing hangs on it."""

from urllib.parse import urlsplit

import pytest

import mapper_core
from mapper_core import ParallelProcessor, adapters
from mapper_core.connections import opener_of
from mapper_core.query import read_query

from ..waiting import assert_nothing_left, backends, wait_until
from .running import PAUSE_AT_THE_END, Background, at_the_gate, gate, load, multiset, terminate

ROWS, CHUNK = 1_000, 100
MANY, LARGE = 90_000, 30_000
QUERY = "select * from orders order by id"

# What a session of the source was asked last, when that is the second chunk: where that ends.
SECOND = rf"query like 'copy%(''{2 * CHUNK + 1}''%'"


@pytest.fixture
def orders(source, target, run):
    """1,000 orders; the target lets no chunk's rows end while a lock is held."""
    table = "create table orders (id int primary key, note text)"
    run(source, table, f"insert into orders select i, 'n' || i from generate_series(1, {ROWS}) i")
    run(target, table.replace(" primary key", ""), *PAUSE_AT_THE_END)
    yield
    assert_nothing_left(source, target)


def begin(source, target, **options):
    """Begin a load by one worker, in the background."""
    options = {"chunk_size": CHUNK, "max_workers": 1, "strategy": "key", **options}
    return Background(load, source, QUERY, target, "orders", **options)


def begun(source):
    """Wait until the source has been asked for the second chunk; return the sessions."""
    return wait_until(lambda: backends(source, extra=SECOND), "the second chunk to be begun")


def assert_all_there(source, target, result):
    assert "succeeded" == result.status, result
    assert multiset(source, "select * from orders") == multiset(target, "select * from orders")


@pytest.mark.usefixtures("orders")
@pytest.mark.parametrize("encoding", ["utf8", "sql_ascii"])
def test_the_next_chunk_is_begun_while_this_one_is_finished(source, target, run, encoding):
    """Whatever encoding a session of the source begins with."""
    run(source, f"alter database {urlsplit(source).path[1:]} set client_encoding = {encoding}")
    with gate(target):
        loading = begin(source, target)
        begun(source)
    assert_all_there(source, target, loading.result())


@pytest.mark.usefixtures("orders")
def test_each_chunk_at_its_own_moment_is_not_begun_before_it(source, target, run):
    """Rows that come between two chunks are seen where a load has no snapshot."""
    with gate(target):
        loading = begin(source, target, snapshot=False)
        at_the_gate(target)
        run(source, f"update orders set note = 'later' where id = {CHUNK + 1}")
    assert_all_there(source, target, loading.result())


@pytest.mark.usefixtures("orders")
def test_a_statement_that_may_not_take_long_is_not_begun_before_its_rows_are_wanted(
    source, target, run
):
    """It would run into the source's time-out while a transform thinks, or the target waits."""
    run(source, f"alter database {urlsplit(source).path[1:]} set statement_timeout = '1min'")
    with gate(target):
        loading = begin(source, target)
        at_the_gate(target)
        assert [] == backends(source, extra=SECOND)
    assert_all_there(source, target, loading.result())


@pytest.mark.usefixtures("many")
def test_whatever_else_is_asked_ends_what_was_begun(source):
    """A reader that has begun ahead answers as any other."""
    database = adapters.database(opener_of(source, role="source"), application="mapper test")
    query = read_query(QUERY, None, dialect=database.dialect)
    plan = mapper_core.plan(source, QUERY, chunk_size=LARGE, strategy="key", max_workers=1)
    with database.snapshot(query) as snapshot, database.open_reader(snapshot) as reader:
        reader.read_ahead(query, plan, plan.chunks[1])
        assert LARGE == reader.count(query, plan, plan.chunks[0])
        reader.read_ahead(query, plan, plan.chunks[1])
        first = joined(reader.read(query, plan, plan.chunks[0]))
        reader.read_ahead(query, plan, plan.chunks[0])
        for _ in ("as it was begun", "anew"):
            assert first == joined(reader.read(query, plan, plan.chunks[0]))


def joined(batches):
    """Return blocks of COPY as one."""
    return b"".join(block for block in batches if isinstance(block, bytes))


@pytest.mark.usefixtures("orders")
def test_a_target_lost_with_the_next_chunk_begun(source, target):
    with gate(target):
        loading = begin(source, target)
        begun(source)
        terminate(target, at_the_gate(target))
    result = loading.result()
    assert_all_there(source, target, result)
    assert [2] + 9 * [1] == [chunk.attempts for chunk in result.chunk_results]


@pytest.mark.usefixtures("orders")
def test_a_source_lost_with_the_next_chunk_begun(source, target):
    """This chunk has all its rows and is not read again; the next one may have had them too."""
    with gate(target):
        loading = begin(source, target)
        terminate(source, begun(source))
    result = loading.result()
    assert_all_there(source, target, result)
    attempts = [chunk.attempts for chunk in result.chunk_results]
    assert (1, 11) == (attempts[0], sum(attempts))


@pytest.mark.usefixtures("orders")
def test_stopped_with_the_next_chunk_begun(source, target):
    """What was only begun is unstarted."""
    with gate(target):
        processor = ParallelProcessor(chunk_size=CHUNK, max_workers=1, min_rows_for_parallel=0)
        options = {"strategy": "key", "target_conn": target, "target_table": "orders"}
        loading = Background(processor.process_mapper_job, source, QUERY, **options)
        begun(source)
        processor.stop()
        result = loading.result()
    assert "stopped" == result.status
    assert {"unstarted"} == {chunk.status for chunk in result.chunk_results}
    assert 10 == len(result.chunk_results)
    assert [(0, None)] == multiset(target, "select * from orders")


@pytest.mark.usefixtures("orders")
@pytest.mark.parametrize("stop_on_error", [True, False])
def test_a_chunk_that_fails_with_the_next_one_begun(source, target, run, stop_on_error):
    run(target, "alter table orders add check (id <> 50)")
    result = begin(source, target, stop_on_error=stop_on_error).result()
    rest = "unstarted" if stop_on_error else "succeeded"
    assert ["failed"] + 9 * [rest] == [chunk.status for chunk in result.chunk_results]


@pytest.mark.usefixtures("orders")
def test_refused_rows_are_read_again_with_the_next_chunk_begun(source, target, run):
    """A check at the statement's end refuses them when all of the chunk has been read."""
    run(source, "update orders set note = null where id in (50, 151)")
    run(
        target,
        "create function check_note() returns trigger language plpgsql as $$ begin"
        " if exists (select from added where note is null) then"
        "   raise check_violation using message = 'no note'; end if; return null; end $$",
        "create trigger note after insert on orders referencing new table as added"
        " for each statement execute function check_note()",
    )
    result = begin(source, target, reject_limit=None).result()
    assert ("succeeded", ROWS - 2, 2) == (
        result.status,
        result.rows_written,
        result.rows_rejected,
    )


@pytest.fixture
def many(source, target, run):
    """Rows enough that a chunk of `LARGE` is on its way when another statement is asked for."""
    run(
        source,
        "create table orders (id int primary key, note text)",
        f"insert into orders select i, repeat('x', 200) from generate_series(1, {MANY}) i",
    )
    run(target, "create table orders (id int, note text not null)")
    yield
    assert_nothing_left(source, target)


def load_large(source, target, **options):
    """Load chunks that no buffer holds whole."""
    options = {"chunk_size": LARGE, "max_workers": 1, "reject_limit": 5, **options}
    return load(source, "select * from orders", target, "orders", **options)


def assert_one_refused(result):
    assert ("succeeded", MANY - 1, 1) == (
        result.status,
        result.rows_written,
        result.rows_rejected,
    )


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("strategy", ["key", "physical"])
@pytest.mark.parametrize("bad", [1, MANY // 2, MANY])
def test_a_row_refused_while_a_large_chunk_is_on_its_way(source, target, run, strategy, bad):
    """The next chunk's statement is ended, which spoils its transaction; reading goes on."""
    run(source, f"update orders set note = null where id = {bad}")
    assert_one_refused(load_large(source, target, strategy=strategy))


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("snapshot", [True, False])
def test_a_transform_that_raises_while_a_large_chunk_is_on_its_way(source, target, snapshot):
    """What is read of the chunk is left in the middle, and it is read again."""

    def refuse(rows):
        if any(row["id"] == 100 for row in rows):
            raise ValueError("no such order")
        return rows

    options = {"transformation_func": refuse, "transform_scope": "batch", "snapshot": snapshot}
    assert_one_refused(load_large(source, target, strategy="key", **options))
