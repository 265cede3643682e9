"""The whole of a mapping in YAML."""

from collections.abc import Sequence
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import dagster as dg
from pydantic import ConfigDict, Field, model_validator

from mapper_core import SettingsError

from ..assets import build_mapping_asset
from ..mapping import Mapping
from ..translator import MappingTranslator
from .checks import Checks, checks_of
from .partitions import BackfillPolicy, Partitions
from .scaffolder import MappingScaffolder
from .triggers import Resume, Schedule, Watermark


@dg.scaffold_with(MappingScaffolder)
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
    automation_condition: dg.Injected[dg.AutomationCondition[Any] | None] = None
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
        checks = self.checks if "checks" in self.model_fields_set else checks_of(mapping)
        sensors = [each for each in (self.watermark, self.resume) if each is not None]
        return dg.Definitions(
            assets=[build_mapping_asset(mapping, translator)],
            asset_checks=[] if checks is None else checks.definitions(mapping, translator),
            schedules=(
                [] if self.schedule is None else [self.schedule.definition(mapping, translator)]
            ),
            sensors=[each.definition(mapping, translator) for each in sensors],
        )

    def _given(self, context: dg.ComponentLoadContext) -> dict[str, Any]:
        shared = {field.name for field in fields(Mapping)} & set(type(self).model_fields)
        given = {name: getattr(self, name) for name in shared}
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
                f"mapping {self.name}: source_sql_file {path} does not exist: its path starts at"
                " the folder of the YAML"
            )
            raise SettingsError(msg) from None
        except (OSError, UnicodeDecodeError) as error:
            msg = f"mapping {self.name}: source_sql_file {path} cannot be read: {error}"
            raise SettingsError(msg) from error
