"""Row functions: a list of dicts in, a list of dicts out.

Rows are taken apart and put together a column at a time, and values that the function hands back as
it got them are written as they were read.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import is_, itemgetter
from typing import Any

from ..batches import PART_BYTES, Batch, Columns, Lines, Packer, Unread, passed_on, rows_of
from ..errors import SourceValueError, TransformError
from ..fitting import match_columns, unwritable
from ..model import Column, DataPath, Row, RowTransform
from .step import Changed, only_errors

# Rows written together when the function returned others than it was given.
_ROWS = 250

Rows = list[Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowStep:
    """A row function with what is known of the rows before and after it. May be pickled."""

    function: RowTransform
    columns: tuple[str, ...]
    """Names of the columns read, in their order."""
    seen: int | None = None
    """How many of them the function sees, from the first; None when it sees all."""
    packer: Packer | None = None
    """Writes rows for the target; None leaves them Python rows."""
    table: tuple[Column, ...] = ()
    """The target's columns."""
    target: str = ""
    """The target's name, for messages."""

    @property
    def path(self) -> DataPath:
        """How the rows go on."""
        return DataPath.ROWS if self.packer is None else DataPath.COPY_TEXT

    def call(self, group: Iterable[Batch]) -> None:
        """Have the function see the rows of some batches."""
        self._call([part for batch in group for part in self._parts(batch)])

    def apply(
        self, group: Iterable[Batch], names: tuple[str, ...] | None = None
    ) -> Iterator[Changed]:
        """Yield what the function makes of the rows of some batches; see `Step`."""
        parts = [part for batch in group for part in self._parts(batch)]
        rows = self._call(parts)
        if not rows:
            return
        mine = names_in(rows) if names is None else names[: len(names) - len(self._rest)]
        if not mine:
            raise TransformError(
                "transformation_func returned only empty dicts: their keys must be names of columns"
            )
        if unseen := [name for name in mine if name in self._rest]:
            msg = (
                f"transformation_func returned {', '.join(unseen)}, which transform_columns does"
                " not name: name it there, or leave it out"
            )
            raise TransformError(msg)
        names = (*mine, *self._rest)
        if len(rows) == sum(len(part.rows) for part in parts):
            start = 0
            for part in parts:
                yield self._changed(
                    as_rows(rows[start : start + len(part.rows)], mine), names, part
                )
                start += len(part.rows)
        else:
            for start in range(0, len(rows), _ROWS):
                yield self._changed(as_rows(rows[start : start + _ROWS], mine), names, None)

    def _parts(self, batch: Batch) -> Iterator["_Part"]:
        seen = len(self.columns) if self.seen is None else self.seen
        if self.packer is None or not isinstance(batch, Lines):
            rows = rows_of(passed_on(batch, seen))
            _check_read(rows, self.columns[:seen])
            if self.seen is None:
                yield _Part(rows)
            else:
                yield _Part([row[:seen] for row in rows], rest=[row[seen:] for row in rows])
        else:
            for lines in batch.parts(PART_BYTES):
                columns = lines.columns(seen)
                values = columns.values
                yield _Part([*zip(*values, strict=True)] if values else [()] * len(lines), columns)

    def _call(self, parts: Sequence["_Part"]) -> Rows:
        names = self.columns if self.seen is None else self.columns[: self.seen]
        given = [dict(zip(names, row, strict=True)) for part in parts for row in part.rows]
        count = len(given)
        with only_errors("transformation_func"):
            returned = self.function(given)
        rows = _checked(returned)
        if self.seen is not None and len(rows) != count:
            msg = (
                f"transformation_func got {count} rows and returned {len(rows)}: with"
                " transform_columns it must return one row for each, in the same order, because"
                " the other columns are added to them; to filter or multiply rows, leave"
                " transform_columns out"
            )
            raise TransformError(msg)
        return rows

    def _changed(self, rows: list[Row], names: tuple[str, ...], part: "_Part | None") -> Changed:
        if self.packer is None:
            if part is not None and part.rest is not None:
                rows = [(*row, *rest) for row, rest in zip(rows, part.rest, strict=True)]
            return Changed(names, rows, len(rows))
        texts = self._texts([*zip(*rows, strict=True)], names, part)
        try:
            block = self.packer.block(texts)
        except UnicodeEncodeError as error:
            # Looked for only now: to encode each text by itself costs several times as much.
            name, text = next(
                (name, text)
                for name, column in zip(names, texts, strict=False)
                for text in column
                if text.encode(errors="ignore").decode() != text
            )
            raise unwritable(name, text, error) from error
        return Changed(names, block, len(rows))

    def _texts(
        self, values: list[Sequence[Any]], names: tuple[str, ...], part: "_Part | None"
    ) -> list[Sequence[str]]:
        """Return the columns as the target takes them; those nobody touched as they were read."""
        assert self.packer is not None  # noqa: S101 - for the type checker
        columns = part.columns if part else None
        rest = part.rest if part else None
        if rest is not None:
            values = [*values, *zip(*rest, strict=True)]
        pairs = match_columns(
            [*map(Column, names)],
            self.table,
            self.target,
            complete=False,
            made_by="transformation_func",
        )
        texts: list[Sequence[str]] = []
        for column, (ours, theirs) in zip(values, pairs, strict=False):
            untouched = columns and self._untouched(columns, ours.name, column)
            texts.append(untouched or self._written(theirs.name, column))
        if columns is not None and self._rest:
            texts.append(columns.texts[-1])
        return texts

    def _written(self, name: str, values: Sequence[Any]) -> Sequence[str]:
        """Return a column's texts. Raises TransformRowError when a value has none."""
        assert self.packer is not None  # noqa: S101 - for the type checker
        try:
            return self.packer.texts(name, values)
        except Exception:
            for value in values:
                try:
                    self.packer.texts(name, [value])
                except Exception as error:
                    raise unwritable(name, value, error) from error
            raise

    def _untouched(
        self, columns: Columns, name: str, values: Sequence[Any]
    ) -> Sequence[str] | None:
        """Return the texts of a column if its values are the very objects that were read."""
        try:
            at = self.columns.index(name)
        except ValueError:
            return None
        if at >= len(columns.fixed) or not columns.fixed[at]:
            return None
        return columns.texts[at] if all(map(is_, values, columns.values[at])) else None

    @property
    def _rest(self) -> tuple[str, ...]:
        return () if self.seen is None else self.columns[self.seen :]


