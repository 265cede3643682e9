"""The examples of the README do what they show."""

import re
from pathlib import Path

import dagster as dg
import pytest

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
