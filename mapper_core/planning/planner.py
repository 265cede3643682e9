"""What a load will do, decided before a row moves: data path, strategy, chunks, workers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

from .. import fitting, verification
from ..errors import LedgerError, SettingsError, TargetError
from ..model import Column, DataPath, Mapping, Plan, Snapshot, StrategyName
from ..protocols import Access, Database, Place, Reader, Source, Survey, Target
from ..query import Query
from ..settings import AUTO, Settings
from ..target_side import FoundTable, TargetSide
from .strategies import Case, choose

# Workers of a load that finds out by itself how many it needs: databases rarely bear more.
MOST_WORKERS = 16

# Of a stream, which one reader feeds.
STREAM_WRITERS = 2

# Their chunks are other rows at another moment.
_NEED_A_SNAPSHOT = {StrategyName.PHYSICAL, StrategyName.OFFSET}

# One connection reads, one writes; none is left to hold a snapshot.
_ONE_PAIR = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Planning:
    """One load about to be planned, over an open session of its source."""

    load_id: str
    mapping: Mapping
    query: Query
    settings: Settings
    source: Source
    target: TargetSide | None
    one_snapshot: bool
    shared_pool: bool
    named: bool
    survey: Survey
    columns: tuple[Column, ...]
    snapshot: Snapshot
    place: Place | None
    """Where the query is read."""

    def decide(self) -> Plan:
        """Return the plan. Raises MapperError for what would not do; nothing is stored."""
        fitting.check_key(self.mapping.chunk_key or (), self.columns)
        found = self.target.found(self.columns) if self.target else FoundTable((), Access())
        table = found.columns
        path, path_reason = self._data_path(table)
        self._check_window(table)
        case = self._case(table)
        division = choose(case)
        size, size_reason = case.range_size if division.of_blocks else case.size
        streamed = division.strategy is StrategyName.STREAM_ONCE
        if division.strategy is StrategyName.SAME_DATABASE:
            path, path_reason = DataPath.IN_SERVER, "source and target are one database"
        elif streamed:
            path, path_reason = self._of_a_stream(path, path_reason)
        staged = self.mapping.staged or streamed or found.access.is_emptied_by_crash
        if found.access.write_blocker and not staged and path is not DataPath.IN_SERVER:
            msg = f"{self.mapping.target_name} may not be written: {found.access.write_blocker}"
            raise TargetError(msg)
        workers = self._workers(division.strategy)
        if streamed and self.settings.max_workers == AUTO:
            # All of them write what one reader brings.
            workers = min(workers, STREAM_WRITERS)
        plan = Plan(
            load_id=self.load_id,
            chunks=division.chunks,
            columns=self.columns,
            strategy=division.strategy,
            strategy_reason=division.reason,
            refused=division.refused,
            workers=workers if streamed else min(workers, len(division.chunks)),
            adaptive=self.settings.max_workers == AUTO and not streamed,
            chunk_size=size,
            chunk_size_reason=size_reason,
            snapshot=self.snapshot,
            data_path=path,
            data_path_reason=path_reason,
            chunk_key=division.key,
            key_types=division.key_types,
            marks=division.marks,
            read_in=self.read_in,
            target_columns=table,
            target_id=found.access.table_id,
            target_settings=found.access.settings,
            stage_table=_stage_name(self.load_id) if staged else None,
            target=self.mapping.target_name,
            load_mode=self.mapping.load_mode,
        )
        return self._with_verification(plan)

    @property
    def read_in(self) -> tuple[str, ...]:
        """Where the query is read, as a plan has it."""
        return () if self.place is None else self.place.meaning

    def taken_up(self, plan: Plan, found: FoundTable) -> Plan:
        """Return a plan of the ledger as this call can carry it out, its chunks as they are.

        Connections and settings are this call's, and may be others than when it was planned.

        Raises LedgerError when its chunks would not be the query's rows then, and SettingsError
        when they cannot be verified as this call wants it.
        """
        table = found.columns
        if reason := self._unfit(plan, table):
            msg = (
                f"load {self.load_id!r} was planned by strategy {plan.strategy}, and this call"
                f" cannot continue its chunks: {reason}. Repeat the call as it was first made, or"
                " start a new load"
            )
            raise LedgerError(msg)
        plan = replace(plan, target_id=found.access.table_id, target_settings=found.access.settings)
        streamed = plan.strategy is StrategyName.STREAM_ONCE
        auto = self.settings.max_workers == AUTO
        workers = self._workers(plan.strategy) if self.settings.enable_parallel else 1
        if plan.data_path is not DataPath.IN_SERVER:
            path, reason = self._data_path(table)
            if streamed:
                path, reason = self._of_a_stream(path, reason)
            plan = replace(plan, data_path=path, data_path_reason=reason)
        if streamed:
            plan = replace(plan, workers=min(workers, STREAM_WRITERS) if auto else workers)
        else:
            plan = replace(plan, workers=min(workers, len(plan.chunks)), adaptive=auto)
        return self._with_verification(plan)

    def _unfit(self, plan: Plan, table: Sequence[Column]) -> str | None:
        """Return why the chunks of a plan cannot be loaded by this call."""
        if plan.data_path is DataPath.IN_SERVER and (why := self._why_not_in_server(table)):
            return why
        streamed = plan.strategy is StrategyName.STREAM_ONCE
        target = self.target.database if self.target else None
        if (streamed or len(plan.chunks) > 1) and (why := self._lone(target)):
            return why
        if len(plan.chunks) == 1:
            return None
        if not self.one_snapshot and plan.strategy in _NEED_A_SNAPSHOT:
            return "there is no single snapshot (snapshot=False)"
        if self.one_snapshot and lone_source(self.source, shared_pool=self.shared_pool):
            return (
                "it has one connection to read with, which cannot hold a snapshot for several"
                " chunks"
            )
        return None

    def _of_a_stream(self, path: DataPath, reason: str) -> tuple[DataPath, str]:
        """Return how the rows of a stream travel, where all others would go by `path`."""
        if path is not DataPath.COPY_BINARY or self.settings.reject_limit == 0:
            return path, reason
        told_apart = "a stream is read only once, and refused rows can be set apart only as text"
        return DataPath.COPY_TEXT, told_apart

    def _with_verification(self, plan: Plan) -> Plan:
        if self.target is None:
            return plan
        verifying = verification.Verifying(
            plan=plan,
            mapping=self.mapping,
            query=self.query,
            source=self.source,
            target=self.target.database,
            ledger=self.target.ledger,
        )
        return replace(plan, verification=verifying.decide(lambda: self.survey).words)

    def _data_path(self, table: Sequence[Column]) -> tuple[DataPath, str]:
        if self.target:
            return self.target.data_path(self.columns, table, self.source.paths)
        if self.mapping.transform_batch and DataPath.ARROW in self.source.paths:
            return DataPath.ARROW, "the batch transform takes Arrow record batches"
        if self.mapping.transforms or DataPath.COPY_TEXT not in self.source.paths:
            return DataPath.ROWS, "rows are read as Python values"
        # As text: not every type has a binary form.
        return DataPath.COPY_TEXT, "rows are read and counted, not written"

    def _check_window(self, table: Sequence[Column]) -> None:
        """Raise SettingsError when source and target would compare the window otherwise."""
        mapping, window = self.mapping, self.mapping.window
        if self.target is None or window is None:
            return
        other: Database = self.source
        utc: Database = self.target.database
        told: Sequence[Column] = self.columns
        if self.source.windows_in_utc:
            other, utc, told = utc, other, table
        if other.windows_in_utc or not utc.windows_in_utc or window.is_utc_in(mapping.time_zone):
            return
        (name,) = fitting.spelled((window.column,), {column.name for column in told})
        kinds = [column.standard or column.type for column in told if column.name == name]
        if kinds and "with time zone" not in kinds[0].lower():
            msg = (
                f"{window.column} is {kinds[0]}, without a time zone: {other.kind} compares it"
                f" with the window in {mapping.time_zone}, and {utc.kind} in UTC, so the rows"
                " deleted would not be the rows read. Give a window in UTC, or one whose times"
                " have no zone"
            )
            raise SettingsError(msg)

    def _case(self, table: Sequence[Column]) -> Case:
        given = self.settings.chunk_size
        target = self.target.database if self.target else None
        return Case(
            mapping=self.mapping,
            query=self.query,
            survey=self.survey,
            columns=self.columns,
            given_size=None if given == AUTO else int(given),
            threshold=self.settings.min_rows_for_parallel,
            workers=self._workers(StrategyName.STREAM_ONCE),
            readers=self._workers(StrategyName.PHYSICAL),
            one_snapshot=self.one_snapshot,
            continued=self.named and not self.mapping.staged,
            sequential=self._sequential(target),
            one_reader=self._one_reader(),
            one_writer=_one_writer(target),
            in_server=lambda: self._why_not_in_server(table),
        )

    def _workers(self, strategy: StrategyName) -> int:
        target = self.target.database if self.target else None
        return worker_count(
            self.settings, self.source, target, shared=self.shared_pool, strategy=strategy
        )

    def _sequential(self, target: Target | None) -> str | None:
        """Return a reason, known before the query is looked at, not to load in parallel."""
        if not self.settings.enable_parallel:
            return "enable_parallel is false"
        return self._lone(target)

    def _lone(self, target: Target | None) -> str | None:
        """Return why there can be but one worker, in the caller's own thread."""
        if self.mapping.direct_path:
            return "a direct path load has one loader, which fills an empty stage"
        if self.source.sole:
            return self.source.sole
        if self.shared_pool and self.source.limit == _ONE_PAIR:
            return "source and target share a pool of two connections"
        return target.sole if target else None

    def _one_reader(self) -> str | None:
        """Return a reason, known before the query is looked at, not to read in parallel."""
        if self.source.limit == 1:
            return "the source's pool holds one connection"
        if self.one_snapshot and not self.source.shares_snapshots:
            return (
                f"{self.source.kind} sessions cannot share a snapshot; with snapshot=False each"
                " chunk is read at its own moment"
            )
        return None

    def _why_not_in_server(self, table: Sequence[Column]) -> str | None:
        if self.target is None:
            return "nothing is written"
        if self.source.sole:
            return self.source.sole
        if self.settings.reject_limit != 0:
            return "refused rows have to be set apart (reject_limit)"
        pairs = fitting.match_columns(self.columns, table, self.mapping.target_name)
        return self.target.insert_select_blocker(self.query, self.snapshot, self.place, pairs)


