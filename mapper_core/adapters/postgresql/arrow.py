"""Arrow record batches out of and into COPY's CSV format.

PostgreSQL writes and reads every value as its own text, and pyarrow turns columns of texts into
Arrow and back without Python. So a value is exact, or it is refused: what Arrow has no type for
stays text.

Source: PostgreSQL documentation, COPY, "CSV Format": NULL is written without quotes, an empty text
with them.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any

import pyarrow as pa
from pyarrow import compute, csv

from ...batches import Records, arrow
from ...errors import SourceValueError, TransformError, TransformRowError
from ...fitting import unwritable
from ...model import Column
from ...row_values import marked
from . import spelling
from .packer import dumped
from .types import JSON_TYPES, base, holds_text

_PARSE = csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False)

# Rows that pyarrow writes at once: an eighth of the work less than with its own thousand. It takes
# eight bytes for each value of as many rows beforehand.
_ROWS_AT_ONCE = 8192

_TYPES: dict[str, pa.DataType] = {
    "smallint": pa.int16(),
    "integer": pa.int32(),
    "bigint": pa.int64(),
    "real": pa.float32(),
    "double precision": pa.float64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "timestamp without time zone": pa.timestamp("us"),
    "time without time zone": pa.time64("us"),
}
_MODIFIERS = re.compile(r"\((\d+),(-?\d+)\)")
_DECIMAL_DIGITS = 38
# A moment as our sessions have it written, but for those that no type of Arrow's holds.
_MOMENT = (
    r"^(?P<local>[^+]+)(?P<sign>[+-])"
    r"(?P<hours>\d\d)(?::(?P<minutes>\d\d))?(?::(?P<seconds>\d\d))?$"
)
_COLUMN = re.compile(r"CSV column #(\d+): (?:Row #\d+: )?")


def type_of(column: Column, zone: str) -> pa.DataType:
    """Return the Arrow type of a column; text where Arrow has none that holds every value."""
    name = base(column.type)
    if name == "numeric" and (found := _MODIFIERS.search(column.type)):
        digits, scale = int(found[1]), int(found[2])
        if digits <= _DECIMAL_DIGITS and 0 <= scale <= digits:
            return pa.decimal128(digits, scale)
    if name == "timestamp with time zone":
        return pa.timestamp("us", tz=zone)
    # Bytes come as hexadecimal text; see `_finished`.
    return _TYPES.get(name, pa.string())


@dataclass(frozen=True, slots=True)
class CsvRecords(Records):
    """Rows in COPY's CSV format."""

    data: bytes
    columns: tuple[Column, ...]
    zone: str
    """The session's time zone, in which times with time zone are shown."""

    def of(self, data: bytes) -> "CsvRecords":
        """Return other rows of the same columns."""
        return replace(self, data=data)

    def cut_up(self) -> list[bytes]:
        """Return the rows one by one. A line break within quotes ends none."""
        rows, held, quotes = [], [], 0
        for line in self.data.split(b"\n")[:-1]:
            held += [line, b"\n"]
            quotes += line.count(b'"')
            if quotes % 2 == 0:
                rows.append(b"".join(held))
                held.clear()
        return rows

    def texts(self) -> list[tuple[str | None, ...]]:
        """Return the rows with their values as PostgreSQL wrote them."""
        batch = _parsed(self.data, self.columns, [pa.string()] * len(self.columns))
        return [*zip(*(array.to_pylist() for array in batch.columns), strict=True)]

    def record_batch(self) -> pa.RecordBatch:
        """Return the rows as a record batch.

        Raises SourceValueError for a value that Arrow has no equal for, as a date that is infinite.
        """
        columns, types = self.columns, [type_of(column, self.zone) for column in self.columns]
        try:
            batch = _parsed(self.data, columns, types)
        except SourceValueError:
            if not any(map(_is_moment, types)):
                raise
            readable = [pa.string() if _is_moment(kind) else kind for kind in types]
            batch = _parsed(self.data, columns, readable)
        arrays = [
            _finished(array, column, kind)
            for array, column, kind in zip(batch, columns, types, strict=True)
        ]
        return pa.RecordBatch.from_arrays(arrays, names=[column.name for column in columns])


def _parsed(
    block: bytes, columns: Sequence[Column], types: Sequence[pa.DataType]
) -> pa.RecordBatch:
    names = [column.name for column in columns]
    convert = csv.ConvertOptions(
        column_types=dict(zip(names, types, strict=True)),
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
        true_values=["t"],
        false_values=["f"],
    )
    options = csv.ReadOptions(column_names=names, use_threads=False, block_size=len(block) + 1)
    try:
        table = csv.read_csv(pa.BufferReader(block), options, _PARSE, convert)
    except pa.ArrowInvalid as error:
        found = _COLUMN.search(str(error))
        of = f" of column {names[int(found[1])]}" if found else ""
        said = _COLUMN.sub("", str(error)).removeprefix("In ")
        raise _no_equal(of, said) from error
    (batch,) = table.combine_chunks().to_batches()
    return batch


def _no_equal(of: str, said: str) -> SourceValueError:
    return SourceValueError(
        f"a value{of} has no equal in Arrow ({marked(said)}): cast the column to text in the"
        " query, or leave out transform_batch"
    )


def _is_moment(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind) and kind.tz is not None)


def _finished(array: pa.Array, column: Column, kind: pa.DataType) -> pa.Array:
    if _is_moment(kind) and pa.types.is_string(array.type):
        return _moments(array, column, kind)
    if base(column.type) != "bytea":
        return array
    # Our sessions have bytea written in hexadecimal.
    values = [None if text is None else bytes.fromhex(text[2:]) for text in array.to_pylist()]
    return pa.array(values, pa.binary())


