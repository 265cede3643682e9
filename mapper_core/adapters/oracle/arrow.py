"""The driver's data frames as Arrow record batches, of the columns' own names."""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from ...model import Column


def batches_of(frame: Any, columns: Sequence[Column]) -> Iterator[pa.RecordBatch]:
    """Yield a data frame of oracledb's as record batches; none without rows.

    An INTERVAL DAY TO SECOND comes as a duration: of months and days it has none.
    """
    names = [column.name for column in columns]
    for batch in pa.RecordBatchReader.from_stream(frame):
        if batch.num_rows:
            arrays = [_duration(array) for array in batch.columns]
            yield pa.RecordBatch.from_arrays(arrays, names=names)


def _duration(array: pa.Array) -> pa.Array:
    if array.type != pa.month_day_nano_interval():
        return array
    spans = [
        None if span is None else span.days * 86_400_000_000 + span.nanoseconds // 1000
        for span in array.to_pylist()
    ]
    return pa.array(spans, pa.duration("us"))
