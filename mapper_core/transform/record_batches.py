"""Batch functions: an Arrow record batch in, an Arrow record batch out."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..batches import Batch, Records, arrow
from ..errors import TransformError
from ..model import BatchTransform, DataPath
from .step import Changed, only_errors

if TYPE_CHECKING:
    from pyarrow import RecordBatch


@dataclass(frozen=True, slots=True)
class BatchStep:
    """A batch function with the columns of the rows before it."""

    function: BatchTransform
    columns: tuple[str, ...]
    path: DataPath = DataPath.ARROW

    def call(self, group: Iterable[Batch]) -> None:
        """Have the function see the rows of some batches, one after the other."""
        for batch in group:
            self._returned(batch)

    def apply(
        self, group: Iterable[Batch], names: tuple[str, ...] | None = None
    ) -> Iterator[Changed]:
        """Yield what the function makes of each batch; see `Step`."""
        for batch in group:
            for returned in self._returned(batch):
                if not returned.num_rows:
                    continue
                names = tuple(returned.schema.names) if names is None else names
                yield Changed(names, _in_order(returned, names), returned.num_rows)

    def _returned(self, batch: Batch) -> "list[RecordBatch]":
        given = self._given(batch)
        with only_errors("transform_batch"):
            # What it returned may only now find its rows, as DuckDB does.
            return arrow.batches_in(self.function(given))

    def _given(self, batch: Batch) -> Any:
        if isinstance(batch, list):
            return arrow.from_rows(self.columns, batch)
        return batch.record_batch() if isinstance(batch, Records) else batch


def _in_order(batch: "RecordBatch", names: Sequence[str]) -> "RecordBatch":
    if batch.schema.names == list(names):
        return batch
    if sorted(batch.schema.names) != sorted(names):
        msg = (
            f"transform_batch returned the columns {', '.join(batch.schema.names)}, and before, in"
            f" the same chunk, {', '.join(names)}: return the same ones for every batch"
        )
        raise TransformError(msg)
    return batch.select(list(names))
