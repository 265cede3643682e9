"""How many rows make a chunk, where that is left to us: by rows of the query, and by their width.

Pure arithmetic over what the database expects.
"""

from math import log10

from .model import Estimate

# Rows of the query -> rows of a chunk: the middle of what the guide recommends, and between these
# a straight line over the number of digits.
_STEPS = ((100_000, 25_000), (1_000_000, 50_000), (10_000_000, 100_000), (100_000_000, 200_000))

_UNKNOWN = 50_000

# A chunk is what a retry repeats and what a worker may still be busy with at the end: seconds.
CHUNK_BYTES = 64 * 1024 * 1024


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
        size, why = _UNKNOWN, "auto: nobody knows how many rows there are"
    else:
        size, why = _by_rows(expected.rows), f"auto: about {expected.rows:,} rows are expected"
    if expected.row_bytes and size * expected.row_bytes > CHUNK_BYTES:
        size = max(1, CHUNK_BYTES // expected.row_bytes)
        why = f"auto: rows of about {expected.row_bytes:,} bytes"
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
