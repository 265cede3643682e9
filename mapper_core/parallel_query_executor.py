"""The calls most people need, under the import path that existing jobs know."""

from typing import Any

from typing_extensions import Unpack

from .model import Plan
from .opening import LoadOptions
from .processor import ParallelProcessor
from .results import ParallelProcessingResult, Reject


def execute_query_parallel(
    source_conn: Any, source_sql: str, **options: Unpack[LoadOptions]
) -> ParallelProcessingResult:
    """Load the rows of a query into a table, in parallel, each row exactly once.

    A connection is a URL string, a SQLAlchemy Engine or Connection, a pool, a function without
    arguments that returns a new connection, or a live DB-API connection (psycopg, psycopg2,
    sqlite3, oracledb). Workers never share a connection; where no second one can be opened, the
    load runs sequentially on the one given. The caller's own transaction is left alone.

    Args:
        source_conn: where rows come from.
        source_sql: one SELECT. Its top-level ORDER BY names the key by which chunks are cut;
            without one, a table's primary key does.
        **options: all by keyword; None means "not given".

            What goes where:

            - target_conn, target_schema, target_table: where rows go, matched by column name.
              Without a target the query is read (and transformed) and counted.
            - params: values for `:name` in the SQL; without them the SQL is passed verbatim. A list
              is an array, as in `= ANY(:name)`.
            - chunk_key: column or columns of the query to cut chunks by, instead of the ORDER BY's.
            - strategy: "same_database", "physical", "key", "stream_once", "one_pass" or "offset".
              By default the first of these that can serve is used, but never "offset".
            - transformation_func: gets a list of dicts, returns a list of dicts; called once per
              chunk, or per batch with transform_scope="batch". Must be thread-safe.
            - transform_columns: the only columns that transformation_func sees and returns. It
              returns one row for each it gets. The other columns pass by unread, which is a good
              deal faster.
            - transform_batch: used instead; gets a pyarrow.RecordBatch and returns one, or anything
              with the Arrow C stream interface (polars, pandas 3, DuckDB). Called per batch.
            - workers: "processes" runs transformation_func, which must be picklable, in processes
              of its own, outside Python's lock; "threads" is the default.
            - load_mode: "append" (chunks appear as they commit), "replace" (all rows are replaced),
              "replace_window" (the rows of `window` are), or "upsert" (rows with a known
              `primary_key` are updated where they differ, others added). All but "append" load
              into a stage and change the target in one transaction at the end.
            - window: a LoadWindow(column, start, end), half-open; bound as :window_start and
              :window_end.
            - primary_key: column or columns that identify a row. Rows of the query must differ in
              it, unless there is an order_column.
            - order_column: of several rows with the same primary_key, the row with the highest
              value in this column counts.
            - publish: "atomic" makes the rows of an "append" appear all at once at the end, too.
            - create_target: creates a missing table, with the query's columns and types.
            - direct_path: fills the stage by an Oracle direct path load, with one loader; for load
              modes that have a stage.
            - load_id: name of the load in the ledger. Calling again with the same name continues an
              unfinished load; without a name every call is a new load.
            - verify: "count" (the query is counted again at the read point; the default of load
              modes that replace), "checksum" (also compares sums over the values of each chunk's
              rows; PostgreSQL to PostgreSQL, from a stage) or "none". A difference stops
              the publishing, and `result.error` names the chunks; see also `mapper_core.verify`.
            - snapshot: False gives up the one read point, for sources that cannot share it.
            - time_zone: time zone of the sessions, e.g. "UTC"; by default that of the connection
              given.

            How it is loaded (each also by job_params and the environment, see `Settings`):

            - enable_parallel, max_workers, min_rows_for_parallel
            - chunk_size: rows, or "auto" to choose by the number of rows and their width
            - enable_retry, max_retries; retry_handler beats max_retries
            - reject_limit: how many rows may be refused, by the target or one by one by a transform
              that raises. They are kept in the ledger instead (see `list_rejects`). 0 fails the
              chunk of the first such row, None sets no limit
            - stop_on_error: whether one failed chunk stops the others, which otherwise continue
            - should_stop: a function that is called a few times a second; if it returns True, the
              load stops, as by `ParallelProcessor.stop()`
            - enable_progress; progress_callback(ProgressSnapshot), or a whole progress_tracker,
              which beats it
            - ledger_schema: schema of the ledger in the target
            - job_params: a dict with any of the settings above

    Returns:
        ParallelProcessingResult: counts, chunk results and errors. A chunk that fails does not
        raise; `result.raise_for_failures()` does.

    Raises:
        MapperError: a mistake that can be known before rows move: no such table or column, a
            syntax error, no permission, a bad setting. The message names the cause and the cure.
    """
    return ParallelProcessor().process_mapper_job(source_conn, source_sql, **options)


def plan(source_conn: Any, source_sql: str, **options: Unpack[LoadOptions]) -> Plan:
    """Return what `execute_query_parallel` would do with the same arguments; load nothing.

    `print(plan(...))` shows the strategy, why it was chosen and each better one ruled out, chunks
    with bounds and expected rows, workers and their connections, snapshot, data path, target and
    load mode.

    Raises:
        MapperError: a mistake that can be known before rows move.
    """
    return ParallelProcessor().plan(source_conn, source_sql, **options)


def list_rejects(
    target_conn: Any, load_id: str, *, ledger_schema: str | None = None
) -> list[Reject]:
    """Return the rows that a load left out within its `reject_limit`, each with the reason.

    Args:
        target_conn: the load's target, given in any of the ways that a load accepts.
        load_id: id of the load, as in `result.load_id`.
        ledger_schema: schema of the ledger, if it is not the one in the settings.

    Raises:
        LedgerError: the ledger there has no load of that id.
        MapperError: the target cannot be opened.
    """
    from . import history  # for people who ask, and no part of a load

    return list(history.rejects(target_conn, load_id, ledger_schema=ledger_schema))
