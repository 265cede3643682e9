"""The user's functions between source and target."""

from .step import Changed, Step, only_errors

__all__ = ["Changed", "Step", "only_errors"]
