"""Rows merged by their key: what is written over, what stays, what cannot be merged."""

import sqlite3
from contextlib import closing
from datetime import datetime
from typing import Any

import psycopg
import pytest

from mapper_core import LoadWindow, TargetError, execute_query_parallel
from mapper_core.publishing import publisher

UPSERT = {"load_mode": "upsert", "primary_key": "id"}


def load(source, target, sql="select * from t", **options):
    return execute_query_parallel(
        source,
        sql,
        target_conn=target,
        target_table="t",
        **{"chunk_size": 10, "min_rows_for_parallel": 0, "max_workers": 2, **options},
        enable_progress=False,
        max_retries=0,
    )


def _same(rows):
    return [dict(row) for row in rows]


FUNCTIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "rows": {"transformation_func": _same},
    "columns": {"transformation_func": _same, "transform_columns": ["note"]},
    "batches": {"transform_batch": lambda batch: batch},
}
WIDER = (
    "create table t (id int primary key, note text, by_hand text, n int default 7, number serial)"
)


@pytest.fixture
def thirty(source, target, run):
    """Thirty rows in the source; the first fifteen are in the target, which has more columns."""
    run(source, "create table t (id int primary key, note text)")
    run(source, "insert into t select i, 'new' from generate_series(1, 30) i")
    run(target, WIDER)
    run(target, "insert into t select i, 'old', 'kept', 42, 100 + i from generate_series(1, 15) i")


@pytest.mark.parametrize("strategy", ["key", "stream_once"])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_columns_that_nobody_wrote_stay_as_they_were(
    thirty, source, target, run, function, strategy
):
    """A function might have added them; it did not."""
    load(source, target, strategy=strategy, **UPSERT, **FUNCTIONS[function]).raise_for_failures()

    known = "select note, by_hand, n, number - id from t where id <= 15"
    assert 15 * [("new", "kept", 42, 100)] == run(target, known)
    assert 15 * [("new", None, 7)] == run(target, "select note, by_hand, n from t where id > 15")


@pytest.mark.parametrize("listed", [2, publisher._LISTED], ids=["in several lists", "in one"])
def test_chunks_may_write_other_columns_than_their_neighbours(
    thirty, source, target, run, monkeypatch, listed
):
    """Each row keeps what its own chunk did not write, however many chunks there are."""
    monkeypatch.setattr(publisher, "_LISTED", listed)

    def some(rows):
        first = min(row["id"] for row in rows) <= 10
        added = {"by_hand": "written"} if first else {"n": 1}
        return [{"id": row["id"], **added} for row in rows]

    load(
        source,
        target,
        "select * from t order by id",
        transformation_func=some,
        chunk_size=5,
        **UPSERT,
    ).raise_for_failures()

    found = run(target, "select id, note, by_hand, n from t order by id")
    assert [
        *((id, "old", "written", 42) for id in range(1, 11)),
        *((id, "old", "kept", 1) for id in range(11, 16)),
        *((id, None, None, 1) for id in range(16, 31)),
    ] == found


def test_a_chunk_writes_the_same_columns_throughout(thirty, source, target, run):
    """Rows tried one by one could otherwise each have their own, which no ledger could hold."""
    run(target, "alter table t add check (note <> 'bad')")
    run(source, "update t set note = 'bad' where id = 3")

    def by_number(rows):
        return [{**row, "n": 1} if len(rows) > 1 else dict(row) for row in rows]

    result = load(source, target, transformation_func=by_number, reject_limit=5, **UPSERT)

    assert "failed" == result.status
    assert "return the same ones throughout" in result.chunk_errors[0]["error"]
    assert [("old",)] == run(target, "select distinct note from t")


def test_a_continued_load_knows_what_its_chunks_wrote(thirty, source, target, run):
    """The chunks of the first run are told from the ledger."""
    fails = [True]

    def once(rows):
        if fails and max(row["id"] for row in rows) > 20:
            fails.clear()
            raise ValueError("not today")
        return [dict(row) for row in rows]

    options = {**UPSERT, "transformation_func": once, "load_id": "twice"}
    assert "failed" == load(source, target, "select * from t order by id", **options).status
    load(source, target, "select * from t order by id", **options).raise_for_failures()

    assert 15 * [("new", "kept")] == run(target, "select note, by_hand from t where id <= 15")
    assert [(30,)] == run(target, "select count(*) from t where note = 'new'")


