"""Where to cut a table by rowids: a ladder of ways, down to what this user may do.

`DBMS_PARALLEL_EXECUTE` is granted to everybody and knows a table's extents; without it they are in
`DBA_EXTENTS`, for those who may read it. A cut is the first rowid of a range, and ranges are
half-open: a row that lies in no extent known is in one of them all the same.

Source: Oracle Database PL/SQL Packages and Types Reference, "DBMS_PARALLEL_EXECUTE" (all its
routines used here commit) and "DBMS_ROWID".
"""

import uuid
from collections.abc import Sequence
from contextlib import suppress

import oracledb

from ...model import ChunkKind, Refused
from ...protocols import BlockCuts
from . import errors, session

# Rows in a block of 8 KiB where nobody has counted them.
_ROWS_PER_BLOCK = 80

# Rowids made in one statement.
_AT_ONCE = 100

_EXTENTS = """
select o.data_object_id, e.relative_fno, e.block_id, e.blocks
from dba_extents e
join dba_objects o on o.owner = e.owner and o.object_name = e.segment_name
  and (o.subobject_name = e.partition_name
       or (o.subobject_name is null and e.partition_name is null))
where e.owner = :owner and e.segment_name = :name and o.data_object_id is not null
order by o.data_object_id, e.relative_fno, e.block_id
"""

_OBJECTS = """
select subobject_name, data_object_id from all_objects
where owner = :owner and object_name = :name and data_object_id is not null
order by subobject_name
"""


def find(
    connection: oracledb.Connection, owner: str, name: str, *, chunk_size: int
) -> BlockCuts | Refused:
    """Return cuts of a table about `chunk_size` rows apart, or why there are none."""
    found = _run(
        connection,
        "select num_rows, blocks, iot_type, cluster_name, temporary from all_tables"
        " where owner = :owner and table_name = :name",
        owner=owner,
        name=name,
    )
    if not found:
        return Refused(f"{owner}.{name} is not known as a table")
    rows, blocks, index_organized, cluster, temporary = found[0]
    if index_organized or cluster or temporary == "Y":
        return Refused(f"{owner}.{name} is not a plain table: its rows have no rowids to cut by")
    per_block = max(1, rows // blocks) if rows and blocks else _ROWS_PER_BLOCK
    size = max(1, chunk_size // per_block)
    cuts, refused = None, []
    for way, what in ((_by_package, "DBMS_PARALLEL_EXECUTE"), (_by_extents, "DBA_EXTENTS")):
        try:
            cuts = way(connection, owner, name, size)
            break
        except oracledb.DatabaseError as error:
            if errors.is_transient(error):
                raise
            refused.append(f"{what}: {errors.words(error)}")
    if cuts is None:
        return Refused(f"the table's extents cannot be seen ({'; '.join(refused)})")
    method = f"ranges of rowids, from {what}"
    if refused:
        method += f" ({'; '.join(refused)})"
    marks = (owner, name, *_data_objects(connection, owner, name))
    expected = int(rows) if rows else None
    return BlockCuts(tuple(cuts), expected, marks, ChunkKind.ROWIDS, f"{method},")


def moved(connection: oracledb.Connection, marks: Sequence[str]) -> str | None:
    """Return why rows have other rowids than when the marks were made, or None."""
    owner, name, *objects = marks
    if [*objects] == _data_objects(connection, owner, name):
        return None
    return f"{owner}.{name} was truncated, moved or rebuilt"


def _by_package(connection: oracledb.Connection, owner: str, name: str, blocks: int) -> list[str]:
    task = f"mapper_{uuid.uuid4().hex[:20]}"
    execute = "begin dbms_parallel_execute.{}; end;"
    session.run(connection, execute.format("create_task(:task)"), {"task": task})
    try:
        session.run(
            connection,
            execute.format("create_chunks_by_rowid(:task, :owner, :name, false, :blocks)"),
            {"task": task, "owner": owner, "name": name, "blocks": blocks},
        )
        found = _run(
            connection,
            "select start_rowid from user_parallel_execute_chunks where task_name = :task"
            " order by start_rowid",
            task=task,
        )
    finally:
        with suppress(oracledb.Error):  # what went wrong before is the news
            session.run(connection, execute.format("drop_task(:task)"), {"task": task})
    return [str(start) for (start,) in found][1:]


def _by_extents(connection: oracledb.Connection, owner: str, name: str, blocks: int) -> list[str]:
    places, gathered = [], 0
    for part, file, start, size in _run(connection, _EXTENTS, owner=owner, name=name):
        places += [
            f"dbms_rowid.rowid_create(1, {part}, {file}, {start + offset}, 0)"
            for offset in range((blocks - gathered) % blocks, size, blocks)
        ]
        gathered = (gathered + size) % blocks
    cuts: list[str] = []
    # The first place is where the first range begins by itself.
    for at in range(1, len(places), _AT_ONCE):
        made = _run(connection, f"select {', '.join(places[at : at + _AT_ONCE])} from dual")
        cuts += map(str, made[0])
    return cuts


def _data_objects(connection: oracledb.Connection, owner: str, name: str) -> list[str]:
    found = _run(connection, _OBJECTS, owner=owner, name=name)
    return [f"{part or ''}:{number}" for part, number in found]


def _run(connection: oracledb.Connection, sql: str, **values: object) -> list[tuple]:  # type: ignore[type-arg]
    with session.run(connection, sql, values) as cursor:
        return list(cursor.fetchall())
