"""A mapping in YAML is the mapping in Python, and a slip of the pen is told with its line."""

import contextlib
import re
import textwrap
import traceback

import dagster as dg
import pytest
from dagster.components.testing import create_defs_folder_sandbox

from mapper_dagster import DatabaseResource, MapperResource, MappingComponent

# Of Dagster's own YAML reader.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*parse_obj_as.* is deprecated"),
    pytest.mark.filterwarnings("ignore:.* is currently in beta"),
]

RESOURCES = {
    "source": DatabaseResource(url="sqlite:///s"),
    "target": DatabaseResource(url="sqlite:///t"),
    "mapper": MapperResource(),
}


@pytest.fixture
def load():
    """Write a component's YAML, load it, and return its definitions."""
    with contextlib.ExitStack() as stack:
        sandbox = stack.enter_context(create_defs_folder_sandbox())

        def load_yaml(attributes, files=()):
            path = sandbox.scaffold_component(component_cls=MappingComponent)
            (path / "defs.yaml").write_text(
                "type: mapper_dagster.MappingComponent\nattributes:\n"
                + textwrap.indent(textwrap.dedent(attributes), "  ")
            )
            for name, text in dict(files).items():
                (path / name).write_text(text)
            _, defs = stack.enter_context(sandbox.load_component_and_build_defs(defs_path=path))
            return dg.Definitions.merge(defs, dg.Definitions(resources=RESOURCES))

        yield load_yaml


def spec_of(defs, key):
    (spec,) = [s for s in defs.resolve_all_asset_specs() if s.key == dg.AssetKey(key)]
    return spec


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ("source_sql_file: no.sql", "no.sql.*does not exist"),
        ("source_sql_file: .", "cannot be read"),
        ("source_sql_file: empty.sql", "source_sql is empty"),
        (
            "source_sql: SELECT 1\nwindow_column: d\n"
            "partitions: {type: daily, start_date: 'first of May'}",
            "start_date 'first of May'",
        ),
        (
            "source_sql: SELECT 1\nwindow_column: d\n"
            "partitions: {type: daily, start_date: '2024-01-01', timezone: Mars}",
            "timezone 'Mars'",
        ),
        (
            "source_sql: SELECT 1\nwindow_column: d\npartitions: {type: cron, start_date:"
            " '2024-01-01-00:00', cron_schedule: daily at six}",
            "cron_schedule 'daily at six'",
        ),
        (
            "source_sql: SELECT 1\nload_mode: upsert\nprimary_key: id\n"
            "partitions: {type: multi, dimensions: {day: {type: static, keys: [a]}}}",
            "two dimensions",
        ),
        (
            "source_sql: SELECT 1\nload_mode: upsert\nprimary_key: id\n"
            "partitions: {type: static, keys: [a, a]}",
            "cannot be made of keys",
        ),
        (
            "source_sql: SELECT 1\nwindow_column: d\n"
            "partitions: {type: daily, start_date: '2024-01-02', end_date: '2024-01-02'}",
            "no partitions from start_date '2024-01-02' to end_date '2024-01-02'",
        ),
        ("source_sql: SELECT 1\nstrategy: fastest", "strategy 'fastest'"),
    ],
)
def test_what_cannot_be_meant_names_cause_and_cure(load, attributes, words):
    """While definitions are loaded, and not by whoever runs them."""
    with pytest.raises(Exception, match=r"Error while (loading|building)") as failure:
        load(f"name: m\ntarget_table: t\n{attributes}", {"empty.sql": ""})

    told = "".join(traceback.format_exception(failure.value))
    assert re.search(words, told)


def test_what_is_scaffolded_loads_as_it_is():
    """A beginning that works: YAML, and the SQL beside it."""
    with create_defs_folder_sandbox() as sandbox:
        path = sandbox.scaffold_component(component_cls=MappingComponent)
        with sandbox.load_component_and_build_defs(defs_path=path) as (component, defs):
            assert isinstance(component, MappingComponent)
            with_resources = dg.Definitions.merge(defs, dg.Definitions(resources=RESOURCES))
            dg.Definitions.validate_loadable(with_resources)
            assert {"source_equals_target", "columns_unchanged"} == {
                key.name for check in defs.asset_checks or () for key in check.check_keys
            }
        assert (path / "orders.sql").exists()


