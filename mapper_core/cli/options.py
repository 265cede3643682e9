"""What can be written behind `mapper`, and the keywords of `execute_query_parallel` it stands for.

An option's `dest` is the keyword. Choices are the enums' words and defaults those of `Settings`, so
that neither can drift from the library.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn, cast
from urllib.parse import unquote

from ..errors import SettingsError
from ..model import LoadMode, LoadWindow, StrategyName
from ..opening import LoadOptions
from ..settings import Settings, environment_in_force, variable_of

_ENV = "env:"

# A part of a name: quoted as in SQL, or anything without a dot, comma or quote.
_PART = r'\s*(?:"((?:[^"]|"")+)"|([^".,]+?))\s*'

# Of an option, whether it is about what is loaded; the others are about how.
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
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Exit with code 2 and the message."""
        for argument in self._arguments:
            if re.search(r"://|@|pass|pwd", argument, re.IGNORECASE):
                for written in (argument, repr(argument), repr(argument)[1:-1]):
                    message = message.replace(written, "***")
        super().error(message)


def add_load_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `load` and `plan`."""
    what = parser.add_argument_group(_WHAT)
    _add_url(what, "source", "the database to read")
    sql = what.add_mutually_exclusive_group(required=True)
    sql.add_argument(
        "--sql", metavar="FILE", help="a file that holds the one SELECT; - is standard input"
    )
    sql.add_argument("--query", metavar="SELECT", help="the SELECT itself")
    what.add_argument(
        "--param",
        action="append",
        metavar="NAME=VALUE",
        help="a value for :NAME in the SQL, as text; write a cast where the database needs one."
        " Can be given several times",
    )
    _add_url(what, "target", "the database to write, where the ledger is too")
    what.add_argument(
        "--table",
        required=True,
        metavar="SCHEMA.TABLE",
        help="the table to write, its name as it is in the database; parts can be quoted as in"
        ' SQL: \'"My Schema"."a.b"\'',
    )
    what.add_argument(
        "--load-mode",
        choices=[mode.value for mode in LoadMode],
        help=f"how rows meet those already in the table (default: {LoadMode.APPEND})",
    )
    what.add_argument(
        "--window",
        nargs=3,
        metavar=("COLUMN", "START", "END"),
        help="the half-open span to replace, as ISO dates or times; :window_start and :window_end"
        " in the SQL",
    )
    if "primary_key" in LoadOptions.__annotations__:
        _add_names(what, "primary-key", "the columns that say which row of the table is meant")
    what.add_argument("--time-zone", metavar="ZONE", help="of the sessions, e.g. UTC")
    what.add_argument(
        "--load-id", metavar="ID", help="name the load, or continue the one of that name"
    )

    how = parser.add_argument_group(_HOW)
    how.add_argument(
        "--strategy",
        choices=[strategy.value for strategy in StrategyName],
        help="divide the query this way, and no other (default: the best that can serve)",
    )
    _add_names(how, "chunk-key", "the columns to cut by, instead of the ORDER BY's")
    _add_setting(how, "--chunk-size", "chunk_size", "N|auto", "rows per chunk")
    _add_setting(how, "--workers", "max_workers", "N", "chunks in flight at once")
    _add_setting(
        how, "--min-rows", "min_rows_for_parallel", "N", "a smaller query is loaded in one pass"
    )
    _add_setting(how, "--max-retries", "max_retries", "N", "tries after the first")
    how.add_argument(
        "--no-snapshot",
        dest="snapshot",
        action="store_const",
        const=False,
        help="give up the one read point of all chunks",
    )
    how.add_argument(
        "--no-progress",
        dest="enable_progress",
        action="store_const",
        const=False,
        help=f"no progress lines ({variable_of('enable_progress')}=false)",
    )
    _add_setting(how, "--ledger-schema", "ledger_schema", "NAME", "the ledger's schema")


def add_ledger_options(parser: argparse._ActionsContainer, *, load_id: bool = False) -> None:
    """Add the options of a command that asks a target's ledger, say about one load."""
    if load_id:
        parser.add_argument("--load-id", metavar="ID", required=True, help="of the load")
    _add_url(parser, "target", "the database where the ledger is")
    _add_setting(parser, "--ledger-schema", "ledger_schema", "NAME", "the ledger's schema")


def url_of(role: str, given: str | None) -> str:
    """Return the URL of a role, `source` or `target`. Raises SettingsError when there is none."""
    reference = given or f"{_ENV}{_default_variable(role)}"
    if not reference.startswith(_ENV):
        return reference
    variable = reference.removeprefix(_ENV)
    if url := environment_in_force().get(variable):
        return url
    which = f"--{role} is not given" if given is None else f"--{role} is {reference}"
    msg = (
        f"{which}, and {variable} is neither in the environment nor in .env: set it to a database"
        " URL, as in postgresql://user:password@host/database"
    )
    raise SettingsError(msg)


