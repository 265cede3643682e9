"""What is recorded of a load that failed in part, over all of its lanes."""

from dataclasses import replace
from typing import Any

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapper_core import Chunk, ChunkResult, execute_query_parallel, history
from mapper_core.history import LoadChunks
from mapper_core.results import ChunkStatus
from mapper_dagster import metadata, shortfall
from mapper_dagster.windows import Lane

KEY = dg.AssetKey("part")
LANES = range(3)
ROWS = 100


class Load:
    """A load of a chunk a lane: what its ledger has, and what its lanes have recorded."""

    load_id = "nightly"

    def __init__(self):
        self.finished: list[ChunkResult] = []
        self.recorded: list[dict[str, Any]] = []

    def ending(self, number, *, well):
        """End a lane; wherever it yields, others may do what they do."""
        status = ChunkStatus.SUCCEEDED if well else ChunkStatus.FAILED
        chunk = ChunkResult(chunk_id=number, status=status, rows_read=ROWS)
        yield
        if well:
            self.finished.append(chunk)
            yield
        found = shortfall.to_be_told(
            Lane(0, number, len(LANES)), [chunk], told=self._told, ledger=self._ledger
        )
        for _, shown in found:
            yield
            self.recorded.append(shown)
            yield

    def _told(self):
        shown = [metadata.lane_of(each) for each in self.recorded]
        return {told.lane: told for told in shown}

    def _ledger(self):
        record: Any = self
        missing: Any = (None,) * (len(LANES) - len(self.finished))
        return LoadChunks(record, tuple(self.finished), missing)


@given(
    failing=st.sets(st.sampled_from(LANES), min_size=1),
    turns=st.lists(st.sampled_from(LANES), max_size=30),
)
def test_the_latest_numbers_are_the_whole_loads(failing, turns):
    """In whichever order lanes end, look and record; and none records for ever."""
    load = Load()
    lanes = {number: load.ending(number, well=number not in failing) for number in LANES}
    for number in turns:
        next(lanes[number], None)
    for lane in lanes.values():
        for _ in lane:
            pass

    latest = load.recorded[-1]
    finished = len(LANES) - len(failing)
    numbers = [latest[f"mapper/chunks_{what}"] for what in ("in", "failed", "missing")]
    assert [finished, len(failing), 0] == numbers
    assert [ROWS * finished, ROWS * len(failing)] == [
        latest[f"mapper/rows_{what}"] for what in ("in", "failed")
    ]
    assert len(load.recorded) <= len(LANES) ** 2


def failures(lane, failed, lanes=3):
    """Return what a lane tells of chunks that failed."""
    chunks = [
        ChunkResult(chunk_id=lane + 1 + lanes * number, status=ChunkStatus.FAILED, rows_read=ROWS)
        for number in range(failed)
    ]
    return metadata.failures_of(lane, lanes, chunks)


@pytest.fixture
def tell(instance):
    """Record observations of the asset in one run; return the run's id."""

    def observe(*observed):
        @dg.op
        def tells(context):
            for partition, shown in observed:
                found = metadata.of_lanes(shown, ()) if shown else {}
                context.log_event(dg.AssetObservation(KEY, partition=partition, metadata=found))

        @dg.job
        def telling():
            tells()

        return telling.execute_in_process(instance=instance).run_id

    return observe


def test_what_counts_is_what_each_lane_of_the_run_told_last(instance, tell):
    """Of this partition, and of no other run."""
    other = tell((None, failures(0, 9)), (None, failures(1, 9)))
    run = tell(
        (None, failures(0, 3)),
        ("2024-01-01", failures(2, 7)),
        (None, failures(1, 1)),
        (None, failures(0, 2)),
        (None, None),
    )

    told = shortfall.told_by_lanes(instance, KEY, "2024-01-01", run)
    assert {2: failures(2, 7)} == told
    by_run = {each: shortfall.told_by_lanes(instance, KEY, None, each) for each in (run, other)}
    assert failures(0, 2) == by_run[run][0]
    assert failures(1, 1) == by_run[run][1]
    assert failures(1, 9) == by_run[other][1]


@pytest.mark.usefixtures("events")
def test_a_lane_that_ends_adds_up_all_of_them_and_its_own_earlier_word_is_past(source, target):
    """Rows that could not be counted are none, and their chunks are named as such."""
    result = execute_query_parallel(
        source,
        "select * from events order by id",
        target_conn=target,
        target_table="fact_events",
        chunk_size=500,
        min_rows_for_parallel=0,
        enable_progress=False,
    )
    assert result.load_id
    known = history.chunks(target, result.load_id)
    kept, gone = known.finished[:3], known.finished[3:]
    known = replace(known, finished=kept, missing=tuple(Chunk(chunk.chunk_id) for chunk in gone))
    results = [
        kept[0],
        ChunkResult(chunk_id=4, status=ChunkStatus.FAILED, rows_read=500, error="no"),
        ChunkResult(chunk_id=5, status=ChunkStatus.FAILED, rows_read=None, error="no"),
    ]

    told = {1: failures(1, 1), 2: failures(2, 3)}
    ((_, found),) = shortfall.to_be_told(
        Lane(0, 1, 3), results, told=lambda: told, ledger=lambda: known
    )

    own = metadata.lane_of(found)
    assert (2, 500, 1) == (own.chunks_failed, own.rows_failed, own.chunks_uncounted)
    assert {
        metadata.LOAD_ID: result.load_id,
        "mapper/chunks_in": 3,
        "mapper/chunks_failed": 3,
        "mapper/chunks_missing": 2,
        "mapper/rows_in": 1_500,
        "mapper/rows_failed": 600,
        metadata.REJECTED: 0,
        "mapper/chunks_uncounted": 1,
    } == {
        name: found[name] for name in found if name not in {metadata.LANES, metadata.FAILED_CHUNKS}
    }
    rows = [
        (record.data["lane"], record.data["rows"])
        for record in found[metadata.FAILED_CHUNKS].records
    ]
    assert [(2, "500"), (2, "not counted"), (1, "100")] == rows


@given(counts=st.lists(st.integers(0, 2 * metadata.SHOWN_FAILED), min_size=1, max_size=4))
def test_failed_chunks_are_listed_over_all_lanes_and_those_of_the_one_that_ends_first(counts):
    """As many as are shown; how many more there are is told, and each lane finds its own again."""
    own, *others = (failures(lane, count, len(counts)) for lane, count in enumerate(counts))

    shown = metadata.of_lanes(own, others)

    rows = shown[metadata.FAILED_CHUNKS].records if sum(counts) else ()
    more = shown.get("mapper/failed_chunks_not_shown")
    assert sum(counts) == len(rows) + (more.value if more else 0)
    assert len(rows) == min(
        metadata.SHOWN_FAILED, sum(min(count, metadata.SHOWN_FAILED) for count in counts)
    )
    assert own == metadata.lane_of(shown)