@dataclass(frozen=True, slots=True)
class _Part:
    """Some of the rows given to a function, and what it does not see of them."""

    rows: list[Row]
    columns: Columns | None = None
    """The same rows as they were read, from lines."""
    rest: list[Row] | None = None
    """The values that the function does not see, from Python rows."""


def _check_read(rows: Sequence[Row], names: Sequence[str]) -> None:
    """Raise SourceValueError for a value in the columns of these names that Python has none for."""
    for name, values in zip(names, zip(*rows, strict=True), strict=False):
        if Unread in set(map(type, values)):
            value = next(value for value in values if type(value) is Unread)
            msg = (
                f"a value of column {name} has no equal in Python ({value}): cast the column to"
                " text in the query"
            )
            raise SourceValueError(msg)


def _checked(rows: Any) -> Rows:
    said = f"it returned {type(rows).__name__}"
    if isinstance(rows, list):
        # To ask whether it is a mapping of another kind takes longer.
        odd = [row for row in rows if not isinstance(row, dict) and not isinstance(row, Mapping)]
        if not odd:
            return rows
        place = next(place for place, row in enumerate(rows, start=1) if row is odd[0])
        said = f"row {place} of {len(rows)} that it returned is of type {type(odd[0]).__name__}"
    msg = f"transformation_func must return a list of dicts, one per row to write; {said}"
    raise TransformError(msg)


def as_rows(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> list[Row]:
    """Return the rows as tuples in the order of `columns`; a missing key is NULL.

    Raises TransformError for a key that is not among `columns`: it would be lost.
    """
    # A subclass may answer to keys that it does not have.
    plain = len(columns) > 1 and set(map(type, rows)) == {dict}
    if plain and set(map(len, rows)) == {len(columns)}:
        try:
            return list(map(itemgetter(*columns), rows))
        except KeyError:
            """One of them has a key of its own; below it is named."""
    known = set(columns)
    for row in rows:
        if not known.issuperset(row):
            extra = ", ".join(str(name) for name in row if name not in known)
            msg = (
                f"transformation_func returned a row with {extra}, which no row of the first batch"
                " of the chunk has: give every row the same keys, None where there is no value"
            )
            raise TransformError(msg)
    return [tuple(map(row.get, columns)) for row in rows]


def names_in(rows: Iterable[Mapping[Any, Any]]) -> tuple[str, ...]:
    """Return every key of the rows, in order of first appearance.

    Raises TransformError for one that is no name.
    """
    names = tuple(dict.fromkeys(name for row in rows for name in row))
    if odd := [name for name in names if not isinstance(name, str)]:
        msg = (
            f"transformation_func returned a row with the key {odd[0]!r}, of type"
            f" {type(odd[0]).__name__}: keys are the names of columns, as str"
        )
        raise TransformError(msg)
    return names