def call_of(arguments: argparse.Namespace) -> tuple[str, str, LoadOptions]:
    """Return what the options of a load stand for: source, SQL and keywords.

    Raises SettingsError when something is missing or not what it should be.
    """
    given = vars(arguments)
    keywords = {name: given[name] for name in LoadOptions.__annotations__ if name in given}
    *schema, table = _names(arguments.table, ".", "--table")
    if len(schema) > 1:
        msg = f"--table has {len(schema) + 1} parts: write SCHEMA.TABLE, or TABLE"
        raise SettingsError(msg)
    keywords |= {"target_schema": schema[0] if schema else None, "target_table": table}
    for key in ("chunk_key", "primary_key"):
        if given.get(key):
            keywords[key] = _names(given[key], ",", f"--{key.replace('_', '-')}")
    if arguments.window:
        column, start, end = arguments.window
        keywords["window"] = LoadWindow(column, _instant(start), _instant(end))
    if arguments.param:
        keywords["params"] = dict(map(_param, arguments.param))
    source = url_of("source", arguments.source)
    keywords["target_conn"] = url_of("target", arguments.target)
    return source, _sql(arguments), cast(LoadOptions, keywords)


def in_options_words(message: str) -> str:
    """Return a message about keywords as one about the options that stand for them."""
    message = message.replace("window=LoadWindow(column, start, end)", "--window COLUMN START END")
    return re.sub(r"\b[a-z]+(_[a-z]+)+\b", lambda word: _FLAGS.get(word[0], word[0]), message)


def without_secrets(text: str, arguments: argparse.Namespace) -> str:
    """Return a text without the URLs in force and the passwords in them."""
    for role in ("source", "target"):
        try:
            url = url_of(role, getattr(arguments, role, None))
        except SettingsError:
            continue
        # The last one of these is the whole of it, whatever it looks like.
        for pattern in (r"://[^/@]*?:(.+)@", r"pass\w*=([^&\s]+)", "(.+)"):
            for secret in re.findall(pattern, url):
                text = text.replace(secret, "***").replace(unquote(secret), "***")
    return text


def again(arguments: Sequence[str], *, prog: str, load_id: str) -> list[str]:
    """Return the words of the command that continues a load.

    A URL is written only where it cannot hold a password.
    """
    words, is_url = prog.split(), False
    for word in arguments:
        flag, equals, value = word.partition("=")
        if is_url:
            words.append(_shown(word))
        elif equals and flag in {"--source", "--target"}:
            words.append(f"{flag}={_shown(value)}")
        else:
            words.append(word)
        is_url = not is_url and word in {"--source", "--target"}
    named = any(word.partition("=")[0] == "--load-id" for word in arguments)
    return words if named else [*words, "--load-id", load_id]


def _sql(arguments: argparse.Namespace) -> str:
    if arguments.query is not None:
        return str(arguments.query)
    if arguments.sql == "-":
        if sys.stdin.isatty():
            sys.stderr.write("Type the SELECT, and Ctrl-D behind it:\n")
        return sys.stdin.read()
    try:
        # Editors of some systems begin a file with a mark that is no SQL.
        return Path(arguments.sql).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        msg = f"--sql: there is no file {arguments.sql!r}; the SELECT itself goes behind --query"
    except (OSError, UnicodeError) as error:
        msg = f"--sql: {arguments.sql!r} cannot be read: {error}"
    raise SettingsError(msg)


def _shown(url: str) -> str:
    """Return a URL, or a word for it unless it has nothing between scheme and path."""
    harmless = url.startswith(_ENV) or re.fullmatch(r"[a-z0-9+]+:///[^?@]*", url)
    return url if harmless else "URL"


def _default_variable(role: str) -> str:
    return f"MAPPER_{role.upper()}_URL"


def _add_url(parser: argparse._ActionsContainer, role: str, what: str) -> None:
    parser.add_argument(
        f"--{role}",
        metavar="URL|env:NAME",
        help=f"{what}: a URL, or better the environment variable that holds it, since everybody on"
        f" this machine can see a command line (default: {_ENV}{_default_variable(role)})",
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


def _names(text: str, separator: str, flag: str) -> tuple[str, ...]:
    """Take names apart at a separator; within double quotes it is part of the name."""
    if not re.fullmatch(rf"{_PART}(?:{re.escape(separator)}{_PART})*", text):
        msg = f"{flag} {text!r} is no name, or names joined by {separator!r}: quote odd ones"
        raise SettingsError(msg)
    parts = re.findall(rf"{_PART}(?:{re.escape(separator)}|$)", text)
    return tuple(quoted.replace('""', '"') or plain for quoted, plain in parts)


def _param(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise SettingsError("--param is written NAME=VALUE, as in --param day=2024-01-01")
    return name, value


def _instant(text: str) -> datetime:
    try:
        # Python 3.10 does not know the letter.
        return datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", text))
    except ValueError:
        msg = (
            f"--window: {text!r} is no ISO date or time, as in 2024-01-31 or 2024-01-31T12:00+00:00"
        )
        raise SettingsError(msg) from None


_FLAGS = {
    "source_conn": "--source",
    "source_sql": "the SQL",
    "target_conn": "--target",
    "target_table": "--table",
    "target_schema": "--table",
    **{
        name: f"--{name.replace('_', '-')}"
        for name in ("load_mode", "load_id", "chunk_key", "primary_key", "chunk_size")
    },
    **{name: f"--{name.replace('_', '-')}" for name in ("time_zone", "ledger_schema")},
    "max_retries": "--max-retries",
    "max_workers": "--workers",
    "min_rows_for_parallel": "--min-rows",
}
"""Keywords that a message of the library may name, as the command line has them."""
