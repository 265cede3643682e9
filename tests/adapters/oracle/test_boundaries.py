"""Where movers lose or repeat rows of Oracle: at NULLs, at the edges of ranges, in odd queries."""

import oracledb
import pytest

from mapper_core import TargetError, plan
from mapper_core.adapters.oracle import lobs
from mapper_core.loading import stream

from .items import load

DDL = "create table item (id number(10), k number(20), t varchar2(60))"


@pytest.fixture
def source(make_oracle):
    """A user with an empty table."""
    user = make_oracle()
    user.run(DDL)
    return user


@pytest.fixture
def target(make_oracle):
    """Another one."""
    user = make_oracle()
    user.run(DDL)
    return user


def fill(user, rows):
    with user.connect() as connection, connection.cursor() as cursor:
        cursor.setinputsizes(None, 38, 60)
        cursor.executemany("insert into item values (:1, :2, :3)", rows)
        connection.commit()


KEYS: dict[str, list[int | None]] = {
    "empty": [],
    "one": [5],
    "all NULL": [None] * 30,
    "some NULL": [None if n % 3 else n for n in range(60)],
    "all the same": [7] * 60,
    "few values": [n % 2 for n in range(60)],
    "negative": [-n for n in range(60)],
    "sparse": [n * 10**16 for n in range(60)],
    "huge": [10**19 + n for n in range(60)],
}


@pytest.mark.parametrize("snapshot", [True, False], ids=["one-scn", "no-snapshot"])
@pytest.mark.parametrize("case", KEYS)
def test_every_row_is_in_one_chunk(source, target, case, snapshot):
    """Whatever its key is."""
    keys = KEYS[case]
    if keys:
        fill(source, [(n, key, f"t{n}") for n, key in enumerate(keys)])

    result = load(
        source, target, "select * from item", chunk_key="k", chunk_size=7, snapshot=snapshot
    )

    assert "succeeded" == result.status, (result.error, result.chunk_errors)
    assert [(len(keys), len(keys))] == target.run("select count(*), count(distinct id) from item")


TEXTS = [
    "'",
    '"',
    "\\",
    "%s",
    ":name",
    "--",
    "/*",
    "Z",
    "a",
    "z",
    "é",
    "😀",
    " ",
    "  ",
    "0",
    "NULL",
]


def test_texts_of_any_sign_are_keys(source, target):
    """Cut and compared by the database alone."""
    fill(source, [(n, n, text) for n, text in enumerate(TEXTS * 4)])

    result = load(source, target, "select * from item", chunk_key="t", chunk_size=5)

    assert "succeeded" == result.status, (result.error, result.chunk_errors)
    assert [(64, 64)] == target.run("select count(*), count(distinct id) from item")


QUERIES = [
    "select * from item;",
    "select * from item -- all of it",
    "select /* :x */ id, k, t from item where t <> ':x' or t is null order by id",
    "select id, k, q'[it's :x]' as t from item order by id",
    "with w as (select * from item) select * from w order by id",
    "select id, k, t from item where id < 30 union all select id, k, t from item where id >= 30",
    "select distinct id, k, t from item",
    'select id, k as "K", t from item order by id',
    "select id, k, t from (select i.*, row_number() over (order by id) as n from item i)",
    "select id, k, t from item where rownum <= 1000",
]


@pytest.mark.parametrize("sql", QUERIES)
def test_a_query_is_taken_as_it_is(source, target, sql):
    """Semicolons, comments, texts that look like names of values, sets and windows."""
    fill(source, [(n, n, f"t{n}") for n in range(60)])

    result = load(source, target, sql, chunk_size=7)

    assert "succeeded" == result.status, (result.error, result.chunk_errors)
    assert [(60, 60)] == target.run("select count(*), count(distinct id) from item")


def test_a_name_in_mixed_letters_is_a_key(source, target):
    """Also one that is a word of SQL's."""
    source.run('create table "Order" ("Key of it" number(10), "Select" varchar2(9))')
    source.run(*(f"insert into \"Order\" values ({n}, 'x')" for n in range(30)))
    target.run('create table copies ("Key of it" number(10), "Select" varchar2(9))')

    result = load(
        source,
        target,
        'select * from "Order"',
        target_table="copies",
        chunk_key="Key of it",
        chunk_size=4,
    )

    assert ("succeeded", 8) == (result.status, result.chunks_total), result.chunk_errors
    assert [(30,)] == target.run('select count(distinct "Key of it") from copies')
    target.run("drop table copies", 'create table copies ("Key of it" number(10), "select" number)')
    with pytest.raises(TargetError, match='has no column Select; it has Key of it, "select"'):
        load(source, target, 'select * from "Order"', target_table="copies")


