"""What no old snapshot shows: it changes the catalog, or a table's file, for all at once."""

import pytest

from mapper_core import LedgerError

from ..waiting import assert_nothing_left
from .running import PAUSE, Background, at_the_gate, gate, load

ROWS = 2_000

PARTED = (
    "create table parted (id int, note text) partition by list (note)",
    "create table early partition of parted for values in ('early')",
    "create table late (id int, note text)",
    f"insert into parted select i * 2, 'early' from generate_series(1, {ROWS}) i",
    f"insert into late select i * 2 + 1, 'late' from generate_series(1, {ROWS}) i",
    PAUSE,
    "analyze parted, late",
)
ATTACH = "alter table parted attach partition late for values in ('late')"
EVERY_WAY = [
    ("physical", {}),
    ("key", {"chunk_key": "id"}),
    ("same_database", {"chunk_key": "id"}),
]


def changed_in_mid_load(source, target, run, query, meanwhile, options):
    """Load; while the rows around 2,000 are on their way, do something. Return the result."""
    with gate(source):
        loading = Background(
            load, source, query, target, "arrived", load_id="nightly", max_workers=1, **options
        )
        at_the_gate(source)
        run(source, *meanwhile)
    return loading.result()


@pytest.fixture(autouse=True)
def _nothing_left(source, target):
    yield
    assert_nothing_left(source, target)


@pytest.mark.parametrize(("strategy", "options"), EVERY_WAY)
def test_rows_attached_in_mid_load_are_all_in_or_all_out(source, target, run, strategy, options):
    """An old snapshot shows them from the moment their table is attached: some chunks had none."""
    target = source if strategy == "same_database" else target
    run(source, *PARTED)
    run(target, "create table arrived (id int, note text)")
    options = {"strategy": strategy, **options}
    query = "select id, left(note, 9 + pause(id, 2000) * 0) as note from parted"

    first = changed_in_mid_load(source, target, run, query, [ATTACH], options)

    assert "succeeded" != first.status
    assert any(
        "SnapshotLostError: late has become a part of another table since snapshot" in e["error"]
        for e in first.chunk_errors
    ), first.chunk_errors
    assert [] == run(target, "select * from arrived where note = 'late'")
    if strategy == "physical":
        with pytest.raises(LedgerError, match="has other partitions"):
            load(source, query, target, "arrived", load_id="nightly", **options)


def test_a_new_partition_whose_rows_are_new_too_is_no_matter(source, target, run):
    """Filled and attached, as every month: no row of it is the read point's."""
    run(source, *PARTED)
    run(target, "create table arrived (id int, note text)")
    query = "select id, left(note, 9 + pause(id, 2000) * 0) as note from parted"
    meanwhile = [
        "create table new (id int, note text)",
        f"insert into new select i, 'new' from generate_series(1, {ROWS}) i",
        "alter table parted attach partition new for values in ('new')",
    ]

    result = changed_in_mid_load(source, target, run, query, meanwhile, {"chunk_key": "id"})

    assert ("succeeded", ROWS) == (result.status, result.total_rows_successful)


@pytest.mark.parametrize("strategy", ["physical", "key", "stream_once"])
def test_a_table_that_a_function_reads_is_not_emptied_in_mid_load(source, target, run, strategy):
    """Nothing shows that it is read, so it is not held: TRUNCATE need not wait for the load."""
    run(
        source,
        "create table rate (of text)",
        "insert into rate values ('one')",
        "create function rated(i int) returns text language plpgsql stable as $$ begin"
        " if i > 1500 then return (select of from rate); end if; return 'one'; end $$",
        "create table t (id int)",
        f"insert into t select generate_series(1, {ROWS})",
        "analyze t",
        PAUSE,
    )
    run(target, "create table arrived (id int, note text)")
    query = "select id, left(rated(id), 9 + pause(id, 1400) * 0) as note from t"

    result = changed_in_mid_load(
        source,
        target,
        run,
        query,
        ["truncate rate"],
        {"strategy": strategy, "chunk_key": "id" if strategy == "key" else None},
    )

    assert "succeeded" != result.status
    assert any(
        "SnapshotLostError: rate has been emptied or rewritten since snapshot" in e["error"]
        for e in result.chunk_errors
    ), result.chunk_errors
    assert [] == run(target, "select * from arrived where note is null")
