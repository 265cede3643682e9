"""Cuts -> chunks. Arithmetic only: no database is touched, no key is compared.

The promise: whatever the cuts, every row of the query is in exactly one chunk.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
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
    beyond: int | None = None,
    descending: bool = False,
) -> tuple[Chunk, ...]:
    """Tile the key with chunks between the cuts, the outer ones open.

    Args:
        cuts: where one chunk ends and the next begins, ascending in the database's order.
        has_nulls: whether rows with a NULL in the key get a chunk of their own.
        rows: rows of the query, or None when nobody counted them.
        chunk_size: rows between two cuts.
        beyond: rows to expect after the last cut, where nobody counted; by default as many.
        descending: whether the first chunk is the one of the highest keys.

    >>> [(c.low, c.high) for c in key_chunks([("5",)], has_nulls=False, rows=None, chunk_size=4)]
    [(None, ('5',)), (('5',), None)]
    """
    expected = chunk_size if rows is None else -(-rows // (len(cuts) + 1))
    chunks = list(_between(ChunkKind.RANGE, cuts, expected, descending=descending))
    if rows is None and beyond is not None:
        last = 0 if descending else -1
        chunks[last] = replace(chunks[last], expected_rows=beyond)
    if has_nulls:
        chunks.append(Chunk(len(chunks) + 1, ChunkKind.NULLS))
    return tuple(chunks)


def block_chunks(
    cuts: Sequence[str], *, rows: int | None, kind: ChunkKind = ChunkKind.BLOCKS
) -> tuple[Chunk, ...]:
    """Tile a table's files with chunks between the cuts; the last one has no end.

    >>> [(c.low, c.high) for c in block_chunks(["8"], rows=None)]
    [(None, ('8',)), (('8',), None)]
    """
    expected = None if rows is None else -(-rows // (len(cuts) + 1))
    return _between(kind, [(cut,) for cut in cuts], expected)


def pages(rows: int, chunk_size: int) -> tuple[Chunk, ...]:
    """Divide an ordered query by row number; the last page has no end.

    >>> [(c.low, c.high) for c in pages(25, 10)]
    [(('0',), ('10',)), (('10',), ('20',)), (('20',), None)]
    """
    starts = range(0, max(rows, 1), chunk_size)
    return tuple(
        Chunk(
            number,
            ChunkKind.PAGE,
            (str(start),),
            (str(start + chunk_size),) if number < len(starts) else None,
            min(chunk_size, rows - start),
        )
        for number, start in enumerate(starts, start=1)
    )


# The number of a stream's own chunk; its pieces are numbered from 1.
STREAM = 0


def one_stream(expected_rows: int | None = None) -> tuple[Chunk, ...]:
    """Return the plan of a stream; its pieces are numbered from 1 as they are read.

    >>> [(c.id, str(c.kind)) for c in one_stream()]
    [(0, 'stream')]
    """
    return (Chunk(STREAM, ChunkKind.STREAM, expected_rows=expected_rows),)


def split(
    chunk: Chunk, cuts: Sequence[tuple[str, ...]], first_id: int, *, weights: int
) -> tuple[Chunk, ...]:
    """Tile a chunk of a key or of blocks with parts between cuts that lie in it, ascending.

    Args:
        chunk: what is to be split.
        cuts: where; one that comes twice, or that is the chunk's own bound, leaves a part empty.
        first_id: number of the first part; the others follow.
        weights: parts that it was meant to make, for what to expect of each.

    >>> [(c.id, c.low, c.high) for c in split(Chunk(1, ChunkKind.BLOCKS), [("8",)], 5, weights=2)]
    [(5, None, ('8',)), (6, ('8',), None)]
    """
    expected = None if chunk.expected_rows is None else -(-chunk.expected_rows // weights)
    edges = pairwise([chunk.low, *cuts, chunk.high])
    return tuple(
        Chunk(number, chunk.kind, low, high, expected)
        for number, (low, high) in enumerate(edges, start=first_id)
    )


def with_parts(chunks: Sequence[Chunk], parts: Mapping[int, Sequence[Chunk]]) -> tuple[Chunk, ...]:
    """Return the chunks with parts in the place of those that were split; a part may be, too.

    >>> whole, other = Chunk(1, ChunkKind.BLOCKS), Chunk(2, ChunkKind.BLOCKS)
    >>> tiles = split(whole, [("8",)], 3, weights=2)
    >>> [chunk.id for chunk in with_parts([whole, other], {1: tiles})]
    [2, 3, 4]
    """
    known = [*chunks, *(part for of_one in parts.values() for part in of_one)]
    left = (chunk for chunk in known if chunk.id not in parts)
    return tuple(sorted(left, key=lambda chunk: chunk.id))


def cuts_of_blocks(chunk: Chunk, parts: int, width: int) -> list[tuple[str, ...]]:
    """Return where to cut a range of blocks into about equal parts.

    Args:
        chunk: of blocks.
        parts: how many it is to become.
        width: blocks of another chunk, for one without an end.

    >>> cuts_of_blocks(Chunk(1, ChunkKind.BLOCKS, None, ("100",)), 4, 0)
    [('25',), ('50',), ('75',)]
    """
    low = int(chunk.low[0]) if chunk.low else 0
    blocks = int(chunk.high[0]) - low if chunk.high else width
    cuts = dict.fromkeys(low + blocks * part // parts for part in range(1, parts))
    return [(str(cut),) for cut in cuts if cut > low]


def _between(
    kind: ChunkKind,
    cuts: Sequence[tuple[str, ...]],
    expected: int | None,
    *,
    descending: bool = False,
) -> tuple[Chunk, ...]:
    edges = list(pairwise([None, *cuts, None]))
    if descending:
        edges.reverse()
    return tuple(
        Chunk(number, kind, low, high, expected)
        for number, (low, high) in enumerate(edges, start=1)
    )
