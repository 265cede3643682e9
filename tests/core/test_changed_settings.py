"""Settings that change while a load runs: all of it goes on as it began."""

from typing import Any

import psycopg
import pytest
from psycopg import sql

from mapper_core import ParallelProcessor, execute_query_parallel

from ..waiting import wait_until

pytestmark = pytest.mark.timeout(120)

ROWS = 1_000

WHO = "reader_of_changed_settings"

IN_CHUNKS: dict[str, Any] = {
    "chunk_size": 100,
    "min_rows_for_parallel": 0,
    "max_workers": 1,
    "enable_progress": False,
}


@pytest.fixture
def items(source, run):
    """Two tables of one name, which the search path tells apart, and who may read them."""
    run(source, f"create role {WHO}")
    for schema in ("one", "other"):
        run(
            source,
            f"create schema {schema}",
            f"grant usage on schema {schema} to {WHO}",
            f"create table {schema}.items (id int primary key, day text, at timestamptz)",
            f"insert into {schema}.items select i, '03/04/2024', '2024-07-01 12:00+00'"
            f" from generate_series(1, {ROWS}) i",
            f"grant select on {schema}.items to {WHO}",
        )
    yield
    run(source, "set role none", f"drop owned by {WHO}", f"drop role {WHO}")


# Of a setting, how it is when the load begins and what it becomes; and what depends on it.
CHANGES = {
    "search_path": ("one", "other", "items.tableoid::regclass::oid"),
    "timezone": ("'Asia/Kathmandu'", "UTC", "date_part('hour', at)"),
    "datestyle": ("'ISO, DMY'", "'ISO, MDY'", "day::date"),
    "default_text_search_config": ("simple", "english", "to_tsvector(day || ' houses')"),
    "transform_null_equals": ("on", "off", "null = null"),
    "role": (WHO, "none", "current_user"),
}


def set_in(url, name, value):
    """Make it a default of the database, for sessions that are yet to begin."""
    with psycopg.connect(url, autocommit=True, options="-c role=none") as connection:
        database = sql.Identifier(connection.info.dbname)
        connection.execute(sql.SQL(f"alter database {{}} set {name} = {value}").format(database))


def end_readers(url):
    """End the sessions that read for a load, but not the one that holds its read point."""
    ended = (
        "select count(pg_terminate_backend(pid, 5000)) from pg_stat_activity"
        " where datname = current_database() and query like 'copy (%'"
    )
    with psycopg.connect(url, autocommit=True, options="-c role=none") as connection:
        return connection.execute(ended).fetchall()


@pytest.mark.parametrize(
    ("name", "options"), [*((name, {}) for name in CHANGES), ("datestyle", {"snapshot": False})]
)
def test_a_session_that_begins_later_reads_by_the_settings_of_the_read_point(
    items, source, target, run, name, options
):
    """One that was lost is begun anew after a default of its database has changed.

    Without a read point it is that of the planning.
    """
    before, after, depends = CHANGES[name]
    set_in(source, "search_path", "one")
    set_in(source, name, before)
    run(target, "create table items (id int, said text)")
    lost: list[Any] = []

    def change(rows):
        if not lost:
            set_in(source, name, after)
            lost.append(end_readers(source))
        return rows

    result = execute_query_parallel(
        source,
        f"select id, ({depends})::text as said from items order by id",
        target_conn=target,
        target_table="items",
        transformation_func=change,
        **{**IN_CHUNKS, **options},
    )

    result.raise_for_failures()
    assert [[(1,)]] == lost
    assert result.chunks_total >= 10
    assert 1 == len(run(target, "select distinct said from items"))
    assert [(ROWS,)] == run(target, "select count(*) from items")


@pytest.mark.parametrize("again", [False, True], ids=["once", "planned again"])
def test_steps_in_several_processes_read_by_the_settings_of_their_read_point(
    items, source, target, run, again
):
    """The holder of their snapshot tells them, also when the load is gone on with there."""
    run(target, "create table items (id int, day date)")
    set_in(source, "search_path", "one")
    set_in(source, "datestyle", "'ISO, DMY'")
    run(source, "update one.items set id = -id")
    step = (source, "select id, day::date as day from items order by id", "group")
    options = {"target_conn": target, "target_table": "items", "verify": "count"}
    processor = ParallelProcessor(**IN_CHUNKS)
    planned = processor.plan_load(*step, **options)

    set_in(source, "search_path", "other")
    set_in(source, "datestyle", "'ISO, MDY'")
    run(source, "delete from other.items where id > 10")
    if again:
        assert planned.snapshot == processor.plan_load(*step, **options).snapshot
    for lane in range(2):
        processor.load_lane(*step, lane=lane, lanes=2, **options)
    published = processor.publish_load(*step, **options)

    assert ROWS == published.total_rows_successful
    assert [(ROWS, -1, "2024-04-03")] == run(
        target, "select count(*), max(id), string_agg(distinct day::text, ' ') from items"
    )


