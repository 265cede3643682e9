"""A password reaches no log line, error, result, repr or ledger."""

import io
import json
import logging
import traceback
from collections.abc import Callable
from functools import partial
from itertools import permutations
from urllib.parse import quote, quote_plus

import psycopg
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from mapper_core import (
    MapperError,
    TransformError,
    execute_query_parallel,
    list_rejects,
    passwords,
    verify,
)

# Two halves, so that a password cut in two by a special character is found as well.
LEFT, RIGHT = "zqxpass", "jkvword"

# What is hidden wherever it stands.
LONG = LEFT * 2

SPECIAL = [
    "",
    "@",
    "/",
    "#",
    "?",
    ":",
    "%",
    " ",
    "&",
    "=",
    "+",
    "\\",
    "'",
    '"',
    "[",
    "]",
    "%00",
    "é",
]

URLS = [
    *(f"postgresql://me:{LEFT}{c}{RIGHT}@127.0.0.1:1/db" for c in SPECIAL),
    *(f"postgresql://me:{LEFT}@{RIGHT}{c}tail@127.0.0.1:1/db" for c in SPECIAL),
    f"postgres://me:{LEFT}{RIGHT}@127.0.0.1:1/db",
    f"postgresql+psycopg://me:{LEFT}{RIGHT}@127.0.0.1:1/db",
    f"postgresql://me:{LEFT}{RIGHT}@127.0.0.1:port/db",
    f"postgresql://me:{LEFT}{RIGHT}@127.0.0.1:999999/db",
    f"postgresql://me:{LEFT}{RIGHT}@127.0.0.1:1/db?no_such_parameter=1",
    f"postgresql://me@127.0.0.1:1/db?password={LEFT}{RIGHT}",
    f"postgresql://me:{LEFT}{RIGHT}@/db?host=/no/such/folder",
    f"postgresql//me:{LEFT}{RIGHT}@127.0.0.1/db",
    f"me:{LEFT}{RIGHT}@127.0.0.1/db",
    f"nosuchdatabase://me:{LEFT}{RIGHT}@127.0.0.1/db",
    f"mysql+nosuchdriver://me:{LEFT}{RIGHT}@127.0.0.1/db",
    f"host=127.0.0.1 port=1 password={LEFT}{RIGHT}",
]


@pytest.fixture
def told(caplog, capfd):
    """Return everything that was logged and printed."""
    caplog.set_level(logging.DEBUG)

    def everything():
        out, err = capfd.readouterr()
        records = [f"{record.getMessage()} {record.exc_text}" for record in caplog.records]
        return "\n".join([out, err, caplog.text, *records])

    return everything


def in_full(error):
    """Return an error as people and tools print it, with its causes."""
    text = io.StringIO()
    while error is not None:
        text.write(f"{error!r} {error} {error.args}\n")
        text.write("".join(traceback.format_exception_only(error)))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return text.getvalue()


def assert_secret(text):
    assert LEFT not in text
    assert RIGHT not in text


@pytest.mark.parametrize("url", URLS)
def test_a_source_that_cannot_be_opened(url, told):
    """Malformed, unknown, unreachable: the error says so without the password."""
    with pytest.raises(MapperError) as caught:
        execute_query_parallel(url, "select 1 as a", max_retries=0)
    assert_secret(in_full(caught.value) + told())


@pytest.mark.parametrize("url", URLS)
def test_a_target_that_cannot_be_opened(url, told, server):
    """The same for the other role; the source here is fine."""
    source = sa.URL.create("postgresql", "postgres", database="postgres", query={"host": server})
    with pytest.raises(MapperError) as caught:
        execute_query_parallel(
            source, "select 1 as a", target_conn=url, target_table="t", max_retries=0
        )
    assert_secret(in_full(caught.value) + told())


def test_a_load_that_works_and_one_that_fails(source, target, run, told):
    """Results, chunk errors, progress, retries and the ledger hold no password."""
    run(source, "create table t as select i as id from generate_series(1, 50) i")
    run(target, "create table t (id int check (id <> 30))")
    url, into = (
        where.replace("postgres@/", f"postgres:{LEFT}{RIGHT}@/") for where in (source, target)
    )
    assert LEFT in url
    engine = sa.create_engine(into.replace("postgresql:", "postgresql+psycopg:"))
    for conn in (into, engine):
        result = execute_query_parallel(
            url,
            "select * from t order by id",
            target_conn=conn,
            target_table="t",
            chunk_size=10,
            min_rows_for_parallel=1,
        )
        assert result.status == "partial"
        assert_secret(f"{result!r} {result.chunk_errors} {result.chunk_results}")
    engine.dispose()
    stored = run(target, "select l::text from mapper.load l")
    assert len(stored) == 2
    assert_secret(f"{stored} {run(target, 'select c::text from mapper.claim c')} {told()}")


