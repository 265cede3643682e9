"""What a source SQL says: its key, its table, whether it can be split. Read with sqlglot.

The user's SQL is never regenerated. It is cut at its end (semicolon, an ORDER BY that no longer
means anything inside a subquery), values are put where `:name` stands, and one moment where it asks
for the present one: sessions that begin at different moments would select different rows.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import QueryError
from .clock import clock_blocker, clock_spans, value_blocker
from .names import check_values, named

# Each call gives another value, so a second reading of the query is not the same query.
_VOLATILE = frozenset(
    {
        *("random", "random_normal", "rand", "setseed", "pg_sleep", "clock_timestamp"),
        *("timeofday", "nextval", "currval", "lastval", "setval", "newid", "sys_guid"),
        *("uuid", "gen_random_uuid", "uuidv4", "uuidv7", "uuid_generate_v1", "uuid_generate_v4"),
    }
)

# Marks a piece of a query as a question for the time; no name of a value looks like this.
_CLOCK = "="

# Pieces of `Query.with_slots` to be filled in: a TABLESAMPLE clause, and one more condition.
_SAMPLE, _CONDITION = "~", "&"

# Behind each table of a query that `reads_at` a point: what says which.
_READ_POINT = "@"

# What Oracle numbers rows by, and walks trees with: each range of the query would begin anew.
_ORACLE_NUMBERS = frozenset({"rownum", "level"})

# A value as drivers have it written, where one may stand. Not in a text, as in LIKE '%s'.
_PLACEHOLDER = re.compile(r"[=<>(,]\s*(?:%s|%\(\w+\)s|\?|\$\d)")

# The blocker of a query that the database alone can read.
UNPARSED = "its SQL could not be parsed"


@dataclass(frozen=True, slots=True)
class Query:
    """A source SQL, understood as far as loading it needs.

    `pieces` alternate between text and something to write: the name of a bind value, or, behind an
    equals sign, what the SQL calls the present moment (`=CURRENT_DATE`, `=now()`). Text is first.
    """

    pieces: tuple[str, ...]
    values: Mapping[str, Any]
    order_key: tuple[str, ...] = ()
    """Plain columns that the top-level ORDER BY begins with, all in the same direction."""
    descending: bool = False
    """Whether that direction is DESC."""
    table: tuple[str, ...] | None = None
    """(table,) or (schema, table) when the query is a plain SELECT from that table alone."""
    with_slots: tuple[str, ...] | None = None
    """The pieces of a plain SELECT from one table, with room for a condition and a sample."""
    blocker: str | None = None
    """Why the query must be read in one go; None when it can be split by key."""
    volatile: bool = False
    """Whether it is known to give other rows each time it is run."""
    reads_at: bool = False
    """Whether there is room behind each of its tables for the point that it is to be read at."""
    unbound: tuple[str, ...] = ()
    """The names behind a colon that stay as they are, because there are no values at all."""

    def refused(self, words: str) -> QueryError:
        """Return the error for a query that its database refuses, in the database's words."""
        msg = f"the source database refuses the query: {words}"
        if self.unbound:
            names = ", ".join(f":{name}" for name in self.unbound)
            msg += f". Nothing replaces {names}: no params are given"
        elif _PLACEHOLDER.search("".join(self.pieces[::2])):
            msg += ". Values are named :name in the SQL, and given in params"
        return QueryError(msg)

    def render(
        self,
        write_value: Callable[[str, Any], str],
        write_moment: Callable[[str], str] | None = None,
        write_text: Callable[[str], str] = str,
        *,
        condition: str | None = None,
        sample: str = "",
        read_point: str = "",
    ) -> str:
        """Return the SQL, written out.

        Args:
            write_value: called with the name and value of each bind value.
            write_moment: called with a lower-case word that asks for the present moment, such as
                `current_date` or `now()`; without it the words stay as they are.
            write_text: called with the user's own text, to escape it where it needs that.
            condition: one more condition that rows must meet; only for a query `with_slots`.
            sample: a TABLESAMPLE clause behind the table; only together with a condition.
            read_point: what is put behind the name of each table; only where it `reads_at` one.
        """
        slots = {_SAMPLE: sample, _CONDITION: condition, _READ_POINT: read_point}
        pieces = self.pieces if condition is None else self.with_slots or ()

        def write(piece: str) -> str:
            if (filled := slots.get(piece)) is not None:
                return filled
            if not piece.startswith(_CLOCK):
                return write_value(piece, self.values[piece])
            words = piece.removeprefix(_CLOCK)
            return write_moment(words.lower()) if write_moment else words

        return "".join(
            write(piece) if number % 2 else write_text(piece) for number, piece in enumerate(pieces)
        )


