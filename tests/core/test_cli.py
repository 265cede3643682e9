"""The command line, as a process: what it says, what it leaves, how it is stopped."""

import io
import json
import os
import pty
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest

from mapper_core import LoadMode, LoadOptions, SettingsError, StrategyName
from mapper_core.cli import commands, given, options, wording

from ..waiting import assert_nothing_left, backends, wait_until

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "user-guide.md"
ROWS = 4_000
SUM = "select count(*), sum(hashtextextended(o::text, 0)) from {} o"
ORDERED = "select * from orders order by id"
FINISHED = "select count(*) from mapper.claim where done = 1"
GATED = "select * from orders where gate(id) order by id"
SMALL = ("--chunk-size", "250", "--min-rows", "0", "--workers", "3")

# Two halves, so that a password cut in two is found as well.
LEFT, RIGHT = "zqxpass", "jkvword"


class Mapper:
    """Runs `mapper` in a working directory, with two databases in its environment."""

    def __init__(self, source, target, monkeypatch, capfd):
        self._monkeypatch, self._capfd = monkeypatch, capfd
        self.said = ""
        self.source, self.target = (
            url.replace("postgres@", f"postgres:{LEFT}{RIGHT}@") for url in (source, target)
        )
        self.set("MAPPER_SOURCE_URL", self.source)
        self.set("MAPPER_TARGET_URL", self.target)

    def set(self, name, value):
        self._monkeypatch.setenv(name, value)

    def start(self, *words, **options):
        """Start it in a process of its own."""
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "mapper_core", *words],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            text=True,
            **{**pipes, **options},
        )

    def end(self, process):
        """Wait for a process; return its exit code, output and errors."""
        out, err = process.communicate(timeout=60)
        self.said += f"{out}{err}"
        return process.returncode, out, err

    def __call__(self, *words, stdin=None):
        """Run it here, which costs no start of a process; return as `end` does."""
        self._capfd.readouterr()
        if stdin is not None:
            self._monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        code = exit_code_of(words)
        out, err = self._capfd.readouterr()
        self.said += f"{out}{err}"
        return code, out, err

    def json(self, *words):
        code, out, _ = self(*words, "--json")
        return code, json.loads(out)


def exit_code_of(words):
    """Run the command line in this process."""
    try:
        return commands.main(words)
    except SystemExit as usage:
        return usage.code


@pytest.fixture
def mapper(source, target, monkeypatch, capfd):
    """The command; at the end it has said no password, and nothing of it is left."""
    # Whoever runs the tests in the background has silenced Ctrl-C for what they start.
    silenced = signal.signal(signal.SIGINT, signal.default_int_handler)
    command = Mapper(source, target, monkeypatch, capfd)
    yield command
    signal.signal(signal.SIGINT, silenced)
    for said in (LEFT, RIGHT, "Traceback", "ResourceWarning"):
        assert said not in command.said
    assert_nothing_left(source, target)


@pytest.fixture
def orders(source, target, run):
    """4,000 orders in the source, and an empty table `dw.orders` in the target."""
    run(
        source,
        "create table orders (id int primary key, day date not null, note text)",
        "insert into orders select i, date '2024-01-01' + i / 100, 'n' || i"
        f" from generate_series(1, {ROWS}) i",
        # Blocks every chunk but the first two in its COPY while a test holds the lock.
        "create function gate(i int) returns boolean language plpgsql stable as $$ begin"
        " if i > 500 and i % 250 = 50 and current_query() like 'copy%' then"
        "   perform pg_advisory_xact_lock_shared(42); end if;"
        " return true; end $$",
    )
    # No key in the target: it would hide a row written twice.
    run(
        target,
        "create schema dw",
        "create table dw.orders (id int, day date not null, note text)",
    )


@contextmanager
def gate_held(source):
    """Keep chunks from ending; yields what waits until so many readers are at the gate."""
    with closing(psycopg.connect(source, autocommit=True)) as gate:
        gate.execute("select pg_advisory_lock(42)")

        def wait(readers):
            at_the_gate = "wait_event = 'advisory'"
            wait_until(
                lambda: readers == len(backends(source, extra=at_the_gate)), "readers at the gate"
            )

        yield wait


