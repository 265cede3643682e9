"""What is said to the server: statements, their values bound, several of them in one message."""

import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg import capabilities
from psycopg.pq import ConnStatus, PipelineStatus
from psycopg.rows import tuple_row

from .arrivals import Arrivals

Connection = psycopg.Connection[Any]

Statement = tuple[str, Mapping[str, Any] | None]
"""One of our statements, and the values of its `:name`s."""


def run(connection: Connection, statement: str, values: Mapping[str, Any] | None = None) -> Any:
    """Run one of our statements with its `:name`s bound; return the cursor."""
    told: list[Said] = []
    say(connection, told, statement, values)
    return told[0]


class Said(psycopg.Cursor[Any]):
    """Keeps the error of its own statement.

    Of a session that the server ends while several are under way psycopg raises no more than that
    the connection is closed: what follows the server's last words, which say why. (By a method that
    is psycopg's own: without it the error says less, and no more is lost.)
    """

    failed: psycopg.Error | None = None

    def _check_results(self, results: list[Any]) -> None:
        try:
            super()._check_results(results)
        except psycopg.Error as error:
            self.failed = error
            raise


def say(
    connection: Connection,
    told: list[Said],
    statement: str,
    values: Mapping[str, Any] | None = None,
) -> None:
    """Run a statement; its cursor is among those `told` even when it fails."""
    cursor = Said(connection, row_factory=tuple_row)
    told.append(cursor)
    if values:
        cursor.execute(_with_psycopg_marks(statement).encode(), values)
    else:
        cursor.execute(statement.encode())


def run_together(connection: Connection, *statements: Statement) -> list[Any]:
    """Run statements in one message, and wait once for all of their answers; return the cursors.

    What goes back and forth is most of what a short statement costs, over a network above all. An
    error is that of the first one that failed; those after it have not been run.
    """
    if len(statements) == 1:
        return [run(connection, *statements[0])]
    told: list[Said] = []
    with in_one_message(connection, told):
        for statement in statements:
            say(connection, told, *statement)
    return told


@contextmanager
def in_one_message(connection: Connection, told: Sequence[Said]) -> Iterator[None]:
    """Send what the block runs together; its answers are `told` when it ends.

    With a libpq before version 14 each statement goes by itself.
    """
    if not capabilities.has_pipeline():
        yield
        return
    met: BaseException | None = None
    unanswered: deque[Any] = deque()
    try:
        with left_ready(connection), connection.pipeline() as pipeline:
            unanswered = pipeline.result_queue
            try:
                yield
            except BaseException as error:  # noqa: BLE001 - raised again below
                # Let through, it would have psycopg warn people of what the pipeline's end meets.
                met = error
    except psycopg.Error as error:
        met = met or error
    finally:
        # Else what was interrupted would ask for them when Python clears it away.
        unanswered.clear()
    if isinstance(met, psycopg.Error):
        first = next((cursor.failed for cursor in told if cursor.failed), met)
        raise first from (first.__cause__ if first is met else met)
    if met is not None:
        raise met


@contextmanager
def left_ready(connection: Connection) -> Iterator[None]:
    """Leave no pipeline open, whatever a signal's handler raises while its answers are waited for.

    psycopg takes in what is still to come after some such errors. Over others it raises that the
    pipeline cannot be left, and leaves it open.
    """
    try:
        yield
    except BaseException as error:
        pgconn = connection.pgconn
        if pgconn.status != ConnStatus.OK or pgconn.pipeline_status == PipelineStatus.OFF:
            raise
        try:
            _take_in(connection)
        except psycopg.Error:
            connection.close()
        hidden = error.__context__
        if isinstance(error, psycopg.OperationalError) and hidden is not None:
            raise hidden from None
        raise


def _take_in(connection: Connection) -> None:
    """Cancel what runs in a pipeline, take its results off the wire, and leave it."""
    pgconn = connection.pgconn
    connection.cancel_safe(timeout=10)
    # Behind all that has been sent, whether or not that ended in such a mark.
    pgconn.pipeline_sync()
    arrived = Arrivals(pgconn)
    while pgconn.pipeline_status != PipelineStatus.OFF:
        if arrived.result() is None:
            with suppress(psycopg.OperationalError):  # there is more to come
                pgconn.exit_pipeline_mode()


_MARKS = re.compile(r"""("(?:[^"]|"")*"|'(?:[^']|'')*')|(?<![:\w]):([a-z_]\w*)|(%)""")


def _with_psycopg_marks(statement: str) -> str:
    """Write `:name` as `%(name)s`, but not inside quotes: an identifier may hold anything."""

    def mark(match: "re.Match[str]") -> str:
        quoted, name, _ = match.groups()
        if name:
            return f"%({name})s"
        return (quoted or "%").replace("%", "%%")

    return _MARKS.sub(mark, statement)
