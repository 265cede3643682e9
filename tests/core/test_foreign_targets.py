"""A table whose rows another server keeps is never written."""

import pytest

from mapper_core import execute_query_parallel
from mapper_core.errors import TargetError

COLUMNS = "id int, note text"


@pytest.fixture
def copies(target, run):
    """A target of two partitions, one of which another server keeps."""
    run(
        target,
        "create foreign data wrapper nowhere",
        "create server elsewhere foreign data wrapper nowhere",
        f"create table copies ({COLUMNS}) partition by range (id)",
        "create table here partition of copies for values from (0) to (9)",
        "create foreign table there partition of copies for values from (9) to (99)"
        " server elsewhere",
    )


@pytest.mark.usefixtures("copies")
@pytest.mark.parametrize("table", ["there", "copies", "parent"])
@pytest.mark.parametrize("mode", ["append", "replace", "upsert"])
def test_a_foreign_table_is_no_target(source, target, run, table, mode):
    """Its rows would commit without the claim that tells whether they are in."""
    run(source, f"create table orders ({COLUMNS}, primary key (id))")
    run(
        target,
        f"create table parent ({COLUMNS})",
        "create foreign table child () inherits (parent) server elsewhere",
    )
    key = ["id"] if mode == "upsert" else []

    with pytest.raises(TargetError, match=r"(there|child), a foreign table, would commit on"):
        execute_query_parallel(
            source,
            "select * from orders",
            target_conn=target,
            target_table=table,
            load_mode=mode,
            primary_key=key,
        )


@pytest.mark.usefixtures("copies")
def test_a_partition_kept_here_is_one_beside_a_foreign_one(source, target, run):
    """Named by itself it is like any other table."""
    run(
        source,
        f"create table orders ({COLUMNS})",
        "insert into orders select i, 'n' from generate_series(0, 8) i",
    )
    result = execute_query_parallel(
        source, "select * from orders", target_conn=target, target_table="here"
    )

    assert "succeeded" == result.status
    assert [(9,)] == run(target, "select count(*) from here")