def hear(process, words):
    """Read standard error up to a line that begins so; return what came before it."""
    heard: list[str] = []
    while line := process.stderr.readline():
        if line.startswith(words):
            return heard
        heard.append(line)
    raise AssertionError(f"{words!r} was not said, but {heard}")


def test_load(mapper, orders, source, target, run):
    """Every row is in, standard output has the summary and standard error the progress."""
    code, out, err = mapper.end(
        mapper.start("load", "--query", ORDERED, "--table", "dw.orders", *SMALL)
    )

    assert 0 == code
    assert run(source, SUM.format("orders")) == run(target, SUM.format("dw.orders"))
    head, *lines = out.splitlines()
    assert re.fullmatch(
        r"load \w{32} succeeded: 4,000 rows into dw.orders in [\d.]+ s \([\d,]+ rows/s\)", head
    )
    assert [
        "  rows       4,000 loaded, 0 failed",
        "  chunks     16 of 16 finished",
        "  strategy   key: ranges of id (the query's ORDER BY), cut by rank in one ordered pass"
        " over an index",
        "  data path  binary copy",
    ] == lines[:4]
    assert lines[4].startswith("  snapshot   snapshot ")
    assert ["  verified   none: the default of append"] == lines[5:]
    assert err.splitlines()[-1].startswith("dw.orders: 100.0% (16/16 chunks, 4,000 rows, 0 chunks")


def test_rows_that_were_rejected_are_neither_staged_nor_loaded(mapper, orders, target, run):
    """Each row is in one of the counts, whether the others are published or not."""
    rejecting = ("load", "--query", ORDERED, "--table", "dw.orders", *SMALL, "--reject-limit", "5")
    run(target, "alter table dw.orders add check (id not in (7, 3000))")
    run(target, "create unique index alone on dw.orders (day)")

    code, out, _ = mapper(*rejecting, "--load-mode", "replace")

    assert 1 == code
    staged = "  rows       0 loaded, 3,998 staged, not published, 2 rejected, 0 failed"
    assert staged == out.splitlines()[1]

    run(target, "drop index dw.alone")
    assert 0 == mapper(*rejecting, "--load-id", "some")[0]
    assert [(3_998,)] == run(target, "select count(*) from dw.orders")
    _, out, _ = mapper(*rejecting, "--load-mode", "replace", "--load-id", "it's new")
    (listing,) = re.findall(r"  rejects    (mapper rejects .*) lists them\n", out)
    assert 2 == len(mapper(*shlex.split(listing)[1:])[1].splitlines())
    _, out, _ = mapper(*rejecting, "--load-id", "some")
    assert "  rows       0 loaded, 3,998 loaded earlier, 0 failed" == out.splitlines()[1]


def test_why_a_row_was_rejected_is_told_once(mapper, tmp_path):
    """Where a database has no codes, an error's own kind stands for one, and is in its words."""
    file = tmp_path / "shop.db"
    with closing(sqlite3.connect(file)) as shop:
        shop.execute("create table orders (id int)")
        shop.execute("insert into orders values (6), (7)")
        shop.execute("create table few (id int check (id <> 7))")
        shop.commit()
    url = f"sqlite:///{file}"
    at = ("--source", url, "--target", url, "--query", "select * from orders", "--table", "few")
    assert 0 == mapper("load", *at, "--load-id", "nightly", "--reject-limit", "1")[0]

    _, out, _ = mapper("rejects", "--target", url, "--load-id", "nightly")

    assert 'chunk 1  {"id": 7}  IntegrityError: CHECK constraint failed: id <> 7' == out.strip()


def test_load_as_json(mapper, orders):
    """The result is one object on standard output."""
    code, result = mapper.json("load", "--query", ORDERED, "--table", "dw.orders", *SMALL)

    assert (0, "succeeded", ROWS, 16, True) == (
        code,
        result["status"],
        result["total_rows_successful"],
        len(result["chunk_results"]),
        result["published"],
    )
    assert ("key", "binary copy") == (result["strategy"], result["data_path"])
    assert result["snapshot"]["id"]
    assert re.match(r"20\d\d-\d\d-\d\dT", result["chunk_results"][0]["started_at"])


