"""How many workers a load should have at work, found while it runs; pure arithmetic."""

from dataclasses import dataclass, field

# A worker more is worth its connections when it brings the load at least this much further.
WORTH = 1.08

# Commits that take this many times what they took at first say that the target is overwhelmed ...
SLOWER = 4.0
# ... unless they are short all the same.
NEGLIGIBLE_SECONDS = 0.05

# Commits that are looked at together.
LATEST = 8

# What is measured over less time than this says little.
LEAST_SECONDS = 0.4

# Measured spans after which a number of workers that seemed right is put to the test again.
SETTLED_SPANS = 20

# A part should last at least this long, and have this many rows; else it costs more than it saves.
LEAST_PART_SECONDS = 0.5
LEAST_PART_ROWS = 10_000


def parts_for(unstarted: int, at_work: int, expected_rows: int | None, rate: float) -> int:
    """Return into how many parts to split the chunk that is about to be loaded; 1 leaves it whole.

    Args:
        unstarted: chunks that nobody has begun, that one included.
        at_work: workers.
        expected_rows: of the chunk; None when nobody knows.
        rate: rows a second of one worker, as far as is known; else 0.

    >>> parts_for(1, 4, 10_000_000, 200_000), parts_for(9, 4, 10_000_000, 200_000)
    (4, 1)
    """
    if unstarted >= at_work or not expected_rows or not rate:
        return 1
    worthwhile = min(expected_rows / rate / LEAST_PART_SECONDS, expected_rows / LEAST_PART_ROWS)
    return max(1, min(-(-at_work // unstarted), int(worthwhile)))


@dataclass(slots=True)
class Pace:
    """Begins with few workers, and adds one while that makes the load faster.

    The time between two decisions is a span: it lasts until every worker has finished a chunk.
    """

    most: int
    """Workers that there may be."""
    began: float
    """When the load began, in seconds of the clock that `ended` is told."""
    wanted: int = 1
    """Workers that should be at work now."""
    _rates: dict[int, float] = field(default_factory=dict)
    _climbing: bool = True
    _since: float = field(init=False)
    _rows: int = 0
    _chunks: int = 0
    _spans: int = 0
    _first: float | None = None
    _commits: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._since = self.began

    def ended(self, now: float, rows: int, commit_seconds: float | None) -> None:
        """Hear that a chunk has ended.

        Args:
            now: when.
            rows: how many it had.
            commit_seconds: how long the target took for its COMMIT; None when nobody knows.
        """
        self._rows += rows
        self._chunks += 1
        if commit_seconds is not None:
            self._commits = [*self._commits[-LATEST + 1 :], commit_seconds]
        if self._chunks < max(2, self.wanted) or now - self._since < LEAST_SECONDS:
            return
        rate = self._rows / (now - self._since)
        self._since, self._rows, self._chunks = now, 0, 0
        self._decide(rate)

    def _decide(self, rate: float) -> None:
        self._spans += 1
        self._rates[self.wanted] = rate
        from statistics import median  # a good many modules, for who has use for a pace

        latency = median(self._commits) if self._commits else 0.0
        if self._first is None:
            self._first = latency
        if self.wanted > 1 and latency > max(SLOWER * self._first, NEGLIGIBLE_SECONDS):
            self._settle(self.wanted - 1)
            self._commits.clear()
        elif self._climbing:
            self._climb(rate)
        elif self._spans >= SETTLED_SPANS:
            # What the databases have to do besides may have changed.
            self._spans, self._climbing = 0, True
            self._climb(rate)

    def _climb(self, rate: float) -> None:
        before = self._rates.get(self.wanted - 1)
        if before is not None and rate < WORTH * before:
            self._settle(self.wanted - 1)
        elif self.wanted < self.most:
            self.wanted += 1

    def _settle(self, workers: int) -> None:
        self.wanted, self._climbing, self._spans = max(1, workers), False, 0
