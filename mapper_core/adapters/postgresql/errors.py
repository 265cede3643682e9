"""What PostgreSQL's errors mean, by SQLSTATE.

Source of the codes: PostgreSQL documentation, appendix A, "PostgreSQL Error Codes".
"""

import re

import psycopg

from ...row_values import marked

# Classes and codes after which the same work may succeed.
_TRANSIENT_CLASSES = ("08",)  # connection exceptions
_TRANSIENT = frozenset(
    {
        "40001",  # serialization_failure, also a recovery conflict on a standby
        "40P01",  # deadlock_detected
        "55P03",  # lock_not_available
        "53300",  # too_many_connections
        "57P01",  # admin_shutdown, also pg_terminate_backend
        "57P02",  # crash_shutdown
        "57P03",  # cannot_connect_now
        "57P05",  # idle_session_timeout
        "25P03",  # idle_in_transaction_session_timeout
    }
)

# libpq keeps the SQLSTATE of a refused connection to itself, so here, and only here, the words of
# the message decide. Unknown words (another language) count as transient: retries are bounded.
_REFUSED_FOR_GOOD = (
    "authentication failed",
    "no pg_hba.conf entry",
    "does not exist",
    "no password supplied",
    "permission denied",
    "not permitted to log in",
    "certificate",
    "unsupported startup parameter",  # a pooler's: of what the URL asks for
)

# What PgBouncer says then: of its own connections to the server, for which a session has waited two
# minutes unless it is set otherwise; and of those that it takes.
# Source: PgBouncer documentation, "query_wait_timeout" and "max_client_conn".
_POOLER_CROWDED = ("query_wait_timeout", "no more connections allowed")
_POOLER_CODE = "08P01"  # protocol_violation, as all that it says by itself

# What libpq is told when no connection is left; it keeps the SQLSTATE (53300) to itself here too.
_CROWDED = (
    "too many clients",
    "too many connections",
    "connection slots are reserved",
    *_POOLER_CROWDED,
)

# What to do then.
_PLACES = "A load needs three connections in all, and two more for each further worker"
_POOLER_PLACES = (
    f"{_PLACES}: the pooler before the server has none left; raise its pool_size or"
    " max_client_conn, or pass fewer max_workers"
)

# Classes and codes of errors that one row's values cause.
_OF_A_ROW = (
    "22",  # data exceptions
    "23",  # integrity constraints
    "54000",  # program limits: a value too long for an index, say
    "P0001",  # what a trigger raises
)

# Where COPY says which of its rows it was busy with.
_LINE = re.compile(r"COPY .*?, \w+ (\d+)")

# And which column's value it was reading, unless the message says so itself.
_COLUMN = re.compile(r"COPY .*?, \w+ \d+, \w+ ([^:\n]+)")

# A value in the message, between the quotation marks of the server's language.
_QUOTED = re.compile("[\"'“„«»].*[\"'”“«»]", re.DOTALL)

# Data exceptions whose message quotes names of encodings only.
_OF_ENCODINGS = frozenset({"22021", "22P05"})

UNIQUE_VIOLATION = "23505"

# What to do, where the server does not say: of a code, when its message has these words.
_CURES = {
    ("57014", "statement timeout"): "Raise statement_timeout for the role that loads, or make"
    " chunk_size smaller",
    (
        "55P03",
        "lock timeout",
    ): (
        "Another session holds a lock on a table, or waits behind this load for one (TRUNCATE,"
        " ALTER TABLE, REINDEX), so that later sessions wait behind it: let it end, or end it;"
        " pg_blocking_pids() names it"
    ),
    ("25006", ""): (
        "A source is only read. A target must be writable: not a standby, and with"
        " default_transaction_read_only off for the role that loads"
    ),
}


def is_transient(error: BaseException) -> bool:
    """Whether trying again, on a new connection, may help."""
    if not isinstance(error, psycopg.Error):
        return isinstance(error, ConnectionError | TimeoutError)
    if error.sqlstate:
        # What ends no session is no lost connection, but a $1 in a query.
        if error.sqlstate == _POOLER_CODE and not _ends_the_session(error):
            return False
        return error.sqlstate in _TRANSIENT or error.sqlstate.startswith(_TRANSIENT_CLASSES)
    # psycopg has no better class than DatabaseError for a result that came with a dead connection.
    told_nothing = type(error) is psycopg.DatabaseError
    if not told_nothing and not isinstance(
        error, psycopg.OperationalError | psycopg.InterfaceError
    ):
        return False
    return not any(words in str(error) for words in _REFUSED_FOR_GOOD)


def is_crowded(error: BaseException) -> bool:
    """Whether the server has no connection left for us."""
    if not isinstance(error, psycopg.Error):
        return False
    if error.sqlstate and error.sqlstate != _POOLER_CODE:
        return error.sqlstate == "53300"
    return any(words in str(error) for words in _CROWDED)


def is_rolled_back(error: BaseException) -> bool:
    """Whether the server has answered so: the session goes on."""
    answered = isinstance(error, psycopg.Error) and not _ends_the_session(error)
    return answered or not is_transient(error)


def _ends_the_session(error: psycopg.Error) -> bool:
    """Whether a server's or pooler's error is its last word, whatever the code.

    Source: PostgreSQL documentation, "Message Severity Levels".
    """
    return error.diag.severity_nonlocalized != "ERROR"


def is_duplicate(error: BaseException) -> bool:
    """Whether a unique key refused a row."""
    return isinstance(error, psycopg.Error) and error.sqlstate == UNIQUE_VIOLATION


def row_error(error: BaseException) -> str | None:
    """Return the code of an error that a row written caused; None for others."""
    if not isinstance(error, psycopg.Error):
        return None
    if error.sqlstate:
        return error.sqlstate if error.sqlstate.startswith(_OF_A_ROW) else None
    # psycopg refuses what it cannot write as text, a NUL byte say.
    return "22000" if isinstance(error, psycopg.DataError) else None


def row_positions(error: BaseException) -> tuple[int, ...]:
    """Return which row of a COPY caused the error, from 1, where the server says so."""
    context = error.diag.context if isinstance(error, psycopg.Error) else None
    found = _LINE.search(context or "")
    return (int(found[1]),) if found else ()


def words(error: psycopg.Error) -> str:
    """Return the server's message with its detail and hint, without the driver's decoration.

    What it quotes of a row is marked, see `row_values`. Where it says nothing of a cure that we
    know, with that.
    """
    diagnosis = error.diag
    message, detail = diagnosis.message_primary, diagnosis.message_detail
    if not message:
        said, cure = str(error).strip(), _cure(error)
        return f"{said}. {cure}" if cure else said
    code = error.sqlstate or ""
    if code.startswith("22"):
        if code not in _OF_ENCODINGS:
            message = _QUOTED.sub(lambda found: marked(found[0]), message)
        if column := _COLUMN.search(diagnosis.context or ""):
            message += f" (column {column[1]})"
    if detail and code.startswith(("22", "23")):
        detail = marked(detail)
    parts = (message, detail, diagnosis.message_hint or _cure(error))
    return ". ".join(part.rstrip(".") for part in parts if part)


def _cure(error: psycopg.Error) -> str | None:
    message = error.diag.message_primary or str(error)
    if is_crowded(error):
        pooled = any(words in message for words in _POOLER_CROWDED)
        return _POOLER_PLACES if pooled else _PLACES
    for (code, said), cure in _CURES.items():
        if error.sqlstate == code and said in message:
            return cure
    return None
