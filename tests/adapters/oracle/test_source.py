"""Reading from Oracle: one SCN, whatever way leads there; cut by what the user may see."""

import re
from datetime import datetime, timezone

import oracledb
import pytest

from mapper_core import QueryError, SnapshotLostError, plan
from mapper_core.model import StrategyName

from .items import ITEMS, ROWS, counted, load

PLAIN = "select * from item"


@pytest.mark.parametrize(
    ("denied", "strategy", "words"),
    [
        ([], "physical", "from DBMS_PARALLEL_EXECUTE"),
        (["DBMS_PARALLEL_EXECUTE"], "physical", "from DBA_EXTENTS"),
        (["DBMS_PARALLEL_EXECUTE", "DBA_EXTENTS"], "key", "ranges of ID"),
    ],
    ids=["package", "extents", "key"],
)
def test_a_plain_table_is_cut_by_the_first_way_its_user_may_go(
    oracle_double, source, target, denied, strategy, words
):
    """Each that may not be gone says why, in the plan."""
    oracle_double.order("deny", user=source.name, what=denied)

    # A key of the table would do as well; what is not asked for is tried in the ladder's order.
    result = load(source, target, PLAIN, chunk_size=400)

    assert ("succeeded", strategy) == (result.status, result.strategy)
    assert words in result.strategy_reason
    assert all(name in result.strategy_reason for name in denied) == (strategy == "physical")
    assert result.chunks_total > 2
    assert (ROWS, ROWS) == counted(target)


def test_the_plan_names_every_refusal(oracle_double, source, target):
    """What could not be used, and why, in the database's own words."""
    oracle_double.order("deny", user=source.name, what=["DBMS_PARALLEL_EXECUTE", "DBA_EXTENTS"])

    made = plan(source.url, PLAIN, min_rows_for_parallel=0, chunk_size=400)

    reasons = {name.value: why for name, why in made.refused}
    assert "DBMS_PARALLEL_EXECUTE: ORA-06550" in reasons["physical"]
    assert "DBA_EXTENTS: ORA-00942" in reasons["physical"]


@pytest.mark.parametrize("way", ["AS OF", "flashback mode"])
@pytest.mark.parametrize("strategy", ["physical", "key", "stream_once", "offset", "one_pass"])
def test_every_strategy_reads_one_scn(oracle_double, source, target, strategy, way):
    """Rows that change while the load runs are those of its read point, whatever leads there."""
    if way == "flashback mode":
        oracle_double.order("deny", user=source.name, what=["AS OF"])
    changed: list[bool] = []

    def change(rows):
        if not changed:
            changed.append(True)
            source.run(
                "update item set amount = -1",
                "delete from item where id < 100",
                "insert into item select id + 100000, name, -2 from item where id < 300",
            )
        return rows

    sql = PLAIN if strategy == "physical" else ITEMS
    result = load(source, target, sql, strategy=strategy, transformation_func=change)

    assert ("succeeded", strategy) == (result.status, result.strategy)
    assert (ROWS, ROWS) == counted(target)
    assert [(0, 9)] == target.run("select min(amount), max(amount) from item")
    assert "SCN " in str(result.snapshot)


def test_without_a_read_point_each_chunk_is_read_at_its_own_moment(source, target):
    """Asked for by its name, and told."""
    result = load(source, target, chunk_key="id", snapshot=False)

    assert ("succeeded", None) == (result.status, result.snapshot.id)
    assert (ROWS, ROWS) == counted(target)


@pytest.mark.parametrize(
    "sql",
    [
        "select i.id, i.name, i.amount from item i, (select id from item) j where i.id = j.id"
        " order by i.id",
        "with known as (select id, name, amount from item) select * from known order by id",
        "select id, name, amount from item where exists (select 1 from item j where j.id = 5)"
        " order by id",
    ],
    ids=["join", "with", "subquery"],
)
def test_each_table_of_a_query_is_read_at_the_scn(oracle_double, source, target, sql):
    """By a clause behind its name, and before its alias."""
    result = load(source, target, sql)

    assert "succeeded" == result.status
    assert (ROWS, ROWS) == counted(target)
    asked = [
        said for said in oracle_double.order("statements", user=source.name) if sql[:20] in said
    ]
    assert asked
    assert all(said.lower().count("as of scn") == sql.count(" item") for said in asked)


