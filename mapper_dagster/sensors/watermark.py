"""New and changed rows of the source, and the partitions that they touch."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime, time, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg

from mapper_core import DatabaseError, MapperError, SettingsError

from ..mapping import Mapping
from ..resources import DatabaseResource, resource_of
from ..translator import MappingTranslator
from ..windows import EARLIEST, window_of
from ..writers import open_transactions
from .cursors import moment_of

# Stands for "no end yet" where a query must be given one.
LATEST = datetime(9999, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far the source has been looked through. Texts are moments in ISO format."""

    since: str | None = None
    """Rows changed up to here have been seen, this moment included."""
    until: str | None = None
    """Where the pass that is under way ends; None between passes."""
    reached: str | None = None
    """Up to where in the window column that pass has come."""
    known: str | None = None
    """The last partition there was at the latest tick; rows of later ones had none to go to."""

    @classmethod
    def read(cls, text: str | None) -> "Cursor":
        """Return what a tick has written; or people, who may set it to a moment alone.

        Raises SettingsError when it is neither.
        """
        if not text:
            return cls()
        if not text.lstrip().startswith("{"):
            return cls(since=moment_of(text).isoformat())
        try:
            found = json.loads(text)
            if not all(isinstance(value, str | None) for value in found.values()):
                raise TypeError
            return cls(**found)
        except (ValueError, TypeError) as error:
            msg = (
                f"the sensor's cursor {text!r} cannot be read: set it to the moment from which to"
                " look for changes, such as 2024-01-31T06:00:00+00:00, or clear it"
            )
            raise SettingsError(msg) from error

    def __str__(self) -> str:
        return json.dumps({name: text for name, text in asdict(self).items() if text is not None})