def test_every_attribute_reaches_the_mapping(load):
    """An asset with its schedule, its sensor, its checks and its place in the graph."""
    defs = load(
        """
        name: fact_orders
        key_prefix: [dw]
        source_sql_file: q.sql
        target_schema: dw
        target_table: fact_orders
        window_column: day
        partitions: {type: daily, start_date: "2024-01-01", timezone: Europe/Berlin}
        pool: warehouse
        group_name: sales
        description: All orders.
        owners: ["team:sales"]
        tags: {tier: gold}
        deps: [shop/orders]
        automation_condition: "{{ dg.AutomationCondition.eager() }}"
        checks: {compare: checksum, blocking: true, max_reject_share: 0.1, due_within_hours: 2}
        schedule: {lookback: 2, hour: 3, running: true}
        watermark: {changed_at: changed_at, settle_seconds: 5}
        resume: {max_resumes: 2, running: true}
        backfill_policy: {type: multi_run, max_partitions_per_run: 30}
        """,
        {"q.sql": "SELECT * FROM orders WHERE day >= :window_start AND day < :window_end"},
    )

    spec = spec_of(defs, ["dw", "fact_orders"])
    assert ("sales", "All orders.", ["team:sales"], "gold") == (
        spec.group_name,
        spec.description,
        list(spec.owners),
        spec.tags["tier"],
    )
    assert [dg.AssetKey(["shop", "orders"])] == [dep.asset_key for dep in spec.deps]
    assert "Europe/Berlin" == spec.partitions_def.timezone
    assert spec.automation_condition is not None
    (asset,) = (each for each in defs.assets if isinstance(each, dg.AssetsDefinition))
    assert dg.BackfillPolicy.multi_run(30) == asset.backfill_policy
    (schedule,), (sensor, resuming) = defs.schedules, defs.sensors
    assert ("dw__fact_orders_resume", dg.DefaultSensorStatus.RUNNING) == (
        resuming.name,
        resuming.default_status,
    )
    assert ("0 3 * * *", dg.DefaultScheduleStatus.RUNNING) == (
        schedule.cron_schedule,
        schedule.default_status,
    )
    assert "dw__fact_orders_watermark" == sensor.name
    assert 4 == sum(len(list(each.check_specs)) for each in defs.asset_checks)
    dg.Definitions.validate_loadable(defs)


@pytest.mark.parametrize(
    ("partitions", "kind"),
    [
        ("{type: hourly, start_date: '2024-01-01-00:00'}", dg.TimeWindowPartitionsDefinition),
        ("{type: weekly, start_date: '2024-01-01'}", dg.TimeWindowPartitionsDefinition),
        ("{type: monthly, start_date: '2024-01-01'}", dg.TimeWindowPartitionsDefinition),
        (
            "{type: cron, start_date: '2024-01-01-00:00', cron_schedule: '*/15 * * * *'}",
            dg.TimeWindowPartitionsDefinition,
        ),
        ("{type: static, keys: [eu, us]}", dg.StaticPartitionsDefinition),
        ("{type: dynamic, name: customers}", dg.DynamicPartitionsDefinition),
        (
            "{type: multi, dimensions: {day: {type: daily, start_date: '2024-01-01'},"
            " region: {type: static, keys: [eu, us]}}}",
            dg.MultiPartitionsDefinition,
        ),
    ],
)
def test_partitions_of_every_kind(load, partitions, kind):
    """By time as windows, others for upserts."""
    by_time = kind is dg.TimeWindowPartitionsDefinition
    mode = "window_column: day" if by_time else "load_mode: upsert\nprimary_key: id"
    asked = "day >= :window_start AND day < :window_end" if by_time else "key = :partition_key"
    what = f"name: m\nsource_sql: 'SELECT * FROM t WHERE {asked}'\ntarget_table: t2"
    defs = load(f"{what}\n{mode}\npartitions: {partitions}\n")

    assert isinstance(spec_of(defs, "m").partitions_def, kind)


def test_an_asset_nobody_has_described_says_what_it_is_made_of(load):
    """Dagit would ask for a description otherwise."""
    joined = "SELECT o.id FROM shop.orders o JOIN items i ON i.id = o.id"
    defs = load(f"name: m\nsource_sql: {joined}\ntarget_schema: dw\ntarget_table: t")

    assert "Rows of `shop.orders`, `items`, loaded into `dw.t`." == spec_of(defs, "m").description


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ("name: m\nsource_sql: SELECT 1\ntarget_table: t\nload_mod: upsert", "load_mod"),
        ("name: m\ntarget_table: t", "source_sql or source_sql_file"),
        (
            "name: m\nsource_sql: SELECT 1\ntarget_table: t\npartitions: {type: cron}",
            "need start_date",
        ),
        (
            "name: m\nsource_sql: SELECT 1\ntarget_table: t\n"
            "partitions: {type: daily, start_date: '2024-01-01', cron_schedule: '0 * * * *'}",
            "partitions of type daily do not take cron_schedule",
        ),
        (
            "name: m\nsource_sql: SELECT 1\ntarget_table: t\n"
            "partitions: {type: static, keys: [a], timezone: UTC, dimensions: {}}",
            "partitions of type static do not take dimensions, timezone",
        ),
        ("name: m\nsource_sql: SELECT 1\ntarget_table: t\nload_mode: merge", "load_mode"),
        (
            "name: m\nsource_sql: SELECT 1\ntarget_table: t\n"
            "backfill_policy: {type: single_run, max_partitions_per_run: 5}",
            "a single run has all partitions: leave out max_partitions_per_run",
        ),
    ],
)
def test_a_slip_of_the_pen_is_told(load, attributes, words):
    """And not ignored; with its file."""
    with pytest.raises(Exception, match="Error while loading") as failure:
        load(attributes)

    told = "".join(traceback.format_exception(failure.value))
    assert words in told
    assert "defs.yaml" in told
