"""The ops of a mapping's asset: plan, load a lane, publish; or all three as one.

Each takes the `name` of the asset, which no other asset of a code location has.
"""

from collections.abc import Iterator, Sequence

import dagster as dg

from .failures import RETRY_POLICY
from .mapping import Mapping
from .steps import Step
from .translator import MappingTranslator
from .windows import ALONE, Lane, PartitionLoad, lane_key, lane_of, load_of


def plan_op(
    name: str, mapping: Mapping, translator: MappingTranslator, upstream: Sequence[str]
) -> dg.OpDefinition:
    """Plan the load of each partition of the run; one dynamic output per lane.

    A load that is worth one lane only is loaded at once: a step of its own would cost more.
    """

    @dg.op(
        name=f"{name}_plan",
        description=f"Plans the chunks of {mapping.table_name} and deals them out to lanes.",
        ins={each: dg.In(dg.Nothing) for each in upstream},
        out=dg.DynamicOut(dg.Nothing),
        required_resource_keys=_resources(mapping),
        retry_policy=RETRY_POLICY,
        pool=mapping.pool,
        tags={"kind": "mapper"},
    )
    def plan(context: dg.OpExecutionContext) -> Iterator[dg.DynamicOutput[None]]:
        step = Step(mapping, translator, context)
        for place, load in enumerate(step.loads):
            _, lanes = step.plan(load)
            if lanes == 1:
                step.load(load, ALONE)
                continue
            for lane in range(lanes):
                key = lane_key(Lane(place, lane, lanes), load.partition_key)
                yield dg.DynamicOutput(None, mapping_key=key)

    return plan


def lane_op(name: str, mapping: Mapping, translator: MappingTranslator) -> dg.OpDefinition:
    """Load the chunks of one lane."""

    @dg.op(
        name=f"{name}_lane",
        description=f"Loads one lane's chunks of {mapping.table_name}, each exactly once.",
        ins={"start": dg.In(dg.Nothing)},
        out=dg.Out(dg.Nothing),
        required_resource_keys=_resources(mapping),
        retry_policy=RETRY_POLICY,
        pool=mapping.pool,
    )
    def load_lane(context: dg.OpExecutionContext) -> None:
        step = Step(mapping, translator, context)
        key = context.get_mapping_key() or ""
        if (load := load_of(key, step.loads)) is None:
            context.log.warning("The partition of this lane has been deleted, so it is left out.")
            return
        step.load(load, lane_of(key))

    return load_lane


def publish_op(name: str, mapping: Mapping, translator: MappingTranslator) -> dg.OpDefinition:
    """Check each load against the ledger, publish it, and record its row counts."""

    @dg.op(
        name=f"{name}_publish",
        description=f"Publishes {mapping.table_name} when every planned chunk is in the ledger.",
        ins={"done": dg.In(dg.Nothing)},
        out=dg.Out(dg.Nothing),
        required_resource_keys=_resources(mapping),
        retry_policy=RETRY_POLICY,
        pool=mapping.pool,
    )
    def publish(context: dg.AssetExecutionContext) -> None:
        step = Step(mapping, translator, context)
        step.publish_each(step.loads)

    return publish


def whole_op(
    name: str, mapping: Mapping, translator: MappingTranslator, upstream: Sequence[str]
) -> dg.OpDefinition:
    """Plan, load and publish in one step."""

    @dg.op(
        name=f"{name}_load",
        description=f"Loads {mapping.table_name}: plans, loads every chunk, publishes.",
        ins={each: dg.In(dg.Nothing) for each in upstream},
        out=dg.Out(dg.Nothing),
        required_resource_keys=_resources(mapping),
        retry_policy=RETRY_POLICY,
        pool=mapping.pool,
        tags={"kind": "mapper"},
    )
    def load(context: dg.AssetExecutionContext) -> None:
        step = Step(mapping, translator, context)

        def loaded() -> Iterator[PartitionLoad]:
            for each in step.loads:
                planned, _ = step.plan(each)
                # Nobody else is there to load a part of it.
                step.load(each, ALONE, workers=planned.workers)
                yield each

        step.publish_each(loaded())

    return load


def _resources(mapping: Mapping) -> set[str]:
    return {mapping.source, mapping.target, mapping.mapper}
