"""Checks, in YAML."""

from datetime import timedelta
from typing import Literal

import dagster as dg

from ..checks import build_mapping_checks
from ..mapping import Mapping
from ..translator import MappingTranslator
from .strict import Strict


class Checks(Strict):
    """See `build_mapping_checks`."""

    compare: Literal["count", "checksum"] | None = "count"
    blocking: bool = False
    max_reject_share: float | None = None
    columns: bool = True
    due_within_hours: float | None = None

    def definitions(
        self, mapping: Mapping, translator: MappingTranslator
    ) -> list[dg.AssetChecksDefinition]:
        """Return what Dagster calls them."""
        asked = self.model_dump(exclude={"due_within_hours"})
        hours = self.due_within_hours
        asked["due_within"] = None if hours is None else timedelta(hours=hours)
        return build_mapping_checks(mapping, **asked, translator=translator)


def checks_of(mapping: Mapping) -> Checks:
    """Return the checks of a mapping about which nothing is said: those that it can have."""
    comparable = mapping.mode.value.startswith("replace")
    return Checks() if comparable else Checks(compare=None)
