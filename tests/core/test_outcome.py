"""From chunk results to the result of a load: the totals mean what they say."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapper_core import ChunkResult, ChunksFailedError, ChunkStatus, DataPath, Plan, Snapshot
from mapper_core.chunker import key_chunks
from mapper_core.model import StrategyName
from mapper_core.outcome import Ending, outcome

SUCCEEDED, FAILED, SKIPPED, UNSTARTED = ChunkStatus


def result_of(*chunks, staged=False, published=True, error=None):
    """Return the outcome of chunks given as (status, rows)."""
    results = [
        ChunkResult(
            chunk_id=number,
            status=status,
            rows_read=rows,
            rows_written=(rows or 0) if status is SUCCEEDED else 0,
            error="it broke" if status is FAILED else None,
        )
        for number, (status, rows) in enumerate(chunks, start=1)
    ]
    cuts = [(str(n),) for n in range(len(chunks) - 1)]
    plan = Plan(
        load_id="x",
        chunks=key_chunks(cuts, has_nulls=False, rows=None, chunk_size=1),
        columns=(),
        strategy=StrategyName.KEY,
        strategy_reason="because",
        workers=2,
        chunk_size=1,
        snapshot=Snapshot("1", "snapshot 1"),
        data_path=DataPath.ROWS,
        data_path_reason="because",
        stage_table="stage" if staged else None,
    )
    return outcome(
        plan,
        results,
        Ending(published=published, error=error),
        load_id="x",
        seconds=1.5,
    )


@given(
    chunks=st.lists(st.tuples(st.sampled_from(list(ChunkStatus)), st.integers(0, 9)), min_size=1),
    staged=st.booleans(),
    published=st.booleans(),
)
def test_processed_is_successful_plus_failed(chunks, staged, published):
    """Always; and every chunk of the plan is counted once."""
    result = result_of(*chunks, staged=staged, published=published)
    assert result.total_rows_processed == result.total_rows_successful + result.total_rows_failed
    unstarted = sum(status is UNSTARTED for status, _ in chunks)
    assert len(chunks) == result.chunks_total
    assert len(chunks) == unstarted + sum(
        (result.chunks_succeeded, result.chunks_failed, result.chunks_skipped)
    )


@pytest.mark.parametrize(
    ("chunks", "options", "status", "totals"),
    [
        ([(SUCCEEDED, 5), (SUCCEEDED, 3)], {}, "succeeded", (8, 8, 0)),
        ([(SUCCEEDED, 0)], {}, "succeeded", (0, 0, 0)),
        ([(SKIPPED, 5), (SUCCEEDED, 3)], {}, "succeeded", (3, 3, 0)),
        ([(SKIPPED, 5)], {}, "succeeded", (0, 0, 0)),
        ([(SUCCEEDED, 5), (FAILED, 3)], {"published": False}, "partial", (8, 5, 3)),
        ([(FAILED, 3)], {"published": False}, "failed", (3, 0, 3)),
        ([(SUCCEEDED, 5), (UNSTARTED, None)], {"published": False}, "stopped", (5, 5, 0)),
        ([(SUCCEEDED, 5), (FAILED, 3)], {"staged": True, "published": False}, "failed", (8, 0, 8)),
        ([(SUCCEEDED, 5)], {"staged": True, "published": False, "error": "x"}, "failed", (5, 0, 5)),
        ([(SUCCEEDED, 5)], {"published": False, "error": "x"}, "partial", (5, 5, 0)),
    ],
)
def test_the_status_says_how_it_ended(chunks, options, status, totals):
    """Rows of a stage that was not published are in nobody's sight: they failed."""
    result = result_of(*chunks, **options)
    assert result.status == status
    assert totals == (
        result.total_rows_processed,
        result.total_rows_successful,
        result.total_rows_failed,
    )


def test_a_failed_chunk_that_could_not_be_counted_is_in_no_total():
    """Never an estimate: it is told apart."""
    result = result_of((SUCCEEDED, 5), (FAILED, None))
    assert result.total_rows_processed == 5
    assert result.chunks_uncounted == 1
    assert result.chunk_errors == [
        {"chunk_id": 2, "error": "it broke", "rows_in_chunk": None, "attempts": 0}
    ]


def test_chunks_done_earlier_are_apart_from_the_totals():
    """This call did not load them."""
    result = result_of((SKIPPED, 5), (SUCCEEDED, 3))
    assert (result.chunks_skipped, result.rows_skipped, result.rows_written) == (1, 5, 3)


def test_raise_for_failures():
    """Silent after success; else it names what failed first."""
    result_of((SUCCEEDED, 1)).raise_for_failures()
    with pytest.raises(ChunksFailedError, match=r"partial: 1 of 2 chunks.*chunk 2: it broke"):
        result_of((SUCCEEDED, 1), (FAILED, 1)).raise_for_failures()
    with pytest.raises(ChunksFailedError, match="the publish was refused"):
        result_of((SUCCEEDED, 1), error="the publish was refused").raise_for_failures()
    with pytest.raises(ChunksFailedError, match="stopped"):
        result_of((SUCCEEDED, 1), (UNSTARTED, None)).raise_for_failures()


def test_a_result_is_a_value():
    """It can be pickled, compared and printed."""
    result = result_of((SUCCEEDED, 5), (FAILED, 3))
    assert pickle.loads(pickle.dumps(result)) == result
    assert "total_rows_successful=5" in repr(result)
