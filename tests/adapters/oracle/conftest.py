"""Two users of Oracle: one with rows to load, one with an empty table for them."""

import pytest

from .items import empty, fill


@pytest.fixture
def source(make_oracle):
    """A user with a table of rows."""
    user = make_oracle()
    fill(user)
    return user


@pytest.fixture
def target(make_oracle):
    """A user with an empty table."""
    user = make_oracle()
    empty(user)
    return user
