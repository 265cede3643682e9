"""How rows meet those already in the target: replaced, merged, added at once, or refused."""

import threading
from contextlib import closing
from typing import Any

import psycopg
import pytest

from mapper_core import (
    MapperError,
    QueryError,
    SettingsError,
    TargetError,
    execute_query_parallel,
    plan,
)

from ..waiting import wait_until, waiting_for_locks
from .running import Background

ROWS = 1_000


@pytest.fixture
def orders(source, target, run):
    """1,000 orders in the source; the target has 10 others, a view, an index, a comment."""
    run(
        source,
        "create table orders (id int primary key, note text, amount numeric, at timestamptz)",
        "insert into orders select i, 'n' || i, i / 4.0, '2024-01-01'"
        f" from generate_series(1, {ROWS}) i",
    )
    run(
        target,
        "create table orders (id int, note text, amount numeric, at timestamptz)",
        "create index orders_by_note on orders (note)",
        "comment on table orders is 'all orders'",
        "create view notes as select note from orders",
        "insert into orders select -i, 'old', 0, now() from generate_series(1, 10) i",
    )


def load(source, target, sql="select * from orders order by id", **options):
    options = {"chunk_size": 100, "max_workers": 2, "load_mode": "replace", **options}
    return execute_query_parallel(
        source,
        sql,
        target_conn=target,
        target_table=options.pop("target_table", "orders"),
        min_rows_for_parallel=0,
        enable_progress=False,
        **options,
    )


SUM = "select count(*), sum(hashtext(o::text)) from orders o"
STAGES = "select count(*) from pg_class where relname like 'stage%' and relkind = 'r'"


@pytest.mark.parametrize("strategy", ["key", "physical", "stream_once", "one_pass"])
def test_replace_leaves_the_querys_rows_and_all_that_hangs_on_the_table(
    orders, source, target, run, strategy
):
    """The table is the same one: its oid, index, comment, view and grants stay."""
    kept = (
        "select 'orders'::regclass::oid, obj_description('orders'::regclass), relacl::text,"
        " (select array_agg(indexname) from pg_indexes where tablename = 'orders')"
        " from pg_class where relname = 'orders'"
    )
    run(target, "grant select on orders to pg_monitor")
    before = run(target, kept)

    result = load(source, target, strategy=strategy)

    assert ("succeeded", True, ROWS) == (result.status, result.published, result.rows_written)
    assert run(source, SUM) == run(target, SUM)
    assert before == run(target, kept)
    assert [(ROWS,)] == run(target, "select count(*) from notes")
    assert [(0,)] == run(target, STAGES)


def test_a_replace_that_fails_leaves_the_old_rows(orders, source, target, run):
    """Whether a chunk fails or the publishing; a repetition goes on."""
    run(target, "alter table orders add constraint small check (id < 990)")

    failed = load(source, target, load_id="again")

    assert ("failed", False, ROWS) == (failed.status, failed.published, failed.total_rows_failed)
    assert "small" in str(failed.error)
    assert [(10,)] == run(target, "select count(*) from orders")

    run(target, "alter table orders drop constraint small")
    again = load(source, target, load_id="again")

    assert "succeeded" == again.status
    assert run(source, SUM) == run(target, SUM)


def test_rows_that_a_trigger_drops_at_publishing_are_an_error(orders, source, target, run):
    """The stage had them all, and the target would not."""
    run(
        target,
        "create function drop() returns trigger language plpgsql as 'begin return null; end'",
        "create trigger drop before insert on orders for each row when (new.id = 7)"
        " execute function drop()",
    )

    result = load(source, target)

    assert ("failed", False) == (result.status, result.published)
    words = f"{ROWS} rows were staged, but orders took {ROWS - 1}: a trigger or rule"
    assert words in str(result.error)
    assert [(10,)] == run(target, "select count(*) from orders where note = 'old'")


