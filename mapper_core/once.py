"""A property that is found once: the first time that somebody asks for it."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class once(Generic[T]):  # noqa: N801 - a decorator, as `property` is
    """Makes a method without arguments a property that keeps what it returned first.

    As functools.cached_property, which up to Python 3.11 lets one thread at a time find it, for all
    objects of a class: a load whose database is slow would keep those of other threads waiting.
    Source: Python documentation, functools.cached_property, "Changed in version 3.12".
    """

    def __init__(self, find: Callable[[Any], T]) -> None:
        self._find = find
        self._name = find.__name__
        self.__doc__ = find.__doc__

    def __get__(self, instance: object, owner: type | None = None) -> T:
        # What an object has under this name of its own comes before this the next time.
        found = instance.__dict__[self._name] = self._find(instance)
        return found


def found_already(instance: object, name: str) -> Any:
    """Return what a property of `once` has found; None if nobody has asked for it so far."""
    return instance.__dict__.get(name)
