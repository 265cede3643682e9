"""What people read of a sensor in Dagit, and write there: its cursor, and why nothing is asked."""

import re
from contextlib import closing
from datetime import datetime, timezone

import psycopg
import pytest

from mapper_core import DatabaseError, SettingsError
from mapper_dagster import build_resume_sensor, build_watermark_sensor

from .deployment import EVENTS
from .ticking import Ticking


@pytest.fixture
def changing(events, source, run):
    """Events that say when they changed: all at one time, long ago."""
    run(
        source, "alter table events add changed_at timestamptz not null default '2024-06-01 12:00Z'"
    )


@pytest.fixture
def watermark(instance, resources):
    """Return a watermark sensor at its first tick."""
    sensor = build_watermark_sensor(EVENTS, changed_at="changed_at")
    return Ticking(sensor, EVENTS, instance, resources)


@pytest.fixture
def resuming(instance, resources):
    """Return a sensor for failed loads at its first tick."""
    return Ticking(build_resume_sensor([EVENTS]), EVENTS, instance, resources)


@pytest.mark.usefixtures("changing")
def test_a_watermark_can_be_set_back_to_a_moment(watermark):
    """As people write one: without a zone it is meant in UTC."""
    assert 4 == len(watermark.tick())
    assert [] == watermark.tick()
    assert "null" not in watermark.cursor
    written = watermark.cursor
    assert "nothing changed since 2024-06-01T12:00:00+00:00" == watermark.words

    watermark.cursor = "2024-06-01T11:59"
    assert 4 == len(watermark.tick())
    assert written == watermark.cursor
    watermark.cursor = "2024-06-01"
    assert 4 == len(watermark.tick())
    watermark.cursor = "2024-06-01 12:00:00"
    assert 0 == len(watermark.tick())


@pytest.mark.usefixtures("changing")
def test_a_watermark_that_waits_says_for_what(watermark, source, run):
    """Rows are there, and it is not true that nothing has changed."""
    watermark.tick()
    with closing(psycopg.connect(source)) as slow:
        ((began,),) = slow.execute("select now()")
        run(source, "update events set changed_at = now() where id = 1")

        assert [] == watermark.tick()
        assert f"a transaction of the source has been open since {began}" in watermark.words

    assert 1 == len(watermark.tick())
    assert watermark.words is None


@pytest.mark.usefixtures("changing")
@pytest.mark.parametrize(
    "cursor",
    [
        *("yesterday", "1795965877.336435", "{"),
        *('{"sinse": "2024-06-01"}', '{"since": "x"}', '{"since": 20240601}'),
    ],
)
def test_a_cursor_that_nobody_can_read_is_told_with_the_cure(watermark, resuming, cursor):
    """It is not taken for none: then everything would be loaded again."""
    for ticking in (watermark, resuming):
        ticking.cursor = cursor
        with pytest.raises(SettingsError, match=r"such as 2024-01-31T06:00:00\+00:00, or clear it"):
            ticking.tick()


@pytest.mark.usefixtures("events")
def test_a_watermark_without_its_column_says_where_it_is_missing(watermark, source, run):
    """Many a query does not select when its rows were changed."""
    with pytest.raises(SettingsError, match="no column changed_at: select it there too, or give"):
        watermark.tick()

    # Whatever else is wrong is told as it is.
    run(source, "drop table events")
    with pytest.raises(DatabaseError, match='"events" does not exist'):
        watermark.tick()


def test_a_sensor_for_failed_loads_says_since_when_it_looks(resuming):
    """Its cursor is a moment that people can read."""
    before = datetime.now(timezone.utc)
    assert [] == resuming.tick()

    assert before <= datetime.fromisoformat(resuming.cursor) <= datetime.now(timezone.utc)
    assert re.fullmatch("no load that can be continued has failed since .*", resuming.words)