def test_an_append_that_cannot_be_called_complete_does_not_say_that_nothing_is_in(
    orders, source, target, run
):
    """Its chunks are in the target already; what failed is the ledger's last word."""
    load(source, target, load_mode="append", load_id="first").raise_for_failures()
    run(
        target,
        "create function refuse() returns trigger language plpgsql as $$ begin"
        " raise exception 'not today'; end $$",
        "create trigger refuse before update on mapper.load for each row"
        " when (new.status = 'published') execute function refuse()",
    )

    result = load(source, target, load_mode="append")

    assert not result.published
    assert "could not publish load" in str(result.error)
    assert "not today" in str(result.error)
    assert "the target is unchanged" not in str(result.error)
    assert [(2 * ROWS,)] == run(target, "select count(*) from orders where id > 0")


def test_replacing_with_nothing_empties_the_target(orders, source, target, run):
    """An empty query is a query."""
    result = load(source, target, "select * from orders where id < 0")

    assert "succeeded" == result.status
    assert [(0,)] == run(target, "select count(*) from orders")


@pytest.mark.parametrize("options", [{}, {"load_mode": "append", "publish": "atomic"}])
def test_readers_see_the_old_rows_or_all_new_ones(orders, source, target, run, options):
    """And they wait for nothing: no moment shows a part of the load, or an empty table."""
    seen, stop = set(), threading.Event()

    def watch():
        with closing(psycopg.connect(target, autocommit=True)) as reader:
            while not stop.is_set():
                seen.update(reader.execute("select count(*) from orders").fetchall())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        result = load(source, target, **options)
    finally:
        stop.set()
        watcher.join()

    assert "succeeded" == result.status
    assert seen <= {(10,), *run(target, "select count(*) from orders")}


UPSERT = {"load_mode": "upsert", "primary_key": "id"}


@pytest.mark.parametrize("strategy", ["key", "stream_once"])
def test_upsert_updates_what_differs_and_adds_what_is_new(orders, source, target, run, strategy):
    """Unchanged rows are not rewritten; rows the query does not have stay."""
    run(target, "create unique index on orders (id)")
    load(source, target, "select * from orders where id <= 600", **UPSERT)
    versions = "select xmin::text from orders where id between 1 and 500 order by id"
    before = run(target, versions)
    run(source, "update orders set note = 'changed' where id > 500")

    result = load(source, target, strategy=strategy, **UPSERT)

    assert ("succeeded", ROWS) == (result.status, result.total_rows_successful)
    assert before == run(target, versions)
    assert run(source, SUM) == run(target, SUM + " where id > 0")
    assert [(10,)] == run(target, "select count(*) from orders where id < 0")


def test_upsert_tells_values_apart_that_only_look_equal(source, target, run):
    """Digits behind the point, months of thirty days, JSON that has no equality at all."""
    table = "create table t (id int, n numeric, i interval, j json, p point)"
    run(source, table, "insert into t values (1, 1.00, '1 mon', '{\"a\": 1}', '(1,2)')")
    run(target, table, "insert into t values (1, 1.0, '30 days', '{\"a\":1}', '(1,2)')")

    load(source, target, "select * from t", target_table="t", **UPSERT).raise_for_failures()

    assert run(source, "select t::text from t") == run(target, "select t::text from t")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            "insert into orders select * from orders where id in (7, 8)",
            "2 keys (id) more than once: \u20397\u203a (2 times); \u20398\u203a (2 times). Select",
        ),
        ("update orders set id = null where id = 9", "1 rows of the query have a NULL in the"),
    ],
)
def test_rows_that_upsert_cannot_tell_apart_are_named(orders, source, target, run, change, words):
    """Nothing is changed; the error says which keys."""
    run(source, "alter table orders drop constraint orders_pkey")
    run(source, "alter table orders alter id drop not null", change)

    result = load(source, target, **UPSERT)

    assert ("failed", False) == (result.status, result.published)
    assert words in str(result.error)
    assert [(10,)] == run(target, "select count(*) from orders")


