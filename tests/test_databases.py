"""Whatever a test does to its database, the next one has a new one, or one that is as new."""

import psycopg
import pytest

from .databases import making_databases

LEFT = {
    "tables": ("create table t (id serial primary key)", "create view v as select * from t"),
    "partitions": (
        "create table t (id int) partition by range (id)",
        "create table t_one partition of t for values from (1) to (2)",
    ),
    "types": ("create type pair as (n int)", "create domain whole as int check (value > 0)"),
    "functions": (
        "create function f(n int) returns int language sql as 'select n'",
        "create aggregate total(int) (sfunc = int4pl, stype = int)",
    ),
    "a schema": ("create schema mapper", "create table mapper.chunk (id int)"),
    "a cast": ("create cast (int as date) with inout",),
    "a right": ("revoke execute on function pg_export_snapshot() from public",),
    "no public schema": ("drop schema public",),
    "a setting": (
        "do $$ begin execute format('alter database %I set enable_sort = off',"
        " current_database()); end $$",
    ),
}
STATE = """select (select count(*) from pg_class where oid >= 16384),
    (select count(*) from pg_proc where oid >= 16384),
    (select count(*) from pg_type where oid >= 16384),
    (select count(*) from pg_cast where oid >= 16384),
    (select string_agg(nspname, ' ' order by nspname) from pg_namespace where nspname !~ '^pg_'),
    has_function_privilege('public', 'pg_export_snapshot()', 'execute'),
    current_setting('enable_sort')"""


@pytest.mark.parametrize("left", LEFT)
def test_nothing_is_left_of_what_was_done_before(server, run, left):
    """A session that stayed open ends as well."""
    with making_databases(server) as make:
        used = make()
        staying = psycopg.connect(used)
        run(used, *LEFT[left])

    with pytest.raises(psycopg.OperationalError):
        staying.execute("select 1")
    staying.close()
    with making_databases(server) as make:
        # More than there are spare ones.
        found = [run(make(), STATE) for _ in range(4)]
    assert 4 * [[(0, 0, 0, 0, "information_schema public", True, "on")]] == found
