"""A table in which other programs ask for loads, and read what became of them."""

from collections import Counter
from collections.abc import Mapping as Dict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

from mapper_core import SettingsError

from ..asked import has_partition, those_there
from ..mapping import Mapping
from ..resources import DatabaseResource, resource_of
from ..translator import MappingTranslator
from .retries import will_be_retried

REQUEST = "mapper/load_request"
"""Tag of a run: the id of the request that it is for."""

ASKED_BY = "mapper/load_request_by"
"""Tag of a run: which sensor asked for it, and for which asset. Ids alone are one table's only."""

TABLE = """\
create table load_request (
    id integer not null primary key,
    mapping varchar(200) not null,
    partition_key varchar(200),
    status varchar(20) not null,  -- 'requested', then what became of it
    run_id varchar(100),
    message varchar(1000)
)"""
"""The columns that the sensor works with; the table may have more."""

# What a request's status says of its run.
_WORDS = {
    dg.DagsterRunStatus.SUCCESS: "succeeded",
    dg.DagsterRunStatus.FAILURE: "failed",
    dg.DagsterRunStatus.CANCELED: "canceled",
}
_UNDER_WAY = "started"

_ASKED = "requested"

# Requests of each status looked after in one tick: those under way hold up no new one.
_MOST = 100

# As many characters as the table has room for.
_MESSAGE_LENGTH = 1_000


def build_load_request_sensor(
    mappings: Sequence[Mapping],
    *,
    table: str = "load_request",
    database: str = "target",
    name: str = "load_requests",
    minimum_interval_seconds: int = 30,
    default_status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.STOPPED,
    translator: MappingTranslator | None = None,
) -> dg.SensorDefinition:
    """Return a sensor that runs the requests in a table, and writes the outcome back into it.

    A program inserts a row with the name of a mapping (or, if several have the same name, its
    asset's key, the parts joined by slashes), a partition's key or NULL, and the status
    'requested'. The status becomes 'started', with the run's id, and in the end 'succeeded',
    'failed', 'canceled', or 'refused', with a message why it cannot be run. A request is run once,
    whatever happens to the sensor in between; to run it again, insert another row.

    Args:
        mappings: the mappings that may be requested.
        table: the table's name as in SQL, e.g. `ops.load_request`; see `TABLE` for its columns.
        database: key of the `DatabaseResource` that the table is in.
        name: name of the sensor.
        minimum_interval_seconds: seconds between two ticks.
        default_status: whether it runs without being started.
        translator: the translator that the assets were built with.

    Raises:
        SettingsError: the table is not given as a plain name.
    """
    if not all(part.replace("_", "").isalnum() for part in table.split(".")):
        raise SettingsError(f"table {table!r}: letters, digits, _ and a dot only")
    known = _by_name(mappings, translator or MappingTranslator())

    @dg.sensor(
        name=name,
        description=f"Runs the load requests in the table {table}, and writes back their outcome.",
        # Not `target`: that makes a job of them, in which all must have the same partitions.
        asset_selection=dg.AssetSelection.assets(*(each.key for each in known.values())),
        required_resource_keys={database},
        minimum_interval_seconds=minimum_interval_seconds,
        default_status=default_status,
    )
    def load_requests(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        resource = resource_of(context, database, DatabaseResource)
        wanted, came_to = [], Counter[str]()
        for request in _asked(resource, table):
            loaded = known.get(request.mapping)
            if loaded is None:
                names = ", ".join(sorted(known))
                words = f"there is no mapping {request.mapping!r}: use one of {names}"
                outcome = _Outcome("refused", message=words)
            else:
                tags = {
                    REQUEST: str(request.id),
                    ASKED_BY: f"{name} for {loaded.key.to_user_string()}",
                }
                found = _outcome(context.instance, request, loaded.mapping, tags)
                if found is None:
                    wanted.append(_run_request(name, request, loaded.key, tags))
                    continue
                outcome = found
            if outcome.status != request.status:
                _write_back(resource, table, request, outcome)
            came_to[outcome.status] += 1
        told = ", ".join(f"{count} {status}" for status, count in sorted(came_to.items()))
        return dg.SensorResult(
            run_requests=wanted,
            skip_reason=None if wanted else f"no request is waiting ({told or 'none is running'})",
        )

    return load_requests


@dataclass(frozen=True, slots=True)
class _Loaded:
    mapping: Mapping
    key: dg.AssetKey


@dataclass(frozen=True, slots=True)
class _Request:
    id: Any
    mapping: str
    partition_key: str | None
    status: str


@dataclass(frozen=True, slots=True)
class _Outcome:
    status: str
    run_id: str | None = None
    message: str | None = None


def _asked(resource: DatabaseResource, table: str) -> list[_Request]:
    """Return requests whose run is not known to have ended, those under way first."""
    with resource.transaction() as transaction:
        return [
            _Request(*row)
            for status in (_UNDER_WAY, _ASKED)
            for row in transaction.execute(
                f"select id, mapping, partition_key, status from {table}"
                " where status = :status order by id",
                {"status": status},
            )[:_MOST]
        ]


def _run_request(
    name: str, request: _Request, key: dg.AssetKey, tags: dict[str, str]
) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=f"{name}:{request.id}",
        asset_selection=[key],
        partition_key=request.partition_key,
        tags=tags,
    )


def _write_back(
    resource: DatabaseResource, table: str, request: _Request, outcome: _Outcome
) -> None:
    with resource.transaction() as transaction:
        # Not over what somebody has written meanwhile.
        transaction.execute(
            f"update {table} set status = :status, run_id = :run_id, message = :message"
            " where id = :id and status = :before",
            {
                "id": request.id,
                "before": request.status,
                "status": outcome.status,
                "run_id": outcome.run_id,
                "message": outcome.message and outcome.message[:_MESSAGE_LENGTH],
            },
        )


def _by_name(mappings: Sequence[Mapping], translator: MappingTranslator) -> dict[str, _Loaded]:
    """Return each mapping under its name; under its asset's key where others have that name."""
    often = Counter(mapping.name for mapping in mappings)
    found = {}
    for mapping in mappings:
        key = translator.get_asset_spec(mapping).key
        name = mapping.name if often[mapping.name] == 1 else key.to_user_string()
        found[name] = _Loaded(mapping, key)
    return found


def _outcome(
    instance: dg.DagsterInstance, request: _Request, mapping: Mapping, tags: Dict[str, str]
) -> _Outcome | None:
    """Return what became of a request; None for one that is still to be run."""
    # The tags, not the run's key: a run executed again has the ones and not the other.
    runs = instance.get_runs(dg.RunsFilter(tags=tags), limit=1)
    if runs:
        status = _WORDS.get(runs[0].status, _UNDER_WAY)
        failed = runs[0].status is dg.DagsterRunStatus.FAILURE
        if failed and will_be_retried(instance, runs[0]) is not False:
            status = _UNDER_WAY
        return _Outcome(status, runs[0].run_id)
    definition, key = mapping.partitions_def, request.partition_key
    if (definition is None) != (key is None):
        needs = "has no partitions" if definition is None else "needs a partition_key"
        return _Outcome("refused", message=f"{request.mapping} {needs}")
    if definition is not None and key is not None and not has_partition(definition, key, instance):
        there = those_there(definition, key, instance)
        return _Outcome("refused", message=f"{request.mapping} has no partition {key!r}: {there}")
    return None
