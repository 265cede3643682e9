"""Dagit on the demo's databases, as long as it is wanted."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from demo import environment
from demo.paths import CHECKOUT, WORKSPACE
from demo.process import DemoError, hear_signals, say, uninterrupted

HOST = "127.0.0.1"
DEFAULT_PORT = "3000"
STOP_SECONDS = 15.0  # a code server that is loading takes some seconds to notice


def main() -> int:
    """Serve Dagit until a signal comes; its own exit code if it ends by itself."""
    port = _free_port(os.environ.get("PORT") or DEFAULT_PORT)
    with environment.prepared(), _dagit(port) as dagit:
        say(f"\nDagit:  http://{HOST}:{port}  (in a few seconds; Ctrl-C ends it)\n")
        code = dagit.wait()
    raise DemoError(f"Dagit ended by itself with code {code}; its words are above.")


def _free_port(text: str) -> int:
    if not (text.isdecimal() and 0 < int(text) < 1 << 16):
        raise DemoError(f"PORT={text} is not a port number: try `make ui PORT=3001`.")
    port = int(text)
    with socket.socket() as probe:
        # As the web server does; else the last minute's connections look busy.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise DemoError(
                f"Port {port} cannot be used ({error.strerror}): is `make ui` running "
                f"already? Another port: `make ui PORT={port + 1}`."
            ) from error
    return port


@contextmanager
def _dagit(port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run `dagster dev`; leave none of its processes behind."""
    # "dg dev", which Dagster recommends by now, is a package of its own.
    quiet = ["-W", "ignore:Function `dev_command` is superseded"]
    command = [sys.executable, *quiet, "-m", "dagster", "dev", "-w", str(WORKSPACE)]
    with uninterrupted():
        dagit = subprocess.Popen(
            [*command, "--host", HOST, "--port", str(port)],
            cwd=CHECKOUT,
            # Ctrl-C reaches us alone, and we end the others in their order.
            start_new_session=True,
            # Our mask is inherited, and it must hear of our SIGINT later.
            preexec_fn=hear_signals,  # noqa: PLW1509 - there are no threads here yet
        )
    try:
        yield dagit
    finally:
        with uninterrupted():
            _end(dagit)


def _end(dagit: subprocess.Popen[bytes]) -> None:
    family = _family(dagit.pid)
    if dagit.poll() is None:
        dagit.send_signal(signal.SIGINT)
        try:
            dagit.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            family = [*family, *_family(dagit.pid)]
            dagit.kill()
            dagit.wait()
    _, alive = psutil.wait_procs(family, timeout=STOP_SECONDS)
    for left in alive:
        left.kill()


def _family(pid: int) -> list[psutil.Process]:
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
