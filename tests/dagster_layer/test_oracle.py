"""Mappings from Oracle and into it: partitions, lanes at one SCN, checks, watermarks."""

from datetime import datetime

import dagster as dg
import pytest

from mapper_dagster import (
    DatabaseResource,
    MapperResource,
    Mapping,
    build_mapping_asset,
    build_mapping_checks,
    build_watermark_sensor,
)

from .test_assets import metadata_of
from .ticking import Ticking

ROWS = 600
BY_MONTH = dg.MonthlyPartitionsDefinition("2024-01-01", end_date="2024-05-01")


@pytest.fixture
def source(make_oracle):
    """Six hundred events over four months."""
    user = make_oracle()
    user.run(
        "create table events (id number(10) primary key, at date, note varchar2(20),"
        " changed timestamp(6))"
    )
    with user.connect() as connection, connection.cursor() as cursor:
        cursor.executemany(
            "insert into events values (:1, :2, :3, :4)",
            [
                (n, datetime(2024, 1 + n % 4, 1 + n % 28, n % 24), f"n{n}", datetime(2024, 5, 1))
                for n in range(ROWS)
            ],
        )
        connection.commit()
    return user


@pytest.fixture
def mapping(source):
    """By month, into a table of the same columns."""
    return Mapping(
        name="fact_events",
        source_sql="select * from events where at >= :window_start and at < :window_end"
        " order by id",
        source_dialect="oracle",
        target_table="fact_events",
        load_mode="replace_window",
        window_column="at",
        partitions_def=BY_MONTH,
        lanes=2,
    )


def definitions(mapping, source, target, **more):
    """Return the asset with its databases."""
    return dg.Definitions(
        assets=[build_mapping_asset(mapping)],
        resources={
            "source": DatabaseResource(url=source),
            "target": DatabaseResource(url=target),
            "mapper": MapperResource(chunk_size=40, min_rows_for_parallel=0, max_workers=2),
        },
        **more,
    )


@pytest.mark.parametrize("goal", ["oracle", "postgresql"])
def test_a_partition_is_loaded_in_lanes_and_checked(
    instance, source, mapping, make_oracle, make_database, run, goal
):
    """Its own count, from one SCN; the source then has what the target has."""
    ddl = "(id {n}, at {d}, note varchar(20), changed timestamp(6))"
    if goal == "oracle":
        target = make_oracle()
        target.run(f"create table fact_events {ddl.format(n='number(10)', d='date')}")
        url, ask = target.url, target.run
    else:
        url = make_database("target")
        run(url, f"create table fact_events {ddl.format(n='bigint', d='timestamp(0)')}")

        def ask(sql):
            return run(url, sql)

    checks = build_mapping_checks(mapping)
    defs = definitions(mapping, source.url, url, asset_checks=checks)
    result = defs.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance, partition_key="2024-02-01"
    )

    assert result.success
    assert [(ROWS // 4,)] == ask("select count(*) from fact_events")
    shown = metadata_of(instance, "fact_events", "2024-02-01")
    assert ROWS // 4 == shown["dagster/partition_row_count"]
    assert shown["mapper/snapshot"].startswith("SCN ")
    passed = {e.check_name: e.passed for e in result.get_asset_check_evaluations()}
    assert passed["source_equals_target"]


def test_a_watermark_asks_for_what_changed(instance, source, mapping, make_oracle):
    """In one tick, by Oracle's own clock columns."""
    sensor = build_watermark_sensor(mapping, changed_at="changed")
    resources = {
        "source": DatabaseResource(url=source.url),
        "target": DatabaseResource(url=make_oracle().url),
        "mapper": MapperResource(),
    }
    ticking = Ticking(sensor, mapping, instance, resources)
    assert 4 == len(ticking.tick())
    assert [] == ticking.tick()

    source.run("update events set changed = timestamp '2024-05-02 00:00:00.5' where id = 1")

    assert ["2024-02-01"] == [request.partition_key for request in ticking.tick()]
