"""What both kinds of functions have in common: batches in, batches out."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from traceback import walk_tb
from typing import Protocol

from ..batches import Batch
from ..errors import MapperError, TransformError
from ..model import DataPath
from ..origins import note
from ..stopping import ends_the_load

_OURS = Path(__file__).parents[1]


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
def only_errors(name: str) -> Iterator[None]:
    """While the user's function runs, make an error of what it raises that is no `Exception`.

    An error gets a note of where it was raised: in the function given as `name`, on which line.

    That is `sys.exit()` in what was once a script, or a panic in what is written in Rust: the
    chunk has failed, and not the load. What asks for the end of the load passes: Ctrl-C, and
    whatever a signal's handler raises. A StopIteration would be taken for the end of our own steps.
    """
    try:
        yield
    except StopIteration as error:
        msg = (
            "the function raised StopIteration: a next() in it found nothing; give it a default,"
            " as in next(found, None)"
        )
        raise TransformError(msg) from error
    except Exception as error:
        if not isinstance(error, MapperError):  # whose words are ours, and name the function
            note(error, f"raised in {name}{_line(error)}")
        raise
    except BaseException as error:
        if ends_the_load(error):
            raise
        words = f"{type(error).__name__}: {error}".removesuffix(": ")
        raise TransformError(words) from error


def _line(error: BaseException) -> str:
    """Return the line of the user's own code that an error came by; nothing where there is none."""
    for frame, line in walk_tb(error.__traceback__):
        file = Path(frame.f_code.co_filename)
        if _OURS not in file.parents:
            # What was sent to another process has left its file's name behind.
            return f", line {line}" + (f" of {file.name}" if file.suffix else "")
    return ""
