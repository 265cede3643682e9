"""What is recorded of a load that failed in part, by lanes that end at the same moment."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mapper_core import ChunkResult
from mapper_core.history import LoadChunks
from mapper_core.results import ChunkStatus
from mapper_dagster import metadata, shortfall
from mapper_dagster.windows import Lane

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
        return {told["lane"]: told for told in shown}

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
