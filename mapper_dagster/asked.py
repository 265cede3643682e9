"""What is asked for: partitions that there are, and the loads of those of a run."""

from typing import Any

import dagster as dg

from .failures import failure
from .mapping import Mapping
from .windows import PartitionLoad, partition_loads

# In the key of a partition of two dimensions, as Dagster writes it.
_BETWEEN_DIMENSIONS = "|"


def loads_to_be_made(
    context: Any, mapping: Mapping, asset: dg.AssetKey
) -> tuple[PartitionLoad, ...]:
    """Return the loads that a run is to make; raise dagster.Failure for a wrong partition."""
    words = "is loaded by partition: launch the run for a partition, or for a range of them."
    return _loads(context, mapping, asset, without_partition=words)


def loads_to_be_checked(
    context: Any, mapping: Mapping, asset: dg.AssetKey
) -> tuple[PartitionLoad, ...]:
    """Return the loads that a check is about; raise dagster.Failure for a wrong partition."""
    # Dagster could not record the result, and says so in words of its own.
    words = "is checked by partition: run the check for a partition, or for a range of them."
    return _loads(context, mapping, asset, without_partition=words)


def has_partition(
    definition: dg.PartitionsDefinition[Any] | None, key: str, instance: dg.DagsterInstance
) -> bool:
    """Whether there is a partition of that key; by time, one that has ended."""
    if isinstance(definition, dg.DynamicPartitionsDefinition):
        return key in instance.get_dynamic_partitions(definition.name or "")
    if isinstance(definition, dg.MultiPartitionsDefinition):
        if len(key.split(_BETWEEN_DIMENSIONS)) != len(definition.partitions_defs):
            return False
        parts = definition.get_partition_key_from_str(key).keys_by_dimension
        by_name = definition.get_partitions_def_for_dimension
        return all(has_partition(by_name(name), part, instance) for name, part in parts.items())
    return definition is not None and bool(definition.has_partition_key(key))


def those_there(
    definition: dg.PartitionsDefinition[Any], key: str, instance: dg.DagsterInstance
) -> str:
    """Return which partitions there are, in words for who has asked for another one."""
    keys = definition.get_partition_keys(dynamic_partitions_store=instance)
    if not keys:
        return "there is none yet"
    if not isinstance(definition, dg.TimeWindowPartitionsDefinition):
        return f"there are {len(keys)}, from {keys[0]!r} to {keys[-1]!r}"
    words = f"the first is {keys[0]!r}, and {keys[-1]!r} the last that has ended by now"
    if key < keys[0]:  # as texts, since it may be no time at all
        words += ". With include_earlier=True the first one also loads the rows before it"
    return words


def _loads(
    context: Any, mapping: Mapping, asset: dg.AssetKey, *, without_partition: str
) -> tuple[PartitionLoad, ...]:
    definition, name = mapping.partitions_def, asset.to_user_string()
    if definition is None:
        return partition_loads(mapping, ())
    if context.has_partition_key:
        asked = [context.partition_key]
    elif context.has_partition_key_range:
        asked = list(context.partition_key_range)
    else:
        raise failure(context, f"{name} {without_partition}", passing=False)
    # Dagit offers only those that there are; runs are launched by other means too.
    for key in asked:
        if not has_partition(definition, key, context.instance):
            there = those_there(definition, key, context.instance)
            words = f"{name} has no partition {key!r}: {there}."
            raise failure(context, words, passing=False)
    return partition_loads(mapping, context.partition_keys)
