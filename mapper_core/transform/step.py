"""What both kinds of functions have in common: batches in, batches out."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from ..batches import Batch
from ..errors import TransformError
from ..model import DataPath


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


def called(function: Callable[[Any], Any], given: Any) -> Any:
    """Return what a function makes of what it is given.

    Raises TransformError for its StopIteration, which would be taken for the end of our own steps.
    """
    try:
        return function(given)
    except StopIteration as error:
        msg = (
            "the function raised StopIteration: next() found nothing in it, and returns a default"
            " only where it is given one, as in next(found, None)"
        )
        raise TransformError(msg) from error
