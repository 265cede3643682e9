"""Where an error was met, noted on it: a driver's words do not say which of two databases it was.

Notes travel with an error to another process, and end up in the words that people are told.
"""

from contextlib import suppress

# On the error itself, which pickles it along. (Python has notes of its own from 3.11 on.)
_NOTE = "met_by_mapper"


def note(error: BaseException, origin: str) -> None:
    """Note where an error was met; who notes it first is nearest."""
    if not told(error):
        with suppress(AttributeError, TypeError):  # of a kind that takes none
            setattr(error, _NOTE, origin)


def told(error: BaseException | None) -> str:
    """Return where an error was met, for the end of its words; nothing where nobody knows.

    >>> error = OSError("connection refused")
    >>> note(error, "connecting to the target")
    >>> print(f"{error}{told(error)}")
    connection refused (connecting to the target)
    """
    origin = getattr(error, _NOTE, None)
    return f" ({origin})" if isinstance(origin, str) else ""
