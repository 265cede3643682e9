"""The `:names` of a source SQL: where they stand, and whether the values given will do."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from ..errors import QueryError

# Values that people mean to be several, and a database takes for one.
_SEVERAL = (list, tuple, set, frozenset)


def named(sql: str, tokens: list[Any]) -> list[tuple[int, int, str]]:
    """Return start, end and name of every `:name`."""
    return [
        (colon.start, name.end + 1, sql[name.start : name.end + 1])
        for colon, name in pairwise(tokens)
        if colon.token_type.name == "COLON"
        and name.start == colon.end + 1
        # `a[1:n]` is a slice; whoever means a value there writes `a[1: :n]`.
        and not (sql[colon.start - 1].isalnum() or sql[colon.start - 1] in "_:")
        and sql[name.start : name.end + 1].isidentifier()
    ]


def check_values(
    names: Sequence[tuple[int, int, str]], tokens: list[Any], params: Mapping[str, Any]
) -> None:
    """Raise QueryError for a name without a value, or with several where one is compared."""
    kinds = [token.token_type.name for token in tokens]
    places = {token.start: place for place, token in enumerate(tokens)}
    for start, _, name in names:
        if name not in params:
            known = ", ".join(sorted(params)) or "none"
            msg = f"source_sql names :{name}, but params has no value for it (given: {known})"
            raise QueryError(msg)
        if isinstance(params[name], _SEVERAL) and _stands_in_list(kinds, places[start]):
            msg = (
                f"source_sql has IN before :{name}, whose value is a"
                f" {type(params[name]).__name__}: to the database that is one value, which no row"
                f" has. Where it has arrays, as PostgreSQL does, write = ANY(:{name}) (<> ALL for"
                f" NOT IN) and pass a list; otherwise give each value its own name, IN (:{name}1,"
                f" :{name}2)"
            )
            raise QueryError(msg)


def _stands_in_list(kinds: Sequence[str], place: int) -> bool:
    """Whether a token is one of the values behind IN."""
    if kinds[place - 1] == "IN":
        return True
    depth = 0
    for before in range(place - 1, 0, -1):
        depth += (kinds[before] == "R_PAREN") - (kinds[before] == "L_PAREN")
        if depth < 0:
            return kinds[before - 1] == "IN" and kinds[before + 1] not in {"SELECT", "WITH"}
    return False
