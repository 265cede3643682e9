"""What a caller has set up in its live session holds in ours: the same rows, the same values."""

from contextlib import closing

import psycopg
import psycopg2
import pytest
import sqlalchemy as sa

from mapper_core import SettingsError, TargetError, execute_query_parallel

from ..databases import name_of
from .running import asked, load

pytestmark = pytest.mark.timeout(60)

ROWS = 3_000

# Rows that a session may see by a setting of its own, as applications of many tenants have it.
TENANTS = (
    "create table items (id int primary key, tenant text)",
    "insert into items select i, 't' || i % 3 from generate_series(1, 3000) i",
    "alter table items enable row level security",
    "create role tenant_of_tests",
    "grant select on items to tenant_of_tests",
)
NONE_LEFT = ("drop owned by tenant_of_tests", "drop role tenant_of_tests")

WAYS = {
    "policy": ("create policy mine on items using (tenant = current_setting('app.tenant', true))",),
    "function": (
        "create function tenant() returns text stable language plpgsql as"
        " $$begin return current_setting('app.tenant', true); end$$",
        "create policy mine on items using (tenant = tenant())",
    ),
    "function of sql's own": (
        "create function tenant() returns text stable set work_mem = '1MB'"
        " return current_setting('app.tenant', true)",
        "create policy mine on items using (tenant = tenant())",
    ),
    "policy behind a function": (
        "create policy mine on items using (tenant = current_setting('app.tenant', true))",
        "create function all_items() returns setof items stable language plpgsql as"
        " 'begin return query select * from items; end'",
    ),
}


@pytest.mark.parametrize("connect", [psycopg.connect, psycopg2.connect])
@pytest.mark.parametrize("way", WAYS)
def test_a_setting_that_says_whose_rows_are_seen_holds_in_every_session(
    way, connect, source, target, run
):
    """Without it, policies let no row through: nothing would be loaded, and that a success."""
    run(source, *TENANTS, *WAYS[way])
    run(target, "create table items (id int, tenant text)")
    table = "all_items()" if way == "policy behind a function" else "items"
    try:
        with closing(connect(source)) as live:
            cursor = live.cursor()
            cursor.execute("set role tenant_of_tests")
            cursor.execute("set app.tenant = 't1'")
            live.commit()
            result = load(live, f"select * from {table} order by id", target, "items")
        assert result.total_rows_successful == 1000
        assert result.chunks_total > 1
    finally:
        run(source, *NONE_LEFT)
    assert run(target, "select tenant, count(*) from items group by tenant") == [("t1", 1000)]


ENCODINGS = ["utf8", "latin1", "sql_ascii"]


@pytest.mark.parametrize("autocommit", [False, True])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_setting_holds_letter_by_letter_in_whatever_encoding(
    source, target, run, encoding, autocommit
):
    """Sessions begin with that of the one given: what is set in them first is written for it."""
    run(
        source,
        "create schema größe",
        "create table größe.items as select i as id, 'té' as tenant from generate_series(1, 9) i",
        "create view größe.mine as select * from größe.items"
        " where tenant = current_setting('app.tenant', true)",
    )
    run(target, "create table items (id int, tenant text)")

    with psycopg.connect(source, client_encoding=encoding, autocommit=autocommit) as live:
        for setting in ("app.tenant = 'té'", "search_path = größe"):
            live.execute(f"set {setting}".encode("latin1" if encoding == "latin1" else "utf8"))
        live.commit()
        load(live, "select * from mine", target, "items").raise_for_failures()
        assert "IDLE" == live.info.transaction_status.name
        assert live.info.parameter_status("client_encoding") == encoding.upper()

    assert [("té", 9)] == run(target, "select tenant, count(*) from items group by tenant")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_load_id_may_have_any_letter_in_whatever_encoding(source, target, run, encoding):
    """Which the sessions are called by."""
    for url in (source, target):
        run(url, f"alter database {name_of(url)} set client_encoding = {encoding}")
    run(source, "create table items as select i as id from generate_series(1, 9) i")
    run(target, "create table items (id int)")

    load(source, "select * from items", target, "items", load_id="größe 日").raise_for_failures()

    assert [("größe 日",)] == run(
        target, "set client_encoding = utf8", "select load_id from mapper.load"
    )


