"""A small process that holds a load's read point for processes that come and go.

A PostgreSQL snapshot lives as long as the transaction that exported it. When a load's chunks are
read by several processes (one per Dagster step), none of them lasts long enough to be that
transaction's home. This process is: it ends by itself when the load is published, when the load has
moved to another read point, or when nothing has happened for a while.

Run as `python -m mapper_core.snapshot_holder`; it reads a `Watch` as JSON on standard input,
because a URL holds a password and an argument list is everybody's to read.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import TextIO

from . import adapters
from .connections import opener_of
from .errors import MapperError, SnapshotLostError
from .ledger import Ledger
from .model import Snapshot

# How often the ledger is asked whether the load has ended.
POLL_SECONDS = 1.0

# A load that nobody has worked on for this long is taken for abandoned: an old snapshot keeps the
# source from cleaning up dead rows. Long enough for queued steps and a retry of the run.
IDLE_SECONDS = 900.0


@dataclass(frozen=True, slots=True)
class Watch:
    """The read point to hold and the load to hold it for."""

    source_url: str = field(repr=False)
    target_url: str = field(repr=False)
    ledger_schema: str
    load_id: str
    idle_seconds: float = IDLE_SECONDS


@contextmanager
def started(watch: Watch) -> Iterator[Snapshot]:
    """Start a holder and yield its read point; an error within the block ends it again.

    Raises:
        SnapshotLostError: it could not take a read point; the message says why.
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
    answer = subprocess.run(
        [sys.executable, "-m", "mapper_core.snapshot_holder"],
        input=json.dumps(asdict(watch)),
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode:
        msg = f"the snapshot holder did not start: {answer.stderr.strip() or answer.returncode}"
        raise SnapshotLostError(msg)
    told = json.loads(answer.stdout)
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
        error = json.loads(words).get("error") if words else "it ended without a word"
        sys.stderr.write(error or "")
        sys.stdout.write("" if error else words)
        return 1 if error else 0
    os.close(read_end)
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    with os.fdopen(write_end, "w") as tell:
        try:
            _hold(watch, tell)
        except MapperError as error:
            _tell(tell, {"error": str(error)})
        except Exception as error:  # noqa: BLE001 - the caller hears of it, or the load has ended anyway
            _tell(tell, {"error": f"{type(error).__name__}: {error}"})
    return 0


def _hold(watch: Watch, tell: TextIO) -> None:
    name = f"mapper snapshot of {watch.load_id}"
    source = adapters.database(opener_of(watch.source_url, role="source_conn"), application=name)
    target = adapters.database(opener_of(watch.target_url, role="target_conn"), application=name)
    with source.snapshot() as snapshot:
        _tell(tell, {"snapshot": asdict(snapshot), "pid": os.getpid()})
        _watch(watch, target, snapshot)


def _tell(tell: TextIO, words: dict[str, object]) -> None:
    """Answer the caller; a second answer goes nowhere."""
    if not tell.closed:
        tell.write(json.dumps(words))
        tell.close()


def _watch(watch: Watch, target: adapters.Database, snapshot: Snapshot) -> None:
    """Return when the load needs the snapshot no longer."""
    ledger = Ledger(target, watch.ledger_schema)
    last_active = time.monotonic()
    last_finished = 0
    planned = False
    with target.open_writer() as writer:
        while time.monotonic() - last_active < watch.idle_seconds:
            time.sleep(POLL_SECONDS)
            with writer.begin() as transaction:
                record = ledger.find(transaction, watch.load_id)
                if record is None or (
                    not planned and record.plan.snapshot.id != snapshot.id and not record.published
                ):
                    continue  # it is still being planned, or taken up from another read point
                planned = True
                if record.published or record.plan.snapshot.id != snapshot.id:
                    return
                finished = len(ledger.finished(transaction, watch.load_id))
                if finished != last_finished or ledger.is_active(transaction, watch.load_id):
                    last_active, last_finished = time.monotonic(), finished


if __name__ == "__main__":
    sys.exit(main())
