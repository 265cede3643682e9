"""How a mapping appears in Dagster."""

from collections.abc import Sequence

import dagster as dg

from . import metadata
from .lineage import tables_of
from .mapping import Mapping


class MappingTranslator:
    """Gives a mapping's asset its key, group, description, lineage. Override what should differ."""

    def get_asset_spec(self, mapping: Mapping) -> dg.AssetSpec:
        """Return the spec of the mapping's asset: everything that Dagster shows of it."""
        return dg.AssetSpec(
            key=mapping.key,
            deps=self._upstream(mapping),
            description=mapping.description or self._description(mapping),
            group_name=mapping.group_name,
            owners=list(mapping.owners),
            tags=dict(mapping.tags),
            kinds={"mapper"},
            automation_condition=mapping.automation_condition,
            partitions_def=mapping.partitions_def,
            metadata=metadata.of_mapping(mapping),
        )

    def get_table_key(self, mapping: Mapping, table: Sequence[str]) -> dg.AssetKey:
        """Return the key of an asset that stands for a table of the source.

        Args:
            mapping: the mapping whose SQL names the table.
            table: (table,) or (schema, table), as in the SQL.
        """
        return dg.AssetKey([mapping.source, *table])

    def _description(self, mapping: Mapping) -> str:
        tables = tables_of(mapping.source_sql, mapping.source_dialect)
        named = ", ".join(f"`{'.'.join(table)}`" for table in tables)
        return f"Rows of {named or 'a query'}, loaded into `{mapping.table_name}`."

    def _upstream(self, mapping: Mapping) -> list[dg.AssetKey]:
        if mapping.deps is not None:
            return [dg.AssetKey.from_coercible(dep) for dep in mapping.deps]
        tables = tables_of(mapping.source_sql, mapping.source_dialect)
        keys = dict.fromkeys(self.get_table_key(mapping, table) for table in tables)
        # A table that is source and target at once is not its own upstream.
        return [key for key in keys if key != mapping.key]
