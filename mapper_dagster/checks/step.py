"""Checks, as a step of Dagster's."""

import logging
import warnings
from collections.abc import Iterator, Sequence

import dagster as dg

from mapper_core import MapperError
from mapper_core.passwords import in_full
from mapper_core.row_values import left_out

from ..failures import failure, in_words
from .check import Case, Check

logger = logging.getLogger(__name__)


def step_of(case: Case, checks: Sequence[Check]) -> dg.AssetChecksDefinition:
    """Return one step that makes some checks, or those of them that a run selects.

    A step of its own for each would cost the start of a process each. Where one cannot be made the
    others are all the same, and then the step fails.
    """
    named = checks[0].name if len(checks) == 1 else "checks"

    @dg.multi_asset_check(
        name=f"{case.key.to_python_identifier()}_{named}",
        specs=[_spec(case, check) for check in checks],
        description=f"Checks of {case.mapping.table_name}.",
        required_resource_keys={key for check in checks for key in check.resources},
        can_subset=len(checks) > 1,
    )
    def step(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        selected = {key.name for key in context.selected_asset_check_keys}
        errors: dict[str, Exception] = {}
        with in_words(context):
            for check in checks:
                if check.name not in selected:
                    continue
                try:
                    found = check.find(context)
                except Exception as error:  # noqa: BLE001 - raised when the others have been made
                    errors[check.name] = error
                    continue
                yield dg.AssetCheckResult(
                    asset_key=case.key,
                    check_name=check.name,
                    passed=found.passed,
                    description=found.description,
                    metadata=found.metadata,
                )
        if errors:
            raise _failure(context, errors)

    return step


def _spec(case: Case, check: Check) -> dg.AssetCheckSpec:
    with warnings.catch_warnings():
        # Checks by partition are new in Dagster; there is no other way to count by month.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return dg.AssetCheckSpec(
            check.name,
            asset=case.key,
            description=check.description,
            blocking=check.blocking,
            partitions_def=case.mapping.partitions_def if check.by_partition else None,
        )


def _failure(context: dg.AssetCheckExecutionContext, errors: dict[str, Exception]) -> Exception:
    """Return what a step fails with whose checks could not all be made.

    Ours in their own words; of others, which are defects, the first as it is.
    """
    for error in errors.values():
        if not isinstance(error, MapperError):
            return error
    told = []
    for name, error in errors.items():
        logger.debug("the error in full: %s", in_full(error))
        told.append(f"{name} could not be checked: {left_out(str(error))}")
    return failure(context, "\n".join(told), passing=False)
