"""Rows written to SQLite, which has types of its own: each arrives as it is, or is refused."""

import sqlite3
from contextlib import closing

import pytest

from mapper_core import execute_query_parallel, list_rejects


@pytest.fixture
def lite(tmp_path):
    """A file without tables."""
    return tmp_path / "target.db"


@pytest.fixture
def ask(lite):
    """Run statements on the file; return the rows of the last one."""

    def run(*statements):
        with closing(sqlite3.connect(lite)) as connection, connection:
            for statement in statements:
                cursor = connection.execute(statement)
            return cursor.fetchall()

    return run


def load(source, lite, sql, **options):
    return execute_query_parallel(
        source,
        sql,
        target_conn=f"sqlite:///{lite}",
        target_table="item",
        min_rows_for_parallel=0,
        enable_progress=False,
        **options,
    )


def floats(values):
    """Return a query of rows that are numbered from 1."""
    return f"select id, v::float8 as v from unnest(array[{values}]) with ordinality as n(v, id)"


@pytest.mark.parametrize("mode", ["append", "replace"])
def test_nan_is_refused_as_it_would_be_null(source, lite, ask, mode):
    """Its row alone, where some may be refused, and else its chunk."""
    ask("create table item (id integer, v real)")
    sql = floats("'0.1', 'Infinity', 'NaN', '-5e-324'")

    failed = load(source, lite, sql, load_mode=mode)

    (error,) = failed.chunk_errors
    assert "column v (real): sqlite keeps nan as null: cast the column" in error["error"].lower()
    assert 1 == error["attempts"]
    assert [] == ask("select * from item")

    result = load(source, lite, sql, load_mode=mode, reject_limit=1)

    assert (3, 1) == (result.total_rows_successful, result.rows_rejected)
    assert [(1, 0.1), (2, float("inf")), (4, -5e-324)] == ask("select * from item")
    (refused,) = list_rejects(f"sqlite:///{lite}", result.load_id)
    assert ("3", "unfit value") == (refused.row["id"], refused.code)


def test_nan_as_text_arrives(source, lite, ask):
    """The cure is one."""
    ask("create table item (v real)")

    load(source, lite, "select 'NaN'::float8::text as v").raise_for_failures()

    assert [("NaN",)] == ask("select * from item")
