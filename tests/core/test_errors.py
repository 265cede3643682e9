"""The error tree."""

import pickle
from dataclasses import dataclass

import pytest

import mapper_core
from mapper_core import MapperError, errors
from mapper_core.origins import note, told

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_pickles_with_its_message(kind):
    """Dagster and process pools carry errors between processes."""
    error = pickle.loads(pickle.dumps(kind("the cause, and the cure")))
    assert type(error) is kind
    assert str(error) == "the cause, and the cure"


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_is_public_documented_and_in_the_tree(kind):
    """One `except MapperError` catches all that is raised on purpose."""
    assert issubclass(kind, MapperError)
    assert getattr(mapper_core, kind.__name__) is kind
    assert kind.__name__ in mapper_core.__all__
    assert kind.__doc__


def test_the_tree_is_drawn_as_it_is():
    """Each error stands under its parent in the module's docstring."""
    parents = {}
    above: list[str] = []
    for line in str(errors.__doc__).splitlines():
        name = line.lstrip("│├└─ ").partition(" ")[0]
        if name.endswith("Error"):
            depth = (len(line) - len(line.lstrip("│├└─ "))) // 4
            above = [*above[:depth], name]
            parents[name] = above[depth - 1] if depth else "Exception"
    assert parents == {kind.__name__: kind.__mro__[1].__name__ for kind in KINDS}


@dataclass(frozen=True)
class FrozenError(Exception):
    """Takes no note."""


class ObligingError(Exception):
    """Has whatever it is asked for."""

    def __getattr__(self, name):
        """Return it."""
        return object()


def test_where_an_error_was_met_is_said_by_who_was_nearest():
    """Who hears of it later knows less; one that takes no note goes on without."""
    error = OSError("connection refused")
    note(error, "connecting to the target")
    note(error, "planning")
    assert " (connecting to the target)" == told(error)
    frozen = FrozenError()
    note(frozen, "planning")
    assert ("", "", "") == (told(frozen), told(ObligingError()), told(None))
