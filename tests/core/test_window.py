"""replace_window: the rows of one window are replaced, all at once, and no other row."""

import threading
from datetime import date, datetime, timedelta, timezone, tzinfo
from itertools import pairwise
from zoneinfo import ZoneInfo

import psycopg
import pytest

from mapper_core import LoadWindow, SettingsError, TargetError, execute_query_parallel

from ..waiting import assert_nothing_left, wait_until

QUERY = "select * from ev where at >= :window_start and at < :window_end order by id"


def window(first, last, tz=timezone.utc, column="at"):
    """The half-open span between two days of January 2024."""
    return LoadWindow(
        column, datetime(2024, 1, first, tzinfo=tz), datetime(2024, 1, last, tzinfo=tz)
    )


def load(source, target, span, sql=QUERY, **options):
    options = {"chunk_size": 10, "max_workers": 2, **options}
    return execute_query_parallel(
        source,
        sql,
        target_conn=target,
        target_schema="public",
        target_table="ev",
        load_mode="replace_window",
        window=span,
        min_rows_for_parallel=0,
        enable_progress=False,
        **options,
    )


@pytest.fixture
def events(source, target, run):
    """Hourly events of ten days in the source, an empty table of the same shape in the target."""
    table = "create table ev (id int primary key, at timestamptz not null, note text)"
    run(
        source,
        table,
        "insert into ev select i, '2024-01-01Z'::timestamptz + i * interval '1 hour', 'first'"
        " from generate_series(0, 239) i",
    )
    run(target, table)
    yield
    assert_nothing_left(source, target)


COUNTS = "select note, count(*), min(at), max(at) from ev group by note order by note"


def test_a_window_loaded_again_is_replaced_and_its_neighbours_are_not(events, source, target, run):
    """Deleted, changed and new rows of the window are as in the source; the rest is untouched."""
    for day in range(1, 11):
        load(source, target, window(day, day + 1)).raise_for_failures()
    run(
        source,
        "delete from ev where id % 5 = 0",
        "update ev set note = 'second'",
        "insert into ev values (1000, '2024-01-03 23:59:59.999999Z', 'second')",
    )

    result = load(source, target, window(3, 4))

    assert "succeeded" == result.status
    assert 20 == result.total_rows_successful == result.rows_written
    assert [(216,)] == run(target, "select count(*) from ev where note = 'first'")
    third = "select * from ev where at >= '2024-01-03Z' and at < '2024-01-04Z' order by id"
    assert run(source, third) == run(target, third)


def test_the_ends_are_half_open(events, source, target, run):
    """A row at the start is in the window, a row at the end in the next one."""
    load(source, target, window(2, 3)).raise_for_failures()
    load(source, target, window(3, 4)).raise_for_failures()
    run(source, "delete from ev")

    load(source, target, window(2, 3)).raise_for_failures()

    assert [(24, 48, 71)] == run(target, "select count(*), min(id), max(id) from ev")


def test_rows_outside_the_window_are_refused_and_the_target_is_unchanged(
    events, source, target, run
):
    """A query that forgets the window would add its rows again and again."""
    load(source, target, window(2, 3)).raise_for_failures()
    before = run(target, COUNTS)

    result = load(source, target, window(2, 3), sql="select * from ev order by id")

    assert ("failed", False) == (result.status, result.published)
    assert "outside the window" in result.error
    assert ":window_start" in result.error
    assert (240, 0, 240, 0) == (
        result.total_rows_processed,
        result.total_rows_successful,
        result.total_rows_failed,
        result.rows_written,
    )
    assert before == run(target, COUNTS)


def test_a_row_without_a_time_is_outside_the_window(source, target, run):
    """NULL lies in no window, so no later load would ever replace the row."""
    for url in (source, target):
        run(url, "create table ev (id int, at timestamptz)")
    run(source, "insert into ev values (1, '2024-01-02Z'), (2, null)")

    result = load(source, target, window(2, 3), sql="select * from ev")

    assert "1 rows of the query lie outside the window" in result.error
    assert [(0,)] == run(target, "select count(*) from ev")