def test_a_null_in_any_column_of_a_key_is_told(orders, source, target, run):
    """Not only where all of the key is NULL."""
    run(source, "alter table orders alter at drop not null")
    run(source, "update orders set at = null where id in (8, 9)")

    result = load(source, target, load_mode="upsert", primary_key=["id", "at"])

    assert "2 rows of the query have a NULL in the primary key (id, at)" in str(result.error)
    assert [(10,)] == run(target, "select count(*) from orders")


def test_of_many_keys_that_come_several_times_the_worst_are_named(orders, source, target, run):
    """Five of them, those with the most rows first; and how many there are."""
    run(source, "alter table orders drop constraint orders_pkey")
    run(source, "insert into orders select * from orders where id in (3, 4, 5, 6, 7, 8)")
    run(source, "insert into orders select distinct * from orders where id = 8")

    result = load(source, target, **UPSERT)

    worst = {8: 3, 3: 2, 4: 2, 5: 2, 6: 2}
    named = "; ".join(f"\u2039{key}\u203a ({count} times)" for key, count in worst.items())
    assert f"the query has 6 keys (id) more than once: {named}; ..." in str(result.error)


def test_the_cure_for_several_rows_of_a_key_is_another_load(orders, source, target, run):
    """The words say so, since the same id with an order column is refused."""
    run(source, "alter table orders drop constraint orders_pkey")
    run(source, "insert into orders values (5, 'newer', 1, '2024-06-01')")

    failed = load(source, target, load_id="a", **UPSERT)

    assert "has 1 key (id) more than once" in str(failed.error)
    assert "or name an order_column" in str(failed.error)
    assert "it is a new load and needs a new load id" in str(failed.error)
    with pytest.raises(MapperError, match="use a new load id"):
        load(source, target, load_id="a", order_column="at", **UPSERT)
    assert "succeeded" == load(source, target, load_id="b", order_column="at", **UPSERT).status


def test_an_order_column_says_which_of_several_rows_counts(orders, source, target, run):
    """The highest does; two highest are an error again."""
    run(source, "alter table orders drop constraint orders_pkey")
    run(source, "insert into orders values (5, 'newer', 1, '2024-06-01'), (5, 'none', 2, null)")
    options = {**UPSERT, "order_column": "at"}

    assert "succeeded" == load(source, target, **options).status
    assert [("newer",)] == run(target, "select note from orders where id = 5")
    assert [(ROWS + 10,)] == run(target, "select count(*) from orders")

    run(source, "insert into orders values (5, 'as new', 1, '2024-06-01')")
    result = load(source, target, **options)

    assert "\u20395\u203a (2 times)" in str(result.error)
    assert "with the same at" in str(result.error)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"load_mode": "upsert"}, SettingsError, "needs primary_key"),
        ({"primary_key": "id"}, SettingsError, "go with load_mode='upsert'"),
        (
            {**UPSERT, "primary_key": "nope"},
            TargetError,
            "nope, which upsert goes by, is not a column",
        ),
        ({**UPSERT, "order_column": "nope"}, TargetError, "nope, which upsert goes by"),
        ({"publish": "never"}, SettingsError, "publish='never' is unknown: use one of"),
        ({"load_mode": "merge"}, SettingsError, "'append', 'replace', 'replace_window', 'upsert'"),
        ({"strategy": "fastest"}, SettingsError, "strategy='fastest' is unknown"),
        ({"strategy": "same_database"}, QueryError, "source and target are different databases"),
    ],
)
def test_what_makes_no_sense_is_refused_before_rows_move(
    orders, source, target, run, options, error, words
):
    """In words that name the cure."""
    with pytest.raises(error, match=words):
        load(source, target, **options)
    assert [(10,)] == run(target, "select count(*) from orders")


def test_upsert_without_its_key_in_the_query_is_refused(orders, source, target):
    """Nobody could say which rows are the same."""
    with pytest.raises(TargetError, match="does not select id of the primary key"):
        load(source, target, "select note from orders", **UPSERT)


