"""The double of Oracle by itself: what tests rely on when they give it orders."""

import time
from datetime import datetime
from decimal import Decimal

import oracledb
import pytest

from ...oracle_double import dialect
from ...oracle_double.wire import DATE, TS, TSTZ, dec_date, dec_number, enc_date, enc_number


@pytest.fixture
def user(oracle_double):
    """A user with a table of a thousand rows; orders are forgotten in the end."""
    made = oracle_double.user()
    made.run("create table t (id number(10) primary key, v varchar2(20))")
    with made.connect() as connection, connection.cursor() as cursor:
        cursor.executemany("insert into t values (:1, :2)", [(n, f"v{n}") for n in range(1_000)])
        connection.commit()
    yield made
    oracle_double.order("clear")


@pytest.mark.parametrize(
    "value",
    [
        "0",
        "1",
        "-1",
        "0.1",
        "-0.01",
        "100",
        "9" * 38,
        "-" + "9" * 38,
        "1E-120",
        "1.5E100",
        "12345.67",
    ],
)
def test_numbers_keep_their_digits_on_the_wire(value):
    """Twenty pairs of them, an exponent, a sign."""
    assert Decimal(value) == dec_number(enc_number(Decimal(value)))


@pytest.mark.parametrize("kind", [DATE, TS, TSTZ])
def test_dates_keep_their_parts_on_the_wire(kind):
    """To the second, or the microsecond."""
    moment = datetime(2024, 2, 29, 23, 59, 58, 0 if kind == DATE else 123_456)
    found = dec_date(enc_date(moment, kind))
    assert moment == found.replace(tzinfo=None)


@pytest.mark.parametrize("number", [0, 1, 399, 400, 12_345, 1_000_000])
def test_rowids_are_their_rows_numbers(number):
    """There and back, in Oracle's alphabet."""
    text = dialect.rowid_text(number)
    assert (18, number) == (len(text), dialect.rowid_number(text))


def test_placeholders_are_told_from_what_looks_like_them():
    """In texts, names and comments."""
    sql = "select ':a', \":b\", /* :c */ :d -- :e\n from t where x = :1 and y = :d"
    plain, names = dialect.split_binds(sql)
    assert ["d", "1", "d"] == names
    assert 3 == plain.count("?")


def test_an_scn_shows_the_past(oracle_double, user):
    """Until undo has run out."""
    with user.connect() as connection, connection.cursor() as cursor:
        cursor.execute("select dbms_flashback.get_system_change_number from dual")
        (scn,) = cursor.fetchone()
        user.run("delete from t where id >= 10", "insert into t values (5000, 'later')")
        asked = f"select count(*), max(id) from t as of scn {scn} x where x.id >= 0"

        assert (1_000, 999) == cursor.execute(asked).fetchone()
        assert [(11, 5_000)] == user.run("select count(*), max(id) from t")

        oracle_double.order("forget_snapshots")
        with pytest.raises(oracledb.DatabaseError, match="ORA-01555"):
            cursor.execute(asked)


def test_faults_come_when_they_are_asked_for(oracle_double, user):
    """At the n-th time, so often, for one user."""
    oracle_double.order("fault", user=user.name, where="query", match="from t", code=942, after=1)
    with user.connect() as connection, connection.cursor() as cursor:
        cursor.execute("select 1 from t where id = 1")
        with pytest.raises(oracledb.DatabaseError, match="ORA-00942: injected"):
            cursor.execute("select 2 from t where id = 1")
        assert (3,) == cursor.execute("select 3 from t where id = 1").fetchone()


@pytest.mark.parametrize("done", [True, False])
def test_a_commit_can_lose_its_request_or_its_reply(oracle_double, user, done):
    """The driver says the same of both."""
    oracle_double.order("fault", user=user.name, where="commit", code="drop", done=done)
    with user.connect() as connection, connection.cursor() as cursor:
        cursor.execute("insert into t values (-1, 'x')")
        with pytest.raises(oracledb.DatabaseError, match="DPY-4011") as caught:
            connection.commit()
    assert caught.value.args[0].isrecoverable
    assert [(int(done),)] == user.run("select count(*) from t where id = -1")


def test_the_listener_refuses_as_oracles_does(oracle_double, user):
    """With the code in the words of the cause."""
    oracle_double.order("refuse", code=12519)
    with pytest.raises(oracledb.OperationalError, match="Similar to ORA-12519"):
        user.connect()
    user.connect().close()


@pytest.mark.parametrize(
    ("denied", "sql", "code"),
    [
        ("DBA_EXTENTS", "select * from dba_extents", 942),
        ("DBMS_FLASHBACK", "select dbms_flashback.get_system_change_number from dual", 904),
        ("AS OF", "select * from t as of scn 1", 1031),
    ],
)
def test_rights_can_be_taken_away(oracle_double, user, denied, sql, code):
    """And are missed in Oracle's words."""
    oracle_double.order("deny", user=user.name, what=[denied])
    with pytest.raises(oracledb.DatabaseError, match=f"ORA-{code:05d}"):
        user.run(sql)


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("begin some_package.does_it; end;", "ORA-06550"),
        ("alter session set query_rewrite_enabled = true", "ORA-02248"),
        ("select some_function(1) from dual", "ORA-00904"),
        ("flashback table t to before drop", "ORA-00900"),
    ],
)
def test_what_it_does_not_know_is_an_error(user, sql, words):
    """Nothing is passed over."""
    with pytest.raises(oracledb.DatabaseError, match=words):
        user.run(sql)


def test_an_array_tells_all_rows_it_was_refused(user):
    """With their places; the others are in, and not yet committed."""
    with user.connect() as connection, connection.cursor() as cursor:
        rows = [(n, "x" * (50 if n == 2_003 else 5)) for n in range(1_995, 2_005)] + [(1, "twice")]
        cursor.executemany("insert into t values (:1, :2)", rows, batcherrors=True)
        found = [(error.offset, error.code) for error in cursor.getbatcherrors()]
        assert [(8, 12899), (10, 1)] == found
        connection.rollback()
    assert [(1_000,)] == user.run("select count(*) from t")


def test_a_call_can_be_cancelled(user):
    """By its time, and the session goes on."""
    with user.connect() as connection, connection.cursor() as cursor:
        connection.call_timeout = 300
        begun = time.monotonic()
        with pytest.raises(oracledb.DatabaseError, match="DPY-4024"):
            cursor.execute("begin dbms_session.sleep(5); end;")
        assert time.monotonic() - begun < 4
        connection.call_timeout = 0
        assert (1,) == cursor.execute("select 1 from dual").fetchone()


def test_a_row_that_others_have_locked_is_waited_for_or_left_out(user):
    """As FOR UPDATE says."""
    with user.connect() as first, user.connect() as second:
        first.cursor().execute("select id from t where id = 1 for update")
        left_out = second.cursor().execute("select id from t where id = 1 for update skip locked")
        assert [] == left_out.fetchall()
        with pytest.raises(oracledb.DatabaseError, match="ORA-30006"):
            second.cursor().execute("select id from t where id = 1 for update wait 1")
        first.rollback()
        found = second.cursor().execute("select id from t where id = 1 for update nowait")
        assert [(1,)] == found.fetchall()
