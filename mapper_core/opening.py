"""From the keywords of a call to a load over opened databases; what cannot work is refused here."""

from collections.abc import Callable, Iterable, Sequence
from collections.abc import Mapping as Dict
from datetime import timedelta
from difflib import get_close_matches
from importlib.util import find_spec
from secrets import token_hex
from threading import Event
from typing import Any, TypedDict, TypeVar, cast

from . import adapters
from .connections import Keeper, opener_of
from .errors import SettingsError
from .ledger import LONGEST_NAME, Ledger
from .load import Load
from .model import (
    BatchTransform,
    LoadMode,
    LoadWindow,
    Mapping,
    Publishing,
    RowTransform,
    StrategyName,
    TransformScope,
    TransformWorkers,
    Verification,
    Word,
)
from .protocols import Source
from .query import read_query
from .retry import RetryConfig, RetryHandler
from .settings import Settings, resolve
from .target_side import TargetSide
from .tracker import ProgressCallback, ProgressTracker, create_progress_callback

WordT = TypeVar("WordT", bound=Word)


class LoadOptions(TypedDict, total=False):
    """Keywords of a load; `execute_query_parallel` explains each. None means "not given"."""

    target_conn: Any
    target_schema: str | None
    target_table: str | None
    transformation_func: RowTransform | None
    transform_scope: str | None
    transform_columns: str | Sequence[str] | None
    transform_batch: BatchTransform | None
    workers: str | None
    params: Dict[str, Any] | None
    chunk_key: str | Sequence[str] | None
    strategy: str | None
    load_mode: str | None
    window: LoadWindow | None
    primary_key: str | Sequence[str] | None
    order_column: str | None
    publish: str | None
    create_target: bool | None
    direct_path: bool | None
    load_id: str | None
    verify: str | None
    snapshot: bool | None
    time_zone: str | None
    enable_parallel: bool | None
    max_workers: int | str | None
    chunk_size: int | str | None
    min_rows_for_parallel: int | None
    enable_retry: bool | None
    max_retries: int | None
    stop_on_error: bool | None
    reject_limit: int | None
    should_stop: Callable[[], bool] | None
    enable_progress: bool | None
    ledger_schema: str | None
    progress_callback: ProgressCallback | None
    progress_tracker: ProgressTracker | None
    retry_handler: RetryHandler | None
    job_params: Dict[str, Any] | None


def merged(base: LoadOptions, options: LoadOptions) -> LoadOptions:
    """Return both, the second winning where it gives a value. Raises TypeError on other names."""
    if unknown := set(options) - set(LoadOptions.__annotations__):
        raise TypeError("; ".join(map(_unknown, sorted(unknown))))
    # None is "not given", but for the limit, of which it means that there is none.
    given = {n: value for n, value in options.items() if value is not None or n == "reject_limit"}
    return cast(LoadOptions, {**base, **given})


def _unknown(keyword: str) -> str:
    alike = get_close_matches(keyword, LoadOptions.__annotations__, n=1)
    return f"unknown keyword {keyword}" + (f": did you mean {alike[0]}?" if alike else "")


