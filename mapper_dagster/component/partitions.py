"""Partitions, in YAML."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import dagster as dg
from pydantic import Field, model_validator

from mapper_core import SettingsError

from .strict import Strict

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


class Dimension(Strict):
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
                f"partitions of type {self.type} do not take {', '.join(meant_otherwise)}: leave"
                " it out, or name another type"
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
                f"partitions of type {self.type} cannot be made of {listed}: {said}. Write dates"
                " as in ISO 8601, and time zones by their IANA names"
            )
            raise SettingsError(msg) from error
        if (
            isinstance(found, dg.TimeWindowPartitionsDefinition)
            and found.end is not None
            and found.end <= found.start
        ):
            raise SettingsError(
                f"there are no partitions from start_date {self.start_date!r} to end_date"
                f" {self.end_date!r}: the end, which is not included, must come after the start"
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


class BackfillPolicy(Strict):
    """How many partitions of a backfill one run loads: all, or a given number."""

    type: Literal["single_run", "multi_run"]
    max_partitions_per_run: int = Field(1, ge=1, description="For multi_run.")

    @model_validator(mode="after")
    def _says_nothing_idle(self) -> "BackfillPolicy":
        if self.type == "single_run" and "max_partitions_per_run" in self.model_fields_set:
            raise ValueError("a single run has all partitions: leave out max_partitions_per_run")
        return self

    def policy(self) -> dg.BackfillPolicy:
        """Return it as a Dagster object."""
        if self.type == "single_run":
            return dg.BackfillPolicy.single_run()
        return dg.BackfillPolicy.multi_run(self.max_partitions_per_run)
