"""Functions between source and target: what they see, what becomes of what they return."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import ChainMap, Counter, UserDict, defaultdict
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any

import duckdb
import pandas as pd
import polars
import psutil
import psycopg
import pyarrow as pa
import pytest

from mapper_core import (
    LedgerError,
    SettingsError,
    TargetError,
    execute_query_parallel,
    list_rejects,
)

from ..waiting import assert_nothing_left, wait_until
from .loading import ROOT

ROWS = 3_000
SUM = "select count(*), sum(hashtextextended(t::text, 0)) from {} t"


@pytest.fixture
def orders(source, target, run):
    """3,000 orders whose texts need escapes; two equal empty tables in the target."""
    table = "(id int primary key, note text, amount numeric(10,2), placed timestamptz, extra jsonb)"
    run(
        source,
        f"create table orders {table}",
        "insert into orders select i, case when i % 7 > 0 then E'a\\tb\\\\c\\n' || i end, i * 1.10,"
        " '2024-01-01 00:00+00'::timestamptz + i * interval '1.5 hours',"
        " jsonb_build_object('n', i, 'list', array[i, 1.5]::numeric[])"
        f" from generate_series(1, {ROWS}) i",
    )
    run(target, f"create table orders {table.replace('primary key', '')}")
    yield
    assert_nothing_left(source, target)


def load(source, target, sql="select * from orders order by id", **options):
    return execute_query_parallel(
        source,
        sql,
        target_conn=target,
        target_table="orders",
        min_rows_for_parallel=0,
        enable_progress=False,
        **{"chunk_size": 500, "max_workers": 2, "strategy": "key", **options},
    )


def loaded(source, target, **options):
    load(source, target, **options).raise_for_failures()


HANDED_ON = {
    "the very rows": lambda rows: rows,
    "dict(row)": lambda rows: [dict(row) for row in rows],
    "items()": lambda rows: [{key: value for key, value in row.items()} for row in rows],  # noqa: C416 - this way on purpose
    "{**row}": lambda rows: [{**row} for row in rows],
    "assigned to": lambda rows: [row.update(note=row["note"]) or row for row in rows],
    "reversed": lambda rows: rows[::-1],
    "a dict of another kind": lambda rows: [defaultdict(list, row) for row in rows],
    "a mapping that is no dict": lambda rows: [UserDict(row) for row in rows],
    "several dicts as one": lambda rows: [ChainMap({"note": row["note"]}, row) for row in rows],
    "another order of keys": lambda rows: [dict(sorted(row.items())) for row in rows],
    "through JSON": lambda rows: [
        {**row, **json.loads(json.dumps({k: row[k] for k in ("id", "note", "extra")}))}
        for row in rows
    ],
    "one of them twice": lambda rows: [*rows, dict(rows[0])],
}


@pytest.mark.parametrize("scope", ["chunk", "batch"])
def test_rows_handed_on_arrive_as_they_were(orders, source, target, run, scope):
    """Whatever a function does with its dicts, values that it does not change do not change."""
    for way, function in HANDED_ON.items():
        run(target, "truncate orders")
        loaded(source, target, transformation_func=function, transform_scope=scope)

        # The only way that makes more of them, and so no row goes on as it was read.
        rows = "(select distinct * from orders)" if way == "one of them twice" else "orders"
        assert run(source, SUM.format("orders")) == run(target, SUM.format(rows)), way


def test_a_value_changed_in_place_is_changed(orders, source, target, run):
    """The dict of a JSON value is the very object that was read, and says something else now."""

    def mark(rows):
        for row in rows:
            row["extra"]["n"] = 0
        return rows

    loaded(source, target, transformation_func=mark)

    assert [(ROWS,)] == run(target, "select count(*) from orders where extra->>'n' = '0'")


def test_a_load_is_not_continued_with_another_kind_of_function(orders, source, target, run):
    """Its rows would be of two kinds, and travel by another path than was planned."""

    def picky(rows):
        if any(row["id"] == ROWS for row in rows):
            raise ValueError("not this one")
        return rows

    load(source, target, transformation_func=picky, load_id="nightly")
    with pytest.raises(LedgerError, match="used for another query, transform, target or window"):
        load(source, target, load_id="nightly")
    load(source, target, transformation_func=lambda rows: rows, load_id="nightly")

    assert run(source, SUM.format("orders")) == run(target, SUM.format("orders"))


def test_a_function_sees_plain_values(orders, source):
    """Its rows are dicts of Python's own types."""
    seen: list[dict[str, object]] = []

    def keep(rows):
        seen.extend(rows)
        return rows

    execute_query_parallel(
        source,
        "select * from orders where id = 8",
        transformation_func=keep,
        enable_progress=False,
    )

    (row,) = seen
    assert type(row) is dict
    kinds = {name: type(value).__name__ for name, value in row.items()}
    assert {
        "id": "int",
        "note": "str",
        "amount": "Decimal",
        "placed": "datetime",
        "extra": "dict",
    } == kinds
    assert Decimal("8.80") == row["amount"]
    assert row["note"] == "a\tb\\c\n8"


