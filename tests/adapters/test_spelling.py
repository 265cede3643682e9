"""Values in columns of text: by each path in PostgreSQL's own spelling."""

from datetime import datetime, timedelta, timezone
from decimal import Decimal
from functools import cache
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mapper_core import execute_query_parallel
from mapper_core.adapters.postgresql import spelling

from ..databases import making_databases

# Type -> values whose spelling is Python's, or Arrow's, only by chance.
TYPES = {
    "double precision": ("0.1", "1", "1e15", "1e-4", "1e-5", "-0", "NaN", "-Infinity", "123456.5"),
    "real": ("0.1", "1", "16777216", "1e5", "1e6", "1e-4", "NaN", "Infinity"),
    "numeric": ("1.10", "1e-20", "NaN", "1e40", "-0.0000001"),
    "date": ("2024-02-29",),
    "time": ("10:00", "10:00:00.5"),
    "timetz": ("10:00:00.5+05:30", "10:00-02"),
    "timestamp": ("2024-01-01", "2024-01-01 10:00:00.5", "0001-01-01"),
    "timestamptz": ("2024-01-01 10:00+00", "2024-07-01 10:00:00.123+00"),
    "interval": ("00:00", "1 day", "-1 day", "2 days 10:00:00.5", "-1 days -02:00"),
    "boolean": ("t", "f"),
    "uuid": ("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",),
    "bytea": (r"\x00ff5c",),
    "inet": ("10.0.0.1", "10.0.0.1/8"),
    "numrange": ("[1.10,2)", "empty", "(,)"),
    "daterange": ("[2024-01-01,2024-02-01)", "(,2024-01-01)"),
    "tsrange": ("[2024-01-01 10:00:00.5,2024-02-01)",),
    "tstzrange": ("[2024-01-01 10:00+00,2024-07-01 10:00:00.123+00]", "empty"),
    "tsmultirange": ("{[2024-01-01,2024-02-01),[2024-03-01,)}", "{}"),
    "tstzmultirange": ("{[2024-01-01 10:00+00,2024-07-01 10:00+00)}",),
    "tstzrange[]": ('{"[2024-01-01 10:00+00,)",NULL,empty}',),
    "tstzmultirange[]": ('{"{[2024-01-01 10:00+00,)}",NULL,"{}"}',),
    "int4range[]": ('{"[1,5)",empty}',),
    "text[]": ('{a,"b c",NULL,"NULL","null","","{}","q\\"\\\\"}', '{{"\u3000"},{"a\tb"}}', "{}"),
    "double precision[]": ("{1,1e15,NaN,NULL}", "{{0.1},{-0}}"),
    "real[]": ("{16777216,0.1}",),
    "numeric[]": ("{1.10,1e-20}",),
    "boolean[]": ("{t,f}",),
    "bytea[]": ('{"\\\\x00ff",NULL}',),
    "timestamptz[]": ('{"2024-01-01 10:00+00"}',),
    "interval[]": ('{"1 day","02:00:00"}',),
    "uuid[]": ("{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}",),
}
FUNCTIONS: dict[str, dict[str, Any]] = {
    "all seen": {"transformation_func": list},
    "rows added": {"transformation_func": lambda rows: [*rows, {"id": -1}]},
    "one touched": {
        "transformation_func": lambda rows: [{**rows[0], "v": None}, *rows[1:]],
    },
    "batches": {"transform_batch": lambda batch: batch},
}


@pytest.fixture(scope="module")
def loaded(server):
    """Load a type's values into text, with or without a function; return the texts."""
    with making_databases(server) as make:
        source, target = make("source"), make("target")
        with psycopg.connect(source, autocommit=True) as live:
            for kind, values in TYPES.items():
                live.execute(f'create table "{kind}" (id int, v {kind})')
                # The first one is there to be touched.
                for number, value in enumerate([values[0], *values]):
                    live.execute(f'insert into "{kind}" values (%s, %s::{kind})', (number, value))

        def load(kind, zone, **options):
            with psycopg.connect(target, autocommit=True) as live:
                live.execute("drop table if exists item")
                live.execute("create table item (id int, v text)")
                execute_query_parallel(
                    source,
                    f'select * from "{kind}" order by id',
                    target_conn=target,
                    target_table="item",
                    time_zone=zone,
                    enable_progress=False,
                    **options,
                ).raise_for_failures()
                return live.execute("select id, v from item where id > 0 order by id").fetchall()

        yield load


@pytest.fixture(scope="module")
def plain(loaded):
    """The texts of a type's values without a function."""
    return cache(loaded)


@pytest.mark.parametrize("zone", ["UTC", "Europe/Amsterdam"])
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("kind", TYPES)
def test_a_text_is_what_it_is_without_a_function(loaded, plain, kind, function, zone):
    """Nor does it depend on what a function does to the rows beside it."""
    texts = plain(kind, zone)

    assert len(TYPES[kind]) == len(texts)
    assert texts == loaded(kind, zone, **FUNCTIONS[function])


# Within what Python and PostgreSQL have both.
ZONES = st.timedeltas(min_value=timedelta(hours=-15), max_value=timedelta(hours=15))
VALUES = {
    "double precision": st.floats(),
    "real": st.floats(width=32),
    "numeric": st.decimals(allow_nan=False, allow_infinity=False)
    | st.just(Decimal("NaN"))
    | st.decimals(min_value=-1, max_value=1, places=30),
    "timestamp": st.datetimes(),
    "time": st.times(),
    "text[]": st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0")) | st.none()),
    "double precision[]": st.lists(st.floats() | st.none(), min_size=1),
    "interval": st.timedeltas(timedelta(0), timedelta(days=9_999)),
}


@pytest.fixture(scope="module")
def live(server):
    """A session that writes values as ours do."""
    with psycopg.connect(host=server, user="postgres", dbname="postgres") as connection:
        connection.execute("set timezone = 'UTC'")
        yield connection


@pytest.mark.parametrize("kind", VALUES)
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_each_value_is_spelled_as_postgresql_does(live, kind, data):
    """Its text comes out of PostgreSQL as it went in."""
    value = data.draw(VALUES[kind])
    digits = spelling.REAL_DIGITS if kind == "real" else spelling.DOUBLE_DIGITS
    if kind == "real":
        # As it is read: by the fewest digits that tell it from other single floats.
        ((text,),) = live.execute("select %s::real::text", (repr(value),)).fetchall()
        value = float(text)

    written = spelling.spelled(value, digits, str) or ""

    ((found,),) = live.execute(f"select %s::{kind}::text", (written,)).fetchall()
    # Of two texts that it reads alike PostgreSQL does not always take the shorter one.
    assert written == found or (_floats(written) == _floats(found) and len(written) < len(found))


def _floats(text):
    # As Python prints them: a NaN does not equal itself.
    return [each if each == "NULL" else repr(float(each)) for each in text.strip("{}").split(",")]


@settings(max_examples=100, deadline=None)
@given(moment=st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1)), offset=ZONES)
def test_a_moment_with_its_zone_is_spelled_as_postgresql_reads_it(live, moment, offset):
    """Whatever seconds its offset has."""
    zone = timezone(timedelta(seconds=round(offset.total_seconds())))
    value = moment.replace(tzinfo=zone)

    written = spelling.spelled(value, spelling.DOUBLE_DIGITS, str)

    utc = spelling.spelled(value.astimezone(timezone.utc), spelling.DOUBLE_DIGITS, str)
    ((found,),) = live.execute("select %s::timestamptz::text", (written,)).fetchall()
    assert utc == found
