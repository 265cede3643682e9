"""How many rows make a chunk, where that is left to us: by rows of the query, and by their width.

Pure arithmetic over what the database expects.
"""

from math import log10

from ..model import Estimate

# Rows of the query -> rows of a chunk: the middle of what the guide recommends, and between these
# a straight line over the number of digits.
_STEPS = ((100_000, 25_000), (1_000_000, 50_000), (10_000_000, 100_000), (100_000_000, 200_000))

_UNKNOWN = 50_000

# A chunk is what a retry repeats and what a worker may still be busy with at the end: seconds.
CHUNK_BYTES = 64 * 1024 * 1024

# Each COPY begins with buffers that are new to it, and soon goes over the same 16 MiB again and
# again; below that it takes all its buffers from the others. Source: PostgreSQL's
# src/backend/storage/buffer/README, "Buffer Ring Replacement Strategy".
_RANGE_BYTES = 32 * 1024 * 1024

# Fewer, and there is nothing left for a worker that is done before the others.
_RANGES_PER_WORKER = 4


def auto_chunk_size(expected: Estimate) -> tuple[int, str]:
    """Return the rows of a chunk, and why so many.

    >>> auto_chunk_size(Estimate(2_000, 100))
    (25000, 'auto: about 2,000 rows are expected')
    >>> auto_chunk_size(Estimate(5_000_000, 100))[0]
    84949
    >>> auto_chunk_size(Estimate(5_000_000, 1_000_000))
    (67, 'auto: rows of about 1,000,000 bytes')
    """
    if expected.rows is None:
        size, why = _UNKNOWN, "auto: the number of rows is unknown"
    else:
        size, why = _by_rows(expected.rows), f"auto: about {expected.rows:,} rows are expected"
    if expected.row_bytes and size * expected.row_bytes > CHUNK_BYTES:
        size = max(1, CHUNK_BYTES // expected.row_bytes)
        why = f"auto: rows of about {expected.row_bytes:,} bytes"
    return size, why


def auto_range_size(expected: Estimate, workers: int) -> tuple[int, str]:
    """Return the rows of a chunk that is a range of blocks, and why so many.

    For rows that are passed on as they come. Nothing has to be found or sorted for such a range,
    so it may be as long as what a database makes of its rows is cheapest.

    >>> auto_range_size(Estimate(5_000_000, 100), workers=2)
    (335544, 'auto: ranges of about 32 MiB')
    >>> auto_range_size(Estimate(5_000_000, 100), workers=8)
    (156250, 'auto: 4 ranges for each worker')
    >>> auto_range_size(Estimate(2_000, 100), workers=8)
    (25000, 'auto: about 2,000 rows are expected')
    >>> auto_range_size(Estimate(5_000_000, 1_000_000), workers=2)
    (67, 'auto: rows of about 1,000,000 bytes')
    """
    size, why = auto_chunk_size(expected)
    if expected.rows and expected.row_bytes:
        wide = _RANGE_BYTES // expected.row_bytes
        few = expected.rows // (workers * _RANGES_PER_WORKER)
        if size < wide <= few:
            return wide, f"auto: ranges of about {_RANGE_BYTES // 1024 // 1024} MiB"
        if size < few < wide:
            return few, f"auto: {_RANGES_PER_WORKER} ranges for each worker"
    return size, why


def _by_rows(rows: int) -> int:
    below = [step for step in _STEPS if step[0] <= rows]
    above = [step for step in _STEPS if step[0] > rows]
    if not below:
        return _STEPS[0][1]
    if not above:
        return _STEPS[-1][1]
    (low, least), (high, most) = below[-1], above[0]
    share = (log10(rows) - log10(low)) / (log10(high) - log10(low))
    return round(least + share * (most - least))
