"""Environments of programs that are compared: one for each, made on first use in `.bench`."""

import os
import subprocess
import sys
from collections.abc import Sequence

from benchmarks.processes import ROOT

FOLDER = ROOT / ".bench" / "envs"


class MissingError(Exception):
    """A program cannot be had here; the message is what the installer said."""


def python(name: str, packages: Sequence[str]) -> str:
    """Return the interpreter of an environment that has the packages.

    Raises MissingError when they cannot be installed.
    """
    folder = FOLDER / name
    interpreter, ready = folder / "bin" / "python", folder / ".packages"
    wanted = "\n".join(packages)
    if not ready.exists() or ready.read_text() != wanted:
        _run([sys.executable, "-m", "venv", "--clear", str(folder)])
        _run([str(interpreter), "-m", "pip", "install", "--quiet", *packages])
        ready.write_text(wanted)
    return str(interpreter)


def version(interpreter: str, package: str) -> str:
    """Return the version of a package in an environment."""
    ask = f"from importlib.metadata import version; print(version({package!r}))"
    return _run([interpreter, "-c", ask]).strip()


def _run(command: Sequence[str]) -> str:
    # What is on our own interpreter's path would count as installed.
    environment = {**os.environ, "PYTHONPATH": ""}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise MissingError(lines[-1] if lines else f"{command[0]} failed")
    return done.stdout