def test_plan(mapper, orders, target, run):
    """It is printed, and nothing has moved: not even a ledger was made."""
    words = ("plan", "--query", ORDERED, "--table", "dw.orders", *SMALL)
    code, out, err = mapper(*words)
    assert (0, "") == (code, err)
    assert "  strategy   key: ranges of id" in out
    assert "not physical: the query's ORDER BY names a key" in out
    assert "  chunks     16 of about 250 rows, 4,000 expected in all" in out

    code, plan = mapper.json(*words)
    assert (0, "key", 16) == (code, plan["strategy"], len(plan["chunks"]))
    assert [(0,)] == run(target, "select count(*) from dw.orders")
    assert (0, "no loads yet\n", "") == mapper("loads")


def test_a_load_that_fails_in_part_is_continued_by_the_command_that_it_prints(
    mapper, orders, source, target, run
):
    """Exit code 1, the chunk by name; the ledger's commands know what is missing."""
    run(target, "alter table dw.orders add constraint odd check (id <> 777)")
    code, out, err = mapper("load", "--query", ORDERED, "--table", "dw.orders", *SMALL)

    assert 1 == code
    assert "  rows       3,750 loaded, 250 failed\n" in out
    assert "  chunks     15 of 16 finished, 1 failed\n" in out
    assert "\n  failed     chunk 4 (250 rows, 1 attempt): CheckViolation: " in out
    assert "error: load " in err

    load_id = out.split()[1]
    code, listed, _ = mapper("loads")
    head, line = listed.splitlines()
    assert "LOAD ID TARGET STATUS CHUNKS ROWS CREATED PUBLISHED" == " ".join(head.split())
    assert line.split()[:5] == [load_id, "dw.orders", "unfinished", "15/16", "3,750"]
    code, chunks, _ = mapper("chunks", "--load-id", load_id)
    assert 0 == code
    head, *lines = chunks.splitlines()
    assert "into dw.orders (append): unfinished, 15 of 16 chunks finished" in head
    assert "  missing     4  [751 to 1001)  about 250 rows" == lines[3]
    assert lines[4].startswith("  finished    5  [1001 to 1251)  250 rows, 1 attempt, ")
    _, found = mapper.json("chunks", "--load-id", load_id)
    assert [(4, ["751"])] == [(chunk["id"], chunk["low"]) for chunk in found["missing"]]
    assert (15, False) == (len(found["finished"]), found["published"])

    run(target, "alter table dw.orders drop constraint odd")
    (command,) = re.findall(r"continue   fix the cause, then run (.*)", out)
    code, out, err = mapper(*shlex.split(re.sub(r"^(python -m mapper_core|mapper) ", "", command)))
    assert 0 == code, err
    assert "  rows       250 loaded, 3,750 loaded earlier, 0 failed\n" in out
    assert "continues at another read point" in err
    assert run(source, SUM.format("orders")) == run(target, SUM.format("dw.orders"))
    _, listed = mapper.json("loads")
    (load,) = listed["loads"]
    assert (load_id, True, 16, ROWS) == (
        load["load_id"],
        load["published"],
        load["chunks_finished"],
        load["rows"],
    )


WINDOW = ("--load-mode", "replace_window", "--window", "day", "2024-01-01", "2025-01-01")
STOPPED = {
    "ctrl-c": (signal.SIGINT, ("--workers", "3")),
    "one-worker": (signal.SIGINT, ("--workers", "1")),
    "terminated": (signal.SIGTERM, ("--workers", "2")),
    "staged": (signal.SIGTERM, ("--workers", "3", *WINDOW)),
    "stream": (signal.SIGINT, ("--workers", "3", "--strategy", "stream_once")),
}


