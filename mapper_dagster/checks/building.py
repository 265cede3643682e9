"""The checks that a mapping can have, by what is asked for."""

from datetime import timedelta

import dagster as dg

from mapper_core import Verification

from ..mapping import Mapping
from ..translator import MappingTranslator
from .check import Case
from .columns import columns_unchanged
from .comparison import source_equals_target
from .due import partitions_on_time
from .rejected import few_rows_rejected
from .step import step_of


def build_mapping_checks(
    mapping: Mapping,
    *,
    compare: str | None = Verification.COUNT.value,
    blocking: bool = False,
    max_reject_share: float | None = None,
    columns: bool = True,
    due_within: timedelta | None = None,
    translator: MappingTranslator | None = None,
) -> list[dg.AssetChecksDefinition]:
    """Return the checks of a mapping's asset, which one step makes together.

    A `blocking` one is a step by itself: what is downstream waits for no other.

    Args:
        mapping: the mapping that the asset was built from.
        compare: "count" or "checksum": whether source and target hold the same rows; if a partition
            is checked, in that partition. For load modes that replace; None leaves this check out.
        blocking: whether what is downstream waits for the comparison, and is not run if it fails.
        max_reject_share: the largest share of a load's rows that may have been left out, 0 to 1.
        columns: whether to check that the query's columns are still those of the latest load.
        due_within: how long after its end a partition by time must have been loaded.
        translator: the translator that the asset was built with.

    Raises:
        SettingsError: a check does not fit the mapping.
    """
    case = Case(mapping, (translator or MappingTranslator()).get_asset_spec(mapping).key)
    checks = []
    if compare is not None:
        checks.append(source_equals_target(case, compare, blocking=blocking))
    if max_reject_share is not None:
        checks.append(few_rows_rejected(case, max_reject_share))
    if columns:
        checks.append(columns_unchanged(case))
    if due_within is not None:
        checks.append(partitions_on_time(case, due_within))
    alone = [[check] for check in checks if check.blocking]
    together = [check for check in checks if not check.blocking]
    return [step_of(case, group) for group in (*alone, together) if group]