@pytest.mark.parametrize("mode", ["append", "replace"])
def test_a_missing_target_is_made_with_the_querys_types(orders, source, target, run, mode):
    """If that is asked for; a plan makes nothing."""
    run(source, "create type mood as enum ('good')", "create schema dw")
    run(target, "create type mood as enum ('good')", "create schema dw")
    sql = (
        'select id, note::varchar(9) as "Odd Name", amount::numeric(12,3) as amount, at,'
        " 'good'::mood as mood, array[id] as ids from orders order by id"
    )
    options = {"create_target": True, "load_mode": mode, "target_table": "made"}

    assert "made" in str(plan(source, sql, target_conn=target, **options, min_rows_for_parallel=0))
    assert [(None,)] == run(target, "select to_regclass('made')")

    result = load(source, target, sql, **options)

    assert ("succeeded", ROWS) == (result.status, result.rows_written)
    assert run(
        target,
        "select attname, format_type(atttypid, atttypmod) from pg_attribute"
        " where attrelid = 'made'::regclass and attnum > 0 order by attnum",
    ) == [
        ("id", "integer"),
        ("Odd Name", "character varying(9)"),
        ("amount", "numeric(12,3)"),
        ("at", "timestamp with time zone"),
        ("mood", "mood"),
        ("ids", "integer[]"),
    ]


def test_loads_that_would_all_make_their_target_share_one(orders, source, target, run):
    """However many find it missing at the same moment."""
    options = {"create_target": True, "target_table": "made", "load_mode": "append"}
    with psycopg.connect(target) as holding:
        key = "hashtextextended('table to be made made', 0)"
        holding.execute(f"select pg_advisory_xact_lock({key})")
        loads = [
            Background(load, source, target, strategy=way, **options)
            for way in ("key", "one_pass", "physical")
        ]
        wait_until(lambda: len(waiting_for_locks(target)) == len(loads), "all to find it missing")
    for each in loads:
        assert ("succeeded", ROWS) == (each.result().status, each.result().rows_written)
    assert [(3 * ROWS, ROWS)] == run(target, "select count(*), count(distinct id) from made")


