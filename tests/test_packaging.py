"""What is installed, and what importing it costs."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from functools import cache
from importlib import import_module
from pathlib import Path
from zipfile import ZipFile

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


@pytest.fixture(scope="module")
def make_wheel(tmp_path_factory):
    """Build the distribution from nothing; return the names of what is in it."""

    @cache
    def make(**environment):
        folder = tmp_path_factory.mktemp("wheel")
        for name in ("mapper_core", "mapper_dagster"):
            unmade = shutil.ignore_patterns("*.so", "__pycache__")
            shutil.copytree(ROOT / name, folder / name, ignore=unmade)
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, folder)
        build = ["pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "."]
        subprocess.run(
            [sys.executable, "-m", *build],
            cwd=folder,
            env={**os.environ, **environment},
            check=True,
            capture_output=True,
        )
        (wheel,) = folder.glob("mapper-*.whl")
        return ZipFile(wheel).namelist()

    return make


def compiled(names):
    return [name for name in names if name.endswith(".so")]


def test_all_modules_are_shipped_and_typed(make_wheel):
    """One distribution, with the markers that type checkers look for."""
    names = make_wheel()
    for package in ("mapper_core", "mapper_dagster"):
        modules = (ROOT / package).rglob("*.py")
        assert {str(module.relative_to(ROOT)) for module in modules} <= set(names)
        assert f"{package}/py.typed" in names


def test_what_is_compiled_is_shipped(make_wheel):
    """Where there is a C compiler, and Python's headers for it."""
    compiler = str(sysconfig.get_config_var("CC") or "cc").split()[0]
    headers = Path(sysconfig.get_path("include"), "Python.h")
    if shutil.which(compiler) is None or not headers.exists():
        pytest.skip("there is no C compiler here, or no Python.h: .ci/compiler gets one with apt")
    (library,) = compiled(make_wheel())
    assert library.startswith("mapper_core/adapters/postgresql/_arrivals.")


def test_without_a_compiler_python_does_the_work(make_wheel):
    """Nobody has to have one."""
    assert not compiled(make_wheel(CC="/bin/false"))
