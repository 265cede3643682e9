"""Whatever Oracle's users hand in as a connection, in both roles."""

import logging
import re
from pathlib import Path
from unittest import mock

import oracledb
import pytest
import sqlalchemy as sa

from mapper_core import DatabaseError, SettingsError
from mapper_core.connections import opener_of

from .items import ROWS, counted, load

PAGE = Path(__file__).parents[3] / "docs" / "oracle.md"


@pytest.fixture
def given(request):
    """Make what a user might hand in, to be closed in the end."""
    opened = []

    def make(kind, user):
        made = KINDS[kind](user)
        opened.append(made)
        return made

    yield make
    for each in opened:
        if isinstance(each, sa.Engine):
            each.dispose()
        elif isinstance(each, oracledb.ConnectionPool):
            each.close(force=True)
        elif hasattr(each, "close"):
            each.close()


def pool(user, size):
    """Return a pool of oracledb's."""
    return oracledb.create_pool(
        user=user.name, password=user.password, dsn=user.dsn, min=1, max=size, increment=1
    )


KINDS = {
    "url": lambda user: user.url,
    "easy connect": lambda user: user.easy,
    "sqlalchemy url": lambda user: sa.make_url(user.url),
    "engine": lambda user: sa.create_engine(user.url),
    "factory": lambda user: user.connect,
    "pool of 5": lambda user: pool(user, 5),
    "pool of 2": lambda user: pool(user, 2),
    "pool of 1": lambda user: pool(user, 1),
    "bare connection": lambda user: user.connect(),
}


@pytest.mark.parametrize("role", ["source", "target"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_connection_loads(source, target, given, kind, role):
    """In parallel where it tells how to open more, else one after the other."""
    ours = given(kind, source) if role == "source" else source
    theirs = given(kind, target) if role == "target" else target

    result = load(ours, theirs)

    assert "succeeded" == result.status, (result.error, result.chunk_errors)
    assert (ROWS, ROWS) == counted(target)


def test_a_bare_connection_is_told_to_be_slow(source, target, given, caplog):
    """And is given back as it was."""
    caplog.set_level(logging.INFO)
    connection = given("bare connection", source)
    connection.autocommit = True

    def theirs(cursor, column):
        return None

    connection.outputtypehandler = theirs

    result = load(connection, target)

    assert ("succeeded", 1) == (result.status, result.workers)
    assert "a bare oracledb connection does not show how to open another one" in caplog.text
    assert (True, theirs) == (connection.autocommit, connection.outputtypehandler)
    with connection.cursor() as cursor:
        assert (ROWS,) == cursor.execute("select count(*) from item").fetchone()


def test_a_connection_with_a_transaction_open_is_refused(source, target, given):
    """The load would have to commit the caller's work."""
    connection = given("bare connection", target)
    with connection.cursor() as cursor:
        cursor.execute("insert into item (id) values (-1)")

    with pytest.raises(SettingsError, match="has a transaction open"):
        load(source, connection)


def test_the_documents_example_loads(make_oracle, make_database, run):
    """Only the connections are other ones than in the text."""
    source, target = make_oracle(), make_database("target")
    source.run(
        "create table orders (order_id number(10) primary key, amount number(10,2))",
        *(f"insert into orders values ({n}, {n}.25)" for n in range(30)),
    )
    run(
        target,
        "create schema dw",
        "create table dw.fact_orders (order_id bigint, amount numeric(10,2))",
    )
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    code = code.replace("shop/secret@shop-db:1521/ORCLPDB1", source.easy)
    code = code.replace("postgresql://loader:secret@warehouse/dw", target)

    exec(compile(code, str(PAGE), "exec"), {})

    assert [(30,)] == run(target, "select count(*) from dw.fact_orders")


def test_one_pool_serves_both_roles(source, given):
    """From one table of a schema to another."""
    source.run("create table copied (id number(10), name varchar2(40), amount number)")
    both = given("pool of 5", source)

    result = load(both, both, target_table="copied")

    assert "succeeded" == result.status, (result.error, result.chunk_errors)
    assert [(ROWS,)] == source.run("select count(distinct id) from copied")


def test_a_session_of_a_pool_goes_back_in_its_own_time_zone(source, target, given):
    """Whatever zone the load wanted."""
    lent = given("pool of 2", source)

    load(lent, target, time_zone="Asia/Kolkata").raise_for_failures()

    with lent.acquire() as connection, connection.cursor() as cursor:
        assert ("UTC",) == cursor.execute("select sessiontimezone from dual").fetchone()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("scott/tiger@nowhere.invalid:1/x", "could not"),
        ("scott/tiger@127.0.0.1:1/x", "could not"),
        ("oracle+oracledb://scott:tiger@127.0.0.1:1/?service_name=x", "could not"),
    ],
)
def test_a_server_that_is_not_there_is_named(target, text, words):
    """Without the password."""
    with pytest.raises(DatabaseError, match=words) as caught:
        load(text, target, max_retries=0)
    assert "tiger" not in str(caught.value)


def test_parameters_of_a_url_are_the_drivers(tmp_path):
    """Wallets and TCPS among them; nothing here speaks TLS, so the call is looked at."""
    url = "oracle+oracledb://scott:007@db.example:2484/?service_name=x&ssl_server_dn_match=1"
    url += f"&wallet_location={tmp_path}&wallet_password=1234&tcp_connect_timeout=3"
    with mock.patch("oracledb.connect", autospec=True) as connect:
        opener_of(f"{url}&call_timeout=500", role="source_conn").open()

    (call,) = connect.call_args_list
    assert (str(tmp_path), "1234", "007", 3) == tuple(
        call.kwargs[name]
        for name in ("wallet_location", "wallet_password", "password", "tcp_connect_timeout")
    )
    assert 500 == connect.return_value.call_timeout


def test_a_parameter_that_the_driver_does_not_have_is_refused(source):
    """Before anything is opened."""
    with pytest.raises(SettingsError, match="has no parameter walet_location: correct the URL"):
        opener_of(f"{source.url}&walet_location=x", role="source_conn")
