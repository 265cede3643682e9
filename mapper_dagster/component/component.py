"""A mapping declared in YAML: `type: mapper_dagster.MappingComponent`."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import dagster as dg
from dagster.components import Injected
from dagster.components.scaffold.scaffold import scaffold_with
from pydantic import ConfigDict, Field, model_validator

from mapper_core import SettingsError

from .assets import build_mapping_asset
from .checks import build_mapping_checks
from .mapping import Mapping
from .schedules import build_mapping_schedule
from .sensors import build_resume_sensor, build_watermark_sensor
from .translator import MappingTranslator

_EXAMPLE = {
    "name": "fact_orders",
    "source_sql_file": "orders.sql",
    "target_schema": "dw",
    "target_table": "fact_orders",
    "window_column": "order_date",
    "partitions": {"type": "daily", "start_date": "2024-01-01"},
    "checks": {"compare": "count"},
}
_EXAMPLE_SQL = """\
SELECT * FROM orders
WHERE order_date >= :window_start AND order_date < :window_end
"""


class MappingScaffolder(dg.Scaffolder[Any]):
    """Writes a mapping to start from, and its SQL beside it."""

    def scaffold(self, request: dg.ScaffoldRequest[Any]) -> None:
        """Write `defs.yaml` and `orders.sql`."""
        dg.scaffold_component(request, _EXAMPLE)
        (request.target_path / "orders.sql").write_text(_EXAMPLE_SQL)


class _Strict(dg.Model, dg.Resolvable):
    """Refuses attributes that it does not know, so that a misspelt one is not ignored."""

    model_config = ConfigDict(extra="forbid")


_BY_THE_CLOCK: dict[str, Callable[..., dg.TimeWindowPartitionsDefinition]] = {
    "hourly": dg.HourlyPartitionsDefinition,
    "daily": dg.DailyPartitionsDefinition,
    "weekly": dg.WeeklyPartitionsDefinition,
    "monthly": dg.MonthlyPartitionsDefinition,
}
# What partitions of a type need. Those by time may have an end and a time zone as well.
_NEEDED = {
    **dict.fromkeys(_BY_THE_CLOCK, ("start_date",)),
    "cron": ("start_date", "cron_schedule"),
    "static": ("keys",),
    "dynamic": ("name",),
    "multi": ("dimensions",),
}
_OF_TIMES = ("end_date", "timezone")
# As many as Dagster knows of.
_DIMENSIONS = 2


class Dimension(_Strict):
    """Partitions by time, by a list, or by keys that are added while Dagster runs."""

    type: Literal["hourly", "daily", "weekly", "monthly", "cron", "static", "dynamic"]
    start_date: str | None = Field(None, description="ISO date or moment of the first window.")
    end_date: str | None = Field(None, description="ISO date or moment; by default there is none.")
    timezone: str = Field("UTC", description="Time zone by its IANA name, e.g. Europe/Berlin.")
    cron_schedule: str | None = Field(None, description="For cron: where windows begin.")
    keys: Sequence[str] = Field((), description="For static: the partitions' keys.")
    name: str | None = Field(None, description="For dynamic: the name that keys are kept under.")

    @model_validator(mode="after")
    def _complete(self) -> "Dimension":
        needed = _NEEDED[self.type]
        for word in needed:
            if not getattr(self, word):
                raise ValueError(f"partitions of type {self.type} need {word}")
        taken = {"type", *needed, *(_OF_TIMES if "start_date" in needed else ())}
        if meant_otherwise := sorted(self.model_fields_set - taken):
            raise ValueError(
                f"partitions of type {self.type} take no {', '.join(meant_otherwise)}: leave it"
                " out, or name another type"
            )
        return self

    def definition(self) -> dg.PartitionsDefinition[Any]:
        """Return these partitions as a Dagster object. Raises SettingsError if there are none."""
        try:
            found = self._definition()
        except SettingsError:
            raise
        except Exception as error:
            words = ("start_date", "end_date", "timezone", "cron_schedule", "keys", "name")
            listed = ", ".join(
                f"{word} {getattr(self, word)!r}" for word in words if word in self.model_fields_set
            )
            said = str(error).partition("\n")[0]
            msg = (
                f"partitions of type {self.type} cannot be made of {listed}: {said}. Dates are"
                " ISO's, time zones those of the IANA database"
            )
            raise SettingsError(msg) from error
        if (
            isinstance(found, dg.TimeWindowPartitionsDefinition)
            and found.end is not None
            and found.end <= found.start
        ):
            raise SettingsError(
                f"there are no partitions from start_date {self.start_date!r} to end_date"
                f" {self.end_date!r}: the end, which is in none, comes after the start"
            )
        return found

    def _definition(self) -> dg.PartitionsDefinition[Any]:
        if self.type == "static":
            return dg.StaticPartitionsDefinition(list(self.keys))
        if self.type == "dynamic":
            return dg.DynamicPartitionsDefinition(name=self.name)
        ends: dict[str, Any] = {"start_date": self.start_date, "end_date": self.end_date}
        if kind := _BY_THE_CLOCK.get(self.type):
            return kind(**ends, timezone=self.timezone)
        return dg.TimeWindowPartitionsDefinition(
            start=self.start_date or "",
            end=self.end_date,
            fmt="%Y-%m-%d-%H:%M",
            timezone=self.timezone,
            cron_schedule=self.cron_schedule,
        )


class Partitions(Dimension):
    """Partitions of one kind, or of two kinds at once."""

    type: Literal[  # type: ignore[assignment]  # one word more than a dimension knows
        "hourly", "daily", "weekly", "monthly", "cron", "static", "dynamic", "multi"
    ]
    dimensions: dict[str, Dimension] | None = Field(
        None,
        description="For multi: two kinds of partitions, each under its dimension's name.",
    )

    @model_validator(mode="after")
    def _has_two_dimensions(self) -> "Partitions":
        if self.dimensions is not None and len(self.dimensions) != _DIMENSIONS:
            raise ValueError("partitions of type multi have two dimensions")
        return self

    def _definition(self) -> dg.PartitionsDefinition[Any]:
        if self.dimensions is None:
            return super()._definition()
        return dg.MultiPartitionsDefinition(
            {name: each.definition() for name, each in self.dimensions.items()}
        )


class BackfillPolicy(_Strict):
    """How many partitions of a backfill one run loads: all, or a given number."""

    type: Literal["single_run", "multi_run"]
    max_partitions_per_run: int = Field(1, ge=1, description="For multi_run.")

    def policy(self) -> dg.BackfillPolicy:
        """Return it as a Dagster object."""
        if self.type == "single_run":
            return dg.BackfillPolicy.single_run()
        return dg.BackfillPolicy.multi_run(self.max_partitions_per_run)


class Checks(_Strict):
    """See `build_mapping_checks`."""

    compare: Literal["count", "checksum"] | None = "count"
    blocking: bool = False
    max_reject_share: float | None = None
    columns: bool = True
    due_within_hours: float | None = None


class Schedule(_Strict):
    """See `build_mapping_schedule`."""

    lookback: int = 0
    minute: int | None = None
    hour: int | None = None
    running: bool = Field(default=False, description="Whether it runs without being started.")


class Watermark(_Strict):
    """See `build_watermark_sensor`."""

    changed_at: str
    changes_sql: str | None = None
    settle_seconds: float = 0
    max_partitions: int = 100
    minimum_interval_seconds: int = 60
    running: bool = Field(default=False, description="Whether it runs without being started.")


class Resume(_Strict):
    """See `build_resume_sensor`. It looks after runs that load only this mapping."""

    max_resumes: int = 3
    minimum_interval_seconds: int = 60
    running: bool = Field(default=False, description="Whether it runs without being started.")


@scaffold_with(MappingScaffolder)
class MappingComponent(dg.Component, dg.Model, dg.Resolvable):
    """A query that is loaded into a table: an asset, its checks, its schedule and its sensors.

    The attributes are those of `Mapping`, without its functions. The resources that it names
    belong to the project.
    """

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    name: str = Field(description="Name of the asset; the last part of its key.")
    source_sql: str | None = Field(None, description="The query; give this or source_sql_file.")
    source_sql_file: str | None = Field(None, description="A file with the query, beside this one.")
    target_table: str
    target_schema: str | None = None
    load_mode: Literal["append", "replace", "replace_window", "upsert"] | None = None
    partitions: Partitions | None = None
    backfill_policy: BackfillPolicy | None = None
    window_column: str | None = None
    include_earlier: bool = False
    fence_seconds: float | None = Field(
        None, description="Seconds that a load waits for older transactions of the source."
    )
    primary_key: str | Sequence[str] | None = None
    order_column: str | None = None
    publish: Literal["chunks", "atomic"] | None = None
    create_target: bool = False
    direct_path: bool = False
    chunk_key: str | Sequence[str] | None = None
    strategy: str | None = None
    chunk_size: int | str | None = None
    min_rows_for_parallel: int | None = None
    reject_limit: int | None = 0
    params: dict[str, Any] | None = None
    verify: Literal["none", "count", "checksum"] | None = None
    lanes: int | None = None
    chunks_per_lane: int | None = None
    single_step: bool = False
    workers_per_lane: int = 1
    source: str = Field("source", description="Key of the DatabaseResource that rows come from.")
    target: str = Field("target", description="Key of the DatabaseResource that rows go to.")
    mapper: str = Field("mapper", description="Key of the MapperResource.")
    pool: str | None = None
    key_prefix: str | Sequence[str] = ()
    group_name: str | None = None
    description: str | None = None
    owners: Sequence[str] = ()
    tags: dict[str, str] = Field(default_factory=dict)
    deps: Sequence[str] | None = Field(None, description="Keys of assets, parts joined by slashes.")
    source_dialect: str = "postgres"
    automation_condition: Injected[dg.AutomationCondition[Any] | None] = None
    checks: Checks | None = Field(default_factory=Checks)
    schedule: Schedule | None = None
    watermark: Watermark | None = None
    resume: Resume | None = None

    @model_validator(mode="after")
    def _has_one_query(self) -> "MappingComponent":
        if (self.source_sql is None) == (self.source_sql_file is None):
            raise ValueError("give source_sql or source_sql_file")
        return self

    def get_translator(self) -> MappingTranslator:
        """Return what decides how the asset appears in Dagster. Override it in a subclass."""
        return MappingTranslator()

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Return the asset and what belongs to it."""
        translator = self.get_translator()
        mapping = Mapping(**self._given(context))
        return dg.Definitions(
            assets=[build_mapping_asset(mapping, translator)],
            asset_checks=self._checks(mapping, translator),
            schedules=self._schedules(mapping, translator),
            sensors=self._sensors(mapping, translator),
        )

    def _checks(
        self, mapping: Mapping, translator: MappingTranslator
    ) -> list[dg.AssetChecksDefinition]:
        if self.checks is None:
            return []
        asked = self.checks.model_dump(exclude={"due_within_hours"})
        hours = self.checks.due_within_hours
        asked["due_within"] = None if hours is None else timedelta(hours=hours)
        if "checks" not in self.model_fields_set and not mapping.mode.value.startswith("replace"):
            asked["compare"] = None  # nobody asked for what cannot be compared
        return build_mapping_checks(mapping, **asked, translator=translator)

    def _schedules(
        self, mapping: Mapping, translator: MappingTranslator
    ) -> list[dg.ScheduleDefinition]:
        if self.schedule is None:
            return []
        asked = self.schedule.model_dump(exclude={"running"})
        status = dg.DefaultScheduleStatus[_status(running=self.schedule.running)]
        return [
            build_mapping_schedule(mapping, **asked, default_status=status, translator=translator)
        ]

    def _sensors(
        self, mapping: Mapping, translator: MappingTranslator
    ) -> list[dg.SensorDefinition]:
        found = []
        if self.watermark is not None:
            asked: dict[str, Any] = self.watermark.model_dump(exclude={"running", "settle_seconds"})
            asked["settle"] = timedelta(seconds=self.watermark.settle_seconds)
            status = dg.DefaultSensorStatus[_status(running=self.watermark.running)]
            found.append(
                build_watermark_sensor(
                    mapping, **asked, default_status=status, translator=translator
                )
            )
        if self.resume is not None:
            asked = self.resume.model_dump(exclude={"running"})
            status = dg.DefaultSensorStatus[_status(running=self.resume.running)]
            key = translator.get_asset_spec(mapping).key
            found.append(
                build_resume_sensor(
                    [mapping],
                    **asked,
                    name=f"{key.to_python_identifier()}_resume",
                    default_status=status,
                    translator=translator,
                )
            )
        return found

    def _given(self, context: dg.ComponentLoadContext) -> dict[str, Any]:
        own = {"partitions", "backfill_policy", "checks", "schedule", "watermark", "resume"}
        own |= {"source_sql_file", "deps", "fence_seconds"}
        given = {name: getattr(self, name) for name in type(self).model_fields if name not in own}
        if self.source_sql_file is not None:
            given["source_sql"] = self._read(context.path / self.source_sql_file)
        if self.fence_seconds is not None:
            given["fence"] = timedelta(seconds=self.fence_seconds)
        if self.partitions is not None:
            given["partitions_def"] = self.partitions.definition()
        if self.backfill_policy is not None:
            given["backfill_policy"] = self.backfill_policy.policy()
        if self.deps is not None:
            given["deps"] = [dg.AssetKey.from_user_string(dep) for dep in self.deps]
        return given

    def _read(self, path: Path) -> str:
        """Return the SQL of a file. Raises SettingsError when it has none."""
        try:
            return path.read_text(encoding="utf-8")
        except FileNotFoundError:
            msg = (
                f"mapping {self.name}: source_sql_file {path} is not there: its place is told from"
                " the folder of the YAML"
            )
            raise SettingsError(msg) from None
        except (OSError, UnicodeDecodeError) as error:
            msg = f"mapping {self.name}: source_sql_file {path} cannot be read: {error}"
            raise SettingsError(msg) from error


def _status(*, running: bool) -> str:
    return "RUNNING" if running else "STOPPED"