@pytest.mark.parametrize("function", FUNCTIONS)
def test_in_sqlite_too_columns_that_nobody_wrote_stay(thirty, source, tmp_path, function):
    path = tmp_path / "target.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("create table t (id int primary key, note text, by_hand default 'x')")
        connection.execute("insert into t values (1, 'old', 'kept'), (99, 'old', 'kept')")
        connection.commit()

    load(source, f"sqlite:///{path}", **UPSERT, **FUNCTIONS[function]).raise_for_failures()

    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("select * from t where id in (1, 2, 99) order by id").fetchall()
    assert [(1, "new", "kept"), (2, "new", "x"), (99, "old", "kept")] == found


@pytest.mark.parametrize("event", ["insert", "update"])
def test_rows_that_a_trigger_drops_are_an_error(thirty, source, target, run, event):
    """As for a load that appends; the target is as it was."""
    run(
        target,
        "create function f() returns trigger language plpgsql as 'begin if new.id % 2 = 0 then"
        " return null; end if; return new; end'",
        f"create trigger x before {event} on t for each row execute function f()",
    )

    result = load(source, target, **UPSERT)

    assert ("failed", False) == (result.status, result.published)
    assert "a trigger on it drops rows" in str(result.error)
    assert [(15, "old")] == run(target, "select count(*), min(note) from t")


def test_a_trigger_that_only_changes_rows_is_no_error(thirty, source, target, run):
    run(
        target,
        "create function f() returns trigger language plpgsql as 'begin new.by_hand := 1;"
        " return new; end'",
        "create trigger x before insert or update on t for each row execute function f()",
    )

    load(source, target, **UPSERT).raise_for_failures()

    assert [(30,)] == run(target, "select count(*) from t where by_hand = '1'")


@pytest.mark.parametrize(
    ("table", "key", "words"),
    [
        ("id xid, note text", "id", "could not identify an ordering operator"),
        ("id int, note json", "note", "could not identify an equality operator|ordering operator"),
    ],
)
def test_a_key_that_cannot_be_compared_is_refused_before_rows_move(
    source, target, run, table, key, words
):
    for database in (source, target):
        run(database, f"create table t ({table})")

    with pytest.raises(TargetError, match=f"'upsert' is not possible for t: .*({words})"):
        load(source, target, load_mode="upsert", primary_key=key)


def test_a_table_with_rules_is_refused_before_rows_move(thirty, source, target, run):
    run(target, "create rule r as on insert to t do also nothing")
    with psycopg.connect(target) as connection:
        if connection.info.server_version < 150_000:
            pytest.skip("MERGE came with version 15")

    with pytest.raises(TargetError, match=r"'upsert' is not possible for t: .*rules"):
        load(source, target, **UPSERT)


@pytest.mark.parametrize("name", ["_mapper_chunk", "_mapper_rank"])
def test_names_that_a_load_needs_are_refused(source, target, run, name):
    for database in (source, target):
        run(database, f'create table t (id int, "{name}" int)')

    with pytest.raises(TargetError, match=f"has a column {name}, which is a name that loads use"):
        load(source, target, **UPSERT)


def test_a_column_may_be_called_mapper_rank(source, target, run):
    for database in (source, target):
        run(database, "create table t (id int, mapper_rank int)")
    run(source, "insert into t values (1, 1), (1, 2)")

    load(source, target, order_column="mapper_rank", **UPSERT).raise_for_failures()

    assert [(1, 2)] == run(target, "select * from t")


@pytest.mark.parametrize("name", ["count", "d", "t", "s", "count(*)"])
def test_a_key_may_be_called_what_a_statement_of_ours_has_in_it(source, target, run, name):
    """What is asked of a key names its columns so that they are no others."""
    run(source, f'create table t ("{name}" int, note text)', "insert into t values (1, 'a')")
    run(target, f'create table t ("{name}" int, note text)', "insert into t values (1, 'b')")

    load(source, target, load_mode="upsert", primary_key=name).raise_for_failures()
    run(source, "insert into t values (1, 'c')")
    twice = load(source, target, load_mode="upsert", primary_key=name)

    assert [(1, "a")] == run(target, "select * from t")
    assert "1 key" in twice.error


def test_names_may_differ_in_case(source, target, run):
    """As those of the query may; the target's spelling counts."""
    for database in (source, target):
        run(database, "create table t (id int, at timestamp)")
    run(source, "insert into t values (1, '2024-01-05'), (1, '2024-01-06')")

    load(
        source, target, load_mode="upsert", primary_key="ID", order_column="AT"
    ).raise_for_failures()
    assert [(1, datetime(2024, 1, 6))] == run(target, "select * from t")

    window = LoadWindow("At", datetime(2024, 1, 1), datetime(2024, 2, 1))
    load(source, target, load_mode="replace_window", window=window).raise_for_failures()
    assert [(2,)] == run(target, "select count(*) from t")