def test_a_view_and_an_empty_table_have_no_rowids_to_cut(source):
    """They are cut by a key, or read at once, with the reason."""
    source.run("create view seen as select * from item")

    made = plan(source.url, "select * from seen", min_rows_for_parallel=0)

    assert "physical" != made.strategy
    assert 1 == len(plan(source.url, "select * from item", min_rows_for_parallel=0).chunks)


def test_replace_empties_the_target_once(source, target):
    """And not once a chunk; a failed one leaves the old rows."""
    fill(source, [(n, n, f"t{n}") for n in range(60)])
    fill(target, [(n + 100, n, "old") for n in range(5)])

    def fail(rows):
        if rows[0]["ID"] >= 30:
            raise ValueError("no")
        return rows

    options = {"load_mode": "replace", "chunk_size": 7}
    failed = load(
        source, target, "select * from item order by id", transformation_func=fail, **options
    )
    assert "failed" == failed.status
    assert [(5,)] == target.run("select count(*) from item where t = 'old'")

    load(source, target, "select * from item order by id", **options).raise_for_failures()
    assert [(60, 60)] == target.run("select count(*), count(distinct id) from item")


def test_large_objects_are_in_memory_one_by_one(make_oracle, make_database, run, monkeypatch):
    """Short ones come with their rows, and of long ones no more than a bound together."""
    monkeypatch.setattr(lobs, "HELD", 300_000)
    source, target = make_oracle(), make_database("target")
    source.run("create table item (id number(10), doc clob, blo blob)")
    sizes = [0, 1, lobs.SHORT, lobs.SHORT + 1, 200_000, 250_000, 0, 400_000, 5]
    with source.connect() as connection, connection.cursor() as cursor:
        for number, size in enumerate(sizes):
            cursor.setinputsizes(None, oracledb.DB_TYPE_CLOB, oracledb.DB_TYPE_BLOB)
            text, data = "é" * size or None, b"\0\xff" * (size // 2) or None
            cursor.execute("insert into item values (:1, :2, :3)", [number, text, data])
        connection.commit()
    run(target, "create table item (id int, doc text, blo bytea)")
    held: list[int] = []
    whole = lobs.Lobs.whole

    def watched(self, rows):
        for part in whole(self, rows):
            long = [v for row in part for v in row[1:] if v and len(v) > lobs.SHORT]
            held.append(sum(map(len, long)))
            yield part

    monkeypatch.setattr(lobs.Lobs, "whole", watched)

    load(source, target, "select * from item").raise_for_failures()

    expected = [(n, size or None, size // 2 * 2 or None) for n, size in enumerate(sizes)]
    assert expected == run(target, "select id, length(doc), length(blo) from item order by id")
    # The bound, and the row that went beyond it.
    assert max(held) <= 300_000 + 2 * 400_000
    assert len(held) > 1


def test_a_large_object_of_megabytes_arrives_whole(make_oracle, make_database, run):
    """Text and bytes, more than one of them in a batch."""
    source, target = make_oracle(), make_database("target")
    source.run("create table item (id number(10), doc clob, blo blob)")
    text, data = "ä😀x" * 400_000, bytes(range(256)) * 8_000
    with source.connect() as connection, connection.cursor() as cursor:
        for number in range(3):
            clob = connection.createlob(oracledb.DB_TYPE_CLOB, text)
            blob = connection.createlob(oracledb.DB_TYPE_BLOB, data)
            cursor.execute("insert into item values (:1, :2, :3)", [number, clob, blob])
        connection.commit()
    run(target, "create table item (id int, doc text, blo bytea)")

    load(source, target, "select * from item").raise_for_failures()

    assert [(3, len(text), len(data), 1)] == run(
        target,
        "select count(*), max(length(doc)), max(length(blo)), count(distinct md5(doc)) from item",
    )


def test_pieces_of_a_stream_are_cut_by_the_size_of_large_objects(
    make_oracle, make_database, run, monkeypatch
):
    """Though they are few rows."""
    monkeypatch.setattr(stream, "PIECE_BYTES", 100_000)
    monkeypatch.setattr(lobs, "HELD", 100_000)
    source, target = make_oracle(), make_database("target")
    source.run("create table item (id number(10), doc clob)")
    with source.connect() as connection, connection.cursor() as cursor:
        for number in range(12):
            cursor.setinputsizes(None, oracledb.DB_TYPE_CLOB)
            cursor.execute(
                "insert into item values (:1, :2)", [number, "x" * 50_000 * (number % 3)]
            )
        connection.commit()
    run(target, "create table item (id int, doc text)")
    options = {"strategy": "stream_once", "transform_scope": "batch", "chunk_size": 1_000}

    result = load(
        source, target, "select * from item", transformation_func=lambda rows: rows, **options
    )

    result.raise_for_failures()
    assert [(12, 600_000)] == run(target, "select count(*), sum(length(doc)) from item")
    assert len([chunk for chunk in result.chunk_results if chunk.rows_written]) > 1
