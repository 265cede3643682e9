"""The user's functions between source and target."""

from .rows import RowStep
from .step import Changed, Step

__all__ = ["Changed", "RowStep", "Step"]