@pytest.mark.parametrize("strategy", ["key", "same_database"])
def test_a_server_that_reloads_its_settings_changes_no_chunk(own, run, strategy):
    """Neither in sessions that are at work, nor in those that begin afterwards."""
    table = "create table {} (id int primary key, words text)"
    run(own.url, table.format("items"), table.format("copies"))
    run(
        own.url,
        f"insert into items select i, 'the houses' from generate_series(1, {ROWS}) i",
        "alter system set default_text_search_config = simple",
        "select pg_reload_conf()",
    )
    changed: list[bool] = []

    def change(_):
        if not changed:
            changed.append(True)
            run(
                own.url,
                "alter system set default_text_search_config = english",
                "select pg_reload_conf()",
            )
            end = "query ~ '^(copy|insert into \"copies\")' and pid <> pg_backend_pid()"
            ended = f"select count(pg_terminate_backend(pid)) from pg_stat_activity where {end}"
            run(own.url, ended)

    result = execute_query_parallel(
        own.url,
        "select id, to_tsvector(words)::text as words from items order by id",
        target_conn=own.url,
        target_table="copies",
        strategy=strategy,
        progress_callback=change,
        **{**IN_CHUNKS, "enable_progress": True},
    )

    result.raise_for_failures()
    assert changed
    assert 10 == result.chunks_total
    assert [("'houses':2 'the':1",)] == run(own.url, "select distinct words from copies")


# Of a setting of the target, how it is when the load begins and what it becomes.
THERE = {
    "search_path": ("one", "other"),
    "timezone": ("'Asia/Kathmandu'", "UTC"),
    "datestyle": ("'ISO, DMY'", "'ISO, MDY'"),
}
ARRIVED = [(ROWS, ROWS, "2024-04-03 2024-07-01 06:15:00")]
SEEN = (
    "select count(*), count(distinct id),"
    " string_agg(distinct day || ' ' || (at at time zone 'UTC'), ',') from one.arrived"
)


@pytest.fixture
def arrived(source, target, run):
    """A table of texts, and two tables of one name for what they mean."""
    run(
        source,
        "create table items (id int primary key, day text, at text)",
        "insert into items select i, '03/04/2024', '2024-07-01 12:00'"
        f" from generate_series(1, {ROWS}) i",
    )
    for schema in ("one", "other"):
        table = f"{schema}.arrived (id int, day date, at timestamptz)"
        run(target, f"create schema {schema}", f"create table {table}")
    for name, (before, _) in THERE.items():
        set_in(target, name, before)


def change_there(target, run):
    """Change all of it, for sessions that are yet to begin; end those that are there."""
    for name, (_, after) in THERE.items():
        set_in(target, name, after)
    others = "datname = current_database() and pid <> pg_backend_pid()"
    run(target, f"select pg_terminate_backend(pid, 5000) from pg_stat_activity where {others}")


@pytest.mark.parametrize("options", [{}, {"publish": "atomic"}], ids=["append", "staged"])
def test_a_session_that_begins_later_writes_by_the_settings_of_the_planning(
    arrived, source, target, run, options
):
    """Into the same table, the same dates and times."""
    changed: list[bool] = []

    def change(_):
        if not changed:
            changed.append(True)
            change_there(target, run)

    result = execute_query_parallel(
        source,
        "select * from items order by id",
        target_conn=target,
        target_table="arrived",
        transformation_func=list,  # what texts of its rows mean is the target's to say
        progress_callback=change,
        **{**IN_CHUNKS, **options, "enable_progress": True},
    )

    result.raise_for_failures()
    assert changed
    assert ARRIVED == run(target, SEEN)


def test_steps_in_several_processes_write_by_the_settings_of_the_latest_planning(
    arrived, source, target, run
):
    """Whoever has mended them and plans the load again wants them to hold."""
    step = (source, "select * from items order by id", "group")
    options: dict[str, Any] = {
        "target_conn": target,
        "target_table": "arrived",
        "transformation_func": list,
        "publish": "atomic",
    }
    processor = ParallelProcessor(**IN_CHUNKS)
    change_there(target, run)
    processor.plan_load(*step, **options)
    for name, (before, _) in THERE.items():
        set_in(target, name, before)
    processor.plan_load(*step, **options)
    change_there(target, run)

    for lane in range(2):
        processor.load_lane(*step, lane=lane, lanes=2, **options)
    processor.publish_load(*step, **options)

    assert ARRIVED == run(target, SEEN)


def test_a_setting_that_the_database_would_refuse_by_now_is_left_alone(own, run):
    """A server's configuration may name what one of its databases has not."""
    table = "create table {} (id int primary key)"
    run(own.url, table.format("items"), table.format("copies"), "insert into items values (1)")
    run(
        own.url,
        "create text search configuration mine (copy = simple)",
        "alter system set default_text_search_config = 'public.mine'",
        "select pg_reload_conf()",
        "drop text search configuration mine",
    )
    wait_until(
        lambda: [("public.mine",)] == run(own.url, "show default_text_search_config"), "the setting"
    )

    result = execute_query_parallel(
        own.url,
        "select * from items order by id",
        target_conn=own.url,
        target_table="copies",
        strategy="key",
        **IN_CHUNKS,
    )

    result.raise_for_failures()
    assert [(1,)] == run(own.url, "select * from copies")
