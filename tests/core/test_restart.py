"""A server that stops in the middle of a load, one way or the other, and comes back."""

import pytest

from mapper_core import execute_query_parallel

from ..own_server import ENDINGS, PATIENT
from ..waiting import assert_nothing_left

ROWS = 4_000
SUM = "select count(*), sum(hashtext(o::text)) from orders o"


@pytest.fixture
def orders(own, source, run):
    """4,000 orders on the shared server and on the test's own, an empty copy of each."""
    for url in (own.url, source):
        run(
            url,
            "create table orders (id int primary key, note text)",
            f"insert into orders select i, 'n' || i from generate_series(1, {ROWS}) i",
            "create table copies (id int, note text)",
            # Makes a chunk last long enough to be met by an accident.
            "create function slow(i int) returns boolean language plpgsql stable as $$ begin"
            " if i % 50 = 0 and current_query() like 'copy%' then"
            "   perform pg_sleep(0.01); end if;"
            " return true; end $$",
        )


def load(source, target, own, how, **options):
    """Load in chunks; after the third, end the test's own server and start it again."""
    ended: list[str] = []

    def accident(snapshot):
        if snapshot.completed_chunks >= 3 and not ended:
            ended.append(how)
            own.restart(how)

    return execute_query_parallel(
        source,
        "select * from orders where slow(id) order by id",
        target_conn=target,
        target_table="copies",
        chunk_size=200,
        max_workers=3,
        min_rows_for_parallel=0,
        retry_handler=PATIENT,
        progress_callback=accident if how else None,
        **options,
    )


@pytest.mark.parametrize("mode", ["append", "replace"])
@pytest.mark.parametrize("how", ENDINGS)
def test_a_target_that_restarts_in_mid_load_gets_every_row_once(
    own, orders, source, run, how, mode
):
    """Chunks under way are loaded again on new connections."""
    result = load(source, own.url, own, how, load_mode=mode)

    assert "succeeded" == result.status, result.chunk_errors
    assert any(chunk.attempts > 1 for chunk in result.chunk_results)
    assert run(source, SUM) == run(own.url, SUM.replace("from orders", "from copies"))
    assert_nothing_left(source)


@pytest.mark.parametrize("mode", ["append", "replace"])
@pytest.mark.parametrize("how", ENDINGS)
def test_a_source_that_restarts_in_mid_load_loses_the_snapshot_and_says_so(
    own, orders, source, run, how, mode, caplog
):
    """The chunks left are named; the same load goes on at a new read point, or begins anew."""
    first = load(own.url, source, own, how, load_id="shaken", load_mode=mode)

    assert not first.published
    assert {"SnapshotLostError"} == {e["error"].partition(":")[0] for e in first.chunk_errors}
    inside = sum(chunk.rows_written for chunk in first.chunk_results)
    seen = 0 if mode == "replace" else inside
    assert [(seen,)] == run(source, "select count(*) from copies")
    assert "has ended early" in caplog.text

    again = load(own.url, source, own, None, load_id="shaken", load_mode=mode)

    assert "succeeded" == again.status, again.chunk_errors
    assert run(own.url, SUM) == run(source, SUM.replace("from orders", "from copies"))
    assert (again.snapshot.resumed_from is not None) is (mode == "append")
