"""What people are told: the library's words as those of the command line, and never a password."""

import argparse
import re
from collections.abc import Sequence
from urllib.parse import unquote

from ..errors import MapperError, SettingsError
from .given import ENV, url_of

_FLAGS = {
    "source_conn": "--source",
    "source_sql": "the SQL",
    "target_conn": "--target",
    "target_table": "--table",
    "target_schema": "--table",
    **{
        name: f"--{name.replace('_', '-')}"
        for name in (
            *("load_mode", "load_id", "chunk_key", "primary_key", "order_column", "chunk_size"),
            *("reject_limit", "direct_path", "create_target", "time_zone", "ledger_schema"),
            *("publish", "verify", "strategy", "max_retries"),
        )
    },
    "max_workers": "--workers",
    "min_rows_for_parallel": "--min-rows",
}
"""Keywords that a message of the library may name, as the command line has them."""

_SPELLED = {
    "window=LoadWindow(column, start, end)": "--window COLUMN START END",
    "create_target=True": "--create-target",
    "snapshot=False": "--no-snapshot",
    "no params are given": "no --param is given",
    "but params has no value": "but no --param has a value",
    "name its schema (target_schema)": "write --table SCHEMA.TABLE",
    "and given in params": "and given by --param",
    "name another as ledger_schema": "name another by --ledger-schema",
}
"""What such a message says otherwise than the command line, in full."""


def in_options_words(error: MapperError) -> str:
    """Return a message about keywords as one about the options that stand for them."""
    message = str(error)
    for ours, theirs in _SPELLED.items():
        message = message.replace(ours, theirs)
    message = re.sub(r"\b([a-z_]+)(?==)", _flag, message)
    # In what a database says such a word may be a column's name; not where a message begins.
    of_ours = r"\b" if isinstance(error, SettingsError) else "^"
    return re.sub(rf"{of_ours}([a-z]+(?:_[a-z]+)+)\b", _flag, message)


def _flag(word: re.Match[str]) -> str:
    return _FLAGS.get(word[0], word[0])


def may_be_secret(argument: str) -> bool:
    """Whether a word of the command line may be, or hold, a URL with a password."""
    return bool(re.search(r"://|@|pass|pwd", argument, re.IGNORECASE))


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


def _shown(url: str) -> str:
    """Return a URL, or a word for it unless it has nothing between scheme and path."""
    harmless = url.startswith(ENV) or re.fullmatch(r"[a-z0-9+]+:///[^?@]*", url)
    return url if harmless else "URL"