def _moments(texts: pa.Array, column: Column, kind: pa.DataType) -> pa.Array:
    """Return moments by their texts: pyarrow reads no offset with seconds, as of long ago."""
    parts = compute.extract_regex(texts, _MOMENT)
    unread = compute.filter(texts, compute.and_(parts.is_null(), texts.is_valid()))
    if len(unread):
        raise _no_equal(f" of column {column.name}", f"invalid value {unread[0].as_py()!r}")
    local, sign, hours, minutes, seconds = parts.flatten()
    try:
        at = local.cast(pa.timestamp("us")).cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise _no_equal(f" of column {column.name}", str(error)) from error
    # What lies east of Greenwich is ahead of it.
    unit = compute.if_else(compute.equal(sign, "+"), -1_000_000, 1_000_000)
    for part, length in ((hours, 3600), (minutes, 60), (seconds, 1)):
        # A part that is not there is no number.
        number = compute.binary_join_element_wise("0", part, "").cast(pa.int64())
        at = compute.add(at, compute.multiply(compute.multiply(number, length), unit))
    return at.cast(kind)


def write(batch: pa.RecordBatch, columns: Sequence[Column]) -> bytes:
    """Return a record batch in COPY's CSV format, for these columns of a table.

    Raises TransformError for values that the column would not hold as they are.
    """
    arrays = [_writable(array, column) for array, column in zip(batch, columns, strict=True)]
    table = pa.RecordBatch.from_arrays(arrays, names=[str(at) for at in range(len(arrays))])
    options = csv.WriteOptions(
        include_header=False,
        # All texts are quoted, so that an empty one is not a missing one.
        quoting_style="needed",
        batch_size=max(1, min(table.num_rows, _ROWS_AT_ONCE)),
    )
    written = BytesIO()
    csv.write_csv(table, written, options)
    return written.getvalue()


def _writable(array: pa.Array, column: Column) -> pa.Array:
    """Return values of a type that is written as PostgreSQL reads it."""
    kind = array.type
    if holds_text(column.type) and _is_spelled(kind):
        single = pa.types.is_float32(kind) or pa.types.is_float16(kind)
        digits = spelling.REAL_DIGITS if single else spelling.DOUBLE_DIGITS
        values = arrow.values(array)
        return pa.array([spelling.spelled(value, digits, dumped) for value in values], pa.string())
    if pa.types.is_dictionary(kind):
        words = array.dictionary
        if pa.types.is_string_view(kind.value_type):
            # pyarrow cannot repeat these, which are polars' own.
            words = words.cast(pa.string())
        decoded = pa.DictionaryArray.from_arrays(array.indices, words).dictionary_decode()
        return _writable(decoded, column)
    if pa.types.is_timestamp(kind):
        return _days(array, column) if column.type == "date" else _timestamps(array, column)
    if pa.types.is_string_view(kind) or pa.types.is_null(kind):
        return array.cast(pa.string())
    if pa.types.is_time(kind):
        return _cast(array, pa.time64("us"), column)
    if pa.types.is_date64(kind):
        return array.cast(pa.date32())
    if pa.types.is_duration(kind):
        counts = _cast(array, pa.duration("us"), column).cast(pa.int64()).cast(pa.string())
        return compute.binary_join_element_wise(counts, "microseconds", " ")
    if kind in _PLAIN or pa.types.is_decimal(kind):
        return array
    return pa.array([_text(value, column) for value in array.to_pylist()], pa.string())


def _is_spelled(kind: pa.DataType) -> bool:
    """Whether pyarrow writes values of a type otherwise than PostgreSQL, where that counts."""
    exact = pa.types.is_timestamp(kind) or pa.types.is_time(kind) or pa.types.is_duration(kind)
    # Python has no nanoseconds.
    plain = pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    return bool(plain or (exact and kind.unit != "ns"))


# What is written as PostgreSQL reads it without more ado.
_PLAIN = frozenset(
    {
        *(pa.string(), pa.large_string(), pa.bool_(), pa.date32()),
        *(pa.int8(), pa.int16(), pa.int32(), pa.int64()),
        *(pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
        *(pa.float16(), pa.float32(), pa.float64()),
    }
)


def _days(array: pa.Array, column: Column) -> pa.Array:
    """Return the days of timestamps. Raises TransformRowError for one that has a time of day."""
    days = array.cast(pa.date32())
    if not array.equals(days.cast(array.type)):
        msg = f"a value for {column.name}, a date, has a time of day, which would be dropped"
        raise TransformRowError(msg)
    return days


def _timestamps(array: pa.Array, column: Column) -> pa.Array:
    if array.type.tz is None:
        return _cast(array, pa.timestamp("us"), column)
    if base(column.type) == "timestamp without time zone":
        msg = (
            f"transform_batch returned {column.name} with a time zone, which its column in the"
            " target would drop: return it without one"
        )
        raise TransformError(msg)
    # In local time of long ago, an offset has seconds, which are not written.
    return _cast(array, pa.timestamp("us", "UTC"), column)


def _cast(array: pa.Array, kind: pa.DataType, column: Column) -> pa.Array:
    try:
        return array.cast(kind)
    except pa.ArrowInvalid as error:
        msg = (
            f"transform_batch returned {column.name} with more precision than PostgreSQL's"
            f" microseconds ({marked(str(error))}): round it there"
        )
        raise TransformRowError(msg) from error


def _text(value: Any, column: Column) -> str | None:
    if value is None:
        return None
    try:
        if column.type in JSON_TYPES and isinstance(value, dict | list):
            return json.dumps(value)
        return dumped(value)
    except Exception as error:
        raise unwritable(column.name, value, error) from error
