"""What can be configured, and where each value comes from. Nobody else reads the environment.

Explicit argument > job parameters > environment > `.env` > default.
"""

import operator
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from .errors import SettingsError

_TRUE = {"true", "1", "yes", "y", "on", "t"}
_FALSE = {"false", "0", "no", "n", "off", "f"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every setting of a load, resolved and checked."""

    enable_parallel: bool = True
    max_workers: int | Literal["auto"] = max(1, (os.cpu_count() or 2) - 1)
    """Chunks loaded at once, each with a source and a target connection; or "auto"."""
    chunk_size: int | Literal["auto"] = 50_000
    """Rows per chunk; "auto" chooses by the number of rows and their width."""
    min_rows_for_parallel: int = 100_000
    """A query with fewer rows is loaded in one pass."""
    enable_retry: bool = True
    max_retries: int = 3
    """Attempts after the first, so 3 means up to four attempts."""
    stop_on_error: bool = False
    """Whether one failed chunk stops the load; otherwise the other chunks continue."""
    reject_limit: int | None = 0
    """Rows that may be refused and left out; None sets no limit."""
    enable_progress: bool = True
    ledger_schema: str = "mapper"
    """Schema of the ledger's tables in the target database."""


def _boolean(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ValueError


_LEAST = {
    "max_workers": 1,
    "chunk_size": 1,
    "min_rows_for_parallel": 0,
    "max_retries": 0,
    "reject_limit": 0,
}

# As many rows as a database can count.
_MOST_ROWS = 2**63 - 1

_MOST = {
    "max_workers": 1000,
    "chunk_size": _MOST_ROWS,
    "min_rows_for_parallel": _MOST_ROWS,
    "reject_limit": _MOST_ROWS,
}

_ENVIRONMENT = {
    "enable_parallel": "MAPPER_PARALLEL_ENABLED",
    "max_workers": "MAPPER_MAX_WORKERS",
    "chunk_size": "MAPPER_CHUNK_SIZE",
    "min_rows_for_parallel": "MAPPER_MIN_ROWS_FOR_PARALLEL",
    "enable_retry": "MAPPER_PARALLEL_RETRY_ENABLED",
    "max_retries": "MAPPER_PARALLEL_MAX_RETRIES",
    "stop_on_error": "MAPPER_STOP_ON_ERROR",
    "reject_limit": "MAPPER_REJECT_LIMIT",
    "enable_progress": "MAPPER_PARALLEL_PROGRESS_ENABLED",
    "ledger_schema": "MAPPER_LEDGER_SCHEMA",
}

AUTO = "auto"
_AUTOMATIC = {"chunk_size", "max_workers"}

# How "no limit" is written where there is no None.
_NO_LIMIT = "none"

_KINDS: dict[str, tuple[Callable[[str], Any], str]] = {
    "bool": (_boolean, "true or false (also Y/N, yes/no, 1/0)"),
    "int": (int, "a whole number"),
    "str": (str, "a name"),
}


def environment_in_force() -> dict[str, str]:
    """Return the variables of the working directory's `.env`, and the process's own over them."""
    # False also where the directory may not be searched.
    if not os.path.exists(".env"):  # noqa: PTH110 - its own `exists` would raise there
        return dict(os.environ)
    from dotenv import dotenv_values  # a good many modules, for the few who have such a file

    file = {k: v for k, v in dotenv_values(Path(".env")).items() if v is not None}
    return {**file, **os.environ}


def variable_of(name: str) -> str:
    """Return the environment variable of a setting."""
    return _ENVIRONMENT[name]


def resolve(
    explicit: Mapping[str, Any],
    job_params: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """Return the settings in force.

    Args:
        explicit: arguments of the call; a None counts as not given.
        job_params: the job's own parameters; names other than settings are left alone.
        environment: instead of the process's environment and the `.env` of the working directory.

    Raises:
        SettingsError: a value is not of its kind; the message names the setting and its origin.

    >>> resolve({"max_workers": 2}, {"max_workers": 8, "enable_retry": "N"}, {}).max_workers
    2
    """
    if environment is None:
        environment = environment_in_force()
    values: dict[str, Any] = {}
    for each in fields(Settings):
        name, variable = each.name, _ENVIRONMENT[each.name]
        origins = (
            (name, explicit.get(name)),
            (f"job parameter {name}", (job_params or {}).get(name)),
            (variable, environment.get(variable) or None),
        )
        if name == "reject_limit" and explicit.get(name, 0) is None:
            values[name] = None  # given as None, which means something here
            continue
        for origin, value in origins:
            if value is not None:
                values[name] = _checked(name, origin, value, type(each.default).__name__)
                break
    return Settings(**values)


def _checked(name: str, origin: str, value: Any, kind: str) -> Any:
    if name in _AUTOMATIC and str(value).strip().lower() == AUTO:
        return AUTO
    if name == "reject_limit" and (value is None or str(value).strip().lower() == _NO_LIMIT):
        return None
    parse, wanted = _KINDS[kind]
    if kind == "int" and not isinstance(value, bool):
        # A whole number of any library's, as one of numpy's.
        with suppress(TypeError):
            value = operator.index(value)
    right_type = isinstance(value, {"bool": bool, "int": int, "str": str}[kind])
    try:
        if isinstance(value, str):
            value = parse(value.strip())
        elif not right_type or (kind == "int" and isinstance(value, bool)):
            raise ValueError
    except ValueError:
        msg = f"{origin}={value!r} is not {wanted}"
        raise SettingsError(msg) from None
    least = _LEAST.get(name)
    if least is not None and value < least:
        msg = f"{origin}={value!r} is too small: the least is {least}"
        raise SettingsError(msg)
    most = _MOST.get(name)
    if most is not None and value > most:
        msg = f"{origin}={value!r} is too large: the most is {most}"
        raise SettingsError(msg)
    if kind == "str" and not value:
        msg = f"{origin} is empty: give {wanted}"
        raise SettingsError(msg)
    return value
