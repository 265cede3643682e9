"""Whether the columns of a query, a table and a key fit each other, by name."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from .errors import QueryError, SettingsError, TargetError, TransformRowError
from .model import Column, Mapping

# What PostgreSQL and SQLite call an expression that the query gave no name.
_UNNAMED = {"?column?", ""}


def check_columns(columns: Sequence[Column], *, named: bool) -> None:
    """Raise QueryError when columns share a name, or one has none although it must be `named`."""
    for place, column in enumerate(columns, start=1):
        if named and column.name in _UNNAMED:
            msg = f"column {place} of the query has no name: give it one with AS"
            raise QueryError(msg)
    twice = [name for name, count in Counter(c.name for c in columns).items() if count > 1]
    if twice:
        msg = f"the query has several columns named {', '.join(twice)}: rename them with AS"
        raise QueryError(msg)


def match_columns(
    columns: Sequence[Column],
    table: Sequence[Column],
    target: str,
    *,
    complete: bool = True,
    made_by: str | None = None,
) -> tuple[tuple[Column, Column], ...]:
    """Pair each query column with the target's column of that name.

    An exact name wins; else one that differs in case only. With `complete`, a column that the
    target requires must be among them; a transform may still add it. `made_by` is the keyword of
    the function whose columns these are, where they are not the query's.

    Raises:
        TargetError: a name is not in the target, cannot be written, or is missing and required.
    """
    origin, rename, left_out = "the query", "with AS in the query", "the query does not select"
    if made_by is not None:
        origin = f"what {made_by} returns"
        rename, left_out = f"in {origin}", f"{made_by} does not return"
    exact = {column.name: column for column in table}
    folded: dict[str, Column | None] = {}
    for column in table:
        # A name that two columns share but for case says neither.
        known = column.name.lower() in folded
        folded[column.name.lower()] = None if known else column
    pairs, unknown = [], []
    for column in columns:
        match = exact.get(column.name) or folded.get(column.name.lower())
        if match is None:
            unknown.append(column.name)
        else:
            pairs.append((column, match))
    if unknown:
        msg = (
            f"{target} has no column {', '.join(unknown)}; it has {', '.join(exact)}. Rename the"
            f" column {rename}, leave it out, or add it to the target"
        )
        raise TargetError(msg)
    if computed := [theirs.name for _, theirs in pairs if theirs.generated]:
        msg = f"{target} computes {', '.join(computed)} itself: leave it out of {origin}"
        raise TargetError(msg)
    if twice := [n for n, count in Counter(t.name for _, t in pairs).items() if count > 1]:
        both = ", ".join(ours.name for ours, theirs in pairs if theirs.name in twice)
        msg = f"columns {both} of {origin} go to the same column of {target}: leave one out"
        raise TargetError(msg)
    written = {theirs.name for _, theirs in pairs}
    missing = [c.name for c in table if c.required and c.name not in written]
    if complete and missing:
        msg = (
            f"{target} requires {', '.join(missing)} (NOT NULL without default), which {left_out}:"
            " add it, or give it a default in the target"
        )
        raise TargetError(msg)
    return tuple(pairs)


def shape(columns: Sequence[Column]) -> list[tuple[str, str]]:
    """Return what must not change about columns while a load goes by them: names and types."""
    return [(column.name, column.type) for column in columns]


def unfit(
    ours: Column, theirs: Column, cure: str = "CAST it in the query, or change the target"
) -> TargetError:
    """Return the error for a query column whose values the target's column could change."""
    return TargetError(
        f"column {theirs.name!r} is {theirs.type} in the target, but {ours.type} in the query, so"
        f" not every value would arrive unchanged: {cure}"
    )


def altered(column: str, table: str, planned: str, now: str) -> TargetError:
    """Return the error for a column of the target that is of another type than was planned for."""
    return TargetError(
        f"column {column!r} of {table} was {planned} when the load was planned and is {now} now,"
        " so not every value would arrive unchanged: change it back and run the load again with"
        " the same load id, or start a new load"
    )