def test_readers_see_the_old_rows_or_the_new_ones_and_nothing_between(events, source, target, run):
    """Polled all along two loads, the window's rows are of one version and complete."""
    load(source, target, window(1, 11)).raise_for_failures()
    seen, done = set(), threading.Event()
    polled_once = threading.Event()

    def poll():
        with psycopg.connect(target, autocommit=True) as connection:
            while not done.is_set():
                found = connection.execute("select count(*), min(note), max(note) from ev")
                seen.add(found.fetchone())
                polled_once.set()

    poller = threading.Thread(target=poll)
    poller.start()
    try:
        polled_once.wait(60)
        for version in ("second", "third"):
            run(source, f"update ev set note = '{version}'")
            load(source, target, window(1, 11), chunk_size=5).raise_for_failures()
            wait_until(lambda v=version: (240, v, v) in seen, f"the {version} rows to be seen")
    finally:
        done.set()
        poller.join()

    assert {(240, v, v) for v in ("first", "second", "third")} == seen


@pytest.mark.parametrize("schema", ["public", None], ids=["same-name", "another-name"])
def test_loads_of_one_window_at_once_leave_one_copy(events, source, target, run, schema):
    """Whatever their order, and however each of them names the table."""
    start = threading.Barrier(4)
    results = []

    def one(number):
        start.wait()
        results.append(
            load(source, target, window(1, 11), target_schema=schema if number % 2 else "public")
        )

    def load(*args, target_schema):
        return execute_query_parallel(
            args[0],
            QUERY,
            target_conn=args[1],
            target_schema=target_schema,
            target_table="ev",
            load_mode="replace_window",
            window=args[2],
            chunk_size=30,
            min_rows_for_parallel=0,
            max_workers=2,
            enable_progress=False,
        )

    run(target, "alter table ev drop constraint ev_pkey")  # which would hide a second copy
    threads = [threading.Thread(target=one, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert ["succeeded"] * 4 == [str(result.status) for result in results]
    assert [(240, 240)] == run(target, "select count(*), count(distinct id) from ev")


TARGETS = {
    "defaults": ("n int not null default 7, filled text default 'd'", "count(n), min(n)", (24, 7)),
    "identity-always": (
        "n int generated always as identity",
        "count(distinct n), min(n)",
        (24, 1),
    ),
    "identity-by-default": (
        "n int generated by default as identity",
        "count(distinct n), min(n)",
        (24, 1),
    ),
    "serial": ("n serial not null", "count(distinct n), min(n)", (24, 1)),
    "generated": (
        "n int generated always as (id * 2) stored",
        "sum(n - id * 2), count(n)",
        (0, 24),
    ),
}


@pytest.mark.parametrize("transform", [None, lambda rows: rows], ids=["plain", "transform"])
@pytest.mark.parametrize("extra", TARGETS)
def test_columns_that_the_query_lacks_get_what_the_target_gives_them(
    source, target, run, extra, transform
):
    """Defaults, identities, serials and computed columns, with a transform or without."""
    definition, asked, wanted = TARGETS[extra]
    run(
        source,
        "create table ev (id int, at timestamptz)",
        "insert into ev select i, '2024-01-02Z'::timestamptz + i * interval '1 hour'"
        " from generate_series(0, 23) i",
    )
    run(target, f"create table ev ({definition}, at timestamptz, id int)")

    load(source, target, window(2, 3), transformation_func=transform).raise_for_failures()

    assert [wanted] == run(target, f"select {asked} from ev")


def test_a_query_without_the_windows_column_is_refused_before_rows_move(
    events, source, target, run
):
    """Nobody could tell whether its rows lie in the window."""
    run(target, "alter table ev alter column at drop not null")
    with pytest.raises(TargetError, match="does not select at"):
        load(source, target, window(2, 3), sql="select id, note from ev")


def test_a_window_over_an_unknown_column_is_refused(events, source, target):
    """The message names it."""
    with pytest.raises(TargetError, match=r"column nope is not a column of public\.ev"):
        load(source, target, window(2, 3, column="nope"), sql="select * from ev")


def test_an_empty_window_is_no_window():
    """Start must lie before end, and both need a time zone or neither."""
    with pytest.raises(SettingsError, match="is empty"):
        window(3, 3)
    with pytest.raises(SettingsError, match="both have a time zone"):
        LoadWindow(
            "at", datetime.fromisoformat("2024-01-01"), datetime(2024, 1, 2, tzinfo=timezone.utc)
        )


BERLIN = ZoneInfo("Europe/Berlin")
# The clocks go back from three to two: this hour comes twice.
TWICE = datetime(2024, 10, 27, 2, tzinfo=BERLIN)


def test_the_hour_that_comes_twice_is_two_windows(source, target, run):
    """Each has its own rows, though the clock on the wall shows the same."""
    run(
        source,
        "create table events as select i as id, timestamptz '2024-10-27 00:00+02' +"
        " i * interval '10 minutes' as at from generate_series(0, 29) i",
    )
    run(target, "create table events (id int, at timestamptz)")
    hours = [TWICE, TWICE.replace(fold=1), datetime(2024, 10, 27, 3, tzinfo=BERLIN)]

    for start, end in pairwise(hours):
        result = execute_query_parallel(
            source,
            "select * from events where at >= :window_start and at < :window_end",
            target_conn=target,
            target_table="events",
            load_mode="replace_window",
            window=LoadWindow("at", start, end),
            enable_progress=False,
        )
        result.raise_for_failures()
        assert result.total_rows_successful == 6
    assert run(target, "select count(*), min(id), max(id) from events") == [(12, 12, 23)]
    with pytest.raises(SettingsError, match="is empty: start must lie before end"):
        LoadWindow("at", TWICE.replace(minute=30, fold=1), TWICE.replace(minute=45))


def test_a_window_has_its_own_ends_alone(events, source, target, run):
    """Others in params would select other rows than those that are deleted for them."""
    params = {"window_start": datetime(2024, 1, 2, tzinfo=timezone.utc)}
    with pytest.raises(SettingsError, match="params has a value for window_start, which the"):
        load(source, target, window(1, 3), params=params)
    assert [(0,)] == run(target, "select count(*) from ev")


class London(tzinfo):
    """A zone without a name for others, as dateutil's."""

    def utcoffset(self, moment):
        return None if moment is None else timedelta(hours=int(3 < moment.month < 11))

    def dst(self, moment):
        return self.utcoffset(moment)

    def tzname(self, moment):
        return None


def test_a_zone_that_is_utc_in_winter_only_is_not_taken_for_utc():
    """The last days of a window that ends in summer would be others."""
    over_spring = LoadWindow(
        "day", datetime(2024, 3, 1, tzinfo=London()), datetime(2024, 5, 1, tzinfo=London())
    )
    with pytest.raises(SettingsError, match="no named time zone: pass time_zone"):
        execute_query_parallel(
            "postgresql://nobody@localhost:1/x",
            "select 1 as a",
            target_conn="postgresql:///x",
            target_table="t",
            load_mode="replace_window",
            window=over_spring,
        )


@pytest.mark.parametrize(
    ("kind", "time_zone", "tz"),
    [
        ("date", None, None),
        ("timestamp", None, None),
        ("timestamptz", None, timezone.utc),
        ("date", "America/New_York", None),
        ("timestamp", "Asia/Kolkata", None),
        ("timestamptz", "America/New_York", timezone.utc),
        # A window without a time zone means that of the sessions, on both sides.
        ("timestamptz", "America/New_York", None),
        ("timestamptz", "Asia/Kolkata", timezone(timedelta(hours=5, minutes=30))),
    ],
)
def test_windows_fit_columns_of_every_kind_of_time(source, target, run, kind, time_zone, tz):
    """Loaded day by day, and again, every row is there once."""
    zone = time_zone or "UTC"
    run(
        source,
        f"set timezone = '{zone}'; create table ev (id int, at {kind});"
        f" insert into ev select i, ('2024-01-01'::timestamp + i * interval '1 hour')::{kind}"
        " from generate_series(0, 95) i",
    )
    run(target, f"create table ev (id int, at {kind})")
    if kind == "timestamptz" and tz is timezone.utc and time_zone:
        # Days of UTC do not begin where the rows do: take enough of them.
        run(source, "delete from ev where at < '2024-01-02Z' or at >= '2024-01-04Z'")
    days = [window(day, day + 1, tz) for day in range(1, 5)]

    for span in [*days, *days]:
        load(source, target, span, time_zone=time_zone).raise_for_failures()

    rows = "select id, at from ev order by id"
    assert run(source, rows) == run(target, rows)
    assert run(source, "select count(*) from ev") != [(0,)]


def test_the_stage_is_gone_after_success(events, source, target, run):
    """Nothing but the ledger's four tables stays in its schema."""
    load(source, target, window(2, 3)).raise_for_failures()

    tables = run(target, "select tablename from pg_tables where schemaname = 'mapper'")
    assert {"load", "chunk", "claim", "reject", "version"} == {name for (name,) in tables}


def test_a_failed_chunk_publishes_nothing(events, source, target, run):
    """The old rows stay; the rows of finished chunks are in nobody's sight and count as failed."""
    load(source, target, window(2, 3)).raise_for_failures()
    before = run(target, COUNTS)
    run(source, "update ev set note = 'second'")

    def refuse(rows):
        if any(row["id"] == 40 for row in rows):
            raise ValueError("not this one")
        return rows

    result = load(source, target, window(2, 3), transformation_func=refuse)

    assert ("failed", False) == (result.status, result.published)
    assert (3, 2, 1) == (result.chunks_total, result.chunks_succeeded, result.chunks_failed)
    assert (24, 0, 24) == (
        result.total_rows_processed,
        result.total_rows_successful,
        result.total_rows_failed,
    )
    assert before == run(target, COUNTS)


def test_a_target_that_refuses_the_rows_at_the_end_keeps_the_old_ones(events, source, target, run):
    """A constraint that only publishing meets is returned in words, and nothing has changed."""
    load(source, target, window(2, 3)).raise_for_failures()
    before = run(target, COUNTS)
    run(target, "alter table ev add check (note <> 'second')")
    run(source, "update ev set note = 'second' where id = 30")

    result = load(source, target, window(2, 3))

    assert ("failed", False) == (result.status, result.published)
    assert "violates check constraint" in result.error
    assert "Nothing was published; the target is unchanged. Fix the cause" in result.error
    assert before == run(target, COUNTS)


def test_an_empty_window_of_the_source_empties_the_targets(events, source, target, run):
    """No row in the source's window means none in the target's."""
    load(source, target, window(2, 4)).raise_for_failures()
    run(source, "delete from ev where at::date = date '2024-01-02'")

    result = load(source, target, window(2, 3), time_zone="UTC")

    assert ("succeeded", 0) == (result.status, result.total_rows_processed)
    assert [(24, date(2024, 1, 3))] == run(
        target, "select count(*), min((at at time zone 'UTC')::date) from ev"
    )


@pytest.mark.parametrize(
    ("start", "end", "words"),
    [
        (0, 5000, "must be datetimes"),
        (date(2024, 1, 1), date(2024, 2, 1), "must be datetimes"),
        (datetime(2024, 1, 1), datetime(2024, 2, 1, tzinfo=timezone.utc), "or neither"),
        (datetime(2024, 2, 1), datetime(2024, 2, 1), "is empty"),
    ],
)
def test_a_window_that_makes_no_sense_is_refused_in_words(start, end, words):
    """Before anything is opened."""
    with pytest.raises(SettingsError, match=words):
        LoadWindow("day", start, end)
