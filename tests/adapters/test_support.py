"""Load mode x strategy x databases: each cell loads every row, or is refused in words.

The table that the documentation prints is the one this test finds; after a change of it,
WRITE_SUPPORT=1 in the environment writes docs/support.md anew.
"""

import sqlite3
from contextlib import closing
from datetime import datetime
from typing import Any

import psycopg
import pytest

from mapper_core import LoadMode, LoadWindow, MapperError, StrategyName, execute_query_parallel
from mapper_core.connections import opener_of

from ..databases import making_databases
from ..oracle import in_its_words
from . import pages

PAGE = pages.DOCS / "support.md"
ROWS = 60
PAIRS = {
    "PostgreSQL to another": ("postgresql", "postgresql"),
    "PostgreSQL to the same database": ("postgresql", "itself"),
    "PostgreSQL to SQLite": ("postgresql", "sqlite"),
    "SQLite to PostgreSQL": ("sqlite", "postgresql"),
    "SQLite to SQLite": ("sqlite", "sqlite"),
    "PostgreSQL to Oracle": ("postgresql", "oracle"),
    "Oracle to PostgreSQL": ("oracle", "postgresql"),
    "Oracle to Oracle": ("oracle", "oracle"),
}
JANUARY = LoadWindow(
    "at", datetime.fromisoformat("2024-01-01"), datetime.fromisoformat("2024-02-01")
)
OPTIONS: dict[LoadMode, dict[str, Any]] = {
    LoadMode.APPEND: {},
    LoadMode.REPLACE: {},
    LoadMode.REPLACE_WINDOW: {"window": JANUARY},
    LoadMode.UPSERT: {"primary_key": "id"},
}
# What was in the target, in January and before; which of it stays, by load mode.
OLD, OTHER = "(1, 'old', '2024-01-20 00:00:00')", "(-1, 'other', '2023-01-20 00:00:00')"
STAYS = {
    LoadMode.APPEND: [OLD, OTHER],
    LoadMode.REPLACE: [],
    LoadMode.REPLACE_WINDOW: [OTHER],
    LoadMode.UPSERT: [OTHER],
}


def _run(url, *statements):
    if url.startswith("oracle"):
        return _run_in_oracle(url, statements)
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as file, file:
            found = [file.execute(statement).fetchall() for statement in statements]
        return found[-1]
    with psycopg.connect(url, autocommit=True) as live:
        for statement in statements:
            cursor = live.execute(statement)
        return cursor.fetchall() if cursor.description else []


def _run_in_oracle(url, statements):
    """Run statements in Oracle's words: it inserts one row at a time, and has no texts of times."""
    found: list[tuple[Any, ...]] = []
    with closing(opener_of(url, role="test").open()) as live, live.cursor() as cursor:
        cursor.execute("alter session set nls_timestamp_format = 'YYYY-MM-DD HH24:MI:SS'")
        for statement in statements:
            said = statement.replace("cast(at as text)", "to_char(at, 'YYYY-MM-DD HH24:MI:SS')")
            for one in in_its_words(said):
                cursor.execute(one)
                found = cursor.fetchall() if cursor.description else []
        live.commit()
    return found


@pytest.fixture(scope="module")
def urls(server, oracle_users, tmp_path_factory):
    """Two databases of each kind, each with the same orders and an empty copy."""
    folder = tmp_path_factory.mktemp("support")
    with making_databases(server) as make:
        found = {
            "postgresql": [make("support"), make("support")],
            "oracle": [oracle_users().url, oracle_users().url],
            "sqlite": [f"sqlite:///{folder / name}.db" for name in ("from", "to")],
        }
        for url in (url for both in found.values() for url in both):
            values = ", ".join(f"({n}, 'n{n}', '2024-01-15 00:00:00')" for n in range(ROWS))
            _run(
                url,
                "create table orders (id int primary key, note text, at timestamp)",
                f"insert into orders values {values}",
                "create table copies (id int, note text, at timestamp)",
            )
        yield found


@pytest.fixture(scope="module")
def cells(urls):
    """What each cell came to: None for every row once, else the words it was refused with."""
    return {
        (mode, strategy, pair): _cell(urls, mode, strategy, pair)
        for mode in LoadMode
        for strategy in StrategyName
        for pair in PAIRS
    }


def _cell(urls, mode, strategy, pair):
    origin, goal = PAIRS[pair]
    source = urls[origin][0]
    target = source if goal == "itself" else urls[goal][1]
    _run(target, "delete from copies")
    _run(target, f"insert into copies values {OLD}, {OTHER}")
    try:
        result = execute_query_parallel(
            source,
            "select * from orders order by id",
            target_conn=target,
            target_table="copies",
            strategy=strategy.value,
            load_mode=mode.value,
            chunk_size=25,
            max_workers=2,
            min_rows_for_parallel=0,
            enable_progress=False,
            **OPTIONS[mode],
        )
    except MapperError as error:
        assert [(2,)] == _run(target, "select count(*) from copies")
        return str(error)
    assert ("succeeded", True, ROWS) == (result.status, result.published, result.rows_written)
    # SQLite keeps a timestamp as text: both write it alike.
    listed = "select id, note, cast(at as text) from {}"
    rows = sorted(map(str, _run(target, listed.format("copies"))))
    wanted = map(str, _run(source, listed.format("orders")))
    assert rows == sorted([*wanted, *STAYS[mode]])
    return None


@pytest.mark.parametrize("pair", PAIRS)
def test_each_cell_loads_every_row_or_is_refused_in_words(cells, pair):
    """And what serves one load mode serves every other one."""
    for strategy in StrategyName:
        answers = {cells[mode, strategy, pair] for mode in LoadMode}
        assert 1 == len(answers), answers
        assert all(words is None or "is not possible: " in words for words in answers)
    assert None in {cells[LoadMode.APPEND, strategy, pair] for strategy in StrategyName}


_INTRODUCTION = """\
Found by loading 60 rows in every load mode, by every strategy, between every pair
of databases that the tests have. `yes`: each row was loaded exactly once, and the
target holds what the load mode leaves there. `no`: the load is refused before any row
moves, with the reason given below. The load modes do not differ in this.
"""


def _page(cells):
    """Return the table as the documentation prints it."""
    reasons: list[str] = []

    def mark(words):
        if words is None:
            return "yes"
        reason = words.partition("is not possible: ")[2]
        if reason not in reasons:
            reasons.append(reason)
        return f"no ({reasons.index(reason) + 1})"

    rows = [
        [pair, *(mark(cells[LoadMode.APPEND, strategy, pair]) for strategy in StrategyName)]
        for pair in PAIRS
    ]
    head = ["", *(f"`{strategy.value}`" for strategy in StrategyName)]
    return pages.page("What runs where", _INTRODUCTION, head, rows, reasons)


def test_the_documentation_prints_this_table(cells):
    """Word for word."""
    pages.check(PAGE, _page(cells), written_if="WRITE_SUPPORT")