def _one_writer(target: Target | None) -> str | None:
    if target is None or target.parallel_writers:
        return None
    return f"{target.kind} lets one session write at a time"


def columns_of(reader: Reader, query: Query, mapping: Mapping) -> tuple[Column, ...]:
    """Return the query's columns, those that a transform sees first.

    Raises MapperError for names that would not do.
    """
    columns = reader.columns(query)
    named = bool(mapping.target_table or mapping.transforms)
    fitting.check_columns(columns, named=named)
    return fitting.seen_first(columns, mapping.transform_columns)


def lone_source(source: Source, *, shared_pool: bool) -> bool:
    """Whether one connection is all there is to read with, so that none can hold a snapshot."""
    two_for_both = shared_pool and source.limit == _ONE_PAIR
    return bool(source.sole) or source.limit == 1 or two_for_both


def worker_count(
    settings: Settings,
    source: Source,
    target: Target | None,
    *,
    shared: bool,
    strategy: StrategyName,
) -> int:
    """Return how many workers may be at work at once, given what the pools can serve.

    One source connection holds the snapshot. Besides, each worker holds a source and a target
    connection; inside one database, two of the target; of a stream, one of the target, and one
    source connection reads for all. `shared` says that both come out of one pool.
    """
    sources, targets, readers = {
        StrategyName.SAME_DATABASE: (0, 2, 0),
        StrategyName.STREAM_ONCE: (0, 1, 1),
    }.get(strategy, (1, 1, 0))
    if target is None:
        targets = 0
    bounds = [MOST_WORKERS if settings.max_workers == AUTO else int(settings.max_workers)]
    each = sources + (targets if shared else 0)
    if source.limit is not None and each:
        bounds.append((source.limit - 1 - readers) // each)
    if target is not None and target.limit is not None and not shared:
        bounds.append(target.limit // targets)
    return max(1, min(bounds))


def _stage_name(load_id: str) -> str:
    """Return the name of a load's stage: short enough for any database, one for each load."""
    return f"stage_{sha256(load_id.encode()).hexdigest()[:16]}"
