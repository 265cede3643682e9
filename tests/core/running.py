"""A load in the background of a test, how to disturb it, and what it must come to."""

import threading
from contextlib import contextmanager

import psycopg

from mapper_core import RetryConfig, RetryHandler, execute_query_parallel

from ..waiting import backends, wait_until

PATIENT = RetryHandler(RetryConfig(max_retries=30, initial_delay=0.01, max_delay=0.05))

# Returns its number. A statement that moves rows waits at the number `stop` while a test holds
# the gate.
PAUSE = (
    "create function pause(i int, stop int) returns int language plpgsql stable parallel restricted"
    " as $$ begin"
    " if i = stop and current_query() ~ '^(copy|insert)' then"
    "   perform pg_advisory_xact_lock_shared(42); end if;"
    " return i; end $$"
)

# The rows of a statement on `orders` do not end while a test holds the gate.
PAUSE_AT_THE_END = (
    "create function wait() returns trigger language plpgsql as"
    " 'begin perform pg_advisory_xact_lock_shared(42); return null; end'",
    "create trigger wait after insert on orders for each statement execute function wait()",
)


def load(source, sql, target, table, **options):
    """Load in parallel whatever the size, without progress, in small chunks."""
    options = {
        "chunk_size": 500,
        "max_workers": 3,
        "min_rows_for_parallel": 0,
        "retry_handler": PATIENT,
        "enable_progress": "progress_callback" in options,
        **options,
    }
    return execute_query_parallel(source, sql, target_conn=target, target_table=table, **options)


class Background(threading.Thread):
    """Work in the background; `result()` waits for it and returns or raises what it came to."""

    def __init__(self, work, *args, **options):
        super().__init__()
        self._work, self._args, self._options = work, args, options
        self._result = self._error = None
        self.start()

    def run(self):
        try:
            self._result = self._work(*self._args, **self._options)
        except BaseException as error:  # noqa: BLE001 - told to whoever asks for the result
            self._error = error

    def result(self):
        self.join(120)
        assert not self.is_alive()
        if self._error:
            raise self._error
        return self._result


@contextmanager
def gate(url):
    """Hold the gate that `pause` waits at; it opens at the end of the block."""
    with psycopg.connect(url, autocommit=True) as holding:
        holding.execute("select pg_advisory_lock(42)")
        yield


def at_the_gate(url, many=1):
    """Wait until so many backends are at the gate; return them."""

    def waiting():
        found = backends(url, extra="wait_event = 'advisory'")
        return found if len(found) >= many else None

    return wait_until(waiting, "a backend at the gate")


def terminate(url, pids):
    """Kill backends."""
    with psycopg.connect(url, autocommit=True) as connection:
        for pid in pids:
            connection.execute("select pg_terminate_backend(%s)", (pid,))


def waits_for_a_lock(url, like):
    """Wait until a statement like that waits for a lock on a table."""
    wait_until(
        lambda: backends(url, "%", f"wait_event = 'relation' and query like '{like}'"),
        f"{like} to wait",
    )


def multiset(url, query):
    """Return how many rows a query has, and a sum over what is in them."""
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(
            f"select count(*), sum(hashtextextended(q::text, 0)) from (\n{query}\n) q"
        ).fetchall()


def asked(url, sql):
    """Return the rows of a statement; none when its table is not there yet."""
    with psycopg.connect(url, autocommit=True) as connection:
        try:
            return connection.execute(sql).fetchall()
        except psycopg.errors.UndefinedTable:
            return []


def refusal(plan, name):
    """Return why a plan says that a strategy of that name cannot serve."""
    return {str(strategy): why for strategy, why in plan.refused}[name]
