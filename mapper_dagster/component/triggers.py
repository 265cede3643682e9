"""What asks for loads by itself, in YAML: the clock, new rows, loads that failed."""

from datetime import timedelta
from typing import Any

import dagster as dg
from pydantic import Field

from ..mapping import Mapping
from ..schedules import build_mapping_schedule
from ..sensors import build_resume_sensor, build_watermark_sensor
from ..translator import MappingTranslator
from .strict import Strict


class Trigger(Strict):
    """One of them, which waits to be started unless it is said to run."""

    running: bool = Field(default=False, description="Whether it runs without being started.")

    @property
    def _status(self) -> str:
        return "RUNNING" if self.running else "STOPPED"


class Schedule(Trigger):
    """See `build_mapping_schedule`."""

    lookback: int = 0
    minute: int | None = None
    hour: int | None = None

    def definition(self, mapping: Mapping, translator: MappingTranslator) -> dg.ScheduleDefinition:
        """Return it as a Dagster object."""
        return build_mapping_schedule(
            mapping,
            lookback=self.lookback,
            minute=self.minute,
            hour=self.hour,
            default_status=dg.DefaultScheduleStatus[self._status],
            translator=translator,
        )


class Watermark(Trigger):
    """See `build_watermark_sensor`."""

    changed_at: str
    changes_sql: str | None = None
    settle_seconds: float = 0
    max_partitions: int = 100
    minimum_interval_seconds: int = 60

    def definition(self, mapping: Mapping, translator: MappingTranslator) -> dg.SensorDefinition:
        """Return it as a Dagster object."""
        asked: dict[str, Any] = self.model_dump(exclude={"running", "settle_seconds"})
        return build_watermark_sensor(
            mapping,
            **asked,
            settle=timedelta(seconds=self.settle_seconds),
            default_status=dg.DefaultSensorStatus[self._status],
            translator=translator,
        )


class Resume(Trigger):
    """See `build_resume_sensor`. It looks after runs that load only this mapping."""

    max_resumes: int = 3
    minimum_interval_seconds: int = 60

    def definition(self, mapping: Mapping, translator: MappingTranslator) -> dg.SensorDefinition:
        """Return it as a Dagster object."""
        key = translator.get_asset_spec(mapping).key
        return build_resume_sensor(
            [mapping],
            max_resumes=self.max_resumes,
            minimum_interval_seconds=self.minimum_interval_seconds,
            name=f"{key.to_python_identifier()}_resume",
            default_status=dg.DefaultSensorStatus[self._status],
            translator=translator,
        )
