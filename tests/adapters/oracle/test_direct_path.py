"""Direct path load: it commits by itself, and still every row is in once, or none is seen."""

import re
from datetime import datetime
from decimal import Decimal

import oracledb
import pytest

from mapper_core import QueryError, SettingsError, TargetError
from mapper_core.adapters.oracle import direct_path

from .items import ITEMS, QUICK, ROWS, counted, load

MODES = [
    {"publish": "atomic"},
    {"load_mode": "replace"},
    {"load_mode": "upsert", "primary_key": "id"},
]


def direct(source, target, sql=ITEMS, **options):
    """Load so, with whatever else."""
    options = {"retry_handler": QUICK, **options}
    return load(source, target, sql, direct_path=True, **options)


@pytest.mark.parametrize("mode", MODES, ids=["append", "replace", "upsert"])
def test_a_stage_is_filled_by_one_loader(oracle_double, source, target, mode):
    """No row of the stage's goes by INSERT, and the target is published as ever."""
    result = direct(source, target, **mode)

    assert ("succeeded", True) == (result.status, result.published), result.chunk_errors
    assert (1, 1) == (result.chunks_total, result.workers)
    assert ROWS == result.rows_written
    assert (ROWS, ROWS) == counted(target)
    assert source.run("select * from item order by id") == target.run(ITEMS)
    said = [text.lower() for text in oracle_double.order("statements", user=target.name)]
    into_stage = [text for text in said if text.startswith("insert into") and "_stage_" in text]
    # How the double writes down a direct path load.
    assert all("values (:0, " in text for text in into_stage if "values" in text)
    assert into_stage


@pytest.mark.parametrize("code", [60, 3113, "drop"])
def test_an_attempt_that_died_leaves_nothing(oracle_double, source, target, code):
    """In the middle of loading."""
    oracle_double.order("fault", user=target.name, where="direct", code=code, times=2)

    result = direct(source, target, load_mode="replace")

    assert "succeeded" == result.status, result.chunk_errors
    assert (ROWS, ROWS) == counted(target)
    assert 3 == result.chunk_results[0].attempts


@pytest.mark.parametrize("done", [False, True], ids=["request", "reply"])
@pytest.mark.parametrize("after", range(2, 12))
def test_rows_that_were_committed_before_their_ledger_row_are_not_doubled(
    oracle_double, source, target, done, after
):
    """Whichever COMMIT gets no reply."""
    oracle_double.order(
        "fault", user=target.name, where="commit", code="drop", after=after, done=done, times=2
    )

    result = direct(source, target, load_mode="replace")

    assert "succeeded" == result.status, (result.error, result.chunk_errors)
    assert (ROWS, ROWS) == counted(target)


def test_a_load_that_failed_is_gone_on_with(oracle_double, source, target):
    """Under its load id, and only so: without direct_path it is another load."""
    oracle_double.order("fault", user=target.name, where="direct", code=1652, times=1)
    failed = direct(source, target, load_mode="replace", load_id="it")
    assert "failed" == failed.status
    assert (0, 0) == counted(target)
    with pytest.raises(Exception, match="used for another query"):
        load(source, target, load_mode="replace", load_id="it")

    result = direct(source, target, load_mode="replace", load_id="it")

    assert "succeeded" == result.status, result.chunk_errors
    assert (ROWS, ROWS) == counted(target)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({}, SettingsError, "this append has none: add publish='atomic'"),
        ({"load_mode": "replace", "reject_limit": 3}, SettingsError, "reject_limit=0"),
        ({"load_mode": "replace", "strategy": "key"}, QueryError, "has one loader"),
        ({"load_mode": "replace", "strategy": "physical"}, QueryError, "has one loader"),
        ({"load_mode": "replace", "strategy": "stream_once"}, QueryError, "has one loader"),
    ],
)
def test_what_it_does_not_go_with_is_refused(source, target, options, error, words):
    """Before a row moves."""
    with pytest.raises(error, match=words):
        direct(source, target, **options)


def test_only_oracle_has_it(source, make_database, run):
    """PostgreSQL's bulk path is COPY."""
    target = make_database("target")
    run(target, "create table item (id int, name text, amount numeric)")
    with pytest.raises(TargetError, match="direct_path is not possible: only Oracle"):
        direct(source, target, load_mode="replace")


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("TIMESTAMP(6) WITH TIME ZONE", "systimestamp"),
        ("TIMESTAMP(9)", "cast(date '2024-01-31' as timestamp(9))"),
    ],
)
def test_a_column_that_it_cannot_write_is_named(source, make_oracle, word, value):
    """And not written in another way."""
    target = make_oracle()
    target.run(f"create table item (id number(10), name varchar2(40), amount {word})")
    sql = f"select id, name, {value} as amount from item"
    with pytest.raises(TargetError, match=rf"AMOUNT is {re.escape(word)}"):
        direct(source, target, sql, load_mode="replace")


def test_values_are_those_of_array_dml(make_oracle):
    """Large ones, NULLs, moments, all digits."""
    kinds = (
        "id number(10), num number, dec number(20,4), flo binary_double, txt varchar2(100),"
        " day date, at timestamp(6), bin raw(20), doc clob, blo blob"
    )
    source, plain, target = make_oracle(), make_oracle(), make_oracle()
    for user in (source, plain, target):
        user.run(f"create table item ({kinds})")
    number, day = Decimal("12345678901234567890.123456789"), datetime(2024, 2, 29, 23, 59, 59)
    full = [1, number, Decimal("1.5"), 0.1, "ä😀", day, day.replace(microsecond=999_999)]
    with source.connect() as connection, connection.cursor() as cursor:
        cursor.setinputsizes(*[None] * 6, oracledb.DB_TYPE_TIMESTAMP)
        cursor.execute(
            "insert into item values (:1, :2, :3, :4, :5, :6, :7, :8, :9, :10)",
            [*full, b"\0\xff", "some text", b"\0\1"],
        )
        cursor.execute("insert into item (id) values (2)")
        cursor.execute("insert into item (id, txt, num) values (3, ' ', -0.0001)")
        connection.commit()
    for user, options in ((plain, {}), (target, {"direct_path": True})):
        load(
            source, user, "select * from item", load_mode="replace", **options
        ).raise_for_failures()

    asked = (
        "select id, num, dec, flo, txt, day, at, bin, to_char(doc), dbms_lob.getlength(blo)"
        " from item order by id"
    )
    assert plain.run(asked) == target.run(asked)


def test_rows_of_one_call_are_bounded(source, target, monkeypatch):
    """By their number, and by their characters."""
    monkeypatch.setattr(direct_path, "_CALL_ROWS", 600)
    direct(source, target, load_mode="replace").raise_for_failures()
    assert (ROWS, ROWS) == counted(target)

    monkeypatch.setattr(direct_path, "_CALL_BYTES", 1_000)
    direct(source, target, load_mode="replace").raise_for_failures()
    assert source.run(ITEMS) == target.run(ITEMS)


def test_one_live_connection_is_too_few_for_it(source, target):
    """What commits by itself needs a connection beside the one that holds the claim."""
    with (
        target.connect() as connection,
        pytest.raises(TargetError, match="no connection can be had for it alone"),
    ):
        direct(source, target, target_conn=connection, load_mode="replace")
