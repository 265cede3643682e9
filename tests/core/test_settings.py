"""Where each setting comes from, and what is refused."""

import os
import pathlib
import uuid
from typing import Any

import pytest
import sqlalchemy as sa

from mapper_core import RetryConfig, Settings, SettingsError, execute_query_parallel
from mapper_core.settings import resolve

# Setting, its variable, a value of each origin in order of precedence, the default.
SETTINGS = [
    ("enable_parallel", "MAPPER_PARALLEL_ENABLED", True),
    ("max_workers", "MAPPER_MAX_WORKERS", max(1, (os.cpu_count() or 2) - 1)),
    ("chunk_size", "MAPPER_CHUNK_SIZE", 50_000),
    ("min_rows_for_parallel", "MAPPER_MIN_ROWS_FOR_PARALLEL", 100_000),
    ("enable_retry", "MAPPER_PARALLEL_RETRY_ENABLED", True),
    ("max_retries", "MAPPER_PARALLEL_MAX_RETRIES", 3),
    ("enable_progress", "MAPPER_PARALLEL_PROGRESS_ENABLED", True),
    ("ledger_schema", "MAPPER_LEDGER_SCHEMA", "mapper"),
]


@pytest.mark.parametrize(("name", "variable", "default"), SETTINGS)
def test_every_setting_has_its_default(name, variable, default):
    """An empty environment, and no argument."""
    assert getattr(resolve({}, {}, {}), name) == default
    assert getattr(resolve({name: None}, {name: None}, {variable: ""}), name) == default


@pytest.mark.parametrize(("name", "variable", "default"), SETTINGS)
def test_argument_beats_job_params_beat_environment_beats_file(
    name, variable, default, monkeypatch, tmp_path
):
    """One origin after the other takes over."""
    values: dict[type, list[Any]] = {
        bool: [True, False, True, False],
        int: [11, 12, 13, 14],
        str: ["a", "b", "c", "d"],
    }
    by_file, by_environment, by_job, by_argument = values[type(default)]

    (tmp_path / ".env").write_text(f"{variable}={by_file}\n")
    assert getattr(resolve({}), name) == by_file
    monkeypatch.setenv(variable, str(by_environment))
    assert getattr(resolve({}), name) == by_environment
    assert getattr(resolve({}, {name: by_job}), name) == by_job
    assert getattr(resolve({name: by_argument}, {name: by_job}), name) == by_argument


@pytest.mark.parametrize(
    ("text", "expected"),
    [("Y", True), ("N", False), ("true", True), ("False", False), ("1", True), (" no ", False)],
)
def test_booleans_are_read_from_words(text, expected):
    """Job parameters and the environment write them as text."""
    assert resolve({}, {"enable_retry": text}, {}).enable_retry is expected
    variable = {"MAPPER_PARALLEL_RETRY_ENABLED": text}
    assert resolve({}, {}, variable).enable_retry is expected


@pytest.mark.parametrize(
    ("explicit", "job", "environment", "words"),
    [
        ({"max_workers": 0}, {}, {}, "^max_workers=0 is too small: the least is 1"),
        ({"chunk_size": 2.5}, {}, {}, "^chunk_size=2.5 is not a whole number"),
        ({"max_workers": True}, {}, {}, "^max_workers=True is not a whole number"),
        ({"enable_retry": 1}, {}, {}, "^enable_retry=1 is not true or false"),
        ({}, {"max_retries": -1}, {}, "^job parameter max_retries=-1 is too small: the least is 0"),
        (
            {},
            {"enable_parallel": "maybe"},
            {},
            "^job parameter enable_parallel='maybe' is not true",
        ),
        ({}, {}, {"MAPPER_CHUNK_SIZE": "many"}, "^MAPPER_CHUNK_SIZE='many' is not a whole number"),
        ({}, {}, {"MAPPER_MAX_WORKERS": "-4"}, "^MAPPER_MAX_WORKERS=-4 is too small"),
        ({"ledger_schema": " "}, {}, {}, "^ledger_schema is empty"),
        ({"max_workers": 10**9}, {}, {}, "^max_workers=1000000000 is too large: the most is 1000"),
        ({"chunk_size": 10**400}, {}, {}, "^chunk_size=10+ is too large"),
        ({}, {}, {"MAPPER_MIN_ROWS_FOR_PARALLEL": "9" * 19}, "ROWS_FOR_PARALLEL=9+ is too large"),
    ],
)
def test_a_bad_value_is_refused_by_its_name(explicit, job, environment, words):
    """The name is the one under which it was given."""
    with pytest.raises(SettingsError, match=words):
        resolve(explicit, job, environment)


