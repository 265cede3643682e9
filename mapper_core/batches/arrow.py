"""Arrow record batches: what functions over them give back, and the way from and to Python rows."""

from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from ..errors import TransformError, TransformRowError
from ..model import Row


def batches_in(returned: Any) -> list[pa.RecordBatch]:
    """Return what a function gave back as record batches.

    Args:
        returned: a `pyarrow.RecordBatch` or `Table`, or whatever offers Arrow's C stream or array
            interface, as polars, pandas 3 and DuckDB do.

    An index of pandas' that has no name is no column: it says where rows were before.

    Raises:
        TransformRowError: it was only to be made while it is read, and raises then.
        TransformError: it is anything else.
    """
    return [_without_index(batch) for batch in _batches_in(returned)]


def _without_index(batch: pa.RecordBatch) -> pa.RecordBatch:
    # Source: pandas documentation, "Storing pandas DataFrame objects in Apache Parquet format".
    told = batch.schema.pandas_metadata or {}
    unnamed = {each["field_name"] for each in told.get("columns", ()) if each["name"] is None}
    # What is no text describes an index of which no column was made.
    kept = {name for name in told.get("index_columns", ()) if isinstance(name, str)}
    left_out = unnamed & kept & set(batch.schema.names)
    return batch.drop_columns(list(left_out)) if left_out else batch


def _batches_in(returned: Any) -> list[pa.RecordBatch]:
    if isinstance(returned, pa.RecordBatch):
        return [returned]
    if isinstance(returned, pa.Table):
        return list(returned.to_batches())
    said = f"it returned {type(returned).__name__}"
    try:
        if hasattr(returned, "__arrow_c_stream__"):
            return list(pa.RecordBatchReader.from_stream(returned))
        if hasattr(returned, "__arrow_c_array__"):
            return [pa.record_batch(returned)]
    except Exception as error:
        if "non-struct type" not in str(error):
            raised = f"{type(error).__name__}: {error}".partition("\n")[0]
            msg = f"what transform_batch returned raised when it was read: {raised}"
            raise TransformRowError(msg) from error
        said += ", which is one column and no table"
    msg = (
        "transform_batch must return a pyarrow.RecordBatch, or an object with the Arrow C stream"
        f" interface (polars, pandas 3, DuckDB); {said}"
    )
    raise TransformError(msg)


def from_rows(names: Sequence[str], rows: Sequence[Row]) -> pa.RecordBatch:
    """Return Python rows as a record batch, of the types that pyarrow finds for their values.

    Raises TransformError when the values of a column have no common type.
    """
    columns = zip(*rows, strict=True) if rows else ((),) * len(names)
    arrays = []
    for name, column in zip(names, columns, strict=True):
        try:
            arrays.append(pa.array(column))
        except (pa.ArrowException, TypeError, OverflowError) as error:
            msg = f"the values of {name} fit no Arrow type ({error}): cast it in the query"
            raise TransformError(msg) from error
    return pa.RecordBatch.from_arrays(arrays, names=list(names))


def to_rows(batch: pa.RecordBatch) -> list[Row]:
    """Return a record batch as Python rows."""
    if not batch.num_columns:
        return [()] * batch.num_rows
    return list(zip(*map(values, batch.columns), strict=True))


def values(array: pa.Array) -> list[Any]:
    """Return Python values. A single float is the double of the same few digits, as by any path."""
    if not (pa.types.is_float32(array.type) or pa.types.is_float16(array.type)):
        return list(array.to_pylist())
    texts = array.cast(pa.float32()).cast(pa.string()).to_pylist()
    return [None if text is None else float(text) for text in texts]


def together(batches: Iterable[pa.RecordBatch]) -> pa.RecordBatch:
    """Return record batches of one schema as one."""
    (whole,) = pa.Table.from_batches(list(batches)).combine_chunks().to_batches()
    return whole
