"""What PostgreSQL rows add up to: the sum of a number that each row's canonical text gives.

The canonical text of a value is what its type's output function writes, which is what a text COPY
carries. Where a query's column and the table's differ in type, the value is first written and read
back as such a COPY would do it. A row is the text of a record: it tells NULL from an empty text,
and one column's end from the next one's beginning.
"""

from collections.abc import Sequence

from ...model import Column
from . import saying, session, types

# Their text names objects, depends on the session that writes it, or is of no fixed type.
_NO_TEXT = types.NOT_BINARY - {"oid", "tid", "xid", "cid"}

_INTEGERS = {"smallint", "integer", "bigint"}
_TEXTS = {"text", "character varying", "citext"}


def blocker(pairs: Sequence[tuple[Column, Column]]) -> str | None:
    """Return which column of these (query column, table column) pairs has no canonical text."""
    for ours, theirs in pairs:
        for column in (ours, theirs):
            name = types.base(column.type).removesuffix("[]")
            if name in _NO_TEXT or types.base(column.type) == "money[]":
                return (
                    f"column {column.name!r} is {column.type}, which has no canonical text: cast it"
                    " in the query, or leave it out"
                )
        if not types.fits(ours, theirs):
            return (
                f"column {theirs.name!r} is {ours.type} on one side and {theirs.type} on the other:"
                f' cast it ("{ours.name}"::{theirs.type})'
            )
        made_by_users = (theirs.type_id or 0) >= types.FIRST_USER_OID
        known = types.base(theirs.type) in _TEXTS or _bare(ours) == _bare(theirs)
        padded = types.base(theirs.type) == "character[]" and ours.type != theirs.type
        if (made_by_users and not known) or padded:
            return (
                f"column {theirs.name!r} is {ours.type} on one side and {theirs.type} on the"
                " other, so their texts cannot be compared"
            )
    return None


def total(connection: saying.Connection, pairs: Sequence[tuple[Column, Column]]) -> str:
    """Return an aggregate over rows of `q`: their sum, of which no order makes another.

    A sum, not an exclusive or: two equal rows more would cancel out in that.
    """
    values = ", ".join(_value(f"q.{session.identifier(o.name)}", o, t) for o, t in pairs)
    text = f"row({values})::text"
    if connection.info.parameter_status("server_encoding") != "UTF8":
        text = f"convert_to({text}, 'UTF8')"
    # 64 bits of it, as an integer: plenty against accidents, nothing against an adversary.
    return f"coalesce(sum(('x' || left(md5({text}), 16))::bit(64)::bigint), 0)"


def _value(name: str, ours: Column, theirs: Column) -> str:
    """Return the expression for a value of `ours` as it is in `theirs`."""
    target, source = types.base(theirs.type), types.base(ours.type)
    if target == "character":
        # Spaces at its end mean nothing, so it is written without any.
        return f"rtrim({name}::text, ' ')"
    if target in _TEXTS:
        return _as_text(name, ours, theirs)
    if ours.type_id == theirs.type_id:
        if target == "timestamp with time zone":
            return f"({name} at time zone 'UTC')"
        if target == "money":
            return f"cash_send({name})"  # its text depends on lc_monetary
        if types.base(target.removesuffix("[]")) == "numeric" and ours.type != theirs.type:
            return f"{name}::{theirs.type}"
        return name
    if (theirs.type_id or 0) >= types.FIRST_USER_OID or (target in _INTEGERS and source != target):
        return name
    # Not a plain cast: real to double precision, say, gives other digits than its text has.
    return f"{name}::text::{theirs.type}"


def _as_text(name: str, ours: Column, theirs: Column) -> str:
    if types.base(ours.type) not in _TEXTS:
        # Unlike a cast, concat() writes every type as COPY does; but NULL as an empty text.
        return f"case when {name} is distinct from null then concat({name}) end"
    bound = types.length(theirs.type)
    if bound is None or types.length(ours.type) == bound:
        return f"{name}::text"
    # As SQL has it: spaces beyond the bound go, anything else is an error, and stays here.
    return (
        f"case when length({name}) > {bound:d} then left({name}, {bound:d})"
        f" || rtrim(substr({name}, {bound + 1:d}), ' ') else {name}::text end"
    )


def _bare(column: Column) -> str:
    return types.base(column.type).rpartition(".")[2]
