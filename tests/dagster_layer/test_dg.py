"""Dagster's own commands accept what is shipped, and tell a mistake with its line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]

PROJECT = {
    "pyproject.toml": """
        [project]
        name = "proj"
        version = "0.1.0"
        [tool.dg]
        directory_type = "project"
        [tool.dg.project]
        root_module = "proj"
        registry_modules = []
    """,
    "src/proj/__init__.py": "",
    "src/proj/defs/__init__.py": "",
    "src/proj/definitions.py": """
        from pathlib import Path
        import dagster as dg

        @dg.definitions
        def defs():
            return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
    """,
    "src/proj/defs/resources.py": """
        import dagster as dg
        from mapper_dagster import DatabaseResource, MapperResource

        @dg.definitions
        def resources():
            database = DatabaseResource(url="sqlite:///s")
            return dg.Definitions(
                resources={"source": database, "target": database, "mapper": MapperResource()}
            )
    """,
}


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Run one of Dagster's commands in a project of its own; return its code and words."""
    for name, text in PROJECT.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = text.splitlines()
        path.write_text("\n".join(line.removeprefix("        ") for line in lines))

    def run(*words, cwd=tmp_path, **environment):
        ended = subprocess.run(
            [Path(sys.executable).with_name(words[0]), *words[1:]],
            cwd=cwd,
            env={
                **os.environ,
                "PYTHONPATH": str(tmp_path / "src"),
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "DAGSTER_HOME": str(tmp_path),
                "DG_CLI_TELEMETRY_ENABLED": "false",
                "COLUMNS": "200",
                **environment,
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
        )
        return ended.returncode, ended.stdout + ended.stderr

    return run


def test_a_mapping_is_scaffolded_checked_and_listed(command, tmp_path):
    """By `dg`; and a word that is no attribute is told with file and line."""
    assert command("dg", "scaffold", "defs", "mapper_dagster.MappingComponent", "orders")[0] == 0

    assert command("dg", "check", "yaml")[0] == 0
    code, listed = command("dg", "list", "defs", "--json")
    assert code == 0, listed
    for name in ("fact_orders", "source_equals_target", "columns_unchanged"):
        assert name in listed

    described = tmp_path / "src" / "proj" / "defs" / "orders" / "defs.yaml"
    lines = described.read_text().replace("load_mode", "load_mod").splitlines()
    described.write_text("\n".join([*lines, "  load_mod: append"]))
    code, told = command("dg", "check", "yaml")
    assert code != 0
    assert f"defs.yaml:{len(lines) + 1}" in told
    assert "load_mod" in told


def test_the_workspace_is_loadable(command):
    """As the demo and a deployment load it."""
    urls = {"MAPPER_SOURCE_URL": "sqlite:///s", "MAPPER_TARGET_URL": "sqlite:///t"}
    words = ("dagster", "definitions", "validate", "-w", "workspace.yaml")

    code, told = command(*words, cwd=CHECKOUT, **urls)

    assert code == 0, told