def test_where_a_clause_is_not_allowed_the_session_goes_back(oracle_double, source, target):
    """To the same SCN, in flashback mode; the plan says why."""
    oracle_double.order("deny", user=source.name, what=["AS OF"])

    result = load(source, target)

    assert "succeeded" == result.status
    assert "flashback mode (AS OF SCN: ORA-01031" in str(result.snapshot)
    assert (ROWS, ROWS) == counted(target)


def test_without_any_way_back_the_load_is_refused(oracle_double, source, target):
    """With the grants that would help, and the keyword that does without."""
    oracle_double.order("deny", user=source.name, what=["AS OF", "DBMS_FLASHBACK"])

    with pytest.raises(SnapshotLostError, match=r"grant FLASHBACK.*snapshot=False"):
        load(source, target)
    assert (0, 0) == counted(target)

    assert "succeeded" == load(source, target, snapshot=False).status


@pytest.mark.parametrize("denied", [[], ["DBMS_FLASHBACK"], ["DBMS_FLASHBACK", "V$DATABASE"]])
def test_the_scn_comes_from_where_it_may_be_asked_for(oracle_double, source, target, denied):
    """The last source is seconds old, and the load says so."""
    oracle_double.order("deny", user=source.name, what=denied)

    result = load(source, target)

    assert "succeeded" == result.status
    assert (len(denied) == 2) == ("some seconds old" in str(result.snapshot))


def test_undo_that_ran_out_fails_in_words(oracle_double, source, target):
    """Never done: what is in is counted, what is not is told, and what to do."""
    oracle_double.order("fault", where="fetch", match="from item", code=1555, after=1, times=50)
    oracle_double.order("fault", where="query", match="q.id. >=", code=1555, after=2, times=50)

    result = load(source, target, max_workers=1)

    assert result.status in {"failed", "partial"}
    assert not result.published
    assert "raise UNDO_RETENTION" in result.chunk_errors[0]["error"]
    assert {1} == {error["attempts"] for error in result.chunk_errors}
    assert result.rows_written == counted(target)[0] < ROWS


def broken_off(oracle_double, source, target):
    """Have a load named nightly fail after its first chunk; return what came of it."""
    oracle_double.order("fault", where="query", match="mapper_low", code=600, after=1, times=9)
    result = load(source, target, load_id="nightly", max_workers=1, max_retries=0)
    oracle_double.order("clear")
    return result


def test_a_load_goes_on_at_its_own_scn(oracle_double, source, target):
    """What was changed in between is not in it; finished chunks are not read again."""
    first = broken_off(oracle_double, source, target)
    source.run("update item set amount = -1")

    second = load(source, target, load_id="nightly")

    assert first.status in {"failed", "partial"}
    assert ("succeeded", first.snapshot.id) == (second.status, second.snapshot.id)
    assert second.chunks_skipped == first.chunks_succeeded
    assert (ROWS, ROWS) == counted(target)
    assert [(0,)] == target.run("select min(amount) from item")


def test_a_load_whose_scn_is_forgotten_goes_on_at_another(oracle_double, source, target):
    """And says so."""
    first = broken_off(oracle_double, source, target)
    oracle_double.order("forget_snapshots")

    second = load(source, target, load_id="nightly")

    assert first.snapshot.id != second.snapshot.id
    assert "succeeded" == second.status
    assert first.snapshot.description in str(second.snapshot)
    assert (ROWS, ROWS) == counted(target)


def test_the_present_moment_is_that_of_the_read_point(source, make_oracle):
    """In every chunk, whenever it is read."""
    target = make_oracle()
    target.run("create table item (id number(10), at date, stamp timestamp(6) with time zone)")

    result = load(
        source, target, "select id, sysdate as at, systimestamp as stamp from item order by id"
    )

    assert result.chunks_total > 2
    assert [(1, 1)] == target.run("select count(distinct at), count(distinct stamp) from item")
    instant = datetime.fromisoformat(result.snapshot.instant)
    assert [(instant.astimezone(timezone.utc).replace(tzinfo=None, microsecond=0),)] == (
        target.run("select max(at) from item")
    )