def test_rows_are_added_renamed_dropped_and_multiplied(orders, source, target, run):
    """Rows may be any other rows, of any columns that the target has."""

    def change(rows):
        return [
            {"id": 2 * row["id"] + twin, "note": f"\\N {row['note']!r}", "amount": None}
            for row in rows
            if row["id"] % 3 == 0
            for twin in (0, 1)
        ]

    result = load(source, target, transformation_func=change)

    assert (ROWS, 2 * ROWS // 3) == (result.total_rows_processed, result.rows_written)
    assert [(2 * ROWS // 3, 0, 2 * ROWS // 3)] == run(
        target,
        r"select count(distinct id), count(amount), sum((note like '\\N %')::int) from orders",
    )


def test_only_the_columns_named_are_seen_and_the_rest_arrives(orders, source, target, run):
    """The others pass by unread, whatever is in them."""
    keys: set[str] = set()

    def shout(rows):
        keys.update(key for row in rows for key in row)
        return [{"note": (row["note"] or "none").upper(), "id": row["id"]} for row in rows]

    loaded(source, target, transformation_func=shout, transform_columns=["note", "ID"])

    assert {"id", "note"} == keys
    told = "select id, {}, amount, placed, extra from orders order by id"
    expected = run(source, told.format("upper(coalesce(note, 'none'))"))
    assert expected == run(target, told.format("note"))


@pytest.mark.parametrize("twice", [["note", "note"], ["note", "NOTE"]])
def test_a_column_named_twice_is_seen_once(orders, source, target, run, twice):
    """However it is spelled; no other column is seen in its place, and so none is lost."""

    def noted(rows):
        return [{"note": row["note"]} for row in rows]

    loaded(source, target, transformation_func=noted, transform_columns=twice)

    assert run(source, SUM.format("orders")) == run(target, SUM.format("orders"))


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda rows: rows[1:], "one row for each, in the same order"),
        (
            lambda rows: [{**row, "amount": 1} for row in rows],
            "returned amount, which transform_columns does not name",
        ),
        (lambda rows: [{**row, "other": 1} for row in rows], "no column other"),
        (lambda rows: rows[0], "must return a list of dicts"),
        (lambda rows: [{} for _ in rows], "only empty dicts"),
        (lambda rows: [{**row, 5: 1} for row in rows], "a row with the key 5, of type int"),
        (lambda rows: [*rows[:6], None, *rows[7:]], "row 7 of"),
        (lambda rows: [*rows[:6], None, *rows[7:]], "that it returned is of type NoneType"),
    ],
)
def test_what_may_not_be_returned_is_told(orders, source, target, run, function, words):
    """Nothing of such a chunk stays."""
    result = load(source, target, transformation_func=function, transform_columns="id")

    assert result.status == "failed"
    assert all(words in error["error"] for error in result.chunk_errors)
    assert [(0,)] == run(target, "select count(*) from orders")


@pytest.mark.parametrize("kind", ["transformation_func", "transform_batch"])
def test_next_on_nothing_is_told_as_what_it_is(orders, source, target, kind):
    """An error of the function's own, and not the end of a loop of ours."""
    result = load(source, target, **{kind: lambda _: next(iter([]))})

    assert ROWS == result.total_rows_failed
    for error in result.chunk_errors:
        assert "the function raised StopIteration: a next() in it found nothing" in error["error"]


@pytest.mark.parametrize(
    ("ddl", "columns", "words"),
    [
        (None, ["id", "other"], "Rename the column in what {} returns, leave it out, or add it to"),
        (None, ["id", "ID"], "columns id, ID of what {} returns go to the same column"),
        ("add twice int generated always as (2 * id) stored", ["twice"], "leave it out of what {}"),
        ("alter note set not null", ["id"], "requires note (NOT NULL without default), which {} d"),
    ],
)
@pytest.mark.parametrize("kind", ["transformation_func", "transform_batch"])
def test_columns_that_a_function_made_are_told_as_its_own(
    orders, source, target, run, kind, ddl, columns, words
):
    """The cure is in the function: the query does not have them."""
    if ddl:
        run(target, f"alter table orders {ddl}")

    def make(given):
        row = dict.fromkeys(columns, 1)
        return [row] if kind == "transformation_func" else pa.RecordBatch.from_pylist([row])

    result = load(source, target, **{kind: make})

    assert "failed" == result.status
    assert all(words.format(kind) in error["error"] for error in result.chunk_errors)


