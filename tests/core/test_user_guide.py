"""The guide's examples, taken from the guide and run as they are written there."""

import re
from pathlib import Path

import pytest

from mapper_core import ParallelProcessor as Processor
from mapper_core import (
    ProgressSnapshot,
    ProgressTracker,
    RetryConfig,
    RetryHandler,
    VerificationError,
    execute_query_parallel,
)
from mapper_core.settings import Settings, resolve

GUIDE = Path(__file__).parents[2] / "docs" / "user-guide.md"
ROWS = 1_200

# In the order of the guide. What an example leaves to its reader is supplied; nothing is changed.
EXAMPLES = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)


def example(words):
    """Return the one example of the guide that holds these words."""
    (found,) = [text for text in EXAMPLES if words in text]
    return found


@pytest.fixture
def run_example(source, target, capsys):
    """Run an example in a namespace; return what it defined and what it printed."""

    def run(words, **names):
        namespace = {"source_conn": source, "target_conn": target, **names}
        exec(compile(example(words), str(GUIDE), "exec"), namespace)  # it is our own guide
        return namespace, capsys.readouterr().out

    return run


@pytest.fixture(autouse=True)
def in_parallel(monkeypatch):
    """Small tables are split too, without touching an example."""
    monkeypatch.setenv("MAPPER_MIN_ROWS_FOR_PARALLEL", "100")
    monkeypatch.setenv("MAPPER_CHUNK_SIZE", "250")
    monkeypatch.setenv("MAPPER_MAX_WORKERS", "3")


@pytest.fixture
def tables(source, target, run):
    """Every table the guide speaks of."""
    large = "(id bigint primary key, load_date date, note text)"
    order = "(order_id int primary key, order_date date, amount numeric(10,2))"
    some = f"select i, current_date - (i % 60), 'note ' || i from generate_series(1, {ROWS}) i"
    run(
        source,
        *(f"create table {name} {large}" for name in ("large_source_table", "large_table")),
        *(f"create table {name} {large}" for name in ("source_table", "remote_table")),
        f"insert into large_source_table {some}",
        f"insert into large_table {some}",
        f"insert into source_table {some}",
        f"insert into remote_table {some}",
        f"create table orders {order}",
        "insert into orders select i, date '2023-12-01' + i % 90, i / 3.0"
        f" from generate_series(1, {ROWS}) i",
    )
    run(
        target,
        "create schema target_schema",
        "create schema dw",
        "create schema target",
        f"create table target_schema.target_table {large}",
        f'create table target."table" {large}',
        f"create table dw.fact_orders {order}",
    )


@pytest.fixture
def same(source, target, run):
    """Assert that a query on the source and one on the target give the same rows."""

    def compare(query, table):
        rows = run(source, f"select q::text from ({query}) q order by 1")
        assert rows
        assert rows == run(target, f"select q::text from {table} q order by 1")
        return len(rows)

    return compare


def job(namespace, source, target):
    return namespace["execute_job"](None, source, target, {"batch_id": 42})


def test_no_example_is_left_out():
    """Whoever adds an example to the guide adds it here."""
    assert len(EXAMPLES) == 15
    assert all(path not in GUIDE.read_text(encoding="utf-8") for path in ("backend.", "modules."))


def test_quick_start_with_the_function(tables, run_example, same, source, target):
    """The rows of the last thirty days arrive, and the numbers printed are theirs."""
    namespace, _ = run_example("# Your source SQL query")
    answer = job(namespace, source, target)
    rows = same(
        "select * from large_source_table where load_date >= current_date - interval '30 days'",
        "target_schema.target_table",
    )
    assert answer == {"status": "SUCCESS", "rows_processed": rows}


def test_quick_start_prints_its_counts(tables, run_example, source, target, capsys):
    """Three lines, with thousands separated."""
    namespace, _ = run_example("# Your source SQL query")
    rows = job(namespace, source, target)["rows_processed"]
    assert capsys.readouterr().out == f"Processed {rows:,} rows\nSuccessful: {rows:,}\nFailed: 0\n"


def test_quick_start_with_the_processor(tables, run_example, same, source, target, run):
    """A processor with a handler and a tracker of its own."""
    namespace, _ = run_example("# Create processor")
    answer = job(namespace, source, target)
    assert same("select * from large_table", "target_schema.target_table") == ROWS
    assert answer == {"status": "SUCCESS", "rows": ROWS}


