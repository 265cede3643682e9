"""What a check is: a name, what it says, and who finds out."""

from collections.abc import Callable, Iterable, Sequence
from collections.abc import Mapping as Dict
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from ..asked import loads_to_be_checked
from ..mapping import Mapping
from ..windows import PartitionLoad


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check has found out."""

    passed: bool
    description: str
    metadata: Dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check of an asset."""

    name: str
    description: str
    find: Callable[[dg.AssetCheckExecutionContext], Finding]
    """Finds out. Raises MapperError when it cannot."""
    resources: frozenset[str] = frozenset()
    """Keys of what it asks."""
    blocking: bool = False
    """Whether what is downstream waits for it, and is not run if it fails."""
    by_partition: bool = True
    """Whether it is about the partitions of its run, and not about the asset as a whole."""


@dataclass(frozen=True, slots=True)
class Case:
    """A mapping to be checked, and its asset."""

    mapping: Mapping
    key: dg.AssetKey

    def loads(self, context: Any) -> Sequence[PartitionLoad]:
        """Return what the checked partitions ask for; the whole without partitions."""
        return loads_to_be_checked(context, self.mapping, self.key)

    def latest(
        self, context: dg.AssetCheckExecutionContext, partitions: Iterable[str | None]
    ) -> tuple[str | None, dict[str, Any]]:
        """Return partition and metadata of the latest materialization of some; or nothing.

        Of an asset without partitions that is the latest one of None.
        """
        of = [partition for partition in partitions if partition is not None]
        only = dg.AssetRecordsFilter(self.key, asset_partitions=of or None)
        records = context.instance.fetch_materializations(only, limit=1).records
        if not records or (shown := records[0].asset_materialization) is None:
            return None, {}
        return shown.partition, {name: value.value for name, value in shown.metadata.items()}


def values_of(mapping: Mapping, load: PartitionLoad) -> dict[str, Any]:
    """Return what a mapping's query asks by name about a partition."""
    window = {}
    if load.window is not None:
        window = {"window_start": load.window.start, "window_end": load.window.end}
    return {**window, **load.bounds, **(mapping.params or {})}
