"""Which values a column of Oracle takes as they are, and which column would be made for them."""

import re
from collections.abc import Sequence

from ...fitting import unfit
from ...model import Column

_PARAMETERS = re.compile(r"\((\d+)(?:,(-?\d+))?\)")

# Bytes of a VARCHAR2, where nobody has extended it; longer ones are LOBs.
_LONGEST = 4_000

# The words that databases have in common -> Oracle's, for types without parameters.
_MADE = {
    "smallint": "NUMBER(5,0)",
    "integer": "NUMBER(10,0)",
    "bigint": "NUMBER(19,0)",
    "numeric": "NUMBER",
    "real": "BINARY_FLOAT",
    "double precision": "BINARY_DOUBLE",
    "boolean": "NUMBER(1,0)",
    "date": "DATE",
    "timestamp without time zone": "TIMESTAMP(6)",
    "timestamp with time zone": "TIMESTAMP(6) WITH TIME ZONE",
    "text": "CLOB",
    "character varying": "CLOB",
    "bytea": "BLOB",
    "uuid": "VARCHAR2(36)",
    "json": "CLOB",
    "jsonb": "CLOB",
}

# What a column of Oracle takes as it is, or refuses with an error; by Oracle's type.
_TEXTS = {"VARCHAR2", "NVARCHAR2", "CHAR", "NCHAR", "CLOB", "NCLOB", "LONG"}
_NUMBERS = {"smallint", "integer", "bigint", "numeric", "boolean"}
_TAKES = {
    **dict.fromkeys(("NUMBER", "FLOAT"), _NUMBERS | {"real", "double precision"}),
    "BINARY_DOUBLE": {"double precision", "real", "smallint", "integer"},
    "BINARY_FLOAT": {"real", "smallint"},
    "DATE": {"date", "timestamp without time zone"},
    "TIMESTAMP": {"date", "timestamp without time zone"},
    "TIMESTAMP WITH TIME ZONE": {"timestamp with time zone"},
    "TIMESTAMP WITH LOCAL TIME ZONE": {"timestamp with time zone"},
    "INTERVAL DAY TO SECOND": {"interval"},
    "INTERVAL YEAR TO MONTH": {"interval"},
    **{word: {"bytea", "uuid"} for word in ("RAW", "BLOB", "LONG RAW")},
    "BOOLEAN": {"boolean"},
    "JSON": {"json", "jsonb"},
}

# What becomes text of another form than it has.
_NO_TEXT = {"bytea", "real", "double precision", "interval", "boolean"}

_DIGITS = 38


def word_for(column: Column) -> str:
    """Return the type of a column made for a query's; empty where there is none.

    Oracle's own words are in capitals, those in common are not.
    """
    if column.type and column.type == column.type.upper():
        return column.type
    base, first, second = _taken_apart(column.standard)
    if base == "numeric" and first is not None and first <= _DIGITS:
        return f"NUMBER({first},{second or 0})"
    if base in {"character varying", "character"} and first is not None:
        # Of characters that may take four bytes each.
        return f"VARCHAR2({first} CHAR)" if first * 4 <= _LONGEST else "CLOB"
    if base.startswith("timestamp") and first is not None:
        return f"TIMESTAMP({first})" + (
            " WITH TIME ZONE" if base.endswith("with time zone") else ""
        )
    return _MADE.get(base, "")


def check(pairs: Sequence[tuple[Column, Column]]) -> None:
    """Raise TargetError when a value of a column could not arrive as it is.

    Types that nobody has told of are left to each value.
    """
    for ours, theirs in pairs:
        if ours.standard and not _arrives(ours, theirs):
            raise unfit(ours, theirs)


def _arrives(ours: Column, theirs: Column) -> bool:
    if ours.type == theirs.type:
        return True
    source, first, second = _taken_apart(ours.standard)
    target = re.sub(r"\([^)]*\)", "", theirs.type)
    if target in _TEXTS:
        return source not in _NO_TEXT
    if source not in _TAKES.get(target, set()):
        return False
    if target == "NUMBER":
        return _keeps_digits(source, first, second, theirs.type)
    if target.startswith("TIMESTAMP") and source.startswith("timestamp"):
        kept = _taken_apart(theirs.type)[1]
        return (6 if first is None else first) <= (6 if kept is None else kept)
    # Of a DATE, each value is looked at.
    return True


def _keeps_digits(source: str, first: int | None, second: int | None, word: str) -> bool:
    """Whether a NUMBER keeps the digits behind the point, which it would round silently."""
    _, precision, scale = _taken_apart(word)
    if precision is None:
        # Forty digits, and more are rounded.
        return first is None or first <= _DIGITS
    if source in {"real", "double precision"} or (source == "numeric" and first is None):
        return False
    return (second or 0) <= (scale or 0)


def _taken_apart(word: str) -> tuple[str, int | None, int | None]:
    """Return a type without its parameters, and them.

    >>> _taken_apart("numeric(10,2)"), _taken_apart("timestamp(3) without time zone")
    (('numeric', 10, 2), ('timestamp without time zone', 3, None))
    """
    found = _PARAMETERS.search(word)
    if found is None:
        return word, None, None
    base = word[: found.start()] + word[found.end() :]
    return base, int(found[1]), None if found[2] is None else int(found[2])
