"""Whole processes, measured: their time, their CPU, their memory, and the server's CPU meanwhile."""

import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg

ROOT = Path(__file__).parents[1]

Command = Sequence[str]


@dataclass(frozen=True, slots=True)
class Cost:
    """What a run took: seconds, CPU seconds of the clients and of the server, MiB of memory."""

    wall: float
    client: float
    server: float
    peak: float
    """Of the largest process; no less than the measuring process had when it started it."""
    said: str = ""

    @property
    def cpu(self) -> float:
        """CPU seconds of both sides."""
        return self.client + self.server


class Server:
    """The CPU time of a PostgreSQL on this machine, from its process table."""

    def __init__(self, url: str) -> None:
        with psycopg.connect(url) as connection:
            backend = psutil.Process(connection.info.backend_pid)
            self._postmaster = psutil.Process(backend.ppid())

    def cpu(self) -> float:
        """Return the CPU seconds of all its processes so far, ended ones included."""
        while True:
            ended = self._ended()
            alive = sum(map(_seconds, self._postmaster.children()))
            # One that ends in between would be counted twice or never.
            if self._ended() == ended:
                return ended + alive

    def _ended(self) -> float:
        times = self._postmaster.cpu_times()
        return float(times.children_user + times.children_system)


def _seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


def run(
    pipelines: Sequence[Sequence[Command]],
    server: Server,
    environment: Mapping[str, str] | None = None,
) -> Cost:
    """Run pipelines side by side, each a row of commands joined by pipes; wait for all of them.

    Raises RuntimeError, with the end of what they said, when one of them fails.
    """
    before = server.cpu()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        begun = time.perf_counter()
        started = [
            process
            for commands in pipelines
            for process in _start(commands, out.fileno(), errors.fileno(), environment)
        ]
        usages = []
        for process in started:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            usages.append(usage)
        wall = time.perf_counter() - begun
        out.seek(0)
        errors.seek(0)
        said, complaints = out.read(), errors.read()
    if any(process.returncode for process in started):
        raise RuntimeError(_reason(complaints or said))
    return Cost(
        wall=wall,
        client=sum(usage.ru_utime + usage.ru_stime for usage in usages),
        server=server.cpu() - before,
        peak=max(usage.ru_maxrss for usage in usages) / 1024,
        said=said,
    )


def _start(
    commands: Sequence[Command], out: int, errors: int, environment: Mapping[str, str] | None
) -> list["subprocess.Popen[bytes]"]:
    started: list[subprocess.Popen[bytes]] = []
    for number, command in enumerate(commands):
        last = number == len(commands) - 1
        before = started[-1].stdout if started else None
        started.append(
            subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, **environment} if environment else None,
                stdin=before or subprocess.DEVNULL,
                stdout=out if last else subprocess.PIPE,
                stderr=errors,
            )
        )
        if before:
            # Held by its two ends only, so that the reader's end is noticed by the writer.
            before.close()
    return started


def _reason(complaints: str) -> str:
    """Return the last line that says something, without where the project lies."""
    lines = [line.strip() for line in complaints.splitlines() if line.strip()]
    return lines[-1].replace(f"{ROOT}/", "") if lines else "it failed without a word"