# With what a URL has to encode, and JSON or Python to escape.
PASSWORD = f"{LEFT} /'@{RIGHT}"
FORMS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "encoded": partial(quote, safe=""),
    "encoded as in a path": quote,
    "encoded as in a form": quote_plus,
    "in a dict": lambda password: repr({"password": password}),
    "in JSON": json.dumps,
}


def with_password(url):
    """Return a URL with that password; the server trusts whoever comes."""
    return url.replace("postgres@/", f"postgres:{quote(PASSWORD, safe='')}@/")


@pytest.fixture
def numbers(source, target, run):
    """Fifty numbers in the source, and a table for them."""
    run(source, "create table t as select i as id from generate_series(1, 50) i")
    run(target, "create table t (id int)")
    return {
        "source_conn": with_password(source),
        "source_sql": "select * from t order by id",
        "target_conn": with_password(target),
        "target_table": "t",
        "chunk_size": 10,
        "min_rows_for_parallel": 1,
        "max_retries": 1,
    }


def refusing(error):
    """Return a function that raises an error for one of the chunks."""

    def refuse(rows):
        if any(row["id"] == 30 for row in rows):
            raise error
        return rows

    return refuse


KINDS = {"permanent": ValueError, "transient": ConnectionError, "no Exception": SystemExit}


@pytest.mark.parametrize(
    ("form", "workers"), [*((form, "threads") for form in FORMS), ("as it is", "processes")]
)
@pytest.mark.parametrize("kind", KINDS)
def test_an_error_of_a_function_that_holds_the_password(numbers, told, form, kind, workers):
    """Its words are told without it."""
    error = KINDS[kind](f"no answer from {FORMS[form](PASSWORD)}: try later")

    result = execute_query_parallel(**numbers, transformation_func=refusing(error), workers=workers)

    (failed,) = result.chunk_errors
    assert "no answer from " in failed["error"]
    assert ": try later" in failed["error"]
    with pytest.raises(MapperError) as caught:
        result.raise_for_failures()
    assert_secret(f"{in_full(caught.value)} {result.chunk_results} {told()}")


@pytest.mark.parametrize("workers", ["threads", "processes"])
def test_a_reason_to_reject_a_row_that_holds_the_password(numbers, target, told, workers):
    """What the ledger keeps of it is without it."""
    refuse = refusing(ValueError(f"no answer from {PASSWORD}"))

    result = execute_query_parallel(
        **numbers, transformation_func=refuse, reject_limit=1, workers=workers
    )
    limited = execute_query_parallel(
        **numbers,
        transformation_func=refusing(TransformError(PASSWORD)),
        transform_scope="batch",
        reject_limit=1,
    )

    (reject,) = list_rejects(target, str(result.load_id))
    assert reject.error.startswith("ValueError: no answer from *** (raised in")
    assert_secret(f"{limited} {limited.chunk_errors} {list_rejects(target, str(limited.load_id))}")
    assert_secret(told())


@pytest.mark.parametrize("name", ["progress_callback", "should_stop"])
def test_an_error_of_a_callback_that_holds_the_password(numbers, told, name):
    """Neither does its traceback in the log hold it."""

    def broken(*_):
        raise ValueError(f"no answer from {PASSWORD}")

    execute_query_parallel(**{**numbers, name: broken})

    said = told()
    assert name == "should_stop" or "no answer from ***" in said
    assert_secret(said)


def test_a_factory_whose_error_holds_the_password(numbers, target, told):
    """It is told once a connection has been opened with it."""
    opened: list[psycopg.Connection] = []

    def connect():
        if len(opened) == 3:
            raise psycopg.OperationalError(f"no answer for {PASSWORD}")
        opened.append(psycopg.connect(with_password(target)))
        return opened[-1]

    with pytest.raises(MapperError, match=r"no answer for \*\*\*") as caught:
        execute_query_parallel(**{**numbers, "target_conn": connect})
    assert_secret(in_full(caught.value) + told())


@pytest.mark.parametrize("given", ["pool", "engine", "live", "passfile"])
def test_a_password_is_known_from_whatever_was_given(numbers, source, told, given, tmp_path):
    """Also one that nobody has written into a URL."""
    password, of_source = f"{LEFT}{given}{RIGHT}", numbers["source_conn"]
    url = of_source.replace(quote(PASSWORD, safe=""), password)
    if given == "passfile":
        passfile = tmp_path / "pgpass"
        passfile.write_text(f"*:*:*:*:{password}\n")
        passfile.chmod(0o600)
        url = f"{source}&passfile={passfile}"
    engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    made = {
        "pool": lambda: engine.pool,
        "engine": lambda: engine,
        "live": lambda: psycopg.connect(url),
        "passfile": lambda: url,
    }[given]()
    error = ValueError(f"no answer from {password}")

    result = execute_query_parallel(
        **{**numbers, "source_conn": made}, transformation_func=refusing(error)
    )

    (failed,) = result.chunk_errors
    assert failed["error"].startswith("ValueError: no answer from *** (raised in")
    assert_secret(f"{result.chunk_results} {told()}")
    if given == "live":
        made.close()
    engine.dispose()


