"""Types x paths: each value arrives as it is, or is refused in words.

The table that the documentation prints is the one this test finds; after a change of it,
WRITE_TYPES=1 in the environment writes docs/types.md anew.
"""

import json
import re
from decimal import Decimal

import psycopg
import pytest
from psycopg import sql

from mapper_core import execute_query_parallel, plan
from mapper_core.adapters.postgresql.lines import IntervalLoader

from ..databases import making_databases
from . import pages

PAGE = pages.DOCS / "types.md"

_TIMES = ("infinity", "-infinity", "0044-03-15 00:00:00 BC", "0001-01-01 00:00:00")
TEXTS = (
    "",
    " ",
    "0",
    r"\N",
    r"\.",
    "a\tb",
    "a\\b\\",
    "x\ny",
    "x\r\n",
    '"q",',
    "\U0001f600 ä",
    "NULL",
    "".join(map(chr, range(1, 32))),
    "\x7f\x80\x85\xa0\u2028\ufeff\ufffe\uffff",
)

# Type -> values, as PostgreSQL reads them. Made from what went wrong elsewhere.
TYPES: dict[str, tuple[str, ...]] = {
    "smallint": ("-32768", "0", "32767"),
    "integer": ("-2147483648", "0", "2147483647"),
    "bigint": ("-9223372036854775808", "9223372036854775807"),
    "numeric": (
        "NaN",
        "Infinity",
        "-Infinity",
        "0",
        "-0.00",
        "1.10",
        "1e-20",
        "1e40",
        "9" * 60,
        f"{'1' * 100_000}.{'2' * 10_000}5",
    ),
    "numeric(10,2)": ("NaN", "1.00", "-99999999.99", "0.10"),
    "numeric(5,-2)": ("12300", "-12300"),
    "numeric(60,2)": ("1" * 58 + ".10",),
    "real": ("NaN", "Infinity", "-Infinity", "-0", "0.1", "1e-45", "3.4028235e38"),
    "double precision": (
        "NaN",
        "Infinity",
        "-Infinity",
        "-0",
        "0.1",
        "5e-324",
        "1.7976931348623157e308",
    ),
    "money": ("1.10", "-99999999.99"),
    "boolean": ("t", "f"),
    "text": TEXTS,
    "varchar(12)": TEXTS,
    "char(5)": ("", "ab", "a b"),
    '"char"': ("a", ""),
    "name": ("some name",),
    "bytea": ("", r"\x00ff5c0a0927", r"\x5c4e", r"\x27275c27"),
    "date": ("infinity", "-infinity", "0044-03-15 BC", "0001-01-01", "9999-12-31", "10000-01-01"),
    "timestamp": (*_TIMES, "2024-02-29 23:59:59.999999", "9999-12-31 23:59:59", "294276-12-31"),
    "timestamp(0)": ("2024-02-29 23:59:59",),
    "timestamptz": (
        *_TIMES,
        "2024-10-27 00:30:00.5+00",
        "1883-11-18 16:59:59+00",
        "10000-01-02+00",
    ),
    "time": ("00:00:00", "23:59:59.999999", "24:00:00"),
    "timetz": ("12:00:00.5+05:30", "23:59:59-12"),
    "interval": (
        "1 day -01:00:00.5",
        "1 mon",
        "-2 years",
        "infinity",
        "-infinity",
        "00:00:00",
        "-0.000001",
        "2147483647 days 2562047788:00:54.775807",
        "-2147483648 days -2562047788:00:54.775807",
        "-178956970 years -8 mons",
    ),
    "interval(0)": ("1 day 00:00:01",),
    "interval day to second": ("-1 day 00:00:01.5",),
    "interval year to month": ("1 year",),
    "timestamptz(0)": ("2024-02-29 23:59:59+00",),
    "time(3)": ("23:59:59.999",),
    "uuid": ("00000000-0000-0000-0000-000000000000", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    "json": (
        '{"a": [1, 2.5, null, true, "x\\ty"]}',
        "null",
        '"text"',
        '{"a":1,"a":2}',
        "1.10",
        "12345678901234567890.1",
    ),
    "jsonb": (
        '{"b": 1, "a": {"c": []}}',
        "null",
        '"te\\nxt"',
        "12345678901234567890",
        "1e400",
        "0.1",
    ),
    "integer[]": ("{}", "{1,NULL,3}", "{{1,2},{3,4}}", "[0:1]={1,2}", "{{{1},{NULL}},{{3},{4}}}"),
    "text[]": (
        '{"",NULL,"NULL","a,b","q\\"\\\\"}',
        "{x}",
        '{{"\\\\N","\\\\."},{" a\t","\r\n"}}',
        '{"{}","\U0001f600",null}',
    ),
    "numeric[]": ("{1.10,NaN}", "{{1e-20,Infinity},{-0.00,1e40}}"),
    "real[]": ("{0.1,NaN,-Infinity,1e-45,16777216}",),
    "double precision[]": ("{0.1,NaN,-Infinity,5e-324,-0}",),
    "boolean[]": ("{t,NULL}", "{{t},{f}}"),
    "bytea[]": ('{"\\\\x00ff5c0a0927","",NULL}', '{{"\\\\x5c"},{"\\\\x22"}}'),
    "date[]": ("{2024-02-29,NULL}", "{infinity}", '{"0044-03-15 BC"}', "{10000-01-01}"),
    "time[]": ("{23:59:59.999999}", "{24:00}"),
    "timetz[]": ("{12:00:00.5+05:30}",),
    "timestamp[]": ('{{"2024-02-29 23:59:59.999999"},{"2024-01-01"}}', "{-infinity}"),
    "timestamptz[]": ('{"2024-01-01 00:00:00+00"}', "{infinity}", '{"1883-11-18 16:59:59+00"}'),
    "interval[]": ('{"1 day 01:00:00.5",NULL}', '{"1 mon"}'),
    "uuid[]": ("{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11,NULL}",),
    "inet[]": ("{10.0.0.1/8,::1}",),
    "bit(3)[]": ("{101,NULL}",),
    "box[]": ("{(1,1),(0,0);(2,2),(1,1)}",),
    "int4range[]": ('{"[1,5)",empty,NULL}',),
    "int4multirange[]": ('{"{[1,3),[5,7)}","{}"}',),
    "json[]": ('{"{\\"a\\": 1}","[1]",NULL,"\\"x\\"",true,1}', "{null}"),
    "jsonb[]": (
        '{"{\\"a\\": 1}","[1]",NULL}',
        "{{1,2}}",
        "{{true},{false}}",
        '{"\\"x\\"",1.5,false}',
    ),
    "money[]": ("{1.10,NULL}",),
    "oid[]": ("{1,4294967295}",),
    "point[]": ('{"(1,2)",NULL}',),
    "tstzrange[]": ('{"[\\"2024-01-01 00:00:00+00\\",)",NULL}',),
    "tstzmultirange[]": ('{"{[\\"2024-01-01 00:00:00+00\\",)}",NULL}',),
    "varchar(3)[]": ("{ab,NULL}",),
    "mood[][]": ("{{sad},{NULL}}",),
    "char(5)[]": ('{"a b",NULL}',),
    "name[]": ('{"some name"}',),
    "positive[]": ("{5,NULL}",),
    "several": ("{1,2}", "{}", "{NULL}"),
    "pair[]": ('{"(1,\\"a,b\\")",NULL,"(,)"}',),
    "nested": ('("{1,NULL}","(1,\\"q\\"\\"\\")","{""a"": 1}")',),
    "spans": ("[0.5,1.5)", "empty"),
    "inet": ("10.0.0.1", "10.0.0.1/8", "::1/128"),
    "cidr": ("10.0.0.0/8",),
    "macaddr": ("08:00:2b:01:02:03",),
    "macaddr8": ("08:00:2b:01:02:03:04:05",),
    "bit(3)": ("101",),
    "varbit": ("", "10101"),
    "point": ("(0.1,-2)",),
    "line": ("{1,2,3}",),
    "lseg": ("[(0,0),(1,1)]",),
    "box": ("(1,1),(0,0)",),
    "path": ("((0,0),(1,1))", "[(0,0),(1,1)]"),
    "polygon": ("((0,0),(1,1),(1,0))",),
    "circle": ("<(0,0),1.5>",),
    "int4range": ("[1,5)", "empty", "(,5)"),
    "numrange": ("[1.10,2.0]", "(,)", "[-Infinity,NaN]"),
    "daterange": ("[2024-01-01,2024-02-01)", "[0044-03-15 BC,10000-01-01)", "(,infinity)"),
    "tsrange": ('["2024-01-01 00:00:00.5","2024-02-01 00:00:00")', "(-infinity,)"),
    "datemultirange": ("{[2024-01-01,2024-02-01),[2025-01-01,)}", "{[10000-01-01,)}"),
    "nummultirange": ("{[1.10,2.0],(5,)}",),
    "tstzrange": ('["2024-01-01 00:00:00+00",)', '["2024-01-01 00:00:00+00",infinity)'),
    "int4multirange": ("{[1,3),[5,7)}", "{}"),
    "tsvector": ("'a':1 'b c':2",),
    "tsquery": ("'a' & !'b'",),
    "tsmultirange": ("{[2024-01-01,2024-02-01)}",),
    "tstzmultirange": ('{["2024-01-01 00:00:00+00",)}', "{}"),
    "bpchar": ("a ", ""),
    "varchar": TEXTS,
    "bit(64)": ("1" * 64,),
    "int2vector": ("1 2", ""),
    "oidvector": ("1 4294967295",),
    "xid": ("4294967295",),
    "xid8": ("18446744073709551615",),
    "cid": ("7",),
    "tid": ("(4294967295,65535)",),
    "regtype": ("integer", "mood"),
    "regproc": ("now",),
    "refcursor": ("a",),
    "txid_snapshot": ("10:20:10,14",),
    "information_schema.sql_identifier": ("a",),
    "tight": ('(1,"a,b")',),
    "pairs": ('{"(1,a)"}',),
    "word": ("a",),
    "vector": ("[1,-0,1e-40]",),
    "vector(2)": ("[1,2.5]",),
    "halfvec(2)": ("[1,2.5]",),
    "sparsevec": ("{1:1,3:2}/5",),
    "bit": ("1",),
    "jsonpath": ('$."a"[*]',),
    "pg_lsn": ("16/B374D848",),
    "pg_snapshot": ("10:20:10,14",),
    "oid": ("0", "4294967295"),
    "regclass": ("pg_class",),
    "mood": ("sad", "very happy"),
    "mood[]": ('{sad,"very happy"}',),
    "positive": ("5",),
    "pair": ('(1,"a,b")', "(,)"),
}
SETUP = (
    "create type mood as enum ('sad', 'very happy')",
    "create domain positive as integer check (value > 0)",
    "create type pair as (a integer, b text)",
    "create domain several as integer[]",
    "create type nested as (a integer[], b pair, c jsonb)",
    "create domain tight as pair check ((value).a > 0)",
    "create domain pairs as pair[]",
    'create domain word as varchar(5) collate "C"',
    "create extension vector",
    "create type spans as range (subtype = float8)",
)
PATHS = {
    "binary copy": {},
    "text copy": {},
    "dicts": {"transformation_func": lambda rows: [dict(row) for row in rows]},
    # Of other numbers of rows nothing goes on as it was read: each value is written anew.
    "dicts, rows doubled": {"transformation_func": lambda rows: [*rows, *map(dict, rows)]},
    "Arrow": {"transform_batch": lambda batch: batch},
}
CASES = [(kind, value) for kind, values in TYPES.items() for value in (*values, None)]


@pytest.fixture(scope="module")
def databases(server):
    """A source with one row for each value, all other columns NULL, and an empty target."""
    with making_databases(server) as make:
        source, target = make("types"), make("types")
        _skip_on_older(source)
        _fill(source, target)
        yield source, target


def _skip_on_older(url):
    with psycopg.connect(url) as live:
        if live.info.server_version < 170_000:
            pytest.skip("infinite intervals came with version 17")
        if not live.execute(
            "select 1 from pg_available_extensions where name = 'vector'"
        ).fetchall():
            pytest.skip("the server has no extension vector")


def _fill(source, target):
    columns = sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(f"c{at}"), sql.SQL(kind))
        for at, kind in enumerate(TYPES)
    )
    for url in (source, target):
        with psycopg.connect(url, autocommit=True) as live:
            for statement in SETUP:
                live.execute(statement)
            live.execute(sql.SQL("create table v (id int, {})").format(columns))
            if url != source:
                continue
            for number, (kind, value) in enumerate(CASES):
                column = f"c{list(TYPES).index(kind)}"
                live.execute(
                    f"insert into v (id, {column}) values ({number}, %s::{kind})", (value,)
                )


