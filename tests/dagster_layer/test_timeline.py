"""The picture of a load's chunks says when each was loaded, and which were tried again."""

from datetime import datetime, timedelta, timezone
from xml.etree import ElementTree

import pytest

from mapper_core import ChunkResult
from mapper_core.results import ChunkStatus
from mapper_dagster import timeline

BEGUN = datetime(2024, 1, 1, tzinfo=timezone.utc)
SVG = "{http://www.w3.org/2000/svg}"


def chunk(number, start, end, attempts=1):
    """Return a chunk loaded between two seconds."""
    return ChunkResult(
        chunk_id=number,
        status=ChunkStatus.SKIPPED,
        rows_written=1_000 * number,
        attempts=attempts,
        duration=float(end - start),
        finished_at=BEGUN + timedelta(seconds=end),
    )


def drawn(chunks):
    """Return the picture, read back, and of each bar what comes up over it and how it looks."""
    picture = ElementTree.fromstring(timeline.drawn(chunks) or "")
    bars = {bar[0].text or "": dict(bar.attrib) for bar in picture.iter(f"{SVG}rect")}
    return picture, bars


# Not in the order in which they began; the one that ends last did not begin last.
CHUNKS = [chunk(3, 6, 8), chunk(1, 0, 10), chunk(2, 0, 5, attempts=3), chunk(4, 5, 6)]


def test_chunks_are_drawn_when_they_were_loaded_and_below_those_of_the_same_time():
    """As many rows as ran at one time; the width is the time from first to last."""
    picture, bars = drawn(CHUNKS)

    second = timeline.WIDTH / 10
    assert {
        "chunk 1": (0, second * 10 - 1, 0),
        "chunk 2": (0, second * 5 - 1, timeline.ROW),
        "chunk 4": (second * 5, second - 1, timeline.ROW),
        "chunk 3": (second * 6, second * 2 - 1, timeline.ROW),
    } == {
        words.partition(":")[0]: tuple(float(bar[what]) for what in ("x", "width", "y"))
        for words, bar in bars.items()
    }
    assert 2 * timeline.ROW + timeline.MARGIN == float(picture.attrib["height"])
    assert ["0 s", "10.0 s"] == [text.text for text in picture.iter(f"{SVG}text")]


def test_chunks_that_were_tried_again_are_told_apart():
    """By their colour, and by the words that come up over them."""
    _, bars = drawn(CHUNKS)

    told = {words: bar["fill"] for words, bar in bars.items()}
    assert "chunk 1: 1,000 rows in 10.00 s" in told
    again = told.pop("chunk 2: 2,000 rows in 5.00 s, attempt 3")
    assert 1 == len({*told.values()})
    assert again not in told.values()


@pytest.mark.parametrize(
    ("chunks", "there"),
    [
        ([], False),
        ([ChunkResult(chunk_id=1, status=ChunkStatus.SUCCEEDED)], False),
        ([chunk(1, 0, 0)], True),
        ([chunk(n, 0, 1) for n in range(timeline.MOST_CHUNKS)], True),
        ([chunk(n, 0, 1) for n in range(timeline.MOST_CHUNKS + 1)], False),
    ],
    ids=["no chunk", "of unknown time", "of no time", "many", "too many"],
)
def test_there_is_a_picture_where_there_is_something_to_see(chunks, there):
    """And where it has room."""
    assert there == (timeline.drawn(chunks) is not None)
