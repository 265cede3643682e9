"""A password reaches no log line, error, result, repr or ledger."""

import io
import logging
import traceback

import pytest
import sqlalchemy as sa

from mapper_core import MapperError, execute_query_parallel

# Two halves, so that a password cut in two by a special character is found as well.
LEFT, RIGHT = "zqxpass", "jkvword"

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
    for given in (into, engine):
        result = execute_query_parallel(
            url,
            "select * from t order by id",
            target_conn=given,
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