def test_a_setting_that_the_query_asks_for_holds_in_every_session(source, target, run):
    """By its name in the query, in a view, and in a value."""
    run(source, "create table items as select i as id from generate_series(1, 3000) i")
    run(source, "create view seen as select id, current_setting('app.b.c', true) as b from items")
    run(target, "create table items (id int, a text, b text, c text)")

    with psycopg.connect(source, autocommit=True) as live:
        for name, value in (("app.a", "it's %s"), ("app.b.c", "b"), ("app.c", "")):
            live.execute("select set_config(%s, %s, false)", (name, value))
        load(
            live,
            "select id, CURRENT_SETTING ( 'app.a', true) as a, b,"
            " current_setting(:name, true) as c from seen order by id",
            target,
            "items",
            params={"name": "app.c"},
        ).raise_for_failures()

    assert run(target, "select distinct a, b, c from items") == [("it's %s", "b", "")]


def test_a_setting_of_the_targets_connection_is_known_to_its_triggers(source, target, run):
    """And to its defaults."""
    run(source, "create table items as select i as id from generate_series(1, 3000) i")
    run(
        target,
        "create table items (id int, who text, at text default current_setting('app.at', true))",
        "create function sign() returns trigger language plpgsql as"
        " $$begin new.who := current_setting('app.who', true); return new; end$$",
        "create trigger sign before insert on items for each row execute function sign()",
    )

    url = target.replace("postgresql:", "postgresql+psycopg:")
    with sa.create_engine(url, poolclass=sa.NullPool).connect() as live:
        live.execute(sa.text("select set_config('app.who', 'me', false)"))
        live.execute(sa.text("select set_config('app.at', 'night', false)"))
        live.commit()
        load(source, "select * from items order by id", live, "items").raise_for_failures()

    assert run(target, "select distinct who, at from items") == [("me", "night")]


@pytest.mark.parametrize("connect", [psycopg.connect, psycopg2.connect])
def test_how_texts_are_read_is_as_in_the_session_given(connect, source, target, run):
    """The order of day and month, the dictionary of words, the sign of a currency, a backslash."""
    run(source, "create table items as select i as id from generate_series(1, 3000) i")
    run(target, "create table items (id int, day date, words text, same text, slash text)")
    sql = (
        "select id, '03/04/2024'::date as day, to_tsvector('The houses')::text as words,"
        r" (null = null)::text as same, '\\' as slash from items order by id"
    )
    settings = (
        *("datestyle to SQL, DMY", "default_text_search_config to 'simple'"),
        *("transform_null_equals to on", "standard_conforming_strings to off"),
    )

    with closing(connect(source)) as live:
        cursor = live.cursor()
        for setting in settings:
            cursor.execute(f"set {setting}")
        live.commit()
        load(live, sql, target, "items").raise_for_failures()

    assert run(target, "select distinct day::text, words, same, slash from items") == [
        ("2024-04-03", "'houses':2 'the':1", "true", "\\")
    ]


@pytest.mark.parametrize("connect", [psycopg.connect, psycopg2.connect])
def test_who_the_session_acts_as_holds_in_every_session(connect, source, target, run):
    """Whoever gave up its rights with SET SESSION AUTHORIZATION reads no row by them."""
    run(source, *TENANTS, "create policy mine on items using (tenant = 't2')")
    run(target, "create table items (id int, tenant text)")
    try:
        with closing(connect(source)) as live:
            live.cursor().execute("set session authorization tenant_of_tests")
            live.commit()
            sql = "select id, tenant || session_user as tenant from items order by id"
            load(live, sql, target, "items").raise_for_failures()
    finally:
        run(source, *NONE_LEFT)
    counted = run(target, "select tenant, count(*) from items group by tenant")
    assert counted == [("t2tenant_of_tests", 1000)]