def test_comparing_tells_no_password(numbers, target, told):
    """Nor does what a driver says that quotes it."""
    with pytest.raises(MapperError) as caught:
        verify(
            numbers["source_conn"],
            "t",
            numbers["target_conn"],
            f"select cast('{LEFT} /''@{RIGHT}' as int) as id from t",
        )
    assert "***" in str(caught.value)
    assert_secret(in_full(caught.value) + told())


@pytest.mark.parametrize("password", ["t", "secret", "postgres"])
def test_a_password_that_is_an_ordinary_word_spoils_no_message(source, password):
    """One that is short, or the user's name: it is hidden where a text says what it is."""
    given = source.replace("postgres@/", f"postgres:{password}@/")
    words = f"the secret of postgres is in table t, not in postgresql://me:{password}@host/t"

    def refuse(_):
        raise ValueError(f"{words} {{'password': '{password}'}} password={password}")

    result = execute_query_parallel(given, "select 1 as a", transformation_func=refuse)

    (failed,) = result.chunk_errors
    assert failed["error"].startswith(
        "ValueError: the secret of postgres is in table t, not in postgresql://me:***@host/t"
        " {'password': '***'} password=*** (raised in"
    )


@pytest.fixture
def of_digits(monkeypatch):
    """A long password of digits alone, and no other one known."""
    monkeypatch.setattr(passwords, "_known", passwords._Known())
    passwords.remember("12345678")
    return "12345678"


DIGITS = st.text("0123456789")


@given(before=DIGITS, after=DIGITS)
@example(before="9", after="0")
@example(before="9", after="")
@example(before="", after="0")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_password_of_digits_spoils_no_longer_number(of_digits, before, after):
    """A row's number that holds it does not tell that it does."""
    number = f"{before}{of_digits}{after}"
    assume(number != of_digits)

    assert passwords.hidden(f"row {number} was refused") == f"row {number} was refused"


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "postgresql://me:{}@db1/dw",
        "password={}",
        "'password': '{}'",
        "no answer for {}: try later.",
        "user1_{}",
        "a\\n{}",
        "the password is {}.5",
        "password%20{}%20",
        "password%3d{}",
        r"caf\xe9{}",
        r"caf\u00e9{}\u0020",
    ],
)
def test_a_password_of_digits_is_hidden_as_a_word_of_its_own(of_digits, text):
    """Whatever but a digit stands beside it, the digits of an escaped character included."""
    assert passwords.hidden(text.format(of_digits)) == text.format("***")


@given(
    password=st.text(min_size=8).filter(lambda text: not text.isspace() and "*" not in text),
    form=st.sampled_from([form for form in FORMS.values() if form is not FORMS["in a dict"]]),
    around=st.tuples(st.text("abc "), st.text("abc ")),
)
def test_a_long_password_is_hidden_wherever_it_stands(password, form, around):
    """Whatever stands around it, and however it is written."""
    try:
        written = form(password)
    except UnicodeEncodeError:
        return  # half of a surrogate pair is in no URL
    # Such as 00000000, which would be hidden in other tests' numbers.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "_known", passwords._Known())
        passwords.remember(password)
        assert password not in passwords.hidden(around[0] + written + around[1])
        assert "***" in passwords.hidden(around[0] + written + around[1])


@pytest.fixture
def none_known(monkeypatch):
    """Passwords of a process that knew of none: these here are hidden in no other test."""
    monkeypatch.setattr(passwords, "_known", passwords._Known())


@pytest.mark.usefixtures("none_known")
@pytest.mark.parametrize("known", [*permutations([LONG, LONG + RIGHT, LONG + RIGHT + LEFT])])
def test_a_password_that_begins_like_another_is_hidden_to_its_end(known):
    """In whatever order they became known."""
    for password in known:
        passwords.remember(password)
    for password in known:
        assert passwords.hidden(f"is {password}!") == "is ***!"


@pytest.mark.usefixtures("none_known")
def test_of_ever_new_passwords_the_latest_is_always_hidden():
    """And one that is used again and again; those that are in use no more do not add up."""
    for number in range(1_000):
        for password in (f"{LONG}{number:04}", RIGHT * 2):
            passwords.remember(password)
        assert passwords.hidden(f"{LONG}{number:04} {RIGHT * 2}") == "*** ***"
    assert passwords.hidden(f"{LONG}0000") == f"{LONG}0000"


@pytest.mark.usefixtures("none_known")
@pytest.mark.parametrize("public", [[(), (LONG,)], [(LONG,), ()]])
def test_a_password_that_elsewhere_is_a_users_name_stays_hidden(public):
    """Of two connections one has it as its password alone: there it is one wherever it stands."""
    for words in public:
        passwords.remember(LONG, *words)
    assert passwords.hidden(f"value {LONG}") == "value ***"