@pytest.mark.parametrize(
    "sql",
    [
        "select rownum as id, name, amount from item",
        "select id, name, count(*) over () as amount from item",
        "select id, name, dbms_random.value as amount from item",
    ],
)
def test_what_ranges_would_change_is_read_by_one_statement(source, sql):
    """ROWNUM begins anew in each range, as window functions do."""
    made = plan(source.url, sql, min_rows_for_parallel=0)

    assert made.strategy not in {"key", "physical"}
    assert "cannot be split" in dict(made.refused)[StrategyName.KEY]


KEYS = {
    "number": ("number", "n * 1.5"),
    "negative": ("number(10)", "5 - n"),
    "text": ("varchar2(20)", "'k' || to_char(n)"),
    "char": ("char(10)", "'k' || to_char(n)"),
    "date": ("date", "date '2024-01-01' + n"),
    "timestamp": ("timestamp(9)", "timestamp '2024-01-01 00:00:00.123456789' + n"),
    "raw": ("raw(8)", "hextoraw(to_char(1000 + n))"),
    "double": ("binary_double", "n / 7"),
}


@pytest.mark.parametrize("kind", KEYS)
def test_keys_of_every_type_tile_the_rows(make_oracle, kind):
    """Their NULLs too, which come in a chunk of their own."""
    word, expression = KEYS[kind]
    source, target = make_oracle(), make_oracle()
    source.run(f"create table item (id number(10), k {word})")
    with source.connect() as connection, connection.cursor() as cursor:
        for n in range(120):
            value = "null" if n % 20 == 3 else re.sub(r"\bn\b", str(n), expression)
            cursor.execute(f"insert into item values ({n}, {value})")
        connection.commit()
    target.run(f"create table item (id number(10), k {word})")

    result = load(source, target, "select id, k from item", chunk_key="k", chunk_size=11)

    assert "succeeded" == result.status, result.chunk_errors
    assert result.chunks_total > 5
    assert (120, 120) == counted(target)
    asked = "select id, k from item order by id"
    assert source.run(asked) == target.run(asked)


def test_two_columns_make_a_key(make_oracle):
    """Compared one after the other, for Oracle compares no rows."""
    source, target = make_oracle(), make_oracle()
    source.run("create table item (id number(10), a number(5), b varchar2(5))")
    with source.connect() as connection, connection.cursor() as cursor:
        cursor.executemany(
            "insert into item values (:1, :2, :3)",
            [(n, n // 10, f"b{n % 10}") for n in range(200)],
        )
        connection.commit()
    target.run("create table item (id number(10), a number(5), b varchar2(5))")

    result = load(source, target, "select * from item", chunk_key=["a", "b"], chunk_size=13)

    assert ("succeeded", 16) == (result.status, result.chunks_total)
    assert (200, 200) == counted(target)


def test_a_type_without_a_form_outside_is_refused(make_oracle):
    """By name, before rows move."""
    source = make_oracle()
    source.run("create table item (id number(10), doc clob)")

    with pytest.raises(QueryError, match="DOC is CLOB, which has no order"):
        plan(source.url, "select * from item", chunk_key="doc", min_rows_for_parallel=0)


def test_a_dba_sees_who_it_is(oracle_double, source, target):
    """Module and action are set, of every session."""
    seen = []

    def look(rows):
        seen.extend(oracle_double.order("sessions", user=source.name))
        return rows

    # One worker: a session that has just logged on has said nothing yet.
    load(source, target, load_id="nightly 2024-01-01", transformation_func=look, max_workers=1)

    assert {("mapper", "nightly 2024-01-01")} == {(s["module"], s["action"]) for s in seen}


def test_bind_values_keep_what_the_driver_would_drop(make_oracle):
    """Parts of a second, and the time zone."""
    source = make_oracle()
    source.run(
        "create table item (id number(10), at timestamp(6), zoned timestamp(6) with time zone)",
        "insert into item values (1, timestamp '2024-01-01 00:00:00.250000',"
        " timestamp '2024-01-01 05:30:00.250000+05:30')",
    )
    moment = datetime(2024, 1, 1, 0, 0, 0, 250_000)
    for column, value in (("at", moment), ("zoned", moment.replace(tzinfo=timezone.utc))):
        sql = f"select id from item where {column} >= :p and {column} <= :p"
        found = load(source, None, sql, params={"p": value}, target_table=None)
        assert 1 == found.total_rows_processed, column


def test_the_driver_is_the_real_one():
    """In its thin mode."""
    assert oracledb.is_thin_mode()