def test_a_target_made_otherwise_since_is_taken_as_it_is(orders, source, target, run):
    """A bigint's bytes would be those of another double precision."""
    with psycopg.connect(target) as holding:
        holding.execute("select pg_advisory_xact_lock(hashtextextended('plan late', 0))")
        loading = Background(
            load,
            source,
            target,
            "select id::bigint as id from orders",
            create_target=True,
            target_table="made",
            load_mode="append",
            load_id="late",
        )
        wait_until(lambda: waiting_for_locks(target), "it to be planned")
        run(target, "create table made (id numeric, note text default 'here')")
    loading.result().raise_for_failures()
    wanted = "select count(*), sum(id), min(note) from made"
    assert [(ROWS, ROWS * (ROWS + 1) // 2, "here")] == run(target, wanted)


def test_a_missing_type_of_a_missing_target_is_named_with_the_cure(orders, source, target, run):
    run(source, "create type mood as enum ('good')")

    with pytest.raises(TargetError, match=r'"mood" does not exist in the target\. Create the type'):
        load(
            source,
            target,
            "select id, 'good'::mood as mood from orders",
            create_target=True,
            target_table="made",
        )


def test_a_missing_target_is_an_error_otherwise(orders, source, target):
    """The words say how to have it made."""
    with pytest.raises(TargetError, match=r"has no table nothing.*create_target=True"):
        load(source, target, target_table="nothing")


@pytest.mark.parametrize("create", [False, True])
def test_a_schema_in_a_tables_name_is_told(orders, source, target, run, create):
    """A table is made with a dot in its name only for who gives its schema apart."""
    words = (
        r"'public\.orders': give the schema separately, as target_schema='public', target_table='"
    )
    with pytest.raises(TargetError, match=words):
        load(source, target, target_table="public.orders", create_target=create)

    load(source, target, target_schema="public", target_table="a.b", create_target=True)

    assert run(target, 'select count(*) from "a.b"') == [(ROWS,)]


def test_a_name_in_other_letters_is_told(orders, source, target):
    """PostgreSQL folds what has no quotes; a load does not."""
    with pytest.raises(
        TargetError, match=r"no table ORDERS, but it has orders: names are taken exactly"
    ):
        load(source, target, target_table="ORDERS")


@pytest.mark.parametrize(
    ("made", "mode", "words"),
    [
        (
            "materialized view odd as select * from orders",
            "append",
            "does not accept INSERT: load into a",
        ),
        ("materialized view odd as select * from orders", "replace", "does not accept INSERT"),
        ("view odd as select distinct * from orders", "append", "does not accept INSERT"),
        ("view odd as select distinct * from orders", "upsert", "does not accept INSERT"),
    ],
)
def test_what_takes_no_rows_is_told_before_they_move(
    orders, source, target, run, made, mode, words
):
    """Not by each chunk, nor by publishing, after all rows have been read."""
    run(target, f"create {made}")
    key = {"primary_key": "id"} if mode == "upsert" else {}

    with pytest.raises(TargetError, match=f"odd may not be written: it {words}"):
        load(source, target, target_table="odd", load_mode=mode, **key)


FUNCTIONS: dict[str, dict[str, Any]] = {
    "rows": {"transformation_func": lambda rows: [dict(row) for row in rows]},
    "columns": {"transformation_func": list, "transform_columns": "id"},
    "batches": {"transform_batch": lambda batch: batch},
}


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("rows", [0, ROWS])
@pytest.mark.parametrize("mode", ["append", "replace"])
def test_what_a_function_does_not_return_is_the_tables_own_to_fill_in(
    orders, source, target, run, function, rows, mode
):
    """Behind a view too, which tells nothing of defaults and identities; by right as well."""
    run(
        target,
        "create table kept (id int, note text, more text,"
        " by int default 7, nr int generated always as identity)",
        "create view seen as select * from kept",
        "create role clerk",
        "grant select, delete, insert (id, note) on seen to clerk",
        "grant all on schema public to clerk",
        "create schema mapper authorization clerk",
    )
    more = {"target_table": "seen", "load_mode": mode, "publish": "atomic", **FUNCTIONS[function]}
    try:
        with psycopg.connect(target) as clerk:
            clerk.execute("set role clerk")
            clerk.commit()
            result = load(source, clerk, f"select id, note from orders where id <= {rows}", **more)
    finally:
        run(target, "drop owned by clerk cascade", "drop role clerk")

    assert ("succeeded", rows) == (result.status, result.rows_written), result.error
    filled = run(target, "select count(*), min(by), max(nr), count(more) from kept")
    assert [(rows, 7 if rows else None, rows or None, 0)] == filled


def test_a_view_that_takes_no_copy_is_told_before_rows_move(orders, source, target, run):
    """With the mode that it takes, and then loads in."""
    run(target, "create view few as select * from orders", "truncate orders")

    with pytest.raises(TargetError, match=r"few may not be written: COPY .*publish='atomic'"):
        load(source, target, target_table="few", load_mode="append")
    result = load(source, target, target_table="few", load_mode="append", publish="atomic")

    assert "succeeded" == result.status
    assert run(target, "select count(*) from orders") == [(ROWS,)]


def test_a_view_that_takes_rows_by_a_trigger_is_a_target(orders, source, target, run):
    """It need not be one that PostgreSQL could write to by itself."""
    run(
        target,
        "create view odd as select distinct * from orders",
        "create function put() returns trigger language plpgsql as"
        " $$begin insert into orders select new.*; return new; end$$",
        "create trigger put instead of insert on odd for each row execute function put()",
        "truncate orders",
    )

    assert load(source, target, target_table="odd", load_mode="append").status == "succeeded"

    assert run(target, "select count(*) from orders") == [(ROWS,)]
