"""A mapping, declared: which query goes into which table, how, and in which windows."""

import re
from collections.abc import Callable, Sequence
from collections.abc import Mapping as Dict
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import dagster as dg
import sqlglot

from mapper_core import LoadMode, SettingsError, Verification
from mapper_core.model import (
    BatchTransform,
    Publishing,
    RowTransform,
    StrategyName,
    TransformScope,
    TransformWorkers,
    Word,
)
from mapper_core.query import names_in
from mapper_core.settings import resolve

_NAME = re.compile(r"[A-Za-z0-9_]+")

# What takes a word of a few. A mistake in one is told before anything runs.
_WORDS: Dict[str, type[Word]] = {
    "verify": Verification,
    "strategy": StrategyName,
    "publish": Publishing,
    "transform_scope": TransformScope,
    "workers": TransformWorkers,
}

# Settings of the engine that a mapping may give its loads.
_SETTINGS = ("chunk_size", "min_rows_for_parallel", "reject_limit")

# What is an object of a kind, and what people call that.
_KINDS: Dict[str, tuple[Any, str]] = {
    "partitions_def": (dg.PartitionsDefinition, "PartitionsDefinition of Dagster's"),
    "backfill_policy": (dg.BackfillPolicy, "BackfillPolicy of Dagster's"),
    "fence": (timedelta, "timedelta"),
    "transformation_func": (Callable, "function"),
    "transform_batch": (Callable, "function"),
    "lanes": (int, "number"),
    "chunks_per_lane": (int, "number"),
    "workers_per_lane": (int, "number"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapping:
    """A declared source query -> target table.

    With partitions by time, each partition is a load window: the query filters by `:window_start`
    and `:window_end` (half-open), and `window_column` is the column of the target that the two
    bound. All other partitions (static, dynamic, two dimensions) need load_mode "upsert": the query
    filters by `:partition_key`; in two dimensions, by each dimension's name and by the window.

    Attributes without an explanation below mean the same as in `mapper_core.execute_query_parallel`
    or in a Dagster asset.
    """

    name: str
    """Name of the asset; the last part of its key."""
    source_sql: str
    target_table: str
    target_schema: str | None = None
    partitions_def: dg.PartitionsDefinition[Any] | None = None
    window_column: str | None = None
    include_earlier: bool = False
    """Whether the first partition by time also holds the rows before it."""
    fence: timedelta | None = None
    """How long a load waits for transactions of the source that began before its window ended and
    may still add rows to it; None does not wait. For PostgreSQL."""
    load_mode: LoadMode | str | None = None
    """By default `replace_window` when partitioned, else `append`."""
    primary_key: str | Sequence[str] | None = None
    """For `upsert`: the columns that identify a row."""
    order_column: str | None = None
    """For `upsert`: of several rows with the same key, the one highest in this column counts."""
    publish: str | None = None
    """`atomic` makes an `append` appear all at once."""
    create_target: bool = False
    """Whether a missing target is created, with the query's columns."""
    direct_path: bool = False
    """Whether one loader fills the stage by an Oracle direct path load."""
    chunk_key: str | Sequence[str] | None = None
    strategy: str | None = None
    """How the query is divided, by name; None uses the first strategy that can serve."""
    chunk_size: int | str | None = None
    min_rows_for_parallel: int | None = None
    reject_limit: int | None = 0
    """How many rows of a load may be refused and left out; None sets no limit."""
    params: Dict[str, Any] | None = None
    transformation_func: RowTransform | None = None
    transform_scope: str | None = None
    transform_columns: str | Sequence[str] | None = None
    transform_batch: BatchTransform | None = None
    workers: str | None = None
    """Where `transformation_func` runs: in "threads" of the step, or in "processes" of its own."""
    verify: str | None = None
    """How source and target are compared before publishing: "none", "count" or "checksum"; by
    default "count" for load modes that replace, else "none"."""
    lanes: int | None = None
    """How many Dagster steps share the chunks; by default as many as the plan has workers. If
    MAPPER_MAX_WORKERS is "auto", one, which finds the number of workers itself."""
    chunks_per_lane: int | None = None
    """Instead of `lanes`: how many chunks a step gets; 1 makes one dynamic output per chunk."""
    single_step: bool = False
    """Whether one step plans, loads and publishes, with all the workers of its plan."""
    workers_per_lane: int = 1
    """Threads of one step, each with a source and a target connection."""
    source: str = "source"
    """Key of the `DatabaseResource` that rows come from."""
    target: str = "target"
    """Key of the `DatabaseResource` that rows go to."""
    mapper: str = "mapper"
    """Key of the `MapperResource`."""
    pool: str | None = None
    """The Dagster pool of which every step of the mapping takes a slot, over all runs. It
    counts steps: each step holds `workers_per_lane` connections to each side."""
    key_prefix: str | Sequence[str] = ()
    group_name: str | None = None
    description: str | None = None
    owners: Sequence[str] = ()
    tags: Dict[str, str] = field(default_factory=dict)
    deps: Sequence[dg.AssetKey | str | Sequence[str]] | None = None
    """Assets that it reads; by default the tables that its SQL names, under the source's key."""
    automation_condition: dg.AutomationCondition[Any] | None = None
    backfill_policy: dg.BackfillPolicy | None = None
    source_dialect: str = "postgres"
    """sqlglot's name for the SQL's dialect, used to find the tables and columns that it reads."""

    def __post_init__(self) -> None:
        if not (self.name and _NAME.fullmatch(self.name)):
            raise SettingsError(f"mapping name {self.name!r}: letters, digits and _ only")
        self._check_texts()
        self._check_kinds()
        self._check_words()
        self._check_settings()
        self._check_partitions()
        self._check_names()
        if self.lanes is not None and self.chunks_per_lane is not None:
            raise SettingsError(f"mapping {self.name}: give lanes or chunks_per_lane, not both")
        counts = (self.lanes, self.chunks_per_lane, self.workers_per_lane)
        if any(count is not None and count < 1 for count in counts):
            raise SettingsError(
                f"mapping {self.name}: lanes, chunks_per_lane and workers_per_lane are at least 1"
            )

    def _check_texts(self) -> None:
        for field_name in ("source_sql", "target_table"):
            if not (getattr(self, field_name) or "").strip():
                raise SettingsError(f"mapping {self.name}: {field_name} is empty")
        for part in self.key.path:
            if "/" in part:
                raise SettingsError(
                    f"mapping {self.name}: key_prefix {part!r} has a slash: a prefix of several"
                    f" parts is a list, {part.split('/')!r}"
                )

    def _check_kinds(self) -> None:
        """Tell what is something else at once, and not in the words of who comes upon it."""
        for field_name, (kind, words) in _KINDS.items():
            given = getattr(self, field_name)
            if given is not None and not isinstance(given, kind):
                raise SettingsError(f"mapping {self.name}: {field_name} {given!r} is not a {words}")

    def _check_words(self) -> None:
        for field_name, words in _WORDS.items():
            given, known = getattr(self, field_name), [word.value for word in words]
            if given not in {None, *known}:
                listed = ", ".join(repr(word) for word in known)
                raise SettingsError(
                    f"mapping {self.name}: {field_name} {given!r} is unknown: use one of {listed}"
                )
        for field_name in ("deps", "owners"):
            # Taken apart, a text is a list too: of its letters.
            if isinstance(given := getattr(self, field_name), str):
                raise SettingsError(
                    f"mapping {self.name}: {field_name} is a list: write [{given!r}]"
                )

    def _check_settings(self) -> None:
        """Tell what loads would be refused for, or lineage would silently be missing for."""
        given = {name: getattr(self, name) for name in _SETTINGS}
        try:
            resolve(given, environment={})
            sqlglot.Dialect.get_or_raise(self.source_dialect)
        except SettingsError as error:
            raise SettingsError(f"mapping {self.name}: {error}") from None
        except ValueError as error:
            raise SettingsError(
                f"mapping {self.name}: source_dialect {self.source_dialect!r} is not a dialect"
                f" that sqlglot knows: {error}"
            ) from None

    def _check_names(self) -> None:
        """Tell what the query asks of its partition, and of `params`, that it cannot mean."""
        of_partition, given = bound_names(self.partitions_def), set(self.params or ())
        if taken := sorted(of_partition & given):
            raise SettingsError(
                f"mapping {self.name}: params gives {', '.join(taken)}, which the partition sets:"
                " use another name"
            )
        asked = names_in(self.source_sql, dialect=self.source_dialect)
        if not of_partition or asked is None:
            return
        if not asked & of_partition:
            raise SettingsError(
                f"mapping {self.name}: source_sql does not use its partition, so each partition"
                f" would load the rows of all: filter by {self._filter()}"
            )
        if unknown := sorted(asked - of_partition - given):
            known = ", ".join(f":{name}" for name in sorted(of_partition | given))
            raise SettingsError(
                f"mapping {self.name}: source_sql names :{', :'.join(unknown)}, but only {known}"
                " have values: correct the name, or give it a value in params"
            )

    def _filter(self) -> str:
        """Return the condition of a query on its partition, as people would write it."""
        if self.has_windows:
            column = self.window_column or "its_time"
            return f"{column} >= :window_start AND {column} < :window_end"
        if isinstance(self.partitions_def, dg.MultiPartitionsDefinition):
            dimensions = [part.name for part in self.partitions_def.partitions_defs]
            return " and ".join(f":{name}" for name in dimensions)
        return ":partition_key"

    def _check_partitions(self) -> None:
        """Tell what partitions, load mode and what goes with them cannot be together.

        In this order: who gives a load mode that cannot be is told that, and not what it lacks.
        """
        partitioned, mode = self.partitions_def is not None, self.mode
        replaces_window = mode is LoadMode.REPLACE_WINDOW
        for wrong, words in (
            (
                self._has_two_windows(),
                "two dimensions by time have two windows, but :window_start and :window_end bound"
                " only one: make one of them static or dynamic",
            ),
            (
                partitioned and mode is LoadMode.REPLACE,
                "load_mode 'replace' would leave only the partition loaded last: with partitions"
                " use 'replace_window' or 'upsert'",
            ),
            (
                partitioned and mode is LoadMode.APPEND,
                "load_mode 'append' would add a partition's rows again each time it is"
                " materialized: with partitions use 'replace_window' or 'upsert'",
            ),
            (
                replaces_window and not partitioned,
                "load_mode 'replace_window' needs partitions_def, whose partitions are the windows",
            ),
            (
                replaces_window and not self.has_windows,
                "only partitions by time are windows that can be replaced: with others use"
                " load_mode='upsert' and filter by :partition_key",
            ),
            (
                replaces_window and self.window_column is None,
                "partitions are load windows, so name window_column, the target's column that"
                " :window_start and :window_end bound",
            ),
            (
                mode is LoadMode.UPSERT and not self.primary_key,
                "load_mode 'upsert' needs primary_key, the columns that identify a row",
            ),
            (
                self.window_column is not None and not replaces_window,
                "window_column goes with partitions_def and 'replace_window', but load_mode is"
                f" {mode.value!r}: leave it out",
            ),
            (
                self.fence is not None and not self.has_windows,
                "a fence is for partitions by time: leave it out",
            ),
            (
                self.fence is not None and self.fence < timedelta(0),
                "fence is a time to wait: 0 or more",
            ),
            (
                self.include_earlier and not self.has_windows,
                "include_earlier is for partitions by time: leave it out",
            ),
        ):
            if wrong:
                raise SettingsError(f"mapping {self.name}: {words}")

    def _has_two_windows(self) -> bool:
        if not isinstance(self.partitions_def, dg.MultiPartitionsDefinition):
            return False
        parts = [part.partitions_def for part in self.partitions_def.partitions_defs]
        return all(isinstance(part, dg.TimeWindowPartitionsDefinition) for part in parts)

    @property
    def has_windows(self) -> bool:
        """Whether its partitions are load windows, and nothing else."""
        return isinstance(self.partitions_def, dg.TimeWindowPartitionsDefinition)

    @property
    def key(self) -> dg.AssetKey:
        """The key of its asset."""
        prefix = [self.key_prefix] if isinstance(self.key_prefix, str) else self.key_prefix
        return dg.AssetKey([*prefix, self.name])

    @property
    def mode(self) -> LoadMode:
        """The load mode in force."""
        if self.load_mode is None:
            return LoadMode.APPEND if self.partitions_def is None else LoadMode.REPLACE_WINDOW
        try:
            return LoadMode(self.load_mode)
        except ValueError:
            known = ", ".join(repr(mode.value) for mode in LoadMode)
            msg = (
                f"mapping {self.name}: load_mode {self.load_mode!r} is unknown: use one of {known}"
            )
            raise SettingsError(msg) from None

    @property
    def table_name(self) -> str:
        """The target as people write it, e.g. `dw.fact_orders`."""
        return (
            f"{self.target_schema}.{self.target_table}" if self.target_schema else self.target_table
        )

    def lane_count(self, chunks: int, workers: int) -> int:
        """Return over how many steps that many chunks are dealt out."""
        if self.chunks_per_lane is not None:
            return max(1, -(-chunks // self.chunks_per_lane))
        wanted = self.lanes or -(-workers // self.workers_per_lane)
        return max(1, min(wanted, chunks))


def bound_names(definition: dg.PartitionsDefinition[Any] | None) -> frozenset[str]:
    """Return the names by which a query may ask about a partition."""
    if definition is None:
        return frozenset()
    if isinstance(definition, dg.TimeWindowPartitionsDefinition):
        return frozenset({"window_start", "window_end"})
    if isinstance(definition, dg.MultiPartitionsDefinition):
        parts = definition.partitions_defs
        inner = (bound_names(part.partitions_def) for part in parts)
        return frozenset({"partition_key", *(part.name for part in parts)}.union(*inner))
    return frozenset({"partition_key"})
