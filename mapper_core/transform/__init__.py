"""The user's functions between source and target."""

from .rows import RowStep
from .step import Changed, Step, only_errors

__all__ = ["Changed", "RowStep", "Step", "only_errors"]
