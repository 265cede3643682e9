"""The driver's data frames as Arrow record batches, of the columns' own names."""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from ...model import Column, Row

_INTERVAL, _SPAN = pa.month_day_nano_interval(), pa.duration("us")


def batches_of(frame: Any, columns: Sequence[Column]) -> Iterator[pa.RecordBatch]:
    """Yield a data frame of oracledb's as record batches; none without rows.

    An INTERVAL DAY TO SECOND comes as a duration: of months and days it has none.
    """
    names = [column.name for column in columns]
    for batch in pa.RecordBatchReader.from_stream(frame):
        if batch.num_rows:
            arrays = [_duration(array) for array in batch.columns]
            yield pa.RecordBatch.from_arrays(arrays, names=names)


def schema_of(frame: Any, columns: Sequence[Column]) -> pa.Schema:
    """Return what the record batches of a data frame that begins with these columns are like."""
    types = pa.RecordBatchReader.from_stream(frame).schema.types
    pairs = zip(columns, types, strict=False)  # behind them are locators
    return pa.schema(
        [(column.name, _SPAN if kind == _INTERVAL else kind) for column, kind in pairs]
    )


def batch_of(rows: Sequence[Row], schema: pa.Schema) -> pa.RecordBatch:
    """Return rows as a record batch."""
    values = zip(*rows, strict=True)
    arrays = [pa.array(each, kind) for each, kind in zip(values, schema.types, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _duration(array: pa.Array) -> pa.Array:
    if array.type != _INTERVAL:
        return array
    spans = [
        None if span is None else span.days * 86_400_000_000 + span.nanoseconds // 1000
        for span in array.to_pylist()
    ]
    return pa.array(spans, _SPAN)
