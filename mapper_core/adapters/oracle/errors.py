"""What Oracle's errors mean: worth another try, one row's fault, or nobody's but the user's.

Sources of the codes: Oracle Database Error Messages; python-oracledb documentation, "Catching
Exceptions". A code of the driver's own is written DPY-nnnn, one of the server's ORA-nnnnn.
"""

import re

import oracledb

from ...row_values import marked

# The session is gone, or the instance is coming back: again, on a new session.
_LOST = {28, 1012, 1033, 1034, 1089, 1090, 1092, 2396, 3113, 3114, 3135, 12514, 12528, 12537}
_LOST |= {12541, 12547, 12570, 12571, 12757, 25408}
_LOST_DRIVER = {"DPY-1001", "DPY-4011", "DPY-4024"}

# More sessions or processes than there may be.
_CROWDED = {18, 20, 2391, 12516, 12518, 12519, 12520}
_POOL_IS_EXHAUSTED = "DPY-4005"

# Locks and definitions in motion: again, once the others are done.
_BUSY = {54, 60, 4020, 4021, 4068, 8177, 30006}

# One row's value, and nothing else.
_OF_A_ROW = {1, 1400, 1401, 1407, 1426, 1438, 1722, 1830, 1839, 1841, 1843, 1847, 1858, 1861}
_OF_A_ROW |= {2290, 2291, 12899}

_UNIQUE = 1

NO_RIGHT = 1031

# An SCN that is older than what the database remembers of them, or than its undo.
FORGOTTEN = frozenset({1555, 8180, 8181, 8186})

# A connect error has no code of its own; its cause is quoted in its text.
_SIMILAR = re.compile(r"Similar to ORA-(\d+)")

# What the messages of release 23 quote of a row: ORA-03301 beside ORA-00001, and ORA-01722.
_VALUES = re.compile(r"(?<=row with column values )\(.*\)|(?<=string value containing )'.*'", re.S)

_CURES = {
    1017: "the password is not tried again, so that the account is not locked",
    28000: "the account is locked: a DBA must unlock it",
    1555: (
        "the source's undo no longer reaches back to the load's read point, so nothing can be read"
        " there any more: raise UNDO_RETENTION or load in less time, and start a new load"
    ),
    1466: "the table was redefined after the load's read point: start a new load",
    8181: "the source no longer knows the load's read point: start a new load",
    1031: "grant the privilege named in the plan's reasons, or in docs/oracle.md",
}


class UnfitValueError(Exception):
    """A value that its column in the target would change."""

    def __init__(self, words: str, position: int) -> None:
        super().__init__(words)
        self.position = position


class RowsRefusedError(Exception):
    """Rows of one array that the database refused; it says which, from 1, and why."""

    def __init__(self, refused: list[tuple[int, int, str]]) -> None:
        _, self.code, words = refused[0]
        more = f" (and {len(refused) - 1} more rows of this array)" if len(refused) > 1 else ""
        super().__init__(words + more)
        self.positions = tuple(position for position, _, _ in refused)


def code_of(error: BaseException) -> int:
    """Return the ORA number of an error, of a connect error that of its cause; 0 without one."""
    if isinstance(error, RowsRefusedError):
        return error.code
    if not isinstance(error, oracledb.Error):
        return 0
    said = error.args[0] if error.args else None
    if number := int(getattr(said, "code", 0) or 0):
        return number
    similar = _SIMILAR.search(str(error)) or _SIMILAR.search(str(error.__cause__ or ""))
    return int(similar[1]) if similar else 0


def is_transient(error: BaseException) -> bool:
    """Whether trying again, on a new session, may help."""
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    if not isinstance(error, oracledb.Error):
        return False
    if _driver_code(error) in _LOST_DRIVER or is_crowded(error):
        return True
    number = code_of(error)
    if number:
        return number in _LOST | _BUSY
    # Refused or timed out before there was a session.
    causes = (error.__cause__, getattr(error.__cause__, "__cause__", None))
    return any(isinstance(cause, OSError) for cause in causes)


def is_crowded(error: BaseException) -> bool:
    """Whether it was refused because too many connections are open."""
    return code_of(error) in _CROWDED or _driver_code(error) == _POOL_IS_EXHAUSTED


def is_rolled_back(error: BaseException) -> bool:
    """Whether the server has answered so, and not been lost."""
    return not is_transient(error) or code_of(error) in _BUSY


def is_duplicate(error: BaseException) -> bool:
    """Whether a unique key refused a row."""
    return code_of(error) == _UNIQUE


def row_error(error: BaseException) -> str | None:
    """Return the code of an error that a row written caused; None for others."""
    if isinstance(error, UnfitValueError):
        return "unfit value"
    number = code_of(error)
    if number in _OF_A_ROW:
        return f"ORA-{number:05d}"
    # The driver refuses what it cannot send: a NaN for a NUMBER, say.
    driver = _driver_code(error)
    return driver if driver in {"DPY-3013", "DPY-4003", "DPY-4004"} else None


def row_positions(error: BaseException) -> tuple[int, ...]:
    """Return which of the rows written caused the error, from 1, as far as is known."""
    if isinstance(error, UnfitValueError):
        return (error.position,)
    return error.positions if isinstance(error, RowsRefusedError) else ()


def words(error: BaseException) -> str | None:
    """Return Oracle's own words for one of its errors, and what to do; None for any other."""
    if isinstance(error, UnfitValueError | RowsRefusedError):
        return _marked(str(error))
    if not isinstance(error, oracledb.Error):
        return None
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = _marked(". ".join(line.rstrip(".") for line in lines if not line.startswith("Help:")))
    cure = _CURES.get(code_of(error))
    return f"{said}. {cure}" if cure else said


def _marked(said: str) -> str:
    return _VALUES.sub(lambda found: marked(found[0]), said)


def is_denied(error: BaseException) -> bool:
    """Whether a privilege is missing: Oracle often says that a thing is not there."""
    return code_of(error) in {904, 942, 1031, 6550, 1749}


def _driver_code(error: BaseException) -> str:
    said = error.args[0] if isinstance(error, oracledb.Error) and error.args else None
    return str(getattr(said, "full_code", ""))
