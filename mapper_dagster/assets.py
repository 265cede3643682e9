"""A mapping, as an asset."""

from typing import Any

import dagster as dg

from . import metadata, ops
from .mapping import Mapping


def build_mapping_asset(mapping: Mapping) -> dg.AssetsDefinition:
    """Return the asset of a mapping: plan -> lanes, as many as useful -> publish.

    Materializing a partition loads its window; materializing it again replaces it. The run needs
    the resources that the mapping names: two `DatabaseResource`s and a `MapperResource`.
    """
    plan = ops.plan_op(mapping)
    load_lane = ops.lane_op(mapping)
    publish = ops.publish_op(mapping)

    @dg.graph_asset(
        name=mapping.name,
        key_prefix=list(mapping.key_prefix) or None,
        description=mapping.description,
        group_name=mapping.group_name,
        owners=list(mapping.owners) or None,
        tags=dict(mapping.tags) or None,
        partitions_def=mapping.partitions_def,
        kinds={"mapper"},
        metadata={
            metadata.TABLE_NAME: mapping.table_name,
            "mapper/source_sql": dg.MetadataValue.md(f"```sql\n{mapping.source_sql.strip()}\n```"),
            "mapper/load_mode": mapping.mode.value,
        },
    )
    def asset() -> Any:
        return publish(done=plan().map(lambda start: load_lane(start=start)).collect())

    return asset