def open_load(
    source_conn: Any, source_sql: str, options: LoadOptions, stop: Event, keeper: Keeper
) -> Load:
    """Resolve everything a load needs. Connections are opened when they are used.

    The keeper has one of each side between its uses.

    Raises:
        SettingsError: a keyword, setting or connection cannot work as given.
        QueryError: the SQL is not one SELECT, or names a value it was not given.
    """
    _check_kinds(source_sql, options)
    settings = resolve(options, options.get("job_params"))
    mapping = _mapping(source_sql, options)
    _check_libraries(mapping)
    load_id = options.get("load_id")
    target_conn = options.get("target_conn")
    if target_conn is None and mapping.target_table:
        raise SettingsError(
            "target_table is given without target_conn: give the database that the table is in"
        )
    if target_conn is not None and not mapping.target_table:
        raise SettingsError(
            "target_conn is given without target_table: name the table to load into"
        )
    if target_conn is None and mapping.verify not in {None, Verification.NONE}:
        raise SettingsError(
            "verify compares source and target, but no target is given: leave it out, or give a"
            " target"
        )
    if target_conn is None and load_id is not None:
        raise SettingsError(
            "load_id needs a target, whose ledger keeps it: leave it out, or give a target"
        )
    named = load_id is not None
    load_id = load_id or token_hex(16)

    if mapping.verification is Verification.CHECKSUM and settings.reject_limit != 0:
        raise SettingsError(
            "verify='checksum' compares every row, but with a reject_limit some may be left out:"
            " use verify='count', which counts those separately, or reject_limit=0"
        )

    if mapping.direct_path and settings.reject_limit != 0:
        raise SettingsError(
            "direct_path cannot set refused rows apart: leave it out, or use reject_limit=0"
        )

    application = f"mapper {load_id}"
    source_opener = keeper.keeping(opener_of(source_conn, role="source_conn"))
    source: Source = adapters.database(
        source_opener, application=application, time_zone=mapping.time_zone
    )
    query = read_query(source_sql, mapping.bind_values, dialect=source.dialect)
    source = source.for_query(query)
    target, shared = None, False
    if target_conn is not None:
        opener = keeper.keeping(opener_of(target_conn, role="target_conn"))
        shared = opener.pool is not None and opener.pool is source_opener.pool
        if shared and opener.limit == 1:
            raise SettingsError(
                "source_conn and target_conn share a pool of one connection, but a load reads and"
                " writes at once: give a larger pool, or a URL"
            )
        database = adapters.database(opener, application=application, time_zone=mapping.time_zone)
        ledger = Ledger(database, settings.ledger_schema)
        target = TargetSide(
            database, ledger, mapping, sets_rejects_apart=settings.reject_limit != 0
        )
    return Load(
        load_id=load_id,
        mapping=mapping,
        query=query,
        settings=settings,
        source=source,
        target=target,
        retry=_retry(settings, options),
        tracker=_tracker(settings, options, mapping),
        stop=stop,
        should_stop=options.get("should_stop"),
        one_snapshot=options.get("snapshot", True) is not False,
        shared_pool=shared,
        named=named,
    )


_KINDS: dict[str, tuple[type | tuple[type, ...], str]] = {
    **dict.fromkeys(
        ("target_schema", "target_table", "load_id", "order_column", "time_zone"), (str, "a str")
    ),
    **dict.fromkeys(("create_target", "direct_path", "snapshot"), (bool, "True or False")),
    **dict.fromkeys(("params", "job_params"), (Dict, "a dict")),
    "window": (LoadWindow, "a LoadWindow(column, start, end)"),
    "retry_handler": (RetryHandler, "a RetryHandler(RetryConfig(...))"),
    "progress_tracker": (ProgressTracker, "a ProgressTracker(...)"),
}

_FUNCTIONS = ("transformation_func", "transform_batch", "should_stop", "progress_callback")


def _check_kinds(source_sql: Any, options: LoadOptions) -> None:
    """Raise SettingsError for a keyword of another kind: callers without a type checker do so.

    Text would count as True, and a load without a name cannot be continued.
    """
    if not isinstance(source_sql, str):
        msg = f"source_sql is of type {type(source_sql).__name__}: give the SELECT as a str"
        raise SettingsError(msg)
    for name, given in options.items():
        if given is None:
            continue
        kind, words = _KINDS.get(name, (object, ""))
        if not isinstance(given, kind):
            msg = f"{name}={given!r} is of type {type(given).__name__}: give {words}"
            if kind not in {str, bool}:  # its values may be secrets
                msg = f"{name} is of type {type(given).__name__}: give {words}"
            raise SettingsError(msg)
        if name in _FUNCTIONS and not callable(given):
            msg = f"{name} must be a function, but is of type {type(given).__name__}"
            raise SettingsError(msg)
    for name in ("load_id", "order_column"):
        if options.get(name) == "":
            msg = f"{name} is empty: give a name, or leave it out"
            raise SettingsError(msg)
    if (length := len(options.get("load_id") or "")) > LONGEST_NAME:
        msg = (
            f"load_id has {length:,} characters, but the ledger has room for {LONGEST_NAME}: use a"
            " shorter one"
        )
        raise SettingsError(msg)


