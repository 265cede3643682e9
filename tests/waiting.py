"""Waiting for conditions, with a limit that only a defect reaches; what a load may not leave."""

import threading
import time

import psycopg

LIMIT_SECONDS = 120.0

_OTHERS = "backend_type = 'client backend' and pid <> pg_backend_pid()"


def wait_until(condition, what, limit=LIMIT_SECONDS):
    """Return the condition's first true value."""
    end = time.monotonic() + limit
    while not (value := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"waited {limit} seconds for {what}")
        time.sleep(0.02)
    return value


def backends(url, like="mapper%", extra="true"):
    """Return the process ids of the backends whose application name is like that."""
    with psycopg.connect(url, autocommit=True) as connection:
        found = connection.execute(
            "select pid from pg_stat_activity where datname = current_database()"
            f" and application_name like '{like}' and {extra}"
        ).fetchall()
    return [pid for (pid,) in found]


def waiting_for_locks(url):
    """Return the loads of which a session waits for a lock of a database, by the session's name."""
    with psycopg.connect(url, autocommit=True) as connection:
        found = connection.execute(
            "select distinct application_name from pg_stat_activity"
            " where datname = current_database() and wait_event_type = 'Lock'"
            " and application_name like 'mapper %'"
        ).fetchall()
    return [name for (name,) in found]


def assert_nothing_left(*urls):
    """No thread, no session and so no open transaction of a load is left."""
    threads = [t.name for t in threading.enumerate() if t.name.startswith("mapper")]
    assert [] == threads
    for url in urls:
        # A backend whose client has gone needs a moment to notice. Between its transactions a
        # session has no name: any session of the database counts.
        wait_until(lambda url=url: not backends(url, "%", _OTHERS), "the load's sessions to end")
