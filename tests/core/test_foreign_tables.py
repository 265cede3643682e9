"""Tables whose rows another server keeps are read by one statement."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from mapper_core import execute_query_parallel, plan
from mapper_core.errors import QueryError, SettingsError

ROWS = 4_000
OPTIONS: dict[str, Any] = {"chunk_size": 500, "min_rows_for_parallel": 0}
SUM = "select count(*), sum(hashtext(o::text)) from ({}) o"
COLUMNS = "id int, note text"


@pytest.fixture(scope="module")
def server(server, server_with):
    """One that can read from others."""
    has_it = "select 1 from pg_available_extensions where name = 'postgres_fdw'"
    return server_with(server, "postgres_fdw", has_it)


@pytest.fixture
def elsewhere(make_database, source, run):
    """The source with a table of its own, a foreign one, and one that has partitions of both."""
    far = urlsplit(make_database("far"))
    run(
        far.geturl(),
        f"create table items ({COLUMNS})",
        f"insert into items select i, 'far ' || i from generate_series(1, {ROWS}) i",
    )
    run(
        source,
        "create extension postgres_fdw",
        "create server far foreign data wrapper postgres_fdw"
        f" options (host '{parse_qs(far.query)['host'][0]}', dbname '{far.path[1:]}')",
        "create user mapping for postgres server far options (user 'postgres')",
        f"create foreign table items ({COLUMNS}) server far",
        f"create table orders ({COLUMNS}, primary key (id))",
        f"insert into orders select i, 'near ' || i from generate_series(1, {ROWS}) i",
        f"create table parted ({COLUMNS}) partition by range (id)",
        f"create table near partition of parted for values from (-{ROWS}) to (0)",
        "insert into parted select -id, note from orders where id > 1",
        f"create foreign table distant partition of parted for values from (1) to ({ROWS + 1})"
        " server far options (table_name 'items')",
        "create view mixed as select o.id, i.note from orders o join items i using (id)",
        "vacuum analyze orders",
    )


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize(
    "query",
    [
        "select * from items",
        "select * from items order by id",
        "select * from parted",
        "select * from mixed",
        "select o.id, i.note from orders o join items i using (id) where o.id > 7",
    ],
)
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("mode", ["append", "replace"])
def test_a_query_over_a_foreign_table_is_run_once(source, target, run, query, workers, mode):
    """Nothing shares its server's moment, so neither chunks nor a comparison ask again."""
    run(target, f"create table copies ({COLUMNS})")

    result = execute_query_parallel(
        source,
        query,
        target_conn=target,
        target_table="copies",
        load_mode=mode,
        max_workers=workers,
        **OPTIONS,
    )

    assert "succeeded" == result.status, result.chunk_errors
    assert "a foreign table, which each chunk would read as it is then" in result.strategy_reason
    assert run(source, SUM.format(query)) == run(target, SUM.format("select * from copies"))
    refusals: list[tuple[type[Exception], dict[str, Any]]] = [
        (QueryError, {"strategy": "key", "chunk_key": "id"}),
        (SettingsError, {"load_mode": "replace", "verify": "checksum"}),
    ]
    for refused, options in refusals:
        with pytest.raises(refused, match=r"a foreign table|streamed once"):
            plan(source, query, target_conn=target, target_table="copies", **OPTIONS, **options)


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("mode", ["append", "replace"])
def test_inside_one_database_one_statement_reads_and_writes(source, run, mode):
    """The foreign rows come to the server that writes them."""
    run(source, f"create table copies ({COLUMNS})")

    result = execute_query_parallel(
        source,
        "select * from mixed",
        target_conn=source,
        target_table="copies",
        load_mode=mode,
        **OPTIONS,
    )

    assert "same_database" == result.strategy
    assert "succeeded" == result.status, result.chunk_errors
    assert run(source, SUM.format("select * from mixed")) == run(
        source, SUM.format("select * from copies")
    )
