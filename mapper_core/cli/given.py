"""What was written behind `mapper`, as the values that it stands for."""

import argparse
import re
import sys
from datetime import datetime
from pathlib import Path
from typing import cast

from .. import moments
from ..errors import SettingsError
from ..model import LoadWindow
from ..opening import LoadOptions
from ..settings import environment_in_force

ENV = "env:"
"""Before the name of a variable that holds a URL."""

# A part of a name: quoted as in SQL, or anything without a dot, comma or quote.
_PART = r'\s*(?:"((?:[^"]|"")+)"|([^".,]+?))\s*'


def default_reference(role: str) -> str:
    """Return where the URL of a role comes from when nothing is given."""
    return f"{ENV}MAPPER_{role.upper()}_URL"


def url_of(role: str, given: str | None) -> str:
    """Return the URL of a role, `source` or `target`. Raises SettingsError when there is none."""
    reference = given or default_reference(role)
    if not reference.startswith(ENV):
        return reference
    variable = reference.removeprefix(ENV)
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
    # An option that is not there is None; to the library, None may be a value (of reject_limit).
    keywords = {n: given[n] for n in LoadOptions.__annotations__ if given.get(n) is not None}
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
        keywords["params"] = params = dict(map(_param, arguments.param))
        if len(params) < len(arguments.param):
            raise SettingsError(
                "--param gives one name two values: give each value its own name, or pass one"
                " array, as in --param 'days={1,2}' for = ANY(:days)"
            )
    source = url_of("source", arguments.source)
    keywords["target_conn"] = url_of("target", arguments.target)
    return source, _sql(arguments), cast(LoadOptions, keywords)


def _sql(arguments: argparse.Namespace) -> str:
    if arguments.query is not None:
        return str(arguments.query)
    if arguments.sql == "-":
        if sys.stdin.isatty():
            sys.stderr.write("Type the SELECT, then Ctrl-D:\n")
        return sys.stdin.read()
    try:
        # Editors of some systems begin a file with a mark that is no SQL.
        return Path(arguments.sql).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        msg = f"--sql: there is no file {arguments.sql!r}; to give the SELECT itself, use --query"
    except (OSError, UnicodeError) as error:
        msg = f"--sql: {arguments.sql!r} cannot be read: {error}"
    raise SettingsError(msg)


def _names(text: str, separator: str, flag: str) -> tuple[str, ...]:
    """Take names apart at a separator; within double quotes it is part of the name."""
    if not re.fullmatch(rf"{_PART}(?:{re.escape(separator)}{_PART})*", text):
        msg = f"{flag} {text!r} is not a name, or names joined by {separator!r}: quote unusual ones"
        raise SettingsError(msg)
    parts = re.findall(rf"{_PART}(?:{re.escape(separator)}|$)", text)
    return tuple(quoted.replace('""', '"') or plain for quoted, plain in parts)


def _param(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise SettingsError("--param must be NAME=VALUE, as in --param day=2024-01-01")
    return name, value


def _instant(text: str) -> datetime:
    try:
        return moments.read(text)[0]
    except ValueError:
        msg = (
            f"--window: {text!r} is not an ISO date or time, as in 2024-01-31 or"
            " 2024-01-31T12:00+00:00"
        )
        raise SettingsError(msg) from None
