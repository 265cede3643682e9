"""Cuts -> chunks. Arithmetic only: no database is touched, no key is compared.

The promise: whatever the cuts, every row of the query is in exactly one chunk.
"""

from collections.abc import Sequence
from itertools import pairwise

from .model import Chunk, ChunkKind


def one_chunk(expected_rows: int | None = None) -> tuple[Chunk, ...]:
    """Return the plan of a load in one pass.

    >>> [str(chunk.kind) for chunk in one_chunk()]
    ['all']
    """
    return (Chunk(1, ChunkKind.ALL, expected_rows=expected_rows),)


def key_chunks(
    cuts: Sequence[tuple[str, ...]],
    *,
    has_nulls: bool,
    rows: int | None,
    chunk_size: int,
) -> tuple[Chunk, ...]:
    """Tile the key with chunks between the cuts, the outer ones open.

    Args:
        cuts: where one chunk ends and the next begins, ascending in the database's order.
        has_nulls: whether rows with a NULL in the key get a chunk of their own.
        rows: rows of the query, or None when nobody counted them.
        chunk_size: rows between two cuts.

    >>> [(c.low, c.high) for c in key_chunks([("5",)], has_nulls=False, rows=None, chunk_size=4)]
    [(None, ('5',)), (('5',), None)]
    """
    edges = pairwise([None, *cuts, None])
    expected = chunk_size if rows is None else -(-rows // (len(cuts) + 1))
    chunks = [
        Chunk(number, ChunkKind.RANGE, low, high, expected)
        for number, (low, high) in enumerate(edges, start=1)
    ]
    if has_nulls:
        chunks.append(Chunk(len(chunks) + 1, ChunkKind.NULLS))
    return tuple(chunks)
