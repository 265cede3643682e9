"""What is installed, and what importing it costs."""

import json
import re
import subprocess
import sys
from importlib import import_module, resources
from pathlib import Path

import pytest

import mapper_core

ROOT = Path(__file__).parents[1]
HEAVY = ("psycopg", "psycopg2", "oracledb", "sqlalchemy", "sqlglot", "dagster", "mapper_dagster")


@pytest.mark.parametrize(
    "module", ["mapper_core", "mapper_core.parallel_query_executor", "mapper_core.cli"]
)
def test_importing_the_core_loads_no_driver_and_no_framework(module):
    """Only those who use one pay for it."""
    code = f"import json, sys, {module}; print(json.dumps(list(sys.modules)))"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    loaded = {name.partition(".")[0] for name in json.loads(answer.stdout)}
    assert loaded.isdisjoint(HEAVY)


def test_the_public_names_are_sorted_and_there():
    """The package's opening is its table of contents."""
    assert sorted(mapper_core.__all__) == mapper_core.__all__
    assert all(hasattr(mapper_core, name) for name in mapper_core.__all__)


def test_the_names_of_the_guide_are_public():
    """What existing jobs import, from where they import it."""
    from mapper_core.parallel_query_executor import execute_query_parallel

    assert execute_query_parallel is mapper_core.execute_query_parallel
    promised = {
        *("ParallelProcessor", "RetryHandler", "RetryConfig", "ProgressTracker"),
        *("create_progress_callback", "ParallelProcessingResult", "ProgressSnapshot"),
        "execute_query_parallel",
    }
    assert promised <= set(mapper_core.__all__)


def test_the_command_is_installed():
    """Its entry point names what there is."""
    (entry,) = re.findall(r'^mapper = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    module, function = entry.split(":")
    assert callable(getattr(import_module(module), function))


@pytest.mark.parametrize("package", ["mapper_core", "mapper_dagster"])
def test_both_packages_are_shipped_and_typed(package):
    """One distribution, with the marker that type checkers look for."""
    assert resources.files(package).joinpath("py.typed").is_file()
    project = (ROOT / "pyproject.toml").read_text()
    (packages,) = re.findall(r"\[tool.hatch.build.targets.wheel\]\npackages = (.*)", project)
    assert package in json.loads(packages)
