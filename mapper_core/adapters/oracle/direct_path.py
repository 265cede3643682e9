"""Direct path load: blocks appended to a table past buffers and undo, committed by themselves.

So no ledger row can go with its rows. It is for one loader alone, into a stage that is emptied
first: what an attempt leaves behind that died after it is gone with the next, and publishing counts
the stage against the ledger. Triggers and constraints are passed by, of which a stage has none.
Sources: python-oracledb documentation, "Direct Path Loads"; Oracle Database Utilities, "Direct Path
Loads".
"""

from collections.abc import Iterable, Sequence

import oracledb

from ...batches import Batch, rows_of
from ...model import Column, Row
from ...protocols import STAGE_CHUNK
from . import session, values

# Rows of one call, which commits them, and characters and bytes that they may have: a call has its
# price, and is one message.
_CALL_ROWS, _CALL_BYTES = 50_000, 16 * 1024 * 1024

_KINDS = {
    *("NUMBER", "FLOAT", "BINARY_DOUBLE", "BINARY_FLOAT", "DATE", "RAW", "CLOB", "NCLOB", "BLOB"),
    *("VARCHAR2", "NVARCHAR2", "CHAR", "NCHAR", "TIMESTAMP"),
}


def refusal(columns: Sequence[Column]) -> str | None:
    """Return why columns cannot be written so, or None."""
    for column in columns:
        # There is no statement here whose function could read a text.
        if values.written_out(column.type) or column.type.partition("(")[0] not in _KINDS:
            return f"{column.name} is {column.type}, whose values go by array DML: leave it out"
    return None


def load(
    connection: oracledb.Connection,
    batches: Iterable[Batch],
    stage: tuple[str, str],
    insert: "values.Insert",
) -> int:
    """Empty a stage and fill it; return how many rows were sent.

    Args:
        connection: not that of the transaction that holds the claim, for it commits.
        batches: the rows.
        stage: its owner and name, as the dictionary has them.
        insert: how rows are arranged.
    """
    owner, table = map(session.exact, stage)
    session.run(connection, f"truncate table {owner}.{table}")
    names = [*map(session.exact, insert.names), session.quoted(STAGE_CHUNK)]
    sent = weight = 0
    held: list[Row] = []
    for batch in batches:
        for row in insert.arranged(rows_of(batch), sent + len(held)):
            held.append((*row, insert.chunk))
            weight += sum(len(value) for value in row if isinstance(value, str | bytes))
            if len(held) >= _CALL_ROWS or weight >= _CALL_BYTES:
                _append(connection, owner, table, names, held)
                sent += len(held)
                held, weight = [], 0
    if held:
        _append(connection, owner, table, names, held)
    return sent + len(held)


def _append(
    connection: oracledb.Connection, owner: str, table: str, names: list[str], rows: list[Row]
) -> None:
    try:
        connection.direct_path_load(owner, table, names, rows)
    except AttributeError as error:
        # The driver (26.1), cleaning up on a connection that it has lost, hides that it has.
        if connection.is_healthy():
            raise
        msg = "the connection was lost during a direct path load"
        raise ConnectionResetError(msg) from error
