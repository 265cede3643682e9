"""The calls most people need, under the import path that existing jobs know."""

from typing import Any

from typing_extensions import Unpack

from .model import Plan
from .opening import LoadOptions
from .processor import ParallelProcessor
from .results import ParallelProcessingResult


def execute_query_parallel(
    source_conn: Any, source_sql: str, **options: Unpack[LoadOptions]
) -> ParallelProcessingResult:
    """Load the rows of a query into a table, in parallel, each exactly once.

    A connection is a URL string, a SQLAlchemy Engine or Connection, a pool, a function without
    arguments that returns a new connection, or a live DB-API connection (psycopg, psycopg2,
    sqlite3, oracledb). Workers never share one; where no second one can be opened, the load runs
    sequentially on the one given. The caller's own transaction is left alone.

    Args:
        source_conn: where rows come from.
        source_sql: one SELECT. Its top-level ORDER BY names the key to cut chunks by; without one
            a table's primary key does.
        **options: all by keyword; None means "not given".

            What goes where:

            - target_conn, target_schema, target_table: where rows go, matched by column name.
              Without a target the query is read (and transformed) and counted.
            - params: values for `:name` in the SQL; without them the SQL is passed verbatim.
            - chunk_key: column or columns of the query to cut by, instead of the ORDER BY's.
            - strategy: "same_database", "physical", "key", "stream_once", "one_pass" or "offset",
              where the first of them that can serve (but "offset") is not what is wanted.
            - transformation_func: gets a list of dicts, returns a list of dicts; called once per
              chunk, or per batch with transform_scope="batch". Must be thread-safe.
            - load_mode: "append" (chunks appear as they commit) or "replace_window" (the rows of
              `window` are replaced in one transaction at the end).
            - window: a LoadWindow(column, start, end), half-open; bound as :window_start and
              :window_end.
            - load_id: name of the load in the ledger. Calling again with it continues an
              unfinished load; without it every call is a new load.
            - verify: "count" (the query is counted again at the read point; the default of load
              modes that replace), "checksum" (sums over the values of each chunk's rows on both
              sides as well; PostgreSQL to PostgreSQL, from a stage) or "none". A difference stops
              the publishing, and `result.error` names the chunks; see also `mapper_core.verify`.
            - snapshot: False gives up the one read point, for sources that cannot share it.
            - time_zone: of the sessions, e.g. "UTC"; a given connection's own by default.

            How (each also by job_params and the environment, see `Settings`):

            - enable_parallel, max_workers, min_rows_for_parallel
            - chunk_size: rows, or "auto" to choose by the number of rows and their width
            - enable_retry, max_retries; retry_handler beats max_retries
            - enable_progress; progress_callback(ProgressSnapshot), or a whole progress_tracker
            - ledger_schema: schema of the ledger in the target
            - job_params: a dict with any of the settings above

    Returns:
        ParallelProcessingResult: counts, chunk results and errors. A chunk that fails does not
        raise; `result.raise_for_failures()` does.

    Raises:
        MapperError: a mistake that can be known before rows move: no such table or column, a
            syntax error, no permission, a bad setting. The message names cause and cure.
    """
    return ParallelProcessor().process_mapper_job(source_conn, source_sql, **options)


def plan(source_conn: Any, source_sql: str, **options: Unpack[LoadOptions]) -> Plan:
    """Return what `execute_query_parallel` would do with the same arguments, and do nothing.

    `print(plan(...))` shows the strategy, why it and none of the better ones, chunks with bounds
    and expected rows, workers and their connections, snapshot, data path, target and load mode.

    Raises:
        MapperError: a mistake that can be known before rows move.
    """
    return ParallelProcessor().plan(source_conn, source_sql, **options)
