"""Which PostgreSQL values travel unchanged, and on which path."""

import math
import re
from collections.abc import Sequence

from ...fitting import unfit
from ...model import Column, DataPath

# Types made by users and extensions start here; their numbers differ between databases.
# Source: PostgreSQL source, src/include/access/transam.h, FirstNormalObjectId.
FIRST_USER_OID = 16_384

# Built-in types whose binary form means something else in another database (an oid of an object)
# or has no binary input.
NOT_BINARY = frozenset(
    {
        *("regproc", "regprocedure", "regoper", "regoperator", "regclass", "regcollation"),
        *("regtype", "regrole", "regnamespace", "regconfig", "regdictionary", "oid", "aclitem"),
        *("pg_node_tree", "pg_ndistinct", "pg_dependencies", "pg_mcv_list", "gtsvector"),
        *("tid", "xid", "cid", "record"),
        # An empty one is written in a form that is not read.
        *("int2vector", "oidvector"),
    }
)

JSON_TYPES = frozenset({"json", "jsonb"})

# Text out of the left is text into the right, for every value or with a loud error.
_TEXT_FITS = {
    "smallint": {"integer", "bigint", "numeric", "double precision", "real"},
    "integer": {"smallint", "bigint", "numeric", "double precision"},
    "bigint": {"smallint", "integer", "numeric"},
    "numeric": {"smallint", "integer", "bigint"},
    "real": {"double precision", "numeric"},
    "double precision": {"numeric"},
    "date": {"timestamp without time zone"},
    "jsonb": {"json"},
    "character varying": {"character"},
    "text": {
        "character varying",
        "character",
        "citext",
        "json",
        "jsonb",
        "xml",
        "uuid",
    },
    "name": {"character varying", "character"},
    "uuid": set(),
}
# Digits of a second that a time keeps without a modifier.
_MICROSECONDS = 6

_ANYTHING_FITS = {"text", "character varying", "citext"}


def base(type_name: str) -> str:
    """Return the type without its modifier: `numeric(10,2)` -> `numeric`.

    >>> base("timestamp(3) without time zone")
    'timestamp without time zone'
    >>> base('"char"')
    '"char"'
    """
    head, bracket, rest = type_name.partition("(")
    return head + rest.partition(")")[2] if bracket else type_name


def data_path(
    offered: frozenset[DataPath],
    pairs: Sequence[tuple[Column, Column]],
    table: Sequence[Column],
) -> tuple[DataPath, str]:
    """Choose how rows travel for these (query column, table column) pairs; see `Target`."""
    if DataPath.COPY_TEXT not in offered:
        return _from_elsewhere(offered, pairs)
    for ours, theirs in pairs:
        if not fits(ours, theirs) or _rounds(ours.type, theirs.type):
            cure = f'cast it in the query ("{ours.name}"::{theirs.type})'
            raise unfit(ours, theirs, cure)
    for ours, theirs in pairs:
        if reason := _why_not_binary(ours, theirs):
            return DataPath.COPY_TEXT, reason
    for column in table:
        # COPY looks for the ways to read all of them, also where it has no value for one.
        if not column.binary:
            said = (
                f"column {column.name!r} of the target is {column.type}, which has no binary input"
            )
            return DataPath.COPY_TEXT, said
    return DataPath.COPY_BINARY, "every column has the same built-in type on both sides"


def _from_elsewhere(
    offered: frozenset[DataPath], pairs: Sequence[tuple[Column, Column]]
) -> tuple[DataPath, str]:
    """Choose how rows of another kind of database travel.

    Those of one that tells its types are held to the same rules.
    """
    arrow = DataPath.ARROW in offered
    for ours, theirs in pairs:
        if not ours.standard or _arrives(ours.standard, theirs, arrow=arrow):
            continue
        raise unfit(ours, theirs)
    if arrow:
        return DataPath.ARROW, "unlike databases: values travel as Arrow record batches"
    return DataPath.ROWS, "a source that is not PostgreSQL needs Python rows"


def _arrives(standard: str, theirs: Column, *, arrow: bool) -> bool:
    if fits(Column(theirs.name, standard), theirs):
        return not _rounds(standard, theirs.type)
    # Digits that stand for truth, and days that are kept with a time: any other value is an error,
    # of dates only where Arrow is written.
    flag = standard == "numeric(1,0)" and theirs.type == "boolean"
    day = standard == "timestamp(0) without time zone" and theirs.type == "date"
    return flag or (day and arrow)


def length(type_name: str) -> int | None:
    """Return how many characters or bits a type holds at most: `character varying(5)` -> 5."""
    bound = re.search(r"\((\d+)\)", type_name)
    return int(bound[1]) if bound else None


def fits(ours: Column, theirs: Column) -> bool:
    """Whether text out of one column is text into the other, for every value or with an error."""
    source, target = (_named(column.type) for column in (ours, theirs))
    if source == target == "bit" and length(ours.type) is not None:
        return ours.type == theirs.type  # of another length, no value fits
    if source == target or target in _TEXT_FITS.get(source, set()):
        return True
    if target in _ANYTHING_FITS:
        # A char(n) is padded with spaces that mean nothing there, and something elsewhere.
        return source != "character"
    if (theirs.type_id or 0) < FIRST_USER_OID:
        return False
    # A type of the user's: the same one by another search path, or text that it must accept.
    same_name = source.rpartition(".")[2] == target.rpartition(".")[2]
    return same_name or source in {"text", "character varying"}


def holds_text(type_name: str) -> bool:
    """Whether values of a type are texts of any kind."""
    return _named(type_name) in {*_ANYTHING_FITS, "character"}


def _named(type_name: str) -> str:
    """Return the type without its modifier, by one name whether it has a modifier or not."""
    return {"bpchar": "character", '"bit"': "bit"}.get(name := base(type_name), name)


def _rounds(source: str, target: str) -> bool:
    """Whether the target's type keeps fewer digits behind the point, and would round silently.

    >>> _rounds("numeric(10,4)", "numeric(10,2)"), _rounds("numeric", "numeric(10,2)")
    (True, True)
    >>> _rounds("integer", "numeric(10,2)"), _rounds("numeric(8,2)", "numeric")
    (False, False)
    """
    kept, given = _digits(target), _digits(source)
    return kept is not None and given is not None and given > kept


def _digits(type_name: str) -> float | None:
    """Return how many digits a type keeps behind the point; None for one without a point."""
    name = base(type_name).removesuffix("[]")
    modifier = re.search(r"\((?:\d+,)?(-?\d+)\)", type_name)
    if name in {"smallint", "integer", "bigint", "date"}:
        return 0
    if name in {"real", "double precision"}:
        return math.inf
    if name == "numeric":
        return int(modifier[1]) if modifier else math.inf
    if name.startswith(("timestamp", "time ", "interval")):
        return int(modifier[1]) if modifier else _MICROSECONDS
    return None


def _why_not_binary(ours: Column, theirs: Column) -> str | None:
    if ours.type_id != theirs.type_id:
        return f"column {theirs.name!r} is {ours.type} in the query and {theirs.type} in the target"
    if ours.type_id is None or ours.type_id >= FIRST_USER_OID:
        return f"column {theirs.name!r} has the user-defined type {theirs.type}"
    name = base(ours.type).removesuffix("[]")
    if name in NOT_BINARY:
        return f"column {theirs.name!r} is {name}, whose binary form is not portable"
    return None