def test_the_environment_block_is_a_valid_env_file(monkeypatch, tmp_path):
    """As a `.env` file it sets what it says; nothing else is needed."""
    for name in ("MIN_ROWS_FOR_PARALLEL", "CHUNK_SIZE", "MAX_WORKERS"):
        monkeypatch.delenv(f"MAPPER_{name}")
    (block,) = re.findall(r"```env\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / ".env").write_text(block)
    assert resolve({}) == Settings(
        enable_parallel=True,
        max_workers=4,
        chunk_size=50_000,
        min_rows_for_parallel=100_000,
        enable_retry=True,
        max_retries=3,
        enable_progress=True,
    )


def test_the_job_parameters_are_settings(tables, run_example, same, source, target):
    """The dict of the guide, handed over as it says."""
    namespace, _ = run_example("'enable_parallel': True")
    params = namespace["params"]
    assert resolve({}, params, {}) == Settings(max_workers=4)

    result = execute_query_parallel(
        source,
        "SELECT * FROM large_table ORDER BY id",
        target_conn=target,
        target_schema="target_schema",
        target_table="target_table",
        job_params={**params, "enable_parallel": "N"},
    )
    assert result.strategy_reason == "enable_parallel is false"
    same("select * from large_table", "target_schema.target_table")


def test_a_transformation(tables, run_example, source, target, run):
    """Each row arrives with what the function added to it."""
    run(
        target,
        "alter table target_schema.target_table"
        " add processed_date timestamp not null, add status text not null",
    )
    namespace, _ = run_example(
        "def transform_rows(rows):", execute_query_parallel=execute_query_parallel
    )
    assert namespace["result"].total_rows_successful == ROWS
    found = "select id, load_date, note from {} order by id"
    assert run(source, found.format("source_table")) == run(
        target, found.format("target_schema.target_table")
    )
    assert [(ROWS, "PROCESSED", "PROCESSED", True)] == run(
        target,
        "select count(*), min(status), max(status), min(processed_date) > localtimestamp"
        " - interval '1 day' from target_schema.target_table",
    )


@pytest.mark.parametrize(
    ("words", "becomes"),
    [("def shorten(rows):", "left(note, 20)"), ("def shout(batch):", "upper(note)")],
)
def test_the_other_kinds_of_functions(tables, run_example, same, words, becomes):
    """Some columns as dicts; all of them as Arrow."""
    run_example(words, execute_query_parallel=execute_query_parallel)

    query = f"select id, load_date, {becomes} from source_table"
    assert same(query, "target_schema.target_table") == ROWS


def test_retry_without_a_target(tables, run_example, target, run):
    """The query is read and counted, and nothing is written, not even a ledger."""
    namespace, _ = run_example(
        "# Retry up to 3 times", execute_query_parallel=execute_query_parallel
    )
    result = namespace["result"]
    assert (ROWS, ROWS, 0) == (
        result.total_rows_processed,
        result.total_rows_successful,
        result.total_rows_failed,
    )
    assert result.chunks_total == 5
    assert run(target, "select to_regclass('mapper.claim')::text") == [(None,)]


def test_handling_failures_prints_them(tables, run_example, source, target, run):
    """The failed chunk is named with its error; the rows of the others are in."""
    run(target, "alter table target_schema.target_table add check (id <> 600)")
    namespace, out = run_example(
        "# Check individual chunk errors", execute_query_parallel=execute_query_parallel
    )
    assert namespace["result"].status == "partial"
    assert out.startswith("Warning: 250 rows failed\nFailed chunks: 1\nChunk 3: CheckViolation: ")
    assert out.endswith("Error: 1 chunks failed completely\n")
    assert run(target, "select count(*) from target_schema.target_table") == [(ROWS - 250,)]


def test_rows_that_the_target_refuses_are_listed(tables, run_example, target, run):
    """One is set apart and printed with why; the others are in."""
    run(target, "alter table dw.fact_orders add check (order_id <> 600)")

    namespace, out = run_example("list_rejects")

    assert (1, ROWS - 1) == (
        namespace["result"].rows_rejected,
        namespace["result"].total_rows_successful,
    )
    assert ": {'order_id': '600'" in out
    assert "was refused: CheckViolation" in out


def test_verifying_compares_what_was_loaded(tables, run_example, target, run):
    """The target's rows are those of the source, until somebody changes one."""
    run(target, "drop table dw.fact_orders")
    run(
        target,
        "create table dw.fact_orders (amount numeric(10,2), order_id int, order_date date)",
        "insert into dw.fact_orders select i / 3.0, i, date '2023-12-01' + i % 90"
        f" from generate_series(1, {ROWS}) i where date '2023-12-01' + i % 90 >= '2024-01-01'",
    )

    _, said = run_example("from mapper_core import verify")

    assert said.startswith("checksum: ")
    assert said.endswith("rows on both sides, with the same values\n")
    run(target, "update dw.fact_orders set amount = 0 where order_id = 40")
    with pytest.raises(VerificationError):
        run_example("from mapper_core import verify")


def test_handling_failures_prints_nothing_when_there_are_none(tables, run_example, same):
    """A load that went well is silent."""
    _, out = run_example(
        "# Check individual chunk errors", execute_query_parallel=execute_query_parallel
    )
    assert out == ""
    same("select * from source_table", "target_schema.target_table")


def test_progress_tracking(tables, run_example):
    """One report a chunk, up to all of it."""
    _, out = run_example("def progress_callback(", execute_query_parallel=execute_query_parallel)
    lines = out.splitlines()
    shares = [line for line in lines if line.startswith("Progress:")]
    assert shares == [f"Progress: {share}.0%" for share in (20, 40, 60, 80, 100)]
    assert "Rows: 1,200" in lines
    assert sum(line.startswith("Estimated remaining:") for line in lines) == 4


def test_connections_of_four_workers(run_example):
    """That block is a comment on arithmetic."""
    run_example("# If you have 4 workers")


def test_example_1(tables, run_example, same, source, target):
    """A simple load, with a filter."""
    namespace, _ = run_example("WHERE order_date >= '2024-01-01' ORDER BY order_id")
    answer = job(namespace, source, target)
    rows = same("select * from orders where order_date >= '2024-01-01'", "dw.fact_orders")
    assert answer == {
        "status": "SUCCESS",
        "rows_processed": rows,
        "rows_successful": rows,
        "rows_failed": 0,
    }


def test_example_2(tables, run_example, same, source, target, run):
    """A transformation that reads the job's parameters."""
    run(target, "alter table dw.fact_orders add processed_at timestamp, add process_batch_id int")
    namespace, _ = run_example("def transform_order_data(rows):")
    answer = job(namespace, source, target)
    assert answer == {"status": "SUCCESS", "rows": ROWS}
    found = "select order_id, order_date, amount from {} order by 1"
    assert run(source, found.format("orders")) == run(target, found.format("dw.fact_orders"))
    assert run(target, "select distinct process_batch_id from dw.fact_orders") == [(42,)]


def test_example_3(tables, run_example, same, source, target):
    """A custom configuration, into a table that is really named `table`."""
    namespace, _ = run_example("# Custom retry configuration")
    answer = job(namespace, source, target)
    assert same("select * from remote_table", 'target."table"') == ROWS
    assert answer == {"status": "SUCCESS", "rows": ROWS}


def test_the_full_call_works_as_written(tables, same, source, target):
    """Every keyword that the guide and its readers know, at once."""
    heard: list[ProgressSnapshot] = []
    result = execute_query_parallel(
        source_conn=source,
        source_sql="SELECT * FROM orders WHERE order_id > 200 ORDER BY order_id",
        transformation_func=None,
        target_conn=target,
        target_schema="dw",
        target_table="fact_orders",
        enable_parallel=True,
        max_workers=4,
        chunk_size=100,
        min_rows_for_parallel=1000,
        enable_retry=True,
        max_retries=3,
        enable_progress=True,
        progress_callback=heard.append,
        retry_handler=RetryHandler(RetryConfig(max_retries=5, initial_delay=2.0, max_delay=120.0)),
    )
    assert same("select * from orders where order_id > 200", "dw.fact_orders") == 1000
    assert (10, 10, 0) == (result.chunks_total, result.chunks_succeeded, result.chunks_failed)
    assert len(heard) == 10
    assert heard[-1].progress_percentage == 100.0


def test_the_processor_works_as_written(tables, same, source, target):
    """Settings to the processor, the load to its method; the tracker's total is the plan's."""
    heard: list[ProgressSnapshot] = []
    processor = Processor(
        max_workers=4,
        chunk_size=200,
        retry_handler=RetryHandler(RetryConfig(max_retries=3)),
        progress_tracker=ProgressTracker(total_chunks=10, callback=heard.append),
    )
    result = processor.process_mapper_job(
        source_conn=source,
        source_sql="SELECT * FROM orders ORDER BY order_id",
        target_conn=target,
        target_schema="dw",
        target_table="fact_orders",
    )
    assert same("select * from orders", "dw.fact_orders") == result.total_rows_successful == ROWS
    assert [snapshot.total_chunks for snapshot in heard] == [6] * 6