def read_query(sql: str, params: Mapping[str, Any] | None, *, dialect: str) -> Query:
    """Read a source SQL.

    Args:
        sql: one SELECT statement.
        params: values for `:name`; None leaves every colon alone.
        dialect: sqlglot's name of the SQL dialect, e.g. `postgres`.

    Raises:
        QueryError: it is more than one statement, not a query, or names a value not in `params`.
    """
    try:
        tokens = _tokenize(sql, dialect)
    except Exception:  # noqa: BLE001 - whatever sqlglot cannot read is read by the database alone
        if params:
            raise QueryError(
                "params are given, but the SQL's tokens could not be told apart to find the"
                " :names in it: check its quotes and comments"
            ) from None
        return Query((sql,), {}, blocker=UNPARSED)
    while tokens and tokens[-1].text == ";":
        tokens.pop()
    if not tokens:
        raise QueryError("source_sql contains no statement: give a SELECT")
    if any(token.token_type.name == "SEMICOLON" for token in tokens):
        raise QueryError("source_sql contains more than one statement: give one SELECT")

    end = tokens[-1].end + 1
    facts = _facts(sql[:end], dialect)
    points = facts.pop("points")
    cut = _start_of("ORDER_BY", tokens) if facts.pop("order_is_idle") else None
    kept = [t for t in tokens if cut is None or t.start < cut]
    facts["blocker"] = facts["blocker"] or clock_blocker(kept, dialect)
    text = sql[: kept[-1].end + 1]
    names = named(text, kept)
    if params is None:
        facts["unbound"] = tuple(dict.fromkeys(name for _, _, name in names))
        names = []
    check_values(names, kept, params or {})
    moments = clock_spans(kept, dialect)
    spans = [*names, *((start, end, f"{_CLOCK}{sql[start:end]}") for start, end in moments)]
    facts["reads_at"] = points is not None
    spans += [(point, point, _READ_POINT) for point in points or ()]
    if facts["table"] is not None and kept[0].text.lower() == "select":
        facts["with_slots"] = _with_slots(text, spans, _start_of("WHERE", kept))
    values = {name: (params or {})[name] for _, _, name in names}
    facts["blocker"] = facts["blocker"] or value_blocker(values)
    return Query(_split(text, spans), values, **facts)


def names_in(sql: str, *, dialect: str) -> frozenset[str] | None:
    """Return the `:name`s of a source SQL; None of one whose tokens sqlglot cannot tell apart."""
    try:
        tokens = _tokenize(sql, dialect)
    except Exception:  # noqa: BLE001 - see read_query
        return None
    return frozenset(name for _, _, name in named(sql, tokens))


def _tokenize(sql: str, dialect: str) -> list[Any]:
    import sqlglot  # costs more to import than the rest of the core together

    return list(sqlglot.tokenize(sql, read=dialect))


def _split(sql: str, spans: list[tuple[int, int, str]]) -> tuple[str, ...]:
    """Cut the SQL at every span (start, end, what stands for it)."""
    pieces, begin = [], 0
    for start, end, what in sorted(spans):
        pieces += [sql[begin:start], what]
        begin = end
    return (*pieces, sql[begin:])


