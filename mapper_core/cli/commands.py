"""The subcommands: each reads its options, makes one call into the core, prints the answer."""

import argparse
import logging
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib import metadata

from .. import history
from ..errors import MapperError
from ..processor import ParallelProcessor
from ..results import LoadStatus
from ..settings import resolve
from ..tracker import ProgressCallback, ProgressTracker
from . import given, options, report, wording
from .screen import LogLines, Screen, discard
from .stopping import Interrupted, Stopping

_DONE, _UNFINISHED, _MISTAKE = 0, 1, 2

# What a shell reports of a command whose reader has gone, as in `mapper loads | head -1`.
_BROKEN_PIPE = 141

_DESCRIPTION = """\
Loads the rows of a SQL query into a table, in parallel, each row exactly once."""

_EPILOG = """\
Settings come from options, else from MAPPER_* variables of the environment, else from a .env file
in the working directory.

Exit codes:
  0    every row is loaded, except those that --reject-limit allows to be left out
  1    partial or failed
  2    a mistake known before rows moved, or bad usage
  130  stopped by Ctrl-C    Both end what is running and keep what is finished;
  143  stopped by SIGTERM   a second one ends the process at once.

Example:
  export MAPPER_SOURCE_URL=postgresql://reader:secret@shop-db/shop
  export MAPPER_TARGET_URL=postgresql://loader:secret@warehouse/dw
  mapper load --query "SELECT * FROM orders ORDER BY order_id" --table dw.fact_orders"""


def main(arguments: Sequence[str] | None = None, *, prog: str = "mapper") -> int:
    """Run the command line; return the exit code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    parsed = _parser(prog).parse_args(words)
    parsed.words, parsed.prog = words, prog
    parsed.screen = screen = Screen()
    log = LogLines(screen)
    logging.getLogger().addHandler(log)
    try:
        with Stopping() as stopping:
            return _run(parsed, stopping)
    finally:
        logging.getLogger().removeHandler(log)


def _run(parsed: argparse.Namespace, stopping: Stopping) -> int:
    screen: Screen = parsed.screen
    command: Callable[[argparse.Namespace, Stopping], int] = parsed.command
    try:
        code = command(parsed, stopping)
        sys.stdout.flush()
        return code
    except MapperError as error:
        screen.line(f"{parsed.prog}: {wording.in_options_words(error)}")
        return _MISTAKE
    except Interrupted:
        screen.line("Stopped before any row moved.")
        return stopping.exit_code
    except BrokenPipeError:
        discard(sys.stdout)
        return _BROKEN_PIPE
    except Exception as error:  # noqa: BLE001 - a defect, or a full disk behind standard output
        discard(sys.stdout)
        told = "".join(traceback.format_exception(error))
        screen.line(wording.without_secrets(told, parsed).rstrip())
        return _UNFINISHED
    finally:
        screen.end()


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = options.Parser(prog=prog, description=_DESCRIPTION, epilog=_EPILOG)
    parser.add_argument("--version", action="version", version=f"mapper {_version()}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(
        name: str,
        command: Callable[[argparse.Namespace, Stopping], int],
        what: str,
        usage: str = "[options]",
    ) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = commands.add_parser(
            name,
            help=what,
            description=f"{what[0].upper()}{what[1:]}.",
            usage=f"{prog} {name} {usage}",
        )
        added.set_defaults(command=command)
        added.add_argument(
            "--json", action="store_true", help="print one JSON object instead of text"
        )
        return added

    usage = "(--query SELECT | --sql FILE) --table SCHEMA.TABLE [options]"
    of_a_load = "--load-id ID [options]"
    options.add_load_options(add("load", _load, "load a query's rows into a table", usage))
    options.add_load_options(
        add("plan", _plan, "show what load would do with the same options; load nothing", usage)
    )
    options.add_ledger_options(
        add("loads", _loads, "list the loads in the target's ledger, newest first")
    )
    options.add_ledger_options(
        add("chunks", _chunks, "list the finished and the missing chunks of a load", of_a_load),
        load_id=True,
    )
    options.add_ledger_options(
        add("rejects", _rejects, "list the rows that a load left out, and why", of_a_load),
        load_id=True,
    )
    return parser


def _load(parsed: argparse.Namespace, stopping: Stopping) -> int:
    source, sql, keywords = given.call_of(parsed)
    processor = ParallelProcessor()
    screen: Screen = parsed.screen
    keywords["progress_tracker"] = _Tracker(
        screen.callback(parsed.table) if resolve(keywords).enable_progress else None,
        lambda: stopping.rows_move(processor.stop),
    )
    keywords["enable_progress"] = True
    result = processor.process_mapper_job(source, sql, **keywords)
    screen.end()
    if parsed.json:
        print(report.as_json(result))
    else:
        again = wording.again(parsed.words, prog=parsed.prog, load_id=result.load_id or "")
        print(report.result_text(result, parsed.table, again))
    if result.status is LoadStatus.SUCCEEDED:
        return _DONE
    return stopping.exit_code if stopping.signal else _UNFINISHED


class _Tracker(ProgressTracker):
    """Says when rows begin to move: from then on a signal must not cut a chunk in two."""

    def __init__(self, callback: ProgressCallback | None, on_start: Callable[[], None]) -> None:
        super().__init__(callback=callback)
        self._on_start = on_start

    def start(self, total_chunks: int) -> None:
        super().start(total_chunks)
        # Not there yet while the tracker is being made.
        if on_start := getattr(self, "_on_start", None):
            on_start()


def _plan(parsed: argparse.Namespace, _: Stopping) -> int:
    source, sql, keywords = given.call_of(parsed)
    plan = ParallelProcessor().plan(source, sql, **keywords)
    print(report.as_json(plan) if parsed.json else plan)
    return _DONE


def _loads(parsed: argparse.Namespace, _: Stopping) -> int:
    target = given.url_of("target", parsed.target)
    loads = history.loads(target, ledger_schema=parsed.ledger_schema)
    print(report.as_json({"loads": loads}) if parsed.json else report.loads_text(loads))
    return _DONE


def _chunks(parsed: argparse.Namespace, _: Stopping) -> int:
    target = given.url_of("target", parsed.target)
    found = history.chunks(target, parsed.load_id, ledger_schema=parsed.ledger_schema)
    print(report.chunks_json(found) if parsed.json else report.chunks_text(found))
    return _DONE


def _rejects(parsed: argparse.Namespace, _: Stopping) -> int:
    target = given.url_of("target", parsed.target)
    found = history.rejects(target, parsed.load_id, ledger_schema=parsed.ledger_schema)
    print(report.as_json({"rejects": found}) if parsed.json else report.rejects_text(found))
    return _DONE


def _version() -> str:
    try:
        return metadata.version("mapper")
    except metadata.PackageNotFoundError:
        return "of an unknown version: it is not installed"