@pytest.fixture(scope="module")
def cells(databases):
    """For each path and each value: None if it arrived as it is, else the words."""
    source, target = databases
    return {path: _cells(source, target, path, options) for path, options in PATHS.items()}


def _cells(source, target, path, options):
    names = [f"c{at}" for at in range(len(TYPES))]
    if path == "binary copy":
        names = [name for name in names if _travels(source, target, name) == path]
    listed = ", ".join(["id", *names])
    with psycopg.connect(target, autocommit=True) as live:
        live.execute("truncate v")
    result = execute_query_parallel(
        source,
        f"select {listed} from v order by id",
        target_conn=target,
        target_table="v",
        # A chunk for each value: what is refused takes nothing else with it.
        strategy="offset",
        chunk_key="id",
        chunk_size=1,
        min_rows_for_parallel=0,
        max_workers=2,
        max_retries=0,
        enable_progress=False,
        **options,
    )
    refused = {int(error["chunk_id"]): str(error["error"]) for error in result.chunk_errors}
    texts = ", ".join(f"{name}::text" for name in names)
    asked = f"select id, array[{texts}] from v order by id"
    with psycopg.connect(source) as live:
        wanted: dict[int, list[str]] = dict(live.execute(asked).fetchall())
    with psycopg.connect(target) as live:
        found: dict[int, list[str]] = dict(live.execute(asked).fetchall())
    told: dict[tuple[str, str | None], str | None] = {}
    for number, (kind, value) in enumerate(CASES):
        if f"c{list(TYPES).index(kind)}" not in names:
            told[kind, value] = "another path is taken"
        elif number in found:
            assert _equal(kind, found[number], wanted[number]), (path, kind, value)
            told[kind, value] = None
        else:
            told[kind, value] = refused[number + 1]
    return told


