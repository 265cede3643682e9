"""What both kinds of functions have in common: batches in, batches out."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from ..batches import Batch
from ..errors import TransformError
from ..model import DataPath
from ..stopping import ends_the_load


@dataclass(frozen=True, slots=True)
class Changed:
    """What a function made of some rows, ready to be written."""

    names: tuple[str, ...]
    batch: Batch
    rows: int


class Step(Protocol):
    """A function with what is known of the rows before and after it."""

    @property
    def path(self) -> DataPath:
        """How the rows go on."""

    def call(self, group: Iterable[Batch]) -> None:
        """Have the function see the rows of some batches."""

    def apply(
        self, group: Iterable[Batch], names: tuple[str, ...] | None = None
    ) -> Iterator[Changed]:
        """Yield what the function makes of the rows of some batches.

        Args:
            group: what it sees in one call.
            names: the columns that its rows have; None takes those of the rows that it returns.

        Raises TransformError when it did not return what it promised to.
        """


@contextmanager
def only_errors() -> Iterator[None]:
    """While the user's function runs, make an error of what it raises that is no `Exception`.

    That is `sys.exit()` in what was once a script, or a panic in what is written in Rust: the
    chunk has failed, and not the load. What asks for the end of the load passes: Ctrl-C, and
    whatever a signal's handler raises. A StopIteration would be taken for the end of our own steps.
    """
    try:
        yield
    except StopIteration as error:
        msg = (
            "the function raised StopIteration: next() found nothing in it, and returns a default"
            " only where it is given one, as in next(found, None)"
        )
        raise TransformError(msg) from error
    except Exception:
        raise
    except BaseException as error:
        if ends_the_load(error):
            raise
        words = f"{type(error).__name__}: {error}".removesuffix(": ")
        raise TransformError(words) from error
