"""A load's chunks over time, as a picture."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from html import escape

from mapper_core import ChunkResult

WIDTH, ROW, MARGIN = 640, 14, 18
_PLAIN, _RETRIED = "#4f43dd", "#d24141"

# More chunks than this are a few pixels wide each, and a megabyte of picture together.
MOST_CHUNKS = 1_000


@dataclass(frozen=True, slots=True)
class _Bar:
    chunk: ChunkResult
    start: datetime
    end: datetime


def drawn(chunks: Sequence[ChunkResult]) -> str | None:
    """Return an SVG of when each chunk was loaded, those at one time below each other; or None."""
    bars = sorted(
        (
            _Bar(chunk, chunk.finished_at - timedelta(seconds=chunk.duration), chunk.finished_at)
            for chunk in chunks
            if chunk.finished_at is not None
        ),
        key=lambda bar: bar.start,
    )
    if not bars or len(bars) > MOST_CHUNKS:
        return None
    begun, ended = bars[0].start, max(bar.end for bar in bars)
    seconds = max((ended - begun).total_seconds(), 1e-3)
    rows = _rows(bars)
    height = ROW * len(rows) + MARGIN
    drawing = [
        f'<rect x="{(bar.start - begun).total_seconds() / seconds * WIDTH:.1f}" y="{ROW * row}"'
        f' width="{max(1.0, (bar.end - bar.start).total_seconds() / seconds * WIDTH - 1):.1f}"'
        f' height="{ROW - 2}" fill="{_RETRIED if _is_retried(bar.chunk) else _PLAIN}">'
        f"<title>{escape(_words(bar.chunk))}</title></rect>"
        for row, line in enumerate(rows)
        for bar in line
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}"'
        ' font-family="sans-serif" font-size="11">'
        f"{''.join(drawing)}"
        f'<text x="0" y="{height - 5}">0 s</text>'
        f'<text x="{WIDTH}" y="{height - 5}" text-anchor="end">{seconds:.1f} s</text></svg>'
    )


def as_markdown(svg: str) -> str:
    """Return an image that Markdown shows without asking anybody for a file."""
    return (
        f"![chunks over time](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})"
    )


def _rows(bars: Sequence[_Bar]) -> list[list[_Bar]]:
    """Put each bar into the first row that is free by then: as many rows as ran at one time."""
    rows: list[list[_Bar]] = []
    for bar in bars:
        free = next((row for row in rows if row[-1].end <= bar.start), None)
        if free is None:
            rows.append([bar])
        else:
            free.append(bar)
    return rows


def _is_retried(chunk: ChunkResult) -> bool:
    return chunk.attempts > 1


def _words(chunk: ChunkResult) -> str:
    again = f", attempt {chunk.attempts}" if _is_retried(chunk) else ""
    return f"chunk {chunk.chunk_id}: {chunk.rows_written:,} rows in {chunk.duration:.2f} s{again}"
