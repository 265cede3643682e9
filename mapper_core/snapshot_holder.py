"""A small process that holds a load's read point for processes that come and go.

A PostgreSQL snapshot lives as long as the transaction that exported it. When a load's chunks are
read by several processes (one per Dagster step), none of them lasts long enough to be that
transaction's home. This process is: it ends by itself when the load is published, when the load has
moved to another read point, or when nothing has happened for a while.

The process runs `main`, which reads a `Watch` as JSON on standard input,
because a URL holds a password and an argument list is everybody's to read.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from threading import Event
from typing import TextIO

from . import adapters, errors
from .connections import opener_of
from .errors import DatabaseError, DatabaseUnavailableError, MapperError, SnapshotLostError
from .ledger import Ledger
from .model import Snapshot
from .query import Query
from .retry import RetryHandler, first_line

# How often the ledger is asked whether the load has ended.
POLL_SECONDS = 1.0

# A load that nobody has worked on for this long is taken for abandoned: an old snapshot keeps the
# source from cleaning up dead rows. Long enough for queued steps and a retry of the run.
IDLE_SECONDS = 900.0

# Not `-m`: importing the package has imported this module already, and Python would warn of it.
_PROGRAM = "import sys; from mapper_core.snapshot_holder import main; sys.exit(main())"


@dataclass(frozen=True, slots=True)
class Watch:
    """The read point to hold and the load to hold it for."""

    source_url: str = field(repr=False)
    target_url: str = field(repr=False)
    source_sql: str = field(repr=False)
    """The query, its values in it: its tables are kept as they are while the read point is held."""
    ledger_schema: str
    load_id: str
    idle_seconds: float = IDLE_SECONDS


@contextmanager
def started(watch: Watch) -> Iterator[Snapshot]:
    """Start a holder and yield its read point; an error within the block ends it again.

    Raises:
        DatabaseError: the source would not let it take a read point; the message says why.
        SnapshotLostError: it could not be started.
    """
    snapshot, pid = _start(watch)
    try:
        yield snapshot
    except BaseException:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        raise


def _start(watch: Watch) -> tuple[Snapshot, int]:
    if not hasattr(os, "fork"):
        raise SnapshotLostError(
            "loads in several processes share a snapshot on POSIX systems only: pass snapshot=False"
        )
    import subprocess  # only who loads in several processes has use for it

    answer = subprocess.run(  # noqa: S603 - our own interpreter, our own words
        [sys.executable, "-c", _PROGRAM],
        input=json.dumps(asdict(watch)),
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode:
        msg = f"the snapshot holder did not start: {answer.stderr.strip() or answer.returncode}"
        raise SnapshotLostError(msg)
    told = json.loads(answer.stdout)
    if "error" in told:
        raise getattr(errors, told["kind"])(told["error"])
    return Snapshot(**told["snapshot"]), told["pid"]


def main() -> int:
    """Take the read point, tell it to the caller, and hold it in a detached process."""
    watch = Watch(**json.loads(sys.stdin.read()))
    read_end, write_end = os.pipe()
    if os.fork():
        # The caller waits for this process, so it ends as soon as the other one has spoken.
        os.close(write_end)
        with os.fdopen(read_end) as told:
            words = told.read()
        if not words:
            sys.stderr.write("it ended without a message")
            return 1
        sys.stdout.write(words)
        return 0
    os.close(read_end)
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    with os.fdopen(write_end, "w") as tell:
        try:
            _hold(watch, tell)
        except MapperError as error:
            _tell(tell, {"error": str(error), "kind": type(error).__name__})
    return 0


def _hold(watch: Watch, tell: TextIO) -> None:
    name = f"mapper snapshot of {watch.load_id}"
    source = adapters.database(opener_of(watch.source_url, role="source_conn"), application=name)
    target = adapters.database(opener_of(watch.target_url, role="target_conn"), application=name)
    query = Query((watch.source_sql,), {})
    lost = Event()
    with ExitStack() as held:
        try:
            snapshot = RetryHandler().execute_with_retry(
                lambda: held.enter_context(source.snapshot(query, lambda _: lost.set())),
                is_transient=source.is_transient,
            )
        except MapperError:
            raise
        except Exception as error:
            kind = DatabaseUnavailableError if source.is_transient(error) else DatabaseError
            words = source.explain(error) or first_line(error)
            msg = f"could not open the source of load {watch.load_id}: {words}"
            raise kind(msg) from error
        _tell(tell, {"snapshot": asdict(snapshot), "pid": os.getpid()})
        _watch(watch, target, snapshot, lost)


def _tell(tell: TextIO, words: dict[str, object]) -> None:
    """Answer the caller; a second answer goes nowhere."""
    if not tell.closed:
        tell.write(json.dumps(words))
        tell.close()


def _watch(watch: Watch, target: adapters.Database, snapshot: Snapshot, lost: Event) -> None:
    """Return when the load needs the snapshot no longer, or the snapshot is gone."""
    ledger = Ledger(target, watch.ledger_schema)
    last_active = time.monotonic()
    last_finished = 0
    planned = False
    while time.monotonic() - last_active < watch.idle_seconds:
        if lost.wait(POLL_SECONDS):
            return
        try:
            # A session for each look: one that stayed would end with every hiccup of the target.
            with target.open_writer() as writer, writer.begin() as transaction:
                load = ledger.state(transaction, watch.load_id)
                active = ledger.is_active(transaction, watch.load_id)
        except Exception as error:
            if target.is_transient(error):
                continue
            raise
        ours = load is not None and snapshot.is_same_point(load.snapshot)
        if load is None or not (planned or load.published or ours):
            continue  # it is still being planned, or taken up from another read point
        planned = True
        if load.published or not ours:
            return
        if load.finished != last_finished or active:
            last_active, last_finished = time.monotonic(), load.finished