def _with_slots(sql: str, spans: list[tuple[int, int, str]], where: int | None) -> tuple[str, ...]:
    """Return the pieces of a plain SELECT, with room for a sample and one more condition.

    Nothing follows its FROM item but WHERE, so the sample goes before that, or at the end.
    """
    if where is None:
        return (*_split(sql, spans), _SAMPLE, "\nWHERE ", _CONDITION, "")
    after = where + len("where")
    head = _split(sql[:where], [span for span in spans if span[0] < where])
    tail = [(start - after, end - after, what) for start, end, what in spans if start >= after]
    condition = list(_split(sql[after:], tail))
    condition[0] = f"\nWHERE ({condition[0]}"
    # It ends in no comment: the query's text ends with its last word.
    condition[-1] += ") AND "
    return (*head, _SAMPLE, *condition, _CONDITION, "")


def _start_of(clause: str, tokens: list[Any]) -> int | None:
    """Return where the top-level clause begins, e.g. its ORDER_BY, or None."""
    depth, found = 0, None
    for token in tokens:
        kind = token.token_type.name
        depth += (kind == "L_PAREN") - (kind == "R_PAREN")
        if depth == 0 and kind == clause:
            found = token.start
    return found


def _facts(sql: str, dialect: str) -> dict[str, Any]:
    """Return what the parsed query says, as `Query` fields plus `order_is_idle`."""
    import sqlglot  # see _tokenize
    from sqlglot import exp

    unread = {"blocker": UNPARSED, "order_is_idle": False, "table": None, "points": None}
    try:
        tree = sqlglot.parse_one(sql, read=dialect)
    except Exception:  # noqa: BLE001 - a dialect's corner that sqlglot lacks: the database may well know it
        return unread
    if isinstance(tree, exp.Command) or tree is None:
        return unread
    if isinstance(tree, exp.Values):
        return unread
    if not isinstance(tree, exp.Query):
        msg = f"source_sql is not a query but {tree.key.upper()}: give a SELECT"
        raise QueryError(msg)
    if tree.find(exp.Insert, exp.Update, exp.Delete, exp.Merge, exp.Into):
        raise QueryError("source_sql writes to the database: give a SELECT that only reads")
    if any(node.args.get("locks") for node in tree.find_all(exp.Query)):
        raise QueryError(
            "source_sql locks rows, but a load only reads: leave FOR UPDATE or FOR SHARE out"
        )

    # What an unquoted name is to the database.
    fold = str.upper if dialect == "oracle" else str.lower
    blocker, volatile = _blocker(tree, exp, dialect)
    ordered = tree.args.get("order")
    bounded = any(tree.args.get(part) for part in ("limit", "offset"))
    distinct = tree.args.get("distinct")  # a Distinct under a SELECT, a bool under a UNION
    distinct_on = isinstance(distinct, exp.Distinct) and distinct.args.get("on") is not None
    order_key, descending = _plain_columns(ordered, exp, fold)
    return {
        "order_key": order_key,
        "descending": descending,
        "table": _single_table(tree, exp, fold),
        "points": _read_points(tree, exp) if dialect == "oracle" else None,
        "blocker": blocker,
        "volatile": volatile,
        "order_is_idle": ordered is not None and not bounded and not distinct_on,
    }


def _read_points(tree: Any, exp: Any) -> list[int] | None:
    """Return where the name of each table ends; None where one of them has no room behind it."""
    ours = {cte.alias for cte in tree.find_all(exp.CTE)}
    points = []
    for table in tree.find_all(exp.Table):
        if not isinstance(table.this, exp.Identifier):
            return None  # a function's rows
        if table.name in ours and not table.db:
            continue
        end = table.this.meta.get("end")
        special = any(table.args.get(part) for part in ("partition", "sample", "version", "pivots"))
        if special or end is None or "@" in table.name:
            return None
        if table.name.lower() != "dual":
            points.append(end + 1)
    return points


