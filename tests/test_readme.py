"""The examples of the README do what they show."""

import re
import textwrap
from pathlib import Path

import dagster as dg
import pytest

from mapper_dagster import DatabaseResource, MappingComponent
from mapper_dagster.sensors.requests import TABLE as REQUESTS

README = Path(__file__).parents[1] / "README.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


@pytest.fixture
def orders(source, target, run):
    """Orders of two months in the source, and the target of the README's examples."""
    table = "(order_id int primary key, order_date date not null, amount numeric(10,2))"
    run(
        source,
        f"create table orders {table}",
        "insert into orders select i, date '2024-01-01' + i % 60, i / 3.0"
        " from generate_series(1, 3000) i",
    )
    run(target, "create schema dw", f"create table dw.fact_orders {table}")


@pytest.mark.usefixtures("orders")
def test_the_library_example_loads_every_order(source, target, run, capsys):
    """Only the two URLs are other ones than in the text."""
    code = EXAMPLES[0].replace("postgresql://reader:secret@shop-db/shop", source)
    code = code.replace("postgresql://loader:secret@warehouse/dw", target)

    exec(compile(code, str(README), "exec"), {})

    assert "3,000 rows in 1 chunks" in capsys.readouterr().out
    assert [(3000,)] == run(target, "select count(*) from dw.fact_orders")


@pytest.mark.usefixtures("orders")
def test_the_dagster_example_loads_a_month(source, target, run, monkeypatch):
    """Its definitions load, and a partition is its month."""
    monkeypatch.setenv("SHOP_URL", source)
    monkeypatch.setenv("WAREHOUSE_URL", target)
    names: dict[str, dg.Definitions] = {}
    exec(compile(EXAMPLES[1], str(README), "exec"), names)

    with dg.instance_for_test() as instance:
        result = (
            names["defs"]
            .resolve_implicit_global_asset_job_def()
            .execute_in_process(instance=instance, partition_key="2024-02-01")
        )

    assert result.success
    (january_less,) = run(target, "select min(order_date)::text, count(*) from dw.fact_orders")
    assert january_less[0] == "2024-02-01"
    assert (
        january_less[1]
        == run(source, "select count(*) from orders where order_date >= '2024-02-01'")[0][0]
    )


DAGSTER = Path(__file__).parents[1] / "docs" / "dagster.md"


@pytest.mark.usefixtures("orders")
def test_the_definitions_of_the_dagster_page_load_a_day(source, target, run, monkeypatch):
    """All of them together are loadable, and a day is loaded, and checked."""
    run(source, "alter table orders add changed_at timestamptz not null default now()")
    run(target, "alter table dw.fact_orders add changed_at timestamptz")
    monkeypatch.setenv("SHOP_URL", source)
    monkeypatch.setenv("WAREHOUSE_URL", target)
    definitions, condition, _ = re.findall(r"```python\n(.*?)```", DAGSTER.read_text(), re.DOTALL)
    names: dict[str, dg.Definitions] = {}
    exec(compile(definitions + condition, str(DAGSTER), "exec"), names)
    dg.Definitions.validate_loadable(names["defs"])

    with dg.instance_for_test() as instance:
        job = names["defs"].resolve_implicit_global_asset_job_def()
        result = job.execute_in_process(instance=instance, partition_key="2024-02-01")

    assert result.success
    assert {"source_equals_target", "columns_unchanged"} == {
        check.check_name for check in result.get_asset_check_evaluations() if check.passed
    }
    assert [("2024-02-01", 50)] == run(
        target, "select order_date::text, count(*) from dw.fact_orders group by 1"
    )


@pytest.mark.usefixtures("orders")
def test_the_job_of_the_dagster_page_runs(source, target, run):
    """As it is."""
    *_, job = re.findall(r"```python\n(.*?)```", DAGSTER.read_text(), re.DOTALL)
    names: dict[str, dg.AssetsDefinition] = {}
    exec(compile(job, str(DAGSTER), "exec"), names)
    resources = {
        name: DatabaseResource(url=url) for name, url in (("source", source), ("target", target))
    }

    with dg.instance_for_test() as instance:
        assert dg.materialize([names["orders_job"]], instance=instance, resources=resources).success

    assert [(3000,)] == run(target, "select count(*) from dw.fact_orders")


def test_the_table_of_requests_on_the_dagster_page_is_the_one_that_is_used():
    """Word by word."""
    assert REQUESTS in DAGSTER.read_text()


@pytest.mark.filterwarnings("ignore:.*parse_obj_as.* is deprecated")
def test_the_component_of_the_dagster_page_has_attributes_that_there_are():
    """Whatever it says can be said."""
    (told,) = re.findall(r"```yaml\n(.*?)```", DAGSTER.read_text(), re.DOTALL)
    attributes = textwrap.dedent(told.partition("attributes:\n")[2])

    component = MappingComponent.resolve_from_yaml(attributes)

    assert (component.name, component.schedule.lookback) == ("fact_orders", 3)
