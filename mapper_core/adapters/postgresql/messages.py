"""What a transaction says to the server: what needs no answer of its own goes with the next one.

Each answer that is waited for costs the delay of the network, or of two processes taking turns.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from ...errors import TransferError
from ...model import Row
from . import saying, session

# More would only be memory.
_MOST_WAITING = 100

# A statement, and who hears of its rows.
_Waiting = tuple[saying.Statement, Callable[[list[Row]], None] | None]


class Messages:
    """One transaction's statements; the first one begins it.

    Args:
        connection: of the target.
        opening: what begins the transaction, where nothing has yet.
    """

    def __init__(
        self, connection: saying.Connection, opening: Sequence[saying.Statement] = ()
    ) -> None:
        self._raw = connection
        self._opening = opening
        self._waiting: list[_Waiting] = []

    @property
    def _connection(self) -> saying.Connection:
        """The connection, on which nothing is left to be sent."""
        self._run()
        return self._raw

    def _taken(self) -> list[_Waiting]:
        """Take what waits to be sent, and goes in one message."""
        opening, self._opening = self._opening, ()
        if opening and not session.reads_as_ours(self._raw):
            saying.run_together(self._raw, *opening)
            opening = ()
        waiting, self._waiting = self._waiting, []
        return [*((each, None) for each in opening), *waiting]

    def _forget(self) -> None:
        """Send nothing of what waits."""
        self._waiting = []

    def _run(self, *statements: saying.Statement) -> list[Any]:
        """Run statements, those that wait before them; return their cursors."""
        before = self._taken()
        if not before and not statements:
            return []
        waited = [statement for statement, _ in before]
        cursors = saying.run_together(self._raw, *waited, *statements)
        for (_, hear), cursor in zip(before, cursors, strict=False):
            if hear is not None:
                hear(list(cursor.fetchall()))
        return cursors[len(before) :]

    def _together(self, *statements: saying.Statement) -> list[list[Row]]:
        """Return the rows of several statements, in one message."""
        return [list(cursor.fetchall()) for cursor in self._run(*statements)]

    def execute(self, sql: str, values: Mapping[str, Any] | None = None) -> list[Row]:
        (cursor,) = self._run((sql, values))
        return list(cursor.fetchall()) if cursor.description else []

    def execute_later(self, sql: str, values: Mapping[str, Any] | None = None) -> None:
        self._ask_later(sql, values)

    def _ask_later(
        self,
        sql: str,
        values: Mapping[str, Any] | None,
        hear: Callable[[list[Row]], None] | None = None,
    ) -> None:
        """Run a statement before whatever comes next, and have its rows heard then."""
        self._waiting.append(((sql, values), hear))
        if len(self._waiting) == _MOST_WAITING:
            self._run()

    def execute_many(self, sql: str, values: Sequence[Mapping[str, Any]]) -> None:
        for each in values:
            self.execute_later(sql, each)

    def change(self, sql: str, values: Mapping[str, Any] | None = None) -> int:
        (cursor,) = self._run((sql, values))
        return int(cursor.rowcount)

    def commit(self) -> None:
        """End the transaction. Raises TransferError when the server has rolled it back."""
        if self._opening and not self._waiting:
            return  # it has not begun
        if any(hear for _, hear in self._waiting):
            self._run()  # what is heard may be a reason not to commit
        ended = session.commit(self._raw, [statement for statement, _ in self._taken()])
        if ended != "COMMIT":
            # A transaction that failed unnoticed is rolled back by COMMIT, without an error.
            msg = f"the target answered {ended} to COMMIT; nothing was committed"
            raise TransferError(msg)

    def roll_back(self) -> None:
        """Take back what was done. A connection that is lost has nothing to take back."""
        with suppress(psycopg.Error):
            session.end_statement(self._raw)
            if self._raw.info.transaction_status != TransactionStatus.IDLE:
                self._raw.execute("rollback")