@pytest.mark.parametrize("case", STOPPED)
def test_a_signal_stops_a_load_that_the_printed_command_continues(
    mapper, orders, source, target, run, case
):
    """What is under way ends and is rolled back; what is in is said; the rest comes once."""
    number, words = STOPPED[case]
    with gate_held(source) as wait_for:
        process = mapper.start("load", "--query", GATED, "--table", "dw.orders", *SMALL, *words)
        wait_for(1 if case == "stream" else int(words[1]))
        if case != "stream":
            wait_until(lambda: [(2,)] == run(target, FINISHED), "the chunks before the gate")
        process.send_signal(number)
        hear(process, "Stopping: unfinished chunks are rolled back")
        # The gate is held all along: nobody waits for what is under way.
        code, out, _ = mapper.end(process)

    assert 128 + number == code
    assert " stopped: " in out
    ((chunks, rows),) = run(
        target, "select count(*), sum(rows_written)::int from mapper.claim where done = 1"
    )
    in_sight = [(0,)] if case in {"staged", "stream"} else [(rows,)]
    assert in_sight == run(target, "select count(*) from dw.orders")
    if case == "stream":
        assert "  rows       0 loaded, 0 failed\n" in out
    else:
        assert chunks == 2
        staged = f"0 loaded, {rows:,} staged, not published"
        said = staged if case == "staged" else f"{rows:,} loaded"
        assert f"  rows       {said}, 0 failed\n" in out
        assert f"  chunks     {chunks} of 16 finished, {16 - chunks} not started\n" in out
    unfinished = run(target, "select load_id, status from mapper.load")
    assert [(out.split()[1], "loading")] == unfinished

    (command,) = re.findall(r"  continue   (.*)", out)
    code, out, _ = mapper(*shlex.split(re.sub(r"^(python -m mapper_core|mapper) ", "", command)))
    assert 0 == code, out
    assert run(source, SUM.format("orders")) == run(target, SUM.format("dw.orders"))
    assert [(unfinished[0][0], "published")] == run(
        target, "select load_id, status from mapper.load"
    )