def test_a_column_to_be_seen_must_be_there(orders, source, target):
    """A typing error is told before a row moves."""
    with pytest.raises(SettingsError, match="transform_columns names nota, but the query has id"):
        load(source, target, transformation_func=lambda rows: rows, transform_columns="nota")
    with pytest.raises(SettingsError, match="goes with transformation_func"):
        load(source, target, transform_columns="note")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"transformation_func": 5}, "transformation_func must be a function, but is of type int"),
        ({"transform_batch": [print]}, "transform_batch must be a function, but is of type list"),
        ({"should_stop": True}, "should_stop must be a function, but is of type bool"),
        (
            {"transform_columns": ["note", 5]},
            "transform_columns must name columns as str, .* 5, of type int",
        ),
        ({"transform_columns": 5}, "transform_columns must name columns as str, .* 5, of type int"),
        ({"chunk_key": [None]}, "chunk_key must name columns as str, .* None, of type NoneType"),
    ],
)
def test_what_is_of_another_kind_than_asked_for_is_told(orders, source, target, options, words):
    """Before a row moves, by its name."""
    with pytest.raises(SettingsError, match=words):
        load(source, target, **{"transformation_func": lambda rows: rows, **options})


def test_a_column_that_passes_by_must_fit(orders, source, target, run):
    """What nobody sees is not rounded either."""
    run(target, "alter table orders alter amount type numeric(10,1)")

    with pytest.raises(TargetError, match="not every value would arrive unchanged"):
        load(source, target, transformation_func=lambda rows: rows, transform_columns="note")