class Whole:
    """A whole number as other libraries have them: numpy's int64, say."""

    def __index__(self):
        return 7


def test_whole_numbers_of_any_library_are_numbers():
    """They come out of a frame's length, or of arithmetic with it."""
    found = resolve({"max_workers": Whole(), "reject_limit": Whole()}, {"chunk_size": Whole()}, {})
    assert found == Settings(max_workers=7, reject_limit=7, chunk_size=7)


def test_job_params_may_hold_other_things():
    """They belong to the job, not to us."""
    assert resolve({}, {"customer": 7, "max_workers": "2"}, {}) == Settings(max_workers=2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_workers": 0}, "max_workers=0 is too small"),
        ({"load_mode": "merge"}, "load_mode='merge' is unknown: use one of 'append'"),
        ({"transform_scope": "row"}, "transform_scope='row' is unknown"),
        ({"load_mode": "replace_window"}, "needs window=LoadWindow"),
        ({"target_table": "t"}, "target_table is given without target_conn"),
        ({"target_conn": "postgresql:///x"}, "target_conn is given without target_table"),
        ({"target_schema": "dw"}, "target_schema is given without target_table"),
        ({"load_id": "x"}, "load_id needs a target"),
        ({"load_id": ""}, "load_id is empty: give a name, or leave it out"),
        ({"load_id": uuid.UUID(int=7)}, "load_id=UUID.* is of type UUID: give a str"),
        ({"order_column": ["a"]}, "order_column=.* is of type list: give a str"),
        ({"target_table": 5}, "target_table=5 is of type int"),
        ({"create_target": "false"}, "create_target='false' is of type str: give True or False"),
        ({"snapshot": 0}, "snapshot=0 is of type int: give True or False"),
        ({"params": ["secret"]}, "params is of type list: give a dict"),
        ({"params": "a=secret"}, "params is of type str: give a dict"),
        ({"window": ("a", 1, 2)}, "window is of type tuple: give a LoadWindow"),
        ({"retry_handler": RetryConfig()}, r"type RetryConfig: give a RetryHandler\(RetryConfig"),
        ({"progress_tracker": print}, "of type builtin.*: give a ProgressTracker"),
        ({"load_id": "x" * 401}, "load_id has 401 characters, but the ledger has room for 400"),
        ({"load_mode": ""}, "load_mode='' is unknown: use one of 'append', "),
        ({"transform_scope": ""}, "transform_scope='' is unknown"),
    ],
)
def test_a_call_that_makes_no_sense_is_refused(options, words):
    """At once, and without a database: the source here does not exist."""
    with pytest.raises(SettingsError, match=words):
        execute_query_parallel("postgresql://nobody@localhost:1/x", "select 1 as a", **options)


@pytest.mark.parametrize(
    "sql", [b"select 1 as a", None, pathlib.Path("a.sql"), sa.text("select 1")]
)
def test_a_query_that_is_no_text_is_refused(sql):
    """SQLAlchemy's among them, whose values would not come along."""
    with pytest.raises(SettingsError, match=r"source_sql is of type \w+: give the SELECT as a str"):
        execute_query_parallel("postgresql://nobody@localhost:1/x", sql)


def test_an_unknown_keyword_is_a_type_error():
    """As for any function; a typo must not be a setting that does nothing."""
    with pytest.raises(TypeError, match="unknown keyword chunksize"):
        execute_query_parallel("postgresql:///x", "select 1 as a", chunksize=5)  # type: ignore[call-arg]


def test_settings_of_the_environment_reach_a_load(source, monkeypatch, run):
    """Nothing needs to be passed."""
    run(source, "create table t as select i as id from generate_series(1, 100) i")
    monkeypatch.setenv("MAPPER_MIN_ROWS_FOR_PARALLEL", "10")
    monkeypatch.setenv("MAPPER_CHUNK_SIZE", "20")
    assert execute_query_parallel(source, "select * from t order by id").chunks_total == 5
    monkeypatch.setenv("MAPPER_PARALLEL_ENABLED", "false")
    result = execute_query_parallel(source, "select * from t order by id")
    assert (result.chunks_total, result.strategy_reason) == (1, "enable_parallel is false")
