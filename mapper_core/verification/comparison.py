"""The result of comparing the rows of a source with those of a target."""

from collections.abc import Mapping as Dict
from dataclasses import dataclass

from ..errors import VerificationError
from ..model import Verification
from ..protocols import Checksum

# Differing chunks that a message lists.
_NAMED = 10

# Stands for the chunk of rows that no worker can have written.
NO_CHUNK = -1


@dataclass(frozen=True, slots=True)
class Difference:
    """A chunk that is not the same on both sides."""

    chunk_id: int
    source: Checksum
    target: Checksum

    def __str__(self) -> str:
        name = "rows of no chunk" if self.chunk_id == NO_CHUNK else f"chunk {self.chunk_id}"
        return f"{name}: {_told(self.source)} against {_told(self.target)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The result of comparing source and target; prints as a sentence."""

    method: Verification
    source: str
    """What was compared, as people write it."""
    target: str
    source_rows: int
    target_rows: int
    source_checksum: int | None = None
    """Sum over the values of all rows, the same in any order; None where rows were counted."""
    target_checksum: int | None = None
    differences: tuple[Difference, ...] = ()
    """For a load: the chunks that differ, as far as they can be named."""
    rejected: int = 0
    """For a load: the rows, counted on both sides, that were refused and left out."""

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        return (
            self.source_rows == self.target_rows
            and self.source_checksum == self.target_checksum
            and not self.differences
        )

    def raise_for_difference(self) -> None:
        """Raise `VerificationError`, naming both numbers, unless nothing differs."""
        if not self.equal:
            raise VerificationError(str(self))

    def __str__(self) -> str:
        if self.equal:
            alike = "" if self.source_checksum is None else ", with the same values"
            left_out = f", {self.rejected:,} of them refused and left out" if self.rejected else ""
            return f"{self.method}: {self.source_rows:,} rows on both sides{alike}{left_out}"
        ours = _told(Checksum(self.source_rows, self.source_checksum))
        theirs = _told(Checksum(self.target_rows, self.target_checksum))
        said = f"{self.method}: {self.source} has {ours}, {self.target} has {theirs}"
        named = [str(difference) for difference in self.differences[:_NAMED]]
        more = ["..."] * (len(self.differences) > _NAMED)
        return "; ".join([said, *named, *more])


def differences(source: Dict[int, Checksum], target: Dict[int, Checksum]) -> list[Difference]:
    """Return the chunks that differ, in order; one that a side lacks has no rows there."""
    found = []
    for number in sorted({*source, *target}):
        sides = source.get(number), target.get(number)
        summed = any(side is not None and side.sum is not None for side in sides)
        ours, theirs = (side or Checksum(0, 0 if summed else None) for side in sides)
        if ours != theirs:
            found.append(Difference(number, ours, theirs))
    return found


def total(chunks: Dict[int, Checksum]) -> Checksum:
    """Return that of all chunks together."""
    return Checksum(
        sum(checksum.rows for checksum in chunks.values()),
        sum(checksum.sum or 0 for checksum in chunks.values()),
    )


def _told(checksum: Checksum) -> str:
    said = f"{checksum.rows:,} row{'' if checksum.rows == 1 else 's'}"
    return said if checksum.sum is None else f"{said} (checksum {checksum.sum})"