def _check_libraries(mapping: Mapping) -> None:
    """Raise SettingsError when a transform needs what is not installed, or cannot be sent."""
    needed, extra = None, ""
    if mapping.transform_batch is not None:
        needed, extra = "pyarrow", "arrow"
    elif mapping.workers is TransformWorkers.PROCESSES:
        needed, extra = "loky", "processes"
    if needed is None:
        return
    if find_spec(needed) is None:
        msg = f"the transform needs {needed}, which is not installed: pip install 'mapper[{extra}]'"
        raise SettingsError(msg)
    if mapping.workers is TransformWorkers.PROCESSES:
        from .transform.processes import check_picklable  # loky is there where it is wanted

        check_picklable(mapping.transform)


def _mapping(source_sql: str, options: LoadOptions) -> Mapping:
    return Mapping(
        source_sql=source_sql,
        target_schema=options.get("target_schema"),
        target_table=options.get("target_table"),
        load_mode=_word(LoadMode, "load_mode", options.get("load_mode", LoadMode.APPEND)),
        window=options.get("window"),
        params=options.get("params"),
        strategy=_optional_word(StrategyName, "strategy", options.get("strategy")),
        chunk_key=_names(options, "chunk_key") or None,
        primary_key=_names(options, "primary_key"),
        order_column=options.get("order_column"),
        publishing=_word(Publishing, "publish", options.get("publish", Publishing.CHUNKS)),
        create_target=bool(options.get("create_target")),
        direct_path=bool(options.get("direct_path")),
        transform=options.get("transformation_func"),
        transform_scope=_word(
            TransformScope,
            "transform_scope",
            options.get("transform_scope", TransformScope.CHUNK),
        ),
        transform_columns=_names(options, "transform_columns"),
        transform_batch=options.get("transform_batch"),
        workers=_word(
            TransformWorkers, "workers", options.get("workers", TransformWorkers.THREADS)
        ),
        time_zone=options.get("time_zone") or _zone_of(options.get("window")),
        verify=_optional_word(Verification, "verify", options.get("verify")),
    )


def _zone_of(window: LoadWindow | None) -> str | None:
    """Return the time zone in which both databases compare the window with their dates."""
    if window is None or window.start.tzinfo is None:
        return None
    # What zoneinfo calls it, and what pytz does.
    for word in ("key", "zone"):
        if name := getattr(window.start.tzinfo, word, None):
            return str(name)
    # One that has always the offset 0; others have it in winter only.
    if window.start.tzinfo.utcoffset(None) == timedelta(0):
        return "UTC"
    raise SettingsError(
        "the window's times have an offset but no named time zone: pass time_zone, the zone in"
        " which both databases compare the window with dates and with times without zone"
    )


def _names(options: LoadOptions, name: str) -> tuple[str, ...]:
    """Return the columns that a keyword names."""
    given: Any = options.get(name)
    if given is None:
        return ()
    several = isinstance(given, Iterable) and not isinstance(given, str)
    names = tuple(given) if several else (given,)
    if wrong := [each for each in names if not isinstance(each, str)]:
        msg = (
            f"{name} must name columns as str, but has {wrong[0]!r}, of type"
            f" {type(wrong[0]).__name__}"
        )
        raise SettingsError(msg)
    return names


def _optional_word(kind: type[WordT], name: str, given: str | None) -> WordT | None:
    return None if given is None else _word(kind, name, given)


def _word(kind: type[WordT], name: str, given: str | None) -> WordT:
    try:
        return kind(given)
    except ValueError:
        known = ", ".join(repr(word.value) for word in kind)
        msg = f"{name}={given!r} is unknown: use one of {known}"
        raise SettingsError(msg) from None


def _retry(settings: Settings, options: LoadOptions) -> RetryHandler:
    if not settings.enable_retry:
        return RetryHandler(RetryConfig(max_retries=0))
    given = options.get("retry_handler")
    return given or RetryHandler(RetryConfig(max_retries=settings.max_retries))


def _tracker(settings: Settings, options: LoadOptions, mapping: Mapping) -> ProgressTracker | None:
    if not settings.enable_progress:
        return None
    if tracker := options.get("progress_tracker"):
        return tracker
    name = mapping.target_name or "query"
    return ProgressTracker(
        callback=options.get("progress_callback") or create_progress_callback(name)
    )