def test_a_role_that_was_taken_after_who_the_session_acts_as_holds_too(source, target, run):
    """On both sides: to say who the session acts as sets the role back."""
    run(
        source,
        f"create table items as select i as id from generate_series(1, {ROWS}) i",
        "create role acting_of_tests",
        "create role taken_of_tests role acting_of_tests",
        "grant select on items to taken_of_tests",
    )
    run(
        target,
        "create table items (id int, reader text, writer text default current_user)",
        "grant select, insert on items to taken_of_tests",
        f"grant create on database {name_of(target)} to taken_of_tests",
    )
    sql = "select id, current_user::text as reader from items order by id"
    try:
        with closing(psycopg.connect(source)) as here, closing(psycopg.connect(target)) as there:
            for live in (here, there):
                live.execute("set session authorization acting_of_tests")
                live.execute("set role taken_of_tests")
                live.commit()
            load(here, sql, there, "items").raise_for_failures()
        counted = run(target, "select reader, writer, count(*) from items group by 1, 2")
    finally:
        for url in (source, target):
            run(url, "drop owned by taken_of_tests")
        run(source, "drop role taken_of_tests", "drop role acting_of_tests")
    assert [("taken_of_tests", "taken_of_tests", ROWS)] == counted


@pytest.mark.parametrize("others_see_one", [True, False])
def test_a_temporary_target_is_refused_in_words(others_see_one, source, target, run):
    """Our sessions do not see it: rows would go into another table of its name."""
    run(source, "create table items as select i as id from generate_series(1, 3000) i")
    if others_see_one:
        run(target, "create table items (id int)")

    with psycopg.connect(target, autocommit=True) as live:
        live.execute("create temp table items (id int)")
        with pytest.raises(TargetError, match="items is a temporary table of the connection given"):
            load(source, "select * from items order by id", live, "items")
        with pytest.raises(TargetError, match="a temporary table of the connection given"):
            load(source, "select * from items order by id", live, "items", create_target=True)
        if others_see_one:
            load(
                source, "select id from items", live, "items", target_schema="public"
            ).raise_for_failures()
            assert run(target, "select count(*) from items") == [(3000,)]


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_connection_in_a_pipeline_is_refused(source, target, run, side):
    """It is left as it was: what the caller has said there is not lost."""
    run(target, "create table numbers (id int, part int)")
    url = {"source": source, "target": target}[side]
    with psycopg.connect(url, autocommit=True) as live, live.pipeline():
        said = live.execute("select 1")
        ends = (live, target) if side == "source" else (source, live)
        with pytest.raises(SettingsError, match="is in a pipeline, where no COPY can be: leave"):
            execute_query_parallel(
                ends[0],
                "select 1 as id, 2 as part",
                target_conn=ends[1],
                target_table="numbers",
                enable_progress=False,
            )
        assert [(1,)] == said.fetchall()


@pytest.mark.parametrize("encoding", ["latin1", "sql_ascii"])
@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("connect", [psycopg.connect, psycopg2.connect])
def test_names_that_are_not_ascii_hold_in_every_session(
    connect, side, encoding, source, target, run
):
    """Also where sessions of the database begin in another encoding than ours."""
    url = {"source": source, "target": target}[side]
    run(
        url,
        'create schema "größe"',
        'create role "müller"',
        'grant usage on schema "größe" to "müller"',
        'create table "größe".items (id int, who text default current_user)',
        'grant select, insert on "größe".items to "müller"',
        f'grant create on database {name_of(url)} to "müller"',
    )
    if side == "source":
        run(url, f'insert into "größe".items select i, null from generate_series(1, {ROWS}) i')
        run(target, "create table items (id int, who text)")
    else:
        run(source, f"create table items as select i as id from generate_series(1, {ROWS}) i")
    query = "select id, current_user::text as who from items order by id"
    table = "items" if side == "source" else '"größe".items'
    run(url, f"alter database {name_of(url)} set client_encoding = {encoding}")
    try:
        with closing(connect(url)) as live:
            cursor = live.cursor()
            # As who gives such names in ASCII.
            cursor.execute(r"""select set_config('search_path', E'"gr\u00f6\u00dfe"', false)""")
            cursor.execute(r"select set_config('role', E'm\u00fcller', false)")
            live.commit()
            ends = (live, target) if side == "source" else (source, live)
            if side == "target":
                query = "select id from items order by id"
            load(ends[0], query, ends[1], "items").raise_for_failures()
    finally:
        run(url, f"alter database {name_of(url)} reset client_encoding")
        counted = asked(target, f"select count(*), min(who) from {table}")
        run(url, 'drop owned by "müller"', 'drop role "müller"')
    assert [(ROWS, "müller")] == counted
