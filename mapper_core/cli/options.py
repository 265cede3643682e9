"""What can be written behind `mapper`.

An option's `dest` is the keyword of `execute_query_parallel` that it stands for. Choices are the
enums' words and defaults those of `Settings`, so that neither can drift from the library.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

from ..model import LoadMode, Publishing, StrategyName, Verification
from ..opening import LoadOptions
from ..settings import Settings, variable_of
from .given import default_reference
from .wording import may_be_secret

_OPTION = re.compile("--[a-z-]+")

# Headings of --help.
_WHAT = "what is loaded"
_HOW = "how it is loaded"


class Parser(argparse.ArgumentParser):
    """A parser whose errors repeat nothing that may be a URL, password and all."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **options
        )
        self._arguments: Sequence[str] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Remember what is parsed, for the errors."""
        self._arguments = sys.argv[1:] if args is None else list(args)
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:  # told here, where the command's own options are known
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        """Exit with code 2 and the message, with the options that misspelt ones were meant for."""
        for flag in sorted({argument.partition("=")[0] for argument in self._arguments}):
            meant = get_close_matches(flag, self._option_string_actions, n=1)
            if meant and meant != [flag] and _OPTION.fullmatch(flag):
                message += f"; there is no {flag}: did you mean {meant[0]}?"
        for argument in self._arguments:
            if may_be_secret(argument):
                for written in (argument, repr(argument), repr(argument)[1:-1]):
                    message = message.replace(written, "***")
        super().error(message)


def add_load_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `load` and `plan`."""
    what = parser.add_argument_group(_WHAT)
    _add_url(what, "source", "the database to read")
    sql = what.add_mutually_exclusive_group(required=True)
    sql.add_argument(
        "--sql", metavar="FILE", help="a file that holds one SELECT; - reads standard input"
    )
    sql.add_argument("--query", metavar="SELECT", help="the SELECT itself")
    what.add_argument(
        "--param",
        action="append",
        metavar="NAME=VALUE",
        help="a value for :NAME in the SQL, as text; write a cast in the SQL where one is needed."
        " May be given several times",
    )
    _add_url(what, "target", "the database to write to, which also holds the ledger")
    what.add_argument(
        "--table",
        required=True,
        metavar="SCHEMA.TABLE",
        help="the table to write to, named as in the database; parts can be quoted as in SQL:"
        ' \'"My Schema"."a.b"\'',
    )
    what.add_argument(
        "--load-mode",
        choices=[mode.value for mode in LoadMode],
        help="what happens to the rows already in the table"
        f" (default: {LoadMode.APPEND}, which keeps them)",
    )
    what.add_argument(
        "--window",
        nargs=3,
        metavar=("COLUMN", "START", "END"),
        help="for replace_window: the span to replace, from START up to but not including END, as"
        " ISO dates or times; the SQL can use them as :window_start and :window_end",
    )
    if "primary_key" in LoadOptions.__annotations__:
        _add_names(what, "primary-key", "for upsert: the columns that identify a row")
    what.add_argument(
        "--order-column",
        metavar="COLUMN",
        help="for upsert: of several rows with the same key, the one with the highest value in this"
        " column counts",
    )
    what.add_argument(
        "--publish",
        choices=[publishing.value for publishing in Publishing],
        help="whether the rows of an append appear chunk by chunk, or all at once at the end"
        f" (default: {Publishing.CHUNKS})",
    )
    what.add_argument(
        "--verify",
        choices=[verification.value for verification in Verification],
        help="what to compare between source and target before publishing (default: count for the"
        " load modes that replace, else none)",
    )
    what.add_argument(
        "--create-target",
        action="store_const",
        const=True,
        help="create the table if it is missing, with the query's columns and types",
    )
    what.add_argument(
        "--direct-path",
        action="store_const",
        const=True,
        help="fill the stage by an Oracle direct path load, with one loader",
    )
    what.add_argument("--time-zone", metavar="ZONE", help="time zone of the sessions, e.g. UTC")
    what.add_argument(
        "--load-id", metavar="ID", help="name this load, or continue the load of that name"
    )

    how = parser.add_argument_group(_HOW)
    how.add_argument(
        "--strategy",
        choices=[strategy.value for strategy in StrategyName],
        help="divide the query in this way only (default: the best way that is possible)",
    )
    _add_names(how, "chunk-key", "the columns to cut chunks by, instead of the ORDER BY's")
    _add_setting(how, "--chunk-size", "chunk_size", "N|auto", "rows per chunk")
    _add_setting(how, "--workers", "max_workers", "N|auto", "how many chunks to load at once")
    _add_setting(
        how, "--min-rows", "min_rows_for_parallel", "N", "load a query with fewer rows in one pass"
    )
    _add_setting(how, "--max-retries", "max_retries", "N", "attempts after the first")
    _add_setting(
        how, "--reject-limit", "reject_limit", "N|none", "how many rows may be refused and left out"
    )
    how.add_argument(
        "--stop-on-error",
        action="store_const",
        const=True,
        help=f"stop the other chunks when one fails ({variable_of('stop_on_error')}=true)",
    )
    how.add_argument(
        "--no-snapshot",
        dest="snapshot",
        action="store_const",
        const=False,
        help="let each chunk read at its own moment, instead of one read point for all",
    )
    how.add_argument(
        "--no-progress",
        dest="enable_progress",
        action="store_const",
        const=False,
        help=f"print no progress lines ({variable_of('enable_progress')}=false)",
    )
    _add_setting(how, "--ledger-schema", "ledger_schema", "NAME", "schema of the ledger")


def add_ledger_options(parser: argparse._ActionsContainer, *, load_id: bool = False) -> None:
    """Add the options of a command that asks a target's ledger, say about one load."""
    if load_id:
        parser.add_argument("--load-id", metavar="ID", required=True, help="id of the load")
    _add_url(parser, "target", "the database that holds the ledger")
    _add_setting(parser, "--ledger-schema", "ledger_schema", "NAME", "schema of the ledger")


def _add_url(parser: argparse._ActionsContainer, role: str, what: str) -> None:
    parser.add_argument(
        f"--{role}",
        metavar="URL|env:NAME",
        help=f"{what}: a URL or, better, the environment variable that holds it, because everybody"
        f" on this machine can see a command line (default: {default_reference(role)})",
    )


def _add_names(parser: argparse._ActionsContainer, name: str, what: str) -> None:
    parser.add_argument(f"--{name}", metavar="COLUMN,...", help=what)


def _add_setting(
    parser: argparse._ActionsContainer, flag: str, name: str, metavar: str, what: str
) -> None:
    # Not converted here: the library's own words say what is wrong with a value.
    default = getattr(Settings(), name)
    parser.add_argument(
        flag,
        dest=name,
        metavar=metavar,
        help=f"{what} (default: {variable_of(name)}, else {default})",
    )
