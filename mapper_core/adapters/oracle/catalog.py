"""The data dictionary: which table a name means, its columns, its keys, what one may do to it.

Source: Oracle Database Reference, "Static Data Dictionary Views".
"""

from collections.abc import Iterator, Sequence
from typing import Any

import oracledb

from ...model import Column
from ...protocols import STAGE_CHUNK
from . import session, types

_COLUMNS = """
select c.column_name, c.data_type, c.data_precision, c.data_scale, c.char_length, c.data_length,
       c.nullable, c.default_length, c.virtual_column, i.generation_type
from all_tab_cols c
left join all_tab_identity_cols i
  on i.owner = c.owner and i.table_name = c.table_name and i.column_name = c.column_name
where c.owner = :owner and c.table_name = :name and c.user_generated = 'YES'
order by c.column_id, c.column_name
"""

_KEYS = """
select i.index_name, k.column_name,
       (select count(*) from all_constraints p where p.owner = :owner and p.table_name = :name
        and p.constraint_type = 'P' and p.index_name = i.index_name) as is_primary
from all_indexes i
join all_ind_columns k on k.index_owner = i.owner and k.index_name = i.index_name
where i.table_owner = :owner and i.table_name = :name and i.uniqueness = 'UNIQUE'
  and i.index_type = 'NORMAL'
order by is_primary desc, i.index_name, k.column_position
"""


def resolved(
    connection: oracledb.Connection,
    name: Sequence[str],
    *,
    kinds: Sequence[str] = ("TABLE", "VIEW"),
) -> tuple[str, str] | None:
    """Return (owner, name) of the table that a name means in this session; None without one.

    Args:
        connection: the session.
        name: (table,) or (schema, table), as the dictionary spells it.
        kinds: of objects that will do.
    """
    for owner, table in _meanings(connection, name):
        found = _ask(
            connection,
            "select object_type from all_objects where owner = :owner and object_name = :name",
            owner=owner,
            name=table,
        )
        if any(kind in kinds for (kind,) in found):
            return owner, table
    return None


def _meanings(connection: oracledb.Connection, name: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield what a name may mean, nearest first; synonyms are asked for only when they matter."""
    if len(name) > 1:
        yield name[0], name[1]
        return
    schema = _current_schema(connection)
    yield schema, name[0]
    yield from _ask(
        connection,
        "select table_owner, table_name from all_synonyms where synonym_name = :name"
        " and owner in (:owner, 'PUBLIC') and db_link is null"
        " order by case owner when 'PUBLIC' then 1 else 0 end",
        name=name[0],
        owner=schema,
    )


def columns(connection: oracledb.Connection, owner: str, name: str) -> tuple[Column, ...]:
    """Return a table's columns, invisible ones included; none without such a table."""
    found = []
    for row in _ask(connection, _COLUMNS, owner=owner, name=name):
        column, kind, precision, scale, chars, length, nullable, default, virtual, identity = row
        word = _word(kind, precision, scale, chars, length)
        found.append(
            Column(
                _known_as(column),
                word,
                required=nullable == "N" and not default and identity is None,
                generated=virtual == "YES" or identity == "ALWAYS",
                standard=types.standard(word),
            )
        )
    return tuple(found)


def _known_as(column: str) -> str:
    """Return a column's name as it is written in `session.quoted`.

    In quotes where it is spelled in small letters throughout, which would mean Oracle's capitals.
    """
    if column == STAGE_CHUNK.upper():
        return STAGE_CHUNK
    return column if session.folded(column) == column else f'"{column}"'


def _word(kind: str, precision: Any, scale: Any, chars: Any, length: Any) -> str:
    """Return a type as `types` writes it."""
    if kind == "NUMBER" and precision is None:
        return "NUMBER" if scale is None else f"NUMBER(38,{int(scale)})"
    if kind == "NUMBER":
        return f"NUMBER({int(precision)},{int(scale or 0)})"
    if kind in {"VARCHAR2", "NVARCHAR2", "CHAR", "NCHAR"}:
        return f"{kind}({int(chars or length)})"
    if kind == "RAW":
        return f"RAW({int(length)})"
    # TIMESTAMP(6), INTERVAL DAY(2) TO SECOND(6): a timestamp's digits matter, an interval's do not.
    if kind.startswith("INTERVAL"):
        return "INTERVAL DAY TO SECOND" if "DAY" in kind else "INTERVAL YEAR TO MONTH"
    return kind


def unique_keys(
    connection: oracledb.Connection, owner: str, name: str
) -> tuple[tuple[str, ...], ...]:
    """Return the unique keys of a table, its primary key first.

    Rows with NULL in all columns of a unique key may be many; they are in a chunk of their own.
    """
    keys: dict[str, list[str]] = {}
    for index, column, _ in _ask(connection, _KEYS, owner=owner, name=name):
        keys.setdefault(index, []).append(column)
    return tuple(tuple(key) for key in keys.values())


def refusal(
    connection: oracledb.Connection, owner: str, name: str, privileges: Sequence[str]
) -> str | None:
    """Return which of the privileges this user lacks on a table, in words; None for none."""
    user = _ask(connection, "select sys_context('userenv', 'session_user') from dual")[0][0]
    if owner == user:
        return None
    granted = {
        word.lower()
        for (word,) in _ask(
            connection,
            "select privilege from all_tab_privs where table_schema = :owner"
            " and table_name = :name",
            owner=owner,
            name=name,
        )
    }
    of_system = {
        word.lower() for (word,) in _ask(connection, "select privilege from session_privs")
    }
    for privilege in privileges:
        if privilege not in granted and f"{privilege} any table" not in of_system:
            return f"{user} lacks the privilege: grant {privilege} on {owner}.{name} to {user}"
    return None


def _current_schema(connection: oracledb.Connection) -> str:
    found = _ask(connection, "select sys_context('userenv', 'current_schema') from dual")
    return str(found[0][0])


def _ask(connection: oracledb.Connection, sql: str, **values: Any) -> list[tuple[Any, ...]]:
    with session.run(connection, sql, values) as cursor:
        return list(cursor.fetchall())