@pytest.mark.parametrize("workers", ["threads", "processes"])
def test_refused_rows_are_set_apart_from_those_around_them(orders, source, target, run, workers):
    """With only some columns seen, and in other processes, too; the reject has the whole row."""
    run(target, "alter table orders add check (amount <> 11)")

    def picky(rows):
        return [{"id": row["id"], "note": str(1 // (row["id"] - 2000))} for row in rows]

    result = load(
        source,
        target,
        transformation_func=picky,
        transform_columns=["id", "note"],
        workers=workers,
        reject_limit=5,
    )

    assert (ROWS - 2, 2) == (result.total_rows_successful, result.total_rows_failed)
    refused = {int(each.row["id"]): each for each in list_rejects(target, result.load_id)}
    assert {10, 2000} == set(refused)
    assert "ZeroDivisionError" in refused[2000].error
    assert "11.00" == refused[10].row["amount"]


UNWRITABLE: dict[str, tuple[dict[str, Any], str]] = {
    "half a character": (
        {"note": "\ud800"},
        r"a value for note, of type str, cannot be written ('\ud800': surrogates not allowed):"
        " return text that UTF-8 can hold",
    ),
    "half a character in a list": ({"note": ["\ud800"]}, "a value for note, of type list"),
    "a number in JSON": (
        {"extra": {"a": Decimal("1.5")}},
        "a value for extra, of type dict, cannot be written (Object of type Decimal is not JSON"
        " serializable): use only str, int, float",
    ),
    "an object": (
        {"note": object()},
        "a value for note, of type object, cannot be written (cannot adapt type 'object'): return"
        " a str",
    ),
    "a huge number": ({"amount": 10**5000}, "a value for amount, of type int, cannot be written"),
}


@pytest.mark.parametrize("kind", UNWRITABLE)
@pytest.mark.parametrize("workers", ["threads", "processes"])
def test_a_value_that_cannot_be_written_is_told_and_set_apart(
    orders, source, target, run, workers, kind
):
    """By its column, its type and the cure; it fails its chunk only if no row may be refused."""
    value, words = UNWRITABLE[kind]

    def spoil(rows):
        return [{**row, **value} if row["id"] == 700 else row for row in rows]

    options = {"transformation_func": spoil, "workers": workers}
    result = load(source, target, **options, reject_limit=1)

    assert ("succeeded", 1) == (result.status, result.rows_rejected), result.chunk_errors
    (refused,) = list_rejects(target, result.load_id)
    assert ("transform", 700) == (refused.code, int(refused.row["id"]))
    assert words in refused.error
    assert [(ROWS - 1,)] == run(target, "select count(*) from orders")

    (error,) = load(source, target, **options).chunk_errors
    assert words in error["error"]


BATCHES = {
    "the very batch": lambda batch: batch,
    "a table": lambda batch: pa.Table.from_batches([batch]),
    "polars": polars.from_arrow,
    "pandas": lambda batch: pa.Table.from_batches([batch]).to_pandas(
        types_mapper=pd.ArrowDtype, date_as_object=False
    ),
    "duckdb": lambda batch: duckdb.connect().from_arrow(pa.Table.from_batches([batch])),
    "two slices": lambda batch: pa.Table.from_batches([batch.slice(0, 5), batch.slice(5)]),
    "another order": lambda batch: batch.select(sorted(batch.schema.names)),
}


def test_batches_handed_on_arrive_as_they_were(orders, source, target, run):
    """Through Arrow and back, by whatever library, no value changes."""
    for way, function in BATCHES.items():
        run(target, "truncate orders")
        result = load(source, target, transform_batch=function)

        assert (way, "succeeded", "arrow") == (way, result.status, result.data_path)
        assert run(source, SUM.format("orders")) == run(target, SUM.format("orders")), way


@pytest.mark.parametrize("zone", ["Africa/Monrovia", "Europe/Amsterdam", "Asia/Kolkata"])
def test_moments_of_long_ago_are_read(orders, source, target, run, zone):
    """Their offset from UTC has seconds; they are those moments, in the session's time zone."""
    run(
        source,
        "update orders set placed = '1800-01-01 00:00+00'::timestamptz + id * interval '1 month'"
        " + id * interval '1 microsecond'",
        "update orders set placed = null where id = 10",
    )
    kinds = set()

    def seen(batch):
        kinds.add(batch.schema.field("placed").type)
        return batch

    loaded(source, target, transform_batch=seen, time_zone=zone)

    assert {pa.timestamp("us", zone)} == kinds
    assert run(source, SUM.format("orders")) == run(target, SUM.format("orders"))


@pytest.mark.parametrize(
    ("moment", "words"),
    [
        ("infinity", "invalid value 'infinity'"),
        ("0044-03-15 BC", "invalid value '0044-03-1"),
        ("12000-01-01", "'12000-01-01 00:00:00'"),
    ],
)
def test_what_is_no_moment_of_arrow_is_told_among_old_ones(
    orders, source, target, run, moment, words
):
    """It is named, and not the one that has an equal."""
    run(
        source,
        "update orders set placed = '1800-01-01'",
        f"update orders set placed = '{moment}' where id = 10",
    )

    options = {"time_zone": "Africa/Monrovia", "strategy": "one_pass"}
    (error,) = load(source, target, transform_batch=lambda batch: batch, **options).chunk_errors

    assert "a value of column placed has no equal in Arrow" in error["error"]
    assert words in error["error"]


def test_an_index_of_pandas_without_a_name_is_no_column(orders, source, target, run):
    """Whichever rows a frame has left; an index that has a name is a column like the others."""

    def filtered(batch):
        frame = batch.to_pandas(types_mapper=pd.ArrowDtype, date_as_object=False)
        return frame.query("id != 7").set_index("note", append=True)

    result = load(source, target, transform_batch=filtered)

    assert "succeeded" == result.status, result.chunk_errors
    rows = "(select * from orders where id <> 7)"
    assert run(source, SUM.format(rows)) == run(target, SUM.format("orders"))


@pytest.mark.parametrize("kind", [polars.Categorical, polars.Enum(["even", "odd", "neither"])])
def test_words_that_are_kept_once_are_written(orders, source, target, run, kind):
    """However polars keeps them, missing ones among them."""

    def worded(batch):
        parity = polars.when(polars.col("id") % 2 == 0).then(polars.lit("even"))
        return polars.DataFrame(batch).with_columns(
            note=parity.when(polars.col("id") % 3 == 0).then(polars.lit("odd")).cast(kind)
        )

    loaded(source, target, transform_batch=worded)

    told = "case when id % 2 = 0 then 'even' when id % 3 = 0 then 'odd' end"
    expected = run(source, f"select id, {told} from orders order by id")
    assert expected == run(target, "select id, note from orders order by id")


def test_a_batch_function_works_on_columns(orders, source, target, run):
    """Filtered, computed, renamed: the guide's promise, an Arrow batch at a time."""

    def change(batch):
        frame = polars.DataFrame(batch)
        return frame.filter(polars.col("id") % 2 == 0).select(
            "id", amount=polars.col("amount") + Decimal("0.01"), note=polars.lit("x,\"y'\\N\n")
        )

    result = load(source, target, transform_batch=change)

    assert (ROWS, ROWS // 2) == (result.total_rows_processed, result.rows_written)
    assert run(
        source,
        "select id, amount + 0.01, E'x,\"y''\\\\N\\n' from orders where id % 2 = 0 order by 1",
    ) == run(target, "select id, amount, note from orders order by 1")


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda batch: batch.to_pylist(), "must return a pyarrow.RecordBatch"),
        (lambda batch: polars.DataFrame(batch)["id"], "it returned Series, which is one column"),
        (lambda batch: batch["id"], "it returned Int32Array, which is one column and no table"),
        (lambda batch: batch.append_column("other", batch["id"]), "no column other"),
        (lambda batch: 1 // (len(batch) - len(batch)), "ZeroDivisionError"),
    ],
)
def test_what_a_batch_function_may_not_return_is_told(orders, source, target, run, function, words):
    """Nothing of such a chunk stays."""
    result = load(source, target, transform_batch=function)

    assert result.status == "failed"
    assert all(words in error["error"] for error in result.chunk_errors)
    assert [(0,)] == run(target, "select count(*) from orders")


def test_a_value_that_arrow_does_not_have_is_told(orders, source, target, run):
    """An infinite moment fails its chunk, in words, and no other."""
    run(source, "update orders set placed = 'infinity' where id = 10")

    result = load(source, target, transform_batch=lambda batch: batch)

    assert 0 < result.total_rows_failed < ROWS
    (error,) = result.chunk_errors
    assert "a value of column placed has no equal in Arrow" in error["error"]
    assert "cast the column to text" in error["error"]


def test_rows_refused_through_arrow_are_set_apart(orders, source, target, run):
    """One by one, as on the other paths."""
    run(target, "alter table orders add check (amount <> 11)")

    result = load(source, target, transform_batch=lambda batch: batch, reject_limit=5)

    assert (ROWS - 1, 1) == (result.total_rows_successful, result.total_rows_failed)
    (refused,) = list_rejects(target, result.load_id)
    assert 10 == int(refused.row["id"])


LATE = {
    "raised when it is read": (
        lambda batch: (
            duckdb.connect()
            .from_arrow(pa.Table.from_batches([batch]))
            .project("* replace (case when id = 700 then error('odd') else note end as note)")
        ),
        "what transform_batch returned raised when it was read: InvalidInputException",
    ),
    "what JSON does not have": (
        lambda batch: polars.DataFrame(batch).with_columns(
            extra=polars.when(polars.col("id") == 700).then(polars.struct(a="placed"))
        ),
        "a value for extra, of type dict, cannot be written",
    ),
    "more exact than it is kept": (
        lambda batch: polars.DataFrame(batch).with_columns(
            placed=polars.col("placed").dt.cast_time_unit("ns")
            + polars.duration(nanoseconds=(polars.col("id") == 700).cast(int), time_unit="ns")
        ),
        "transform_batch returned placed with more precision than PostgreSQL's microseconds",
    ),
}


@pytest.mark.parametrize("kind", LATE)
def test_rows_that_cannot_be_written_through_arrow_are_set_apart(orders, source, target, run, kind):
    """What a batch function made of them is known only when it is read, or written."""
    function, words = LATE[kind]

    result = load(source, target, transform_batch=function, reject_limit=1)

    assert ("succeeded", 1) == (result.status, result.rows_rejected), result.chunk_errors
    (refused,) = list_rejects(target, result.load_id)
    assert 700 == int(refused.row["id"])
    assert words in refused.error
    assert [(ROWS - 1,)] == run(target, "select count(*) from orders")


@pytest.mark.parametrize("kind", ["rows", "some columns", "batches"])
def test_sqlite_through_each_kind_of_function(orders, source, target, run, tmp_path, kind):
    """From PostgreSQL to another database and back: the functions are the same."""
    file = f"sqlite:///{tmp_path / 'other.db'}"
    with closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.execute("create table orders (id integer, note text)")
    kinds: dict[str, Any] = {
        "rows": {"transformation_func": lambda rows: rows},
        "some columns": {"transformation_func": lambda rows: rows, "transform_columns": "note"},
        "batches": {"transform_batch": lambda batch: batch},
    }
    options = {**kinds[kind], "strategy": None}
    sql = "select id, note from orders order by id"

    loaded(source, file, sql=sql, **options)
    loaded(file, target, sql=sql, **options)

    assert run(source, sql) == run(target, sql)


def where_it_runs(rows):
    """A function that a process can import."""
    return [{"id": row["id"], "note": str(os.getpid())} for row in rows]


@pytest.mark.parametrize("strategy", ["key", "stream_once"])
def test_processes_run_the_function_elsewhere(orders, source, target, run, strategy):
    """Not in this process, and a lambda just as well as a function of a module."""
    loaded(
        source,
        target,
        transformation_func=where_it_runs,
        workers="processes",
        strategy=strategy,
        transform_scope="batch",
    )
    pids = {int(pid) for (pid,) in run(target, "select distinct note from orders")}

    assert pids
    assert os.getpid() not in pids
    assert not any(psutil.pid_exists(pid) for pid in pids)

    run(target, "truncate orders")
    loaded(source, target, transformation_func=lambda rows: rows, workers="processes")
    assert run(source, SUM.format("orders")) == run(target, SUM.format("orders"))


def test_what_cannot_be_sent_is_told(orders, source, target):
    """Before a row moves, and with the cure."""
    lock = threading.Lock()

    def guarded(rows):
        with lock:
            return rows

    with pytest.raises(SettingsError, match=r"cannot be sent: .*workers='threads'"):
        load(source, target, transformation_func=guarded, workers="processes")
    with pytest.raises(SettingsError, match="is for transformation_func"):
        load(source, target, transform_batch=lambda batch: batch, workers="processes")


def test_an_error_over_there_is_told_here(orders, source, target, run):
    """An exception crosses over even if it cannot be pickled; its chunk comes to nothing."""

    class OddError(Exception):
        def __init__(self):
            super().__init__("odd")
            self.lock = threading.Lock()

    def odd(rows):
        if any(row["id"] == ROWS for row in rows):
            raise OddError
        return rows

    result = load(source, target, transformation_func=odd, workers="processes", max_retries=1)

    assert ROWS == result.total_rows_successful + result.total_rows_failed
    (error,) = result.chunk_errors
    assert "OddError: odd" in error["error"]


def panic(batch):
    """A batch function that fails as one written in Rust does: of one chunk."""
    if ROWS in batch.column("id").to_pylist():
        raise polars.exceptions.PanicException("out of bounds")
    return batch


def leave(rows):
    """A function that was once the main part of a script."""
    if any(row["id"] == ROWS for row in rows):
        sys.exit("nothing to do")
    return rows


ENDINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "a batch function": ("PanicException: out of bounds", {"transform_batch": panic}),
    "a row function": ("SystemExit: nothing to do", {"transformation_func": leave}),
    "in a process": (
        "SystemExit: nothing to do",
        {"transformation_func": leave, "workers": "processes"},
    ),
}


@pytest.mark.parametrize("strategy", ["key", "one_pass", "stream_once"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_what_ends_no_load_is_an_error_of_its_chunk(orders, source, target, run, ending, strategy):
    """What a function raises that is no Exception is told as others are, and returned."""
    words, options = ENDINGS[ending]

    result = load(source, target, strategy=strategy, **options)

    (error,) = result.chunk_errors
    assert f"TransformError: {words}" == error["error"].removeprefix("piece 6: ")
    assert ROWS == result.total_rows_successful + result.total_rows_failed
    assert [(result.total_rows_successful,)] == run(target, "select count(*) from orders")


def test_a_row_that_ends_no_load_is_refused(orders, source, target, run):
    """As one on which the function raises any other error."""
    result = load(source, target, transformation_func=leave, reject_limit=1)

    assert ("succeeded", 1) == (result.status, result.rows_rejected)
    (reject,) = list_rejects(target, result.load_id)
    assert "TransformError: SystemExit: nothing to do" == reject.error


class Interruption(BaseException):
    """What a scheduler raises in a process that is to end."""


def end(raised, number, frame):
    """Hear a signal."""
    raise raised


@dataclass
class Ending:
    """A handler of signals that is an object."""

    raised: type[BaseException]

    def __call__(self, number, frame):
        """Hear a signal."""
        raise self.raised

    def hear(self, number, frame):
        """Hear a signal."""
        raise self.raised


HANDLERS: dict[str, Any] = {
    "a function": lambda raised: lambda number, frame: end(raised, number, frame),
    "a partial": lambda raised: partial(end, raised),
    "an object": Ending,
    "a method": lambda raised: Ending(raised).hear,
    "a partial of an object": lambda raised: partial(Ending(raised)),
}


@pytest.mark.parametrize("handler", HANDLERS)
@pytest.mark.parametrize("raised", [Interruption, KeyboardInterrupt, SystemExit])
def test_a_signal_that_comes_while_a_function_runs_ends_the_load(
    orders, source, target, run, raised, handler
):
    """Whatever its handler is and raises, for that is not what the function raised."""

    def interrupted(rows):
        if rows[0]["id"] > 1:
            signal.raise_signal(signal.SIGTERM)
        return rows

    before = signal.signal(signal.SIGTERM, HANDLERS[handler](raised))
    try:
        with pytest.raises(raised):
            load(source, target, transformation_func=interrupted, max_workers=1)
    finally:
        signal.signal(signal.SIGTERM, before)

    ((rows,),) = run(target, "select count(*) from orders")
    assert 0 < rows < ROWS / 2


def test_a_process_that_is_killed_costs_an_attempt(orders, source, target, run, tmp_path):
    """The chunk is loaded again, by another process, exactly once."""
    once = tmp_path / "once"

    def dies_once(rows):
        if any(row["id"] == ROWS for row in rows) and not once.exists():
            once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return rows

    result = load(source, target, transformation_func=dies_once, workers="processes")

    assert result.status == "succeeded"
    assert any(chunk.attempts > 1 for chunk in result.chunk_results)
    assert run(source, SUM.format("orders")) == run(target, SUM.format("orders"))


def test_a_process_that_is_killed_costs_no_other_chunk(orders, source, target, run, tmp_path):
    """What another process is busy with at that moment goes on."""
    busy, killed = tmp_path / "busy", tmp_path / "killed"

    def dies_beside_another(rows):
        if rows[0]["id"] == 1:
            wait_until(busy.exists, "the other chunk")
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        busy.touch()
        wait_until(killed.exists, "the process to be killed")
        # Time enough to be taken along.
        time.sleep(1)
        return rows

    result = load(
        source,
        target,
        transformation_func=dies_beside_another,
        workers="processes",
        chunk_size=ROWS // 2,
        enable_retry=False,
    )

    assert {"failed": 1, "succeeded": 1} == Counter(c.status for c in result.chunk_results)
    assert [(result.total_rows_successful,)] == run(target, "select count(*) from orders")


def test_a_load_that_is_to_stop_ends_its_processes(orders, source, target, run, tmp_path):
    """However long a function would take."""
    begun = tmp_path / "begun"

    def sleeps(rows):
        begun.touch()
        time.sleep(1000)
        return rows

    result = load(
        source,
        target,
        transformation_func=sleeps,
        workers="processes",
        should_stop=begun.exists,
    )

    assert result.status == "stopped"
    assert [(0,)] == run(target, "select count(*) from orders")


_KILLED = """
import sys, time, pathlib
from mapper_core import execute_query_parallel
def sleeps(rows):
    pathlib.Path(sys.argv[3]).touch()
    time.sleep(1000)
execute_query_parallel(sys.argv[1], "select * from orders", target_conn=sys.argv[2],
    target_table="orders", transformation_func=sleeps, workers="processes", max_workers=2)
"""


def test_processes_end_with_the_load_that_is_killed(orders, source, target, run, tmp_path):
    """A script without a guard around its main part; SIGKILL; nothing is left behind."""
    begun, script = tmp_path / "begun", tmp_path / "script.py"
    script.write_text(_KILLED.replace("sys.argv[3]", repr(str(begun))))
    process = subprocess.Popen(
        [sys.executable, str(script), source, target],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        wait_until(lambda: begun.exists() or process.poll() is not None, "the function to run")
        children = psutil.Process(process.pid).children(recursive=True)
    finally:
        process.kill()
        process.wait()

    assert children
    wait_until(lambda: not any(_lives(child) for child in children), "its processes to end")
    with psycopg.connect(target) as connection:
        assert connection.execute("select count(*) from orders").fetchone() == (0,)


def _lives(process):
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


JSON_VALUES = {
    "[1, 2]": "[1, 2]",
    "[]": "[]",
    '["ä", null, {"b": [true]}]': '["ä", null, {"b": [true]}]',
    '{"ö": "\\n"}': '{"ö": "\\n"}',
    "true": "true",
    "false": "false",
    "15": "15",
    "1.5": "1.5",
    # A text is the text it is: nobody can tell it from one that the function made.
    '"5"': "5",
    '"a \\"b\\""': 'a "b"',
}


@pytest.mark.parametrize("workers", ["threads", "processes"])
@pytest.mark.parametrize("given", ["json", "jsonb"])
@pytest.mark.parametrize("kind", ["text", "varchar", "char(40)"])
def test_json_in_a_column_of_text_is_the_json_it_was(source, target, run, given, kind, workers):
    """Untouched, it is neither an array of PostgreSQL's nor its word for true."""
    run(source, f'create table orders (id int, "Doc" {given})')
    run(target, f"create table orders (id int, doc {kind})")
    for number, value in enumerate(JSON_VALUES):
        run(source, f"insert into orders values ({number}, '{value}')")
    run(source, "insert into orders values (100)")

    loaded(source, target, transformation_func=lambda rows: rows, strategy=None, workers=workers)

    wanted = [*((text,) for text in JSON_VALUES.values()), (None,)]
    assert wanted == run(target, "select doc::text from orders order by id")


def test_a_list_made_of_json_is_an_array_where_the_target_has_one(source, target, run):
    """JSON is written as JSON where the target has text; other columns of text take arrays."""
    run(source, "create table orders (id int, a jsonb, b jsonb, c int[])")
    run(source, "insert into orders values (1, '[1, 2]', '[[1], \"x\"]', '{1,2}')")
    run(target, "create table orders (id int, a int[], b text, c text)")

    loaded(source, target, transformation_func=lambda rows: rows, strategy=None)

    assert [([1, 2], '[[1], "x"]', "{1,2}")] == run(target, "select a, b, c from orders")


@pytest.mark.parametrize("columns", [(), ("doc",)])
@pytest.mark.parametrize("kind", ["json", "jsonb"])
def test_text_that_is_json_for_the_target_is_not_quoted_again(source, target, run, kind, columns):
    """Not even beside rows that the function changed, or left out."""
    run(source, "create table orders (id int, doc text)")
    run(target, f"create table orders (id int, doc {kind})")
    run(source, """insert into orders select i, '{"a": 1}' from generate_series(1, 10) i""")

    def some(rows):
        rows[0]["doc"] = {"b": 2}
        rows[1]["doc"] = '{"c": 3}'
        return rows if columns else rows[:-1]

    loaded(source, target, transformation_func=some, transform_columns=columns, strategy=None)

    found = run(target, "select doc::jsonb from orders order by id")
    left = 8 if columns else 7
    assert [({"b": 2},), ({"c": 3},), *left * [({"a": 1},)]] == found


ARRAYS_OF_JSON = [
    '{"{\\"a\\": \\"ä\\\\\\\\n\\"}","[1, \\"b\\"]",NULL}',
    '{"[1, 2]","[3, 4]"}',
    "{1,true,1.5,x}",
    "{false}",
    "{}",
    None,
]


@pytest.mark.parametrize("workers", ["threads", "processes"])
@pytest.mark.parametrize("given", ["json[]", "jsonb[]"])
@pytest.mark.parametrize("kind", ["text[]", "varchar[]", "text"])
def test_an_array_of_json_is_one_of_its_texts(source, target, run, given, kind, workers):
    """Whatever is among its elements: a list is JSON, and no array within the array."""
    arrays = [text and text.replace(",x", r",\"x\"") for text in ARRAYS_OF_JSON]
    run(source, f'create table orders (id int, "Doc" {given})')
    run(target, f"create table orders (id int, doc {kind})")
    with psycopg.connect(source) as live:
        for number, array in enumerate(arrays):
            live.execute("insert into orders values (%s, %s)", (number, array))

    loaded(source, target, transformation_func=lambda rows: rows, strategy=None, workers=workers)

    # A text is the text it is: nobody can tell it from one that the function made.
    found = run(target, "select doc::text from orders order by id")
    assert [(text,) for text in ARRAYS_OF_JSON] == found


@pytest.mark.parametrize("kind", ["json[]", "jsonb[]"])
def test_an_array_of_texts_that_are_json_for_the_target_is_not_quoted_again(
    source, target, run, kind
):
    """Nor are the arrays in it lists of JSON; what the function made of other kinds is JSON."""
    arrays = ['{"{\\"a\\": 1}",[1],NULL}', "{{1,true},{NULL,3}}", "{}", None]
    run(source, "create table orders (id int, doc text[])")
    run(target, f"create table orders (id int, doc {kind})")
    with psycopg.connect(source) as live:
        for number, array in enumerate(arrays):
            live.execute("insert into orders values (%s, %s)", (number, array))
        live.execute("insert into orders values (4, '{a}')")

    def some(rows):
        rows[4]["doc"] = ['"a"', {"b": True}, 2]
        return rows

    loaded(source, target, transformation_func=some, strategy=None)

    found = run(target, "select doc::text from orders order by id")
    assert [*((text,) for text in arrays), ('{"\\"a\\"","{\\"b\\": true}",2}',)] == found


def test_a_list_of_json_is_an_array_of_texts(source, target, run):
    """Of its elements each is a text, also where they are of several kinds."""
    run(source, "create table orders (id int, doc jsonb)")
    run(source, """insert into orders values (1, '["a", {"b": 1}, true, 2, null]')""")
    run(source, "insert into orders values (2, '[[1, true], [2, false]]')")
    run(target, "create table orders (id int, doc text[])")

    loaded(source, target, transformation_func=lambda rows: rows, strategy=None)

    found = run(target, "select doc from orders order by id")
    assert [
        (["a", '{"b": 1}', "true", "2", None],),
        ([["1", "true"], ["2", "false"]],),
    ] == found


@pytest.mark.parametrize("kind", ["timestamptz", "timestamptz[]"])
def test_the_first_moment_is_read_or_refused_in_words(source, target, run, kind):
    """Its local time there may lie before the year 1 by Python's own list of time zones."""
    run(source, f"create table orders (id int, v {kind})")
    run(target, f"create table orders (id int, v {kind})")
    moment = "{}" if kind == "timestamptz" else "array[{}]"
    value = moment.format("timestamptz '0001-01-01 00:00:00 Europe/Amsterdam'")
    run(source, f"insert into orders values (1, {value}), (2, null)")
    options = {"time_zone": "Europe/Amsterdam", "strategy": None, "reject_limit": 1}

    result = load(source, target, transformation_func=lambda rows: rows, **options)

    assert "succeeded" == result.status, result.chunk_errors
    assert {"source value"} >= {each.code for each in list_rejects(target, result.load_id)}
    assert 2 == result.rows_rejected + run(target, "select count(*)::int from orders")[0][0]


def test_moments_within_a_value_are_in_the_time_zone_of_the_session(source, target, run):
    """As those are that are the value: in arrays, ranges, multiranges and arrays of these."""
    kinds = ("timestamptz[]", "tstzrange", "tstzmultirange", "tstzrange[]", "tstzmultirange[]")
    listed = ", ".join(f"c{at} {kind}" for at, kind in enumerate(kinds))
    bounds = "tstzrange('2024-01-01 00:00+00', '2024-07-01 00:00+00')"
    run(
        source,
        f"create table orders ({listed})",
        "insert into orders values (array['2024-01-01 00:00+00', null]::timestamptz[],"
        f" {bounds}, tstzmultirange({bounds}), array[{bounds}, 'empty', null],"
        f" array[tstzmultirange({bounds}), null])",
    )
    run(target, f"create table orders ({listed})")
    seen: list[str] = []

    def look(rows):
        seen.extend(str(list(row.values())) for row in rows)
        return [dict(row) for row in rows]

    options = {"time_zone": "Asia/Kolkata", "strategy": None}
    loaded(source, target, transformation_func=look, **options)

    (values,) = seen
    assert values.count("ZoneInfo(key='Asia/Kolkata')") == values.count("datetime.datetime(") == 9
    assert run(source, "select * from orders") == run(target, "select * from orders")