def _equal(kind, found, wanted):
    """Whether two rows have the same texts; of JSON the same JSON, of intervals the same time."""
    if kind == "interval":
        return [text and _interval(text) for text in found] == [
            text and _interval(text) for text in wanted
        ]
    if kind not in {"json", "jsonb"}:
        return found == wanted
    mine, theirs = (
        [text and json.loads(text, parse_float=Decimal) for text in row] for row in (found, wanted)
    )
    return mine == theirs


def _interval(text):
    try:
        return IntervalLoader(0).load(text.encode())
    except psycopg.DataError:
        return text


def _travels(source, target, name):
    planned = plan(
        source, f"select id, {name} from v", target_conn=target, target_table="v", chunk_size=1000
    )
    return planned.data_path.value


@pytest.mark.parametrize("path", PATHS)
def test_each_value_arrives_as_it_is_or_is_refused_in_words(cells, path):
    """No path changes a value without saying so; and those that look into none refuse none."""
    refused = {case: words for case, words in cells[path].items() if words is not None}

    if "copy" in path:
        assert set(refused.values()) <= {"another path is taken"}
    for words in refused.values():
        assert "another path" in words or "cast the column to text" in words, words
    # What is refused is the exception.
    assert len(refused) < len(CASES) / 2


_INTRODUCTION = """\
Found by loading {values} values of {types} types from PostgreSQL to PostgreSQL by every path, NULLs
and the edges of each type among them. `yes`: every value is the same in the target as in the
source. `but not`: these values have no equal there, and their chunk fails, with the reason given
below and the cure; with a `reject_limit`, only their rows are refused. `another`: the plan takes
another path.

`dicts` is `transformation_func`. What the function does not touch is written as it was read; of
what it touches, JSON 1.10 may become 1.1, and 24 hours may become a day. `Arrow` is
`transform_batch`. A type is text there, as PostgreSQL writes it, if Arrow has none that holds all
its values. Columns that `transform_columns` does not name travel as by text copy.
"""