def build_watermark_sensor(
    mapping: Mapping,
    *,
    changed_at: str,
    changes_sql: str | None = None,
    name: str | None = None,
    settle: timedelta = timedelta(0),
    max_partitions: int = 100,
    minimum_interval_seconds: int = 60,
    default_status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.STOPPED,
    translator: MappingTranslator | None = None,
) -> dg.SensorDefinition:
    """Return a sensor that requests each partition whose rows in the source are new or changed.

    One tick finds all of them, however long the sensor was not running. It waits for rows that a
    transaction of the source may still commit: on PostgreSQL it sees nothing that changed after the
    oldest open transaction began. A partition is requested once per state of its rows; if
    its run failed and the cursor is set back, it is requested again.

    Args:
        mapping: a mapping with partitions by time.
        changed_at: the timestamp column that says when a row was last changed; never earlier
            than the beginning of the transaction that changed it.
        changes_sql: a query with that column and the mapping's `window_column`; by default the
            mapping's own, over all time.
        name: name of the sensor; by default `<asset>_watermark`.
        settle: rows changed more recently than this are left for a later tick. For sources that
            do not show open transactions, and tables whose `changed_at` comes from another clock.
        max_partitions: how many partitions one tick requests at most; the next tick continues from
            there.
        minimum_interval_seconds: seconds between two ticks.
        default_status: whether it runs without being started.
        translator: the translator that the asset was built with.

    Raises:
        SettingsError: the mapping has no partitions by time, or no window column; or what else is
            given cannot be meant.
    """
    definition = mapping.partitions_def
    if not isinstance(definition, dg.TimeWindowPartitionsDefinition):
        raise SettingsError(f"mapping {mapping.name}: a watermark needs partitions by time")
    if (window_column := mapping.window_column) is None:
        raise SettingsError(f"mapping {mapping.name}: a watermark needs window_column")
    if max_partitions < 1:
        raise SettingsError(f"mapping {mapping.name}: max_partitions is at least 1")
    if not isinstance(settle, timedelta):
        raise SettingsError(f"mapping {mapping.name}: settle {settle!r} is not a timedelta")
    if settle < timedelta(0):
        raise SettingsError(f"mapping {mapping.name}: settle is a time to wait: 0 or more")
    key = (translator or MappingTranslator()).get_asset_spec(mapping).key

    @dg.sensor(
        name=name or f"{key.to_python_identifier()}_watermark",
        description=f"Loads partitions of {mapping.table_name} whose rows in the source changed.",
        target=dg.AssetSelection.assets(key),
        required_resource_keys={mapping.source},
        minimum_interval_seconds=minimum_interval_seconds,
        default_status=default_status,
    )
    def watermark(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        before = Cursor.read(context.cursor)
        database = resource_of(context, mapping.source, DatabaseResource)
        sql, named = changes_sql or mapping.source_sql, (window_column, changed_at)
        columns = [database.quote(name) for name in named]
        try:
            with database.transaction(time_zone=definition.timezone) as transaction:
                source = _Changes(mapping, sql, columns, transaction)
                found, after = _tick(source, before, settle, max_partitions)
        except DatabaseError as error:
            if missing := _missing(database, sql, _any_time(mapping), named):
                msg = (
                    f"mapping {mapping.name}: the query in which changes are looked for has no"
                    f" column {' and no '.join(missing)}: select it there too, or give changes_sql"
                    f" a query with {window_column} and {changed_at}"
                )
                raise SettingsError(msg) from error
            raise
        requests = [
            dg.RunRequest(
                asset_selection=[key],
                partition_key=partition,
                run_key=_run_key(context.instance, f"{key.to_user_string()}:{partition}:{version}"),
            )
            for partition, version in found
        ]
        return dg.SensorResult(
            run_requests=requests,
            skip_reason=None if requests else _skipped(after, source.waits_for),
            cursor=str(after),
        )

    return watermark


def _tick(
    source: "_Changes", before: Cursor, settle: timedelta, most: int
) -> tuple[list[tuple[str, str]], Cursor]:
    """Return the partitions to load, each with the version of its rows; and the new cursor."""
    cursor = before
    if cursor.until is None:
        until = source.newest(_moment(cursor.since), settle)
        if until is None:  # nothing changed, but a partition may have ended
            until = _moment(cursor.since)
        if until is None:
            return [], cursor
        cursor = replace(cursor, until=until.isoformat())
    found: list[tuple[str, str]] = []
    until = _moment(cursor.until) or LATEST
    for key, version, end in source.touched(cursor, until):
        if len(found) == most:
            return found, cursor
        found.append((key, version))
        cursor = replace(cursor, reached=end.isoformat())
    return found, Cursor(since=until.isoformat(), known=source.last_partition)


class _Changes:
    """Changed rows of a mapping's source, asked for partition by partition."""

    def __init__(
        self, mapping: Mapping, sql: str, columns: Sequence[str], transaction: Any
    ) -> None:
        assert isinstance(mapping.partitions_def, dg.TimeWindowPartitionsDefinition)  # noqa: S101 - checked when the sensor was built
        self._definition = mapping.partitions_def
        self._zone = ZoneInfo(self._definition.timezone)
        self._window, self._changed = columns
        self._ends = _any_time(mapping)
        self._sql = f"(\n{sql.strip().rstrip(';')}\n) changes"
        self._transaction = transaction
        self._earlier = mapping.include_earlier
        self.waits_for: datetime | None = None
        """When the oldest transaction began that may still commit rows, as far as is known."""

    @property
    def last_partition(self) -> str | None:
        """The key of the last partition that has ended."""
        return self._definition.get_last_partition_key()

    def newest(self, since: datetime | None, settle: timedelta) -> datetime | None:
        """Return the latest change that no open transaction can still precede, or None."""
        limit = datetime.now(timezone.utc) - settle if settle else LATEST
        if (seen := open_transactions(self._transaction)) is not None:
            limit = min(limit, seen.settled)
            self.waits_for = seen.oldest
        (newest,) = self._one(
            f"select max({self._changed}) from {self._sql}"
            f" where {self._changed} > :since and {self._changed} < :limit",
            since=since or EARLIEST,
            limit=limit,
        )
        return None if newest is None else self._aware(newest)

    def touched(self, cursor: Cursor, until: datetime) -> Iterator[tuple[str, str, datetime]]:
        """Yield each touched partition, the version of its rows, and where it ends."""
        since = _moment(cursor.since) or EARLIEST
        at = _moment(cursor.reached) or EARLIEST
        fresh = self._fresh_from(cursor)
        last = self._definition.get_last_partition_window()
        first = self._definition.get_first_partition_window()
        if last is None or first is None:
            return
        begin_of_all, end_of_all = (t.astimezone(timezone.utc) for t in (first.start, last.end))
        while at < end_of_all:
            (low,) = self._one(
                f"select min({self._window}) from {self._sql} where {self._window} >= :at"
                f" and {self._window} < :end_of_all and {self._changed} <= :until"
                f" and ({self._changed} > :since or {self._window} >= :fresh)",
                at=at,
                end_of_all=end_of_all,
                until=until,
                since=since,
                fresh=fresh,
            )
            if low is None:
                return
            moment = self._aware(low)
            if moment < begin_of_all:
                if not self._earlier:
                    at = begin_of_all  # no partition holds those rows
                    continue
                moment = begin_of_all
            key = self._definition.get_partition_key_for_timestamp(moment.timestamp())
            start, end = window_of(self._definition, key)
            if self._earlier and start == begin_of_all:
                start = EARLIEST
            (version,) = self._one(
                f"select max({self._changed}) from {self._sql} where {self._window} >= :low"
                f" and {self._window} < :high and {self._changed} <= :until",
                low=start,
                high=end,
                until=until,
            )
            yield key, self._aware(version).isoformat(), end
            at = end

    def _fresh_from(self, cursor: Cursor) -> datetime:
        """Return from where on there were no partitions at the latest tick, as far as is known.

        Where people have set the cursor to a moment, that is taken for the latest tick's.
        """
        known, since = cursor.known, _moment(cursor.since)
        if known is None and since is not None:
            known = next(reversed(self._definition.get_partition_keys(current_time=since)), None)
        if known is None or not self._definition.has_partition_key(known):
            return EARLIEST
        return window_of(self._definition, known)[1]

    def _one(self, sql: str, **values: Any) -> tuple[Any, ...]:
        (row,) = self._transaction.execute(sql, {**self._ends, **values})
        return tuple(row)

    def _aware(self, value: Any) -> datetime:
        """Return a database's date or timestamp; one without zone is meant in the partitions'."""
        if isinstance(value, str):  # SQLite's
            value = datetime.fromisoformat(value)
        if isinstance(value, date) and not isinstance(value, datetime):
            value = datetime.combine(value, time())
        if not isinstance(value, datetime):
            raise SettingsError(
                f"a watermark must be a timestamp or a date, not {type(value).__name__}"
            )
        zoned = value if value.tzinfo else value.replace(tzinfo=self._zone)
        return zoned.astimezone(timezone.utc)


def _any_time(mapping: Mapping) -> dict[str, Any]:
    """Return values by which a mapping's query is about all windows."""
    return {"window_start": EARLIEST, "window_end": LATEST, **(mapping.params or {})}


def _missing(
    database: DatabaseResource, sql: str, values: dict[str, Any], names: Sequence[str]
) -> list[str]:
    """Return which columns a query has not, as far as the database can tell."""
    try:
        there = {column.name.lower() for column in database.columns(sql, values)}
    except MapperError:
        return []
    return [name for name in names if name.lower() not in there]


def _run_key(instance: dg.DagsterInstance, wanted: str) -> str:
    """Return a key that Dagster has not seen, if all runs under those it has seen have failed."""
    key, again = wanted, 0
    while runs := instance.get_runs(dg.RunsFilter(tags={"dagster/run_key": key}), limit=1):
        if runs[0].status not in {dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}:
            return key
        again += 1
        key = f"{wanted}:again {again}"
    return key


def _skipped(after: Cursor, waits_for: datetime | None) -> str:
    words = f"nothing changed since {after.since}" if after.since else "nothing has changed yet"
    if waits_for is None:
        return words
    return (
        f"{words}, as far as can be seen: a transaction of the source has been open since"
        f" {waits_for}, and later changes are looked for once it has ended"
    )


def _moment(text: str | None) -> datetime | None:
    return None if text is None else moment_of(text)
