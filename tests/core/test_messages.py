"""What is said to who makes a mistake of the first day: its cause, and its cure, in one reading."""

from typing import Any

import pytest

from mapper_core import (
    ChunksFailedError,
    DatabaseError,
    DatabaseUnavailableError,
    QueryError,
    SettingsError,
    TargetError,
    execute_query_parallel,
    list_rejects,
    plan,
    verify,
)

from .running import load

NUMBERS = "select i as id, i as part from generate_series(1, 100) i"
NOBODY = "postgresql://nobody:any@127.0.0.1:1/nowhere"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgre://u:p@h/d", r"there is no driver for 'postgre': correct .*, as in postgresql://"),
        ("mysql://u:p@h/d", r"no driver for 'mysql' is installed: install the module MySQLdb"),
        ("mssql+nosuch://u:p@h/d", r"there is no driver for 'mssql\+nosuch': correct"),
    ],
)
def test_a_url_says_which_driver_it_lacks(url, words):
    """A slip of the pen is told apart from a package that is not there."""
    with pytest.raises(SettingsError, match=f"^source_conn: {words}"):
        plan(url, "select 1 as one")


def test_a_sqlite_file_that_is_not_there_is_no_empty_database(tmp_path):
    """SQLite would make one, and say that it has no such table."""
    file = tmp_path / "shop.db"
    with pytest.raises(SettingsError, match=r"^source_conn: there is no file .*shop\.db"):
        execute_query_parallel(f"sqlite:///{file}", "select * from orders")
    assert not file.exists()


def test_who_cannot_be_reached_is_named(source):
    """Of two databases, the one that is down."""
    options: dict[str, Any] = {"max_retries": 0, "target_table": "numbers"}
    with pytest.raises(DatabaseUnavailableError, match=r"^could not open the source of load .*"):
        plan(NOBODY, NUMBERS, target_conn=source, **options)
    for call in (plan, execute_query_parallel):
        with pytest.raises(DatabaseUnavailableError, match=r"\(connecting to the target\)$"):
            call(source, NUMBERS, target_conn=NOBODY, **options)
    with pytest.raises(DatabaseError, match=r"\(connecting to the target\)$"):
        verify(source, "pg_class", NOBODY, "pg_class")
    with pytest.raises(DatabaseError, match=r"\(connecting to the target\)$"):
        list_rejects(NOBODY, "a load")


@pytest.mark.parametrize("placeholder", ["%s", "%(low)s", "?", "$1"])
def test_a_drivers_own_placeholder_is_answered_with_ours(source, placeholder):
    """Whoever comes from a driver writes it the driver's way."""
    with pytest.raises(QueryError, match=r"Values are named :name in the SQL, and given in params"):
        plan(source, f"select * from generate_series(1, 3) i where i > {placeholder}")


@pytest.mark.parametrize(
    ("schema", "table", "words"),
    [
        (None, "orders", r"no table orders: .* name its schema \(target_schema\)"),
        ("dw", "dw.orders", r"no table dw\.dw\.orders, but it has dw\.orders: give target_table"),
        ("dw", "Orders", r"no table dw\.Orders, but it has dw\.orders: names are taken exactly"),
        ("nosuch", "orders", r"no table nosuch\.orders: create it, correct the name, or pass"),
    ],
)
def test_a_target_that_is_not_found_says_how_it_is_named(source, target, run, schema, table, words):
    """The name that was meant, where it can be told."""
    run(target, "create schema dw", "create table dw.orders (id int, part int)")
    with pytest.raises(TargetError, match=words):
        plan(source, NUMBERS, target_conn=target, target_schema=schema, target_table=table)


@pytest.mark.parametrize(
    ("written", "meant"), [("max_worker", "max_workers"), ("transform_func", "transformation_func")]
)
def test_a_misspelt_keyword_is_answered_with_the_one_that_was_meant(written, meant):
    """As Python does for names."""
    call: Any = execute_query_parallel  # whose types would have told
    with pytest.raises(TypeError, match=f"unknown keyword {written}: did you mean {meant}"):
        call("postgresql:///x", "select 1 as one", **{written: 1})


@pytest.mark.parametrize("workers", ["threads", "processes"])
def test_a_function_that_raises_is_named_with_its_line(source, target, run, workers):
    """The chunk's error leads to it, also out of another process."""
    run(target, "create table numbers (id int, part int)")

    def reciprocal(rows):
        return [{**row, "part": 1 // (row["part"] - 50)} for row in rows]

    result = load(
        source, NUMBERS, target, "numbers", transformation_func=reciprocal, workers=workers
    )

    (failed,) = result.chunk_errors
    line = f"line {reciprocal.__code__.co_firstlineno + 1}"
    # A function leaves the name of its file behind when it is sent to a process.
    line += " of test_messages.py" if workers == "threads" else ""
    assert "ZeroDivisionError: " in failed["error"]
    assert failed["error"].endswith(f"(raised in transformation_func, {line})")


def test_a_row_that_a_function_raises_on_names_it_too(source, target, run):
    """In the ledger's rejects."""
    run(target, "create table numbers (id int, part int)")

    def strict(rows):
        if any(row["id"] == 7 for row in rows):
            raise ValueError("no sevens")
        return rows

    result = load(source, NUMBERS, target, "numbers", transformation_func=strict, reject_limit=1)

    (reject,) = list_rejects(target, result.load_id)
    assert reject.error.startswith("ValueError: no sevens (raised in transformation_func, line ")


def test_a_user_who_may_not_make_the_ledger_is_told_what_to_ask_for(source, target, run):
    """And needs no more than a schema of its own for it, and INSERT on the table."""
    run(
        target,
        "drop role if exists without_ledger",
        "create role without_ledger login",
        "create table numbers (id int, part int)",
        "grant insert on numbers to without_ledger",
    )
    theirs = target.replace("postgres@", "without_ledger@")
    try:
        with pytest.raises(
            DatabaseError, match=r"denied.*ledger in schema mapper: let .* create it"
        ):
            load(source, NUMBERS, theirs, "numbers")
        run(target, "create schema mapper authorization without_ledger")
        assert "succeeded" == load(source, NUMBERS, theirs, "numbers").status
    finally:
        run(target, "drop owned by without_ledger", "drop role without_ledger")


def test_failures_say_how_to_go_on(source, target, run):
    """With the load's id, which nobody has seen who did not print the result."""
    run(source, f"create table numbers as {NUMBERS}")
    run(target, "create table numbers (id int, part int check (part <> 50))")
    result = load(source, "select * from numbers", target, "numbers")
    with pytest.raises(
        ChunksFailedError,
        match=rf"Fix the cause, then call again with load_id='{result.load_id}'",
    ):
        result.raise_for_failures()


def test_a_failed_publishing_speaks_of_no_failed_chunks(source, target, run):
    """There are none."""
    run(target, "create table numbers (id int, part int unique)")
    same = NUMBERS.replace("i as part", "1 as part")
    result = load(source, same, target, "numbers", load_mode="replace")
    with pytest.raises(ChunksFailedError, match=r"failed: DatabaseError: could not publish"):
        result.raise_for_failures()
