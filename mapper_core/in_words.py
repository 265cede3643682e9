"""What a driver raises, told in its database's own words."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from .errors import DatabaseError, DatabaseUnavailableError, MapperError
from .origins import told
from .passwords import cause
from .protocols import Database
from .retry import first_line, is_connection_trouble


@contextmanager
def in_words(purpose: str, databases: Sequence[Database]) -> Iterator[None]:
    """Raise DatabaseError for an error of a database's: that the block could not do its purpose.

    DatabaseUnavailableError where trying again may help. Errors of others are raised as they are.
    """
    try:
        yield
    except MapperError:
        raise
    except Exception as error:
        words = next((said for d in databases if (said := d.explain(error))), None)
        if words is None and is_connection_trouble(error):
            words = first_line(error).removesuffix(told(error))
        if words is None:
            raise
        passing = any(d.is_transient(error) for d in databases)
        kind = DatabaseUnavailableError if passing else DatabaseError
        msg = f"could not {purpose}: {words}{told(error)}"
        raise kind(msg) from cause(error)