def _plain_columns(
    ordered: Any, exp: Any, fold: Callable[[str], str]
) -> tuple[tuple[str, ...], bool]:
    """Return the plain columns an ORDER BY begins with, and whether they descend.

    Folded as the SQL wrote them; they end where the direction changes.
    """
    names: list[str] = []
    descending = False
    for term in ordered.expressions if ordered is not None else ():
        column, down = term.this, bool(term.args.get("desc"))
        if not isinstance(column, exp.Column) or column.name in names:
            break
        if not names:
            descending = down
        elif down != descending:
            break
        quoted = column.this.args.get("quoted")
        names.append(column.name if quoted else fold(column.name))
    return tuple(names), descending


# Clauses that make a SELECT from one table more than a plain one.
_COMPOUND = (
    *("joins", "group", "having", "distinct", "with_", "with", "laterals", "limit", "offset"),
    *("windows", "qualify", "connect", "match", "pivots"),
)


def _single_table(tree: Any, exp: Any, fold: Callable[[str], str]) -> tuple[str, ...] | None:
    """Return the one table a plain SELECT reads: no join, grouping, DISTINCT, set or CTE.

    Its conditions may ask other tables; every row comes from this one.
    """
    if not isinstance(tree, exp.Select):
        return None
    source = tree.args.get("from_") or tree.args.get("from")
    table = source.this if source is not None else None
    if any(tree.args.get(part) for part in _COMPOUND) or not isinstance(table, exp.Table):
        return None
    if not isinstance(table.this, exp.Identifier) or table.args.get("sample"):
        return None
    if any(table.args.get(part) for part in ("joins", "laterals", "pivots", "catalog")):
        return None
    alias = table.args.get("alias")
    if alias is not None and alias.args.get("columns"):
        # Its columns have other names than the table's own; one may be called ctid.
        return None
    parts = [part for part in (table.args.get("db"), table.this) if part is not None]
    return tuple(p.name if p.args.get("quoted") else fold(p.name) for p in parts)


def _blocker(tree: Any, exp: Any, dialect: str) -> tuple[str | None, bool]:
    """Return why reading the query in ranges would not give the query's own rows, or None.

    And whether that is because each run gives other rows.
    """
    for function in tree.find_all(exp.Func):
        name = function.name if isinstance(function, exp.Anonymous) else function.sql_name()
        if name.lower() in _VOLATILE or isinstance(function, exp.Rand | exp.Uuid):
            return f"it calls {name.lower()}(), which gives a different value each time", True
    if dialect == "oracle":
        if any(column.name.lower() == "nextval" for column in tree.find_all(exp.Column)):
            return "it calls nextval, which gives a different value each time", True
        if any("dbms_random" in str(dot).lower() for dot in tree.find_all(exp.Dot)):
            return "it calls dbms_random, which gives a different value each time", True
        for column in tree.find_all(exp.Column):
            if column.name.lower() in _ORACLE_NUMBERS and not column.table:
                return f"it has {column.name.upper()}, which would begin anew in every chunk", False
        if any(select.args.get("connect") for select in tree.find_all(exp.Select)):
            return "it has CONNECT BY, which would be walked anew for every chunk", False
    return _whole(tree, exp), False


def _whole(tree: Any, exp: Any) -> str | None:
    """Return what makes a row of the query depend on the others, or None."""
    for part in ("limit", "offset"):
        if any(node.args.get(part) for node in tree.find_all(exp.Query)):
            return f"it has {part.upper()}"
    if tree.find(exp.Fetch):
        return "it has FETCH FIRST"
    for node in tree.find_all(exp.Distinct):
        if node.args.get("on") is not None:
            return "it has DISTINCT ON"
    for kind, words in (
        (exp.Window, "a window function, which would be computed anew for every chunk"),
        (exp.TableSample, "TABLESAMPLE"),
        (exp.Group, "GROUP BY, which would be computed anew for every chunk"),
        (exp.AggFunc, "an aggregate"),
    ):
        if tree.find(kind):
            return f"it has {words}"
    if any(cte.recursive for cte in tree.find_all(exp.With)):
        return "it has a recursive CTE, which would be computed anew for every chunk"
    return None
