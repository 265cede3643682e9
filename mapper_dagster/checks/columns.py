"""Whether the query's columns are those of the latest load."""

import dagster as dg

from mapper_core import fitting, history

from .. import metadata
from ..resources import DatabaseResource, MapperResource, resource_of
from .check import Case, Check, Finding, values_of


def columns_unchanged(case: Case) -> Check:
    """Return the check that compares them with those in the ledger."""
    mapping = case.mapping

    def find(context: dg.AssetCheckExecutionContext) -> Finding:
        loads = {load.partition_key: load for load in case.loads(context)}
        partition, shown = case.latest(context, loads)
        if metadata.LOAD_ID not in shown:
            return Finding(passed=True, description="nothing has been loaded yet")
        record = history.chunks(
            resource_of(context, mapping.target, DatabaseResource).url,
            shown[metadata.LOAD_ID],
            ledger_schema=resource_of(context, mapping.mapper, MapperResource).ledger_schema,
        ).record
        columns = resource_of(context, mapping.source, DatabaseResource).columns(
            mapping.source_sql, values_of(mapping, loads[partition]) or None
        )
        changes = fitting.changes(record.plan.columns, columns)
        return Finding(
            not changes,
            "; ".join(changes) or "the columns are those of the latest load",
            {metadata.COLUMN_SCHEMA: metadata.schema_of(columns)},
        )

    return Check(
        name="columns_unchanged",
        description=(
            "The query has the columns, and the types, that it had when it was last loaded."
        ),
        find=find,
        resources=frozenset({mapping.source, mapping.target, mapping.mapper}),
    )
