"""A load is published, and shown."""

from collections.abc import Mapping as Dict
from collections.abc import Sequence
from typing import Any

import dagster as dg

from mapper_core import (
    IncompleteLoadError,
    LoadMode,
    MapperError,
    ParallelProcessingResult,
    history,
)
from mapper_core.row_values import left_out

from .. import metadata
from ..lineage import columns_of
from ..translator import MappingTranslator
from ..windows import ALONE
from .load import Load, partition_of
from .loading import load_lane


def publish(load: Load, translator: MappingTranslator) -> dict[str, Any]:
    """Check a load against the ledger and publish it; return what Dagit is to show of it.

    The ledger, not Dagster, knows which chunks are in: a run re-executed from failure may never
    have started some lanes and still come here. What they would have loaded is loaded now.
    """
    with load.in_words():
        try:
            result = load.publish()
        except IncompleteLoadError as error:
            load.context.log.warning("%s They are loaded now.", error)
            load_lane(load, ALONE)
            result = load.publish()
    load.context.log.info(metadata.result_line(result))
    return {**metadata.of_result(load.mapping, result), **_details(load, translator, result)}


def _details(
    load: Load, translator: MappingTranslator, result: ParallelProcessingResult
) -> dict[str, Any]:
    """Return what is nice to know; a load that is published does not fail for want of it."""
    found: dict[str, Any] = dict(metadata.of_chunks(result.chunk_results))
    if result.load_id is None:
        return found
    url, ledger = load.target.url, load.ledger
    try:
        columns = history.chunks(url, result.load_id, **ledger).record.plan.columns
        origins = _origins(load, translator, [column.name for column in columns])
        found |= metadata.of_columns(columns, origins)
        found |= _total(load)
        if result.rows_rejected:
            causes = history.reject_causes(url, result.load_id, **ledger)
            found |= metadata.of_rejects(result.load_id, causes)
    except MapperError as error:
        load.context.log.warning(
            "the ledger could not be asked for details: %s", left_out(str(error))
        )
    return found


def _total(load: Load) -> Dict[str, Any]:
    """Return what all partitions hold together: of each, what its latest load has written."""
    definition, mapping = load.mapping.partitions_def, load.mapping
    if definition is None or mapping.mode is not LoadMode.REPLACE_WINDOW:
        return {}
    loads = history.published_rows(load.target.url, mapping.table_name, **load.ledger)
    rows = {partition_of(group, load.asset_key): written for group, written in loads}
    # Of partitions that there are no more, others have taken the place.
    return metadata.of_total(
        sum(
            written
            for key, written in rows.items()
            if key is not None and definition.has_partition_key(key)
        )
    )


def _origins(
    load: Load, translator: MappingTranslator, names: Sequence[str]
) -> dict[str, list[tuple[dg.AssetKey, str]]]:
    mapping = load.mapping
    found = columns_of(mapping.source_sql, mapping.source_dialect, names)
    return {
        name: [(translator.get_table_key(mapping, each.table), each.column) for each in origins]
        for name, origins in found.items()
    }
