"""Chunks tile the key: every row is in exactly one."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from mapper_core import ChunkKind
from mapper_core.chunker import key_chunks, one_chunk

keys = st.one_of(st.none(), st.integers(-50, 50))


def holds(chunk, key):
    """Whether a row with that key is in the chunk, as a database would decide."""
    if chunk.kind is ChunkKind.ALL:
        return True
    if chunk.kind is ChunkKind.NULLS or key is None:
        return chunk.kind is ChunkKind.NULLS and key is None
    above = chunk.low is None or key >= int(chunk.low[0])
    return above and (chunk.high is None or key < int(chunk.high[0]))


@given(
    cuts=st.lists(st.integers(-50, 50), unique=True).map(sorted),
    rows=st.lists(keys),
    counted=st.booleans(),
)
def test_every_row_is_in_exactly_one_chunk(cuts, rows, counted):
    """Whatever the cuts, and wherever the rows lie, NULL keys included."""
    chunks = key_chunks(
        [(str(cut),) for cut in cuts],
        has_nulls=None in rows,
        rows=len(rows) if counted else None,
        chunk_size=10,
    )
    assert all(sum(holds(chunk, key) for chunk in chunks) == 1 for key in rows)
    assert [chunk.id for chunk in chunks] == list(range(1, len(chunks) + 1))


@given(cuts=st.lists(st.integers(), unique=True).map(sorted))
def test_neighbours_touch_and_the_ends_are_open(cuts):
    """Rows that appear beyond the cuts after planning still have their chunk."""
    chunks = key_chunks([(str(c),) for c in cuts], has_nulls=False, rows=None, chunk_size=1)
    assert chunks[0].low is None
    assert chunks[-1].high is None
    assert all(a.high == b.low for a, b in pairwise(chunks))


def test_keys_of_several_columns_stay_together():
    """A cut is one value per column."""
    low, high = key_chunks([("1", "a")], has_nulls=False, rows=8, chunk_size=4)
    assert (low.high, high.low) == (("1", "a"), ("1", "a"))
    assert (low.expected_rows, high.expected_rows) == (4, 4)


def test_one_pass_is_one_chunk_of_everything():
    """With the count, where it is known."""
    (chunk,) = one_chunk(7)
    assert (chunk.kind, chunk.low, chunk.high, chunk.expected_rows) == (
        ChunkKind.ALL,
        None,
        None,
        7,
    )
