"""A mapping, as an asset."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import dagster as dg

from . import ops
from .mapping import Mapping
from .translator import MappingTranslator


def build_mapping_asset(
    mapping: Mapping, translator: MappingTranslator | None = None
) -> dg.AssetsDefinition:
    """Return the asset of a mapping: plan -> lanes, as many as useful -> publish.

    Materializing a partition loads its window; materializing it again replaces the window's rows.
    The run needs the resources that the mapping names: two `DatabaseResource`s and a
    `MapperResource`.

    Args:
        mapping: what is loaded, and where to.
        translator: decides how the asset appears in Dagster; by default a `MappingTranslator`.
    """
    translator = translator or MappingTranslator()
    spec = translator.get_asset_spec(mapping)
    upstream = {f"upstream_{number}": dep.asset_key for number, dep in enumerate(spec.deps)}
    asset = dg.AssetsDefinition.from_graph(
        _graph(spec.key.to_python_identifier(), mapping, translator, list(upstream)),
        keys_by_input_name=upstream,
        keys_by_output_name={"result": spec.key},
        partitions_def=mapping.partitions_def,
        backfill_policy=mapping.backfill_policy,
    )
    (described,) = dg.map_asset_specs(
        # What it depends on is in the graph already, and cannot be said twice.
        lambda before: spec.replace_attributes(deps=before.deps),
        [asset],
    )
    return described


def build_source_specs(
    mappings: Sequence[Mapping], translator: MappingTranslator | None = None
) -> list[dg.AssetSpec]:
    """Return an asset for each table that the mappings read, so that Dagit shows it upstream.

    Dagit hides assets that are only depended on. Leave out tables that are assets already.
    """
    translator = translator or MappingTranslator()
    specs = [translator.get_asset_spec(mapping) for mapping in mappings]
    loaded = {spec.key for spec in specs}
    groups = {dep.asset_key: spec.group_name for spec in specs for dep in spec.deps}
    return [
        dg.AssetSpec(key, group_name=group, kinds={"table"})
        for key, group in groups.items()
        if key not in loaded
    ]


def _graph(
    name: str, mapping: Mapping, translator: MappingTranslator, upstream: Sequence[str]
) -> dg.GraphDefinition:
    """Compose the steps; what is `upstream` only has to be there before the first of them.

    In the graph, which has the asset's name, an op needs none of its own to be told apart.
    """
    if mapping.single_step:
        whole = ops.whole_op(name, mapping, translator, upstream).alias("load")
        return _composed(name, upstream, whole)
    plan = ops.plan_op(name, mapping, translator, upstream).alias("plan")
    load_lane = ops.lane_op(name, mapping, translator).alias("lane")
    publish = ops.publish_op(name, mapping, translator).alias("publish")

    def steps(**before: Any) -> Any:
        return publish(done=plan(**before).map(lambda start: load_lane(start=start)).collect())

    return _composed(name, upstream, steps)


def _composed(name: str, inputs: Sequence[str], compose: Callable[..., Any]) -> dg.GraphDefinition:
    """Return a graph whose inputs are as many as it takes: Dagster reads them off a signature."""

    def function(**before: Any) -> Any:
        return compose(**before)

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(each, kind) for each in inputs]
    vars(function)["__signature__"] = inspect.Signature(parameters)
    return dg.graph(name=name)(function)