def _page(cells):
    """Return the table as the documentation prints it."""
    shown = [path for path in PATHS if path != "dicts, rows doubled"]
    reasons: list[tuple[str, str]] = []

    def mark(path, kind):
        words = {value: cells[path][kind, value] for value in (*TYPES[kind], None)}
        if None not in words.values():
            return "another"
        marks: dict[int, list[str]] = {}
        for value, said in words.items():
            if said is None:
                continue
            reason = said.partition(": cast the")[0].partition(": ")[2]
            reason = re.sub(
                r"^a value of column c\d+ has no equal in Python \((.*)\)$", r"\1", reason
            )
            # The first value's words stand for all that differ in the value alone.
            alike = re.sub(r"\d+|[\[{'(].*", "", reason).partition(", ")[0]
            at = next((n for n, (known, _) in enumerate(reasons) if known == alike), len(reasons))
            if at == len(reasons):
                reasons.append((alike, re.sub(r"column c\d+", "column c", reason)))
            marks.setdefault(at + 1, []).append(f"`{value}`")
        listed = "; ".join(f"{', '.join(values)} ({at})" for at, values in marks.items())
        return f"but not {listed}" if listed else "yes"

    rows = [[f"`{kind}`", *(mark(path, kind) for path in shown)] for kind in TYPES]
    head = ["type", *shown]
    introduction = _INTRODUCTION.format(values=len(CASES), types=len(TYPES))
    words = [words for _, words in reasons]
    return pages.page("Which values arrive by which path", introduction, head, rows, words)


def test_the_documentation_prints_this_table(cells):
    """Word for word."""
    pages.check(PAGE, _page(cells), written_if="WRITE_TYPES")
