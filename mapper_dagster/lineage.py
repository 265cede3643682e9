"""What a mapping's SQL reads: tables and, column by column, where values come from."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.lineage import Node, lineage

Table = tuple[str, ...]
"""A table's name as the SQL has it: (table,), (schema, table) or (catalog, schema, table)."""


@dataclass(frozen=True, slots=True, order=True)
class SourceColumn:
    """A column of a table that a query reads."""

    table: Table
    column: str


def tables_of(sql: str, dialect: str) -> tuple[Table, ...]:
    """Return the tables that a query reads, each once, in order; none of SQL that cannot be parsed.

    >>> tables_of("with o as (select * from shop.orders) select * from o join items i on true", "")
    (('shop', 'orders'), ('items',))
    """
    tree = _parsed(sql, dialect)
    if tree is None:
        return ()
    named = {cte.alias for cte in tree.find_all(exp.CTE)}
    found = [_name(table) for table in tree.find_all(exp.Table)]
    # A search goes level by level; people read a query from its beginning.
    ordered = sorted(dict.fromkeys(found), key=lambda name: sql.lower().find(name[-1].lower()))
    return tuple(name for name in ordered if name and not (len(name) == 1 and name[0] in named))


def columns_of(sql: str, dialect: str, names: Iterable[str]) -> dict[str, tuple[SourceColumn, ...]]:
    """Return which columns of which tables each of a query's columns is made of, as far as is seen.

    >>> columns_of("select o.id, o.price * i.count as total from orders o, items i", "", ["total"])
    {'total': (SourceColumn(table=('items',), column='count'), \
SourceColumn(table=('orders',), column='price'))}
    """
    tree = _parsed(sql, dialect)
    if tree is None:
        return {}
    tables = tables_of(sql, dialect)
    if len(tables) == 1 and tree.is_star:
        return {name: (SourceColumn(tables[0], name),) for name in names}
    return {name: origin for name in names if (origin := _origin(tree, dialect, name))}


def _origin(tree: Any, dialect: str, name: str) -> tuple[SourceColumn, ...]:
    try:
        root = lineage(name, tree.copy(), schema={}, dialect=dialect or None)
    except Exception:  # noqa: BLE001 - what sqlglot cannot follow is left out, and no load fails for it
        return ()
    leaves = (_leaf(node) for node in root.walk() if not node.downstream)
    return tuple(sorted({leaf for leaf in leaves if leaf is not None}))


def _leaf(node: Node) -> SourceColumn | None:
    table, column = node.expression, node.name.rpartition(".")[2].strip('"')
    if not isinstance(table, exp.Table) or column == "*" or not (name := _name(table)):
        return None
    return SourceColumn(name, column)


def _parsed(sql: str, dialect: str) -> Any:
    try:
        tree = sqlglot.parse_one(sql, read=dialect or None)
    except Exception:  # noqa: BLE001 - the database may well read what sqlglot cannot
        return None
    return tree if isinstance(tree, exp.Query) else None


def _name(table: exp.Table) -> Table:
    parts = (table.args.get("catalog"), table.args.get("db"), table.this)
    if not isinstance(table.this, exp.Identifier):
        return ()  # a function that returns rows
    return tuple(p.name if p.args.get("quoted") else p.name.lower() for p in parts if p)
