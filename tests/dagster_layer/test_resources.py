"""What a database says to who asks it small things: in words, and without values of rows."""

import pytest

from mapper_core import DatabaseError, DatabaseUnavailableError
from mapper_dagster import DatabaseResource


def test_what_a_database_refuses_is_told_with_what_was_asked(target):
    """In its own words; a value that they quote is left out, as Dagster records them."""
    resource = DatabaseResource(url=target)

    with pytest.raises(DatabaseError, match="could not ask the database: ") as told:
        resource.rows("select cast('hush hush' as text)::integer")
    assert "type integer" in str(told.value)
    assert "hush" not in str(told.value)
    assert told.value.__cause__ is None

    with pytest.raises(DatabaseError, match='"nowhere" does not exist') as told:
        resource.rows("select * from nowhere")
    assert told.value.__cause__ is not None


def test_a_database_that_is_away_may_be_asked_again():
    """And no error has the password that was given for it."""
    resource = DatabaseResource(url="postgresql://u:hunter2hunter2@127.0.0.1:1/d")

    with (
        pytest.raises(DatabaseUnavailableError, match="could not connect to the database") as told,
        resource.connection(),
    ):
        pass
    assert "hunter2" not in str(told.value)