def unwritable(name: str, value: Any, error: Exception) -> TransformRowError:
    """Return the error for a value of a transform that cannot be written into its column.

    Args:
        name: the column.
        value: what the transform made.
        error: what was raised when it was to be written.
    """
    said = str(error).strip().partition("\n")[0]
    cure = "return a str, or one of the types that values of rows have"
    if isinstance(error, UnicodeEncodeError):
        # Its own words give a place among all the values that were written together.
        said = f"{error.object[error.start : error.end]!r}: {error.reason}"
        cure = "return text that UTF-8 can hold, as in value.encode(errors='replace').decode()"
    elif isinstance(value, dict | list):
        cure = "use only str, int, float, bool and None inside it"
    return TransformRowError(
        f"a value for {name}, of type {type(value).__name__}, cannot be written ({said}): {cure}"
    )


def check_key(key: Sequence[str], columns: Sequence[Column]) -> None:
    """Raise QueryError when a column of the key given is not one of the query's."""
    names = {column.name for column in columns}
    if unknown := [name for name in spelled(key, names) if name not in names]:
        msg = (
            f"chunk_key {', '.join(unknown)} is not a column of the query, which has"
            f" {', '.join(sorted(names))}"
        )
        raise QueryError(msg)


def seen_by(columns: Sequence[Column], seen: Sequence[str]) -> tuple[Column, ...]:
    """Return the columns that a transform is to see, each once, in the order they are named in.

    Raises SettingsError when it is to see one that the query does not have.
    """
    by_name = {column.name: column for column in columns}
    names = spelled(seen, set(by_name))
    if unknown := [name for name in names if name not in by_name]:
        msg = (
            f"transform_columns names {', '.join(unknown)}, but the query has"
            f" {', '.join(by_name)}: select it, or leave it out"
        )
        raise SettingsError(msg)
    return tuple(by_name[name] for name in dict.fromkeys(names))


def seen_first(columns: Sequence[Column], seen: Sequence[str]) -> tuple[Column, ...]:
    """Return the columns with those that a transform sees before the others; see `seen_by`."""
    first = seen_by(columns, seen)
    return (*first, *(column for column in columns if column not in first))


def as_in_table(mapping: Mapping, table: Sequence[Column]) -> Mapping:
    """Return the mapping with the target's columns spelled as the target has them."""
    names = {column.name for column in table}
    window, order = mapping.window, mapping.order_column
    return replace(
        mapping,
        primary_key=spelled(mapping.primary_key, names),
        order_column=order and spelled((order,), names)[0],
        window=window and replace(window, column=spelled((window.column,), names)[0]),
    )


def spelled(wanted: Sequence[str], names: set[str]) -> tuple[str, ...]:
    """Return names as the query's columns spell them, where they differ in case only.

    >>> spelled(["id", "Day", "other"], {"ID", "Day", "day"})
    ('ID', 'Day', 'other')
    """
    folded = Counter(name.lower() for name in names)
    alike = {name.lower(): name for name in names if folded[name.lower()] == 1}
    return tuple(name if name in names else alike.get(name.lower(), name) for name in wanted)


def changes(before: Sequence[Column], after: Sequence[Column]) -> list[str]:
    """Return what has become of a query's columns, in words; nothing if they are the same.

    >>> changes([Column("id", "int"), Column("a")], [Column("id", "text"), Column("b", "date")])
    ['a is gone', 'b (date) is new', 'id was int and is text']
    """
    was = {column.name: column.type for column in before}
    now = {column.name: column.type for column in after}
    return [
        *(f"{name} is gone" for name in was if name not in now),
        *(f"{name} ({now[name]}) is new" for name in now if name not in was),
        *(
            f"{name} was {was[name]} and is {now[name]}"
            for name in was
            if name in now and was[name] != now[name]
        ),
    ]