def test_a_second_signal_ends_the_process_at_once(mapper, orders, source, target, run):
    """Not even for what is under way to be rolled back; it is, and is loaded later."""
    words = ("load", "--query", GATED, "--table", "dw.orders", *SMALL, "--load-id", "mine")
    with gate_held(source) as wait_for:
        process = mapper.start(*words)
        wait_for(3)
        # A chunk is read while the one before it is committed, which this signal would cut short.
        wait_until(lambda: [(2,)] == run(target, FINISHED), "the chunks before the gate")
        process.send_signal(signal.SIGINT)
        hear(process, "Stopping: ")
        process.send_signal(signal.SIGTERM)
        code, out, err = mapper.end(process)
        assert (143, "") == (code, out)
        assert err.startswith("Ended at once")
    wait_until(lambda: not backends(target), "what was under way to be rolled back")
    ((rows,),) = run(target, "select count(*) from dw.orders")
    assert [(2, rows)] == run(
        target, "select count(*), sum(rows_written)::int from mapper.claim where done = 1"
    )

    code, out, _ = mapper(*words)
    assert 0 == code
    assert f"  rows       {ROWS - rows:,} loaded, {rows} loaded earlier, 0 failed" in out
    assert run(source, SUM.format("orders")) == run(target, SUM.format("dw.orders"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("command", ["load", "plan"])
def test_a_signal_ends_planning(mapper, orders, source, number, command):
    """No row has moved, so that there is nothing to finish: it ends at once, statement and all."""
    with closing(psycopg.connect(source)) as other:
        other.execute("lock table orders in access exclusive mode")
        process = mapper.start(command, "--query", ORDERED, "--table", "dw.orders", "--json")
        wait_until(lambda: backends(source, extra="wait_event_type = 'Lock'"), "planning to wait")
        process.send_signal(number)
        code, out, err = mapper.end(process)
        assert (128 + number, "", "Stopped before any row moved.\n") == (code, out, err)
        wait_until(lambda: not backends(source), "the command's sessions to end")
    assert (0, {"loads": []}) == mapper.json("loads")


def test_progress_is_one_line_on_a_terminal(mapper, orders):
    """It is written over and over, and taken away before the summary."""
    ours, theirs = pty.openpty()
    mapper.set("TERM", "xterm")
    words = ("load", "--query", ORDERED, "--table", "dw.orders", *SMALL)
    process = mapper.start(*words, stderr=theirs)
    os.close(theirs)
    written = b""
    with closing(open(ours, "rb", buffering=0)) as terminal:  # noqa: PTH123 - a descriptor
        while True:
            try:
                written += terminal.read(1024)
            except OSError:  # how Linux says that the other side is closed
                break
    code, out, _ = mapper.end(process)

    assert (0, True) == (code, out.startswith("load "))
    *_, last, nothing = written.decode().split("\r\x1b[K")
    assert "" == nothing
    assert "dw.orders: 100.0% (16/16" in last
    assert len(last) < 80
    assert "\n" not in written.decode()


def test_progress_can_be_silenced(mapper, orders):
    """By an option, or by the library's own setting."""
    words = ("load", "--query", ORDERED, "--table", "dw.orders")
    assert "" == mapper(*words, "--no-progress")[2]
    mapper.set("MAPPER_PARALLEL_PROGRESS_ENABLED", "no")
    assert "" == mapper(*words)[2]


def test_sql_from_a_file_and_from_standard_input(mapper, orders, target, run):
    """With comments, semicolons, parameters, and the mark that some editors write first."""
    sql = """\ufeff-- the first orders; all of them
        select * from orders /* :not_a_name; */ where id <= :last and note <> ';' order by id;
    """
    Path("orders.sql").write_text(sql, encoding="utf-8")
    words = ("load", "--table", "dw.orders", "--param", "last=1000")
    assert 0 == mapper(*words, "--sql", "orders.sql")[0]
    assert [(1000,)] == run(target, "select count(*) from dw.orders")

    run(target, "alter table dw.orders add constraint odd check (id <> 777) not valid")
    code, out, _ = mapper(*words, "--sql", "-", stdin=sql.removeprefix("\ufeff"))
    assert 1 == code
    assert out.endswith("\n             with the same query on standard input\n")


def test_urls_from_a_dotenv_file_and_from_variables_of_other_names(
    mapper, orders, target, run, monkeypatch
):
    """The environment beats `.env`, which has the library's settings too."""
    for role in ("SOURCE", "TARGET"):
        monkeypatch.delenv(f"MAPPER_{role}_URL")
    words = ("load", "--query", ORDERED, "--table", "dw.orders")
    code, out, err = mapper(*words)
    assert (2, "") == (code, out)
    assert "MAPPER_SOURCE_URL is neither in the environment nor in .env" in err

    Path(".env").write_text(
        f"MAPPER_SOURCE_URL={mapper.source}\nWAREHOUSE={mapper.target}\nMAPPER_LEDGER_SCHEMA=books\n"
    )
    code, out, err = mapper(*words, "--target", "env:WAREHOUSE")
    assert 0 == code, err
    assert [(1,)] == run(target, "select count(*) from books.load")
    mapper.set("WAREHOUSE", "postgresql://nobody@127.0.0.1:1/none")
    mapper.set("MAPPER_PARALLEL_MAX_RETRIES", "0")
    code, _, err = mapper("loads", "--target", "env:WAREHOUSE", "--ledger-schema", "books")
    assert 2 == code
    assert "could not read the ledger: " in err
    monkeypatch.delenv("WAREHOUSE")
    code, out, _ = mapper("loads", "--target", "env:WAREHOUSE")
    assert (0, 2) == (code, len(out.splitlines()))


def test_a_load_whose_progress_nobody_reads(mapper, orders, source, target, run):
    """`mapper load 2>&1 >result | head -1`: rows matter more than words about them."""
    reading, writing = os.pipe()
    os.close(reading)
    words = ("load", "--query", ORDERED, "--table", "dw.orders", *SMALL)
    process = mapper.start(*words, stderr=writing)
    os.close(writing)
    code, out, _ = mapper.end(process)
    assert (0, True) == (code, " succeeded: 4,000 rows" in out)
    assert run(source, SUM.format("orders")) == run(target, SUM.format("dw.orders"))


def test_odd_names(mapper, orders, target, run):
    """Quoted as in SQL, with dots, spaces and quotes in them."""
    run(target, 'create schema "Odd one"', 'create table "Odd one"."a.b ""c""" (id int)')
    words = ("load", "--query", 'select id, id as "k,1" from orders', "--chunk-key", '"k,1",id')
    run(target, 'alter table "Odd one"."a.b ""c""" add "k,1" int')
    code, out, err = mapper(*words, *SMALL, "--table", '"Odd one"."a.b ""c"""')
    assert 0 == code, err
    assert "ranges of (k,1, id)" in out or "k,1" in out
    assert [(ROWS,)] == run(target, 'select count(*) from "Odd one"."a.b ""c"""')


SOME = ("--query", "select * from orders", "--table", "dw.orders")
MISTAKES = {
    "not a number": (("load", *SOME, "--workers", "many"), "--workers='many' is not a whole"),
    "too small": (("load", *SOME, "--chunk-size", "0"), "--chunk-size=0 is too small"),
    "no window": (
        ("load", *SOME, "--load-mode", "replace_window"),
        "--load-mode='replace_window' needs --window COLUMN START END",
    ),
    "no mode": (("load", *SOME, *WINDOW[2:]), "window goes with --load-mode='replace_window'"),
    "no instant": (("plan", *SOME, "--window", "day", "today", "x"), "'today' is not an ISO date"),
    "no value": (("plan", *SOME, "--param", "day"), "--param must be NAME=VALUE"),
    "two values": (
        ("plan", *SOME, "--param", "day=1", "--param", "day=2"),
        "--param gives one name two values",
    ),
    "no name": (("plan", *SOME[:3], 'dw."orders'), "quote unusual ones"),
    "no id": (("load", *SOME, "--load-id", ""), "--load-id is empty: give a name, or leave it out"),
    "three parts": (("plan", *SOME[:3], "a.b.c"), "--table has 3 parts"),
    "no file": (("plan", "--sql", "select 1", *SOME[2:]), "there is no file 'select 1'"),
    "no URL": (("loads", "--target", f"nosuch://me:{LEFT}{RIGHT}@h/d"), "no driver for 'nosuch'"),
    "unreachable": (("load", *SOME), "refused"),
    "unreachable ledger": (("loads",), "refused"),
    "not ours": (("load", *SOME, f"postgresql://me:{LEFT}{RIGHT}@h/d"), "unrecognized arguments"),
    "misspelt": (
        ("load", *SOME, f"--sorce=postgres://me:{LEFT}@{RIGHT}/d"),
        "arguments: ***; there is no --sorce: did you mean --source?",
    ),
    "required, misspelt": (
        ("load", *SOME[:2], "--tabel", "dw.orders"),
        "required: --table; there is no --tabel: did you mean --table?",
    ),
    "no command": ((f"postgres://me:{LEFT}{RIGHT}@h/d",), "invalid choice"),
    "no mode of ours": (("load", *SOME, "--load-mode", "merge"), "invalid choice: 'merge'"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_in_words(monkeypatch, capfd, mistake):
    """Exit code 2, nothing on standard output, no traceback, no password."""
    for role in ("SOURCE", "TARGET"):
        monkeypatch.setenv(f"MAPPER_{role}_URL", f"postgresql://me:{LEFT}{RIGHT}@127.0.0.1:1/d")
    monkeypatch.setenv("MAPPER_PARALLEL_MAX_RETRIES", "0")
    words, said = MISTAKES[mistake]
    code = exit_code_of(words)
    out, err = capfd.readouterr()
    assert (2, "") == (code, out)
    assert said in err
    assert LEFT not in err
    assert RIGHT not in err
    assert "Traceback" not in err


def test_what_a_database_refuses_is_told_in_words(mapper, orders):
    """Before rows move, with exit code 2."""
    for words, said in (
        (("load", *SOME[:3], "dw.none"), "the target has no table dw.none: create it"),
        (("plan", "--query", "select no from orders", *SOME[2:]), 'column "no" does not exist'),
        (("chunks", "--load-id", "none"), "the ledger has no load 'none': `mapper loads` lists"),
        (("rejects", "--load-id", "none"), "the ledger has no load 'none': `mapper loads` lists"),
    ):
        code, out, err = mapper(*words)
        assert (2, "", 1) == (code, out, len(err.splitlines()))
        assert err.startswith("mapper: ")
        assert said in err


def test_a_cure_is_told_as_an_option(mapper, orders, source, target, run):
    """What the library calls a keyword; a column of the same name stays what it is."""
    run(source, "create table odd as select 1 as load_mode")
    for words, said in (
        (("load", *SOME[:3], "dw.none"), "or pass --create-target to create it"),
        (("plan", *SOME, "--reject-limit", "few"), "--reject-limit='few' is not a whole number"),
        (("plan", *SOME, "--order-column", "a"), "primary-key and --order-column go with --load-m"),
        (
            ("plan", *SOME, "--verify", "checksum"),
            "--publish='atomic' writes into a stage. Pass --verify=",
        ),
        (("plan", "--query", "select load_mode from odd", *SOME[2:]), "has no column load_mode"),
        (
            ("plan", "--query", "select :a as b", *SOME[2:]),
            "Nothing replaces :a: no --param is given",
        ),
        (
            ("plan", "--query", "select :a as b", *SOME[2:], "--param", "c=1"),
            "the SQL names :a, but no --param has a value for it (given: c)",
        ),
        (("plan", *SOME, "--chunk-key", "key"), "mapper: --chunk-key key is not a column of"),
        (
            ("plan", *SOME[:3], "orders"),
            "orders: create it, correct the name, write --table SCHEMA",
        ),
    ):
        code, _, err = mapper(*words)
        assert 2 == code
        assert said in err


def test_a_ledger_of_another_release_is_refused(mapper, orders, target, run):
    """By who reads it and by who would write it, and it stays as it is."""
    run(target, "create schema mapper", "create table mapper.version as select 99 as version")
    for words in (("loads",), ("load", *SOME)):
        code, _, err = mapper(*words)
        assert 2 == code
        assert "the ledger in schema 'mapper' has version 99, but this release" in err
    assert [("version",)] == run(
        target, "select tablename::text from pg_tables where schemaname = 'mapper'"
    )


def test_the_version(mapper):
    """That of the distribution."""
    (version,) = re.findall(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.M)
    assert (0, f"mapper {version}\n", "") == mapper.end(mapper.start("--version"))


def test_a_reader_that_has_seen_enough(mapper):
    """`mapper loads | head -1` ends without a word."""
    reading, writing = os.pipe()
    os.close(reading)
    process = mapper.start("loads", stdout=writing)
    os.close(writing)
    code, _, err = mapper.end(process)
    assert (141, "") == (code, err)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a full device")
def test_what_nobody_foresaw_names_no_password(mapper):
    """A traceback, for a report, and exit code 1."""
    with Path("/dev/full").open("w") as full:
        process = mapper.start("loads", stdout=full)
    _, err = process.communicate()
    assert 1 == process.returncode
    assert err.startswith("Traceback")
    assert err.endswith("OSError: [Errno 28] No space left on device\n")
    assert LEFT not in err


def test_the_ledger_of_another_database(mapper, orders, source):
    """One without schemas, whose timestamps are text."""
    file = Path("warehouse.db").absolute()
    with closing(sqlite3.connect(file)) as warehouse:
        warehouse.execute("create table orders (id int, day text, note text)")
    at = ("--target", f"sqlite:///{file}")
    assert (0, "no loads yet\n", "") == mapper("loads", *at)
    query = ("--query", "select id, note from orders order by id")
    code, out, err = mapper("load", *query, *at, "--table", "orders", *SMALL)
    assert 0 == code, err
    _, listed = mapper.json("loads", *at)
    assert [("orders", ROWS)] == [(load["target"], load["rows"]) for load in listed["loads"]]
    _, found = mapper.json("chunks", *at, "--load-id", out.split()[1])
    assert [] == found["missing"]


def test_a_stream_in_the_ledger(mapper, orders):
    """Its pieces are listed; they are rows of it, and no chunks of the plan."""
    words = ("load", "--query", ORDERED, "--table", "dw.orders", "--strategy", "stream_once")
    assert 0 == mapper(*words, *SMALL, "--load-id", "stream")[0]
    _, listed = mapper.json("loads")
    assert (1, 1, ROWS) == tuple(
        listed["loads"][0][name] for name in ("chunks_planned", "chunks_finished", "rows")
    )
    _, out, _ = mapper("chunks", "--load-id", "stream")
    assert 18 == len(out.splitlines())
    assert "  finished    1  piece  250 rows, 1 attempt, " in out


def test_every_keyword_of_the_library_is_an_option():
    """But those that only Python can give; whoever adds a keyword decides."""
    python_only = {
        # functions, and what goes with them
        *("transformation_func", "transform_scope", "transform_columns", "workers"),
        "transform_batch",
        *("progress_callback", "progress_tracker", "retry_handler", "job_params"),
        "enable_parallel",  # --workers 1
        "enable_retry",  # --max-retries 0
        "should_stop",  # a function; here signals stop a load
    }
    parser = options.Parser()
    options.add_load_options(parser)
    offered = {action.dest for action in parser._actions}
    assert {"source", "target", "sql", "query", "table", "param"} <= offered
    offered |= {"target_conn", "target_schema", "target_table", "params"}
    assert set(LoadOptions.__annotations__) - python_only <= offered
    choices = {action.dest: action.choices for action in parser._actions}
    assert [mode.value for mode in LoadMode] == choices["load_mode"]
    assert [strategy.value for strategy in StrategyName] == choices["strategy"]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("env:SHOP", "env:SHOP"),
        ("sqlite:////data/shop.db", "sqlite:////data/shop.db"),
        (f"postgresql://me:{LEFT}@h/d", "URL"),
        (f"postgresql:///d?password={LEFT}", "URL"),
        ("postgresql://me@h/d", "URL"),
    ],
)
@pytest.mark.parametrize("form", ["--source {}", "--target={}"])
def test_the_command_to_continue_holds_no_url_with_a_password(url, shown, form):
    """Everything else is as it was typed, and the load id comes once."""
    words = ["load", *form.format(url).split(), "--table", "a b"]
    wanted = ["mapper", "load", *form.format(shown).split(), "--table", "a b", "--load-id", "x"]
    assert wanted == wording.again(words, prog="mapper", load_id="x")
    assert wanted == wording.again([*words, "--load-id", "x"], prog="mapper", load_id="y")


def test_names_are_taken_apart_as_in_sql():
    """Whatever is quoted is one name."""
    assert ("a", "b") == given._names(" a . b ", ".", "--table")
    assert ('x"y', "B.c") == given._names('"x""y"."B.c"', ".", "--table")
    assert ("a,b", "c d") == given._names('"a,b",c d', ",", "--chunk-key")
    for wrong in ("", ".", "a.", ".a", 'a"b', '"a"b', "a,b"):
        with pytest.raises(SettingsError):
            given._names(wrong, ".", "--table")


def test_the_commands_of_the_guide(mapper, orders, source, target, run, monkeypatch):
    """As they are written there, one after the other."""
    (section,) = re.findall(r"\n## Command Line\n(.*?)\n## ", GUIDE.read_text(), re.DOTALL)
    (sql,) = re.findall(r"```sql\n(.*?)```", section, re.DOTALL)
    commands = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    renamed = ("rename id to order_id", "rename day to order_date")
    run(source, *(f"alter table orders {words}" for words in renamed))
    run(target, *(f"alter table dw.orders {words}" for words in renamed))
    run(target, "alter table dw.orders rename to fact_orders")
    Path("orders.sql").write_text(sql)
    mapper.set("WAREHOUSE_URL", mapper.target)
    mapper.set("PYTHONPATH", str(ROOT))
    shell = f'set -eu; mapper() {{ {sys.executable} -m mapper_core "$@"; }}\n'
    done = subprocess.run(
        ["bash", "-c", shell + "".join(commands)], capture_output=True, text=True, check=False
    )
    mapper.said += done.stdout + done.stderr
    assert 0 == done.returncode, done.stderr
    # The window of the second load has replaced its rows by the same.
    assert run(source, SUM.format("orders")) == run(target, SUM.format("dw.fact_orders"))
    result = json.loads(Path("result.json").read_text())
    assert (True, 3099) == (result["published"], result["total_rows_successful"])
    assert "orders of 2024-06-01  dw.fact_orders  published" in done.stdout
