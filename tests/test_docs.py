"""What the docs list is all there is: settings, names, and what Dagster is told."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

import mapper_core
import mapper_dagster
from mapper_core import LoadOptions, MapperError, Settings, execute_query_parallel
from mapper_core.cli import options
from mapper_core.settings import variable_of

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "docs" / "user-guide.md").read_text(encoding="utf-8")
DAGSTER = (ROOT / "docs" / "dagster.md").read_text(encoding="utf-8")
EVERYTHING = "\n".join(
    page.read_text(encoding="utf-8") for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))
)


def settings_told():
    """Return the guide's table of settings: keyword, variable, option, default, meaning."""
    rows = re.findall(
        r"^\| `(\w+)` \| `(MAPPER_\w+)` \| `(--.*?)` \| (.*?) \|", GUIDE, re.MULTILINE
    )
    return {name: (variable, option, default) for name, variable, option, default in rows}


def test_every_setting_is_told_with_its_variable_option_and_default():
    """And no other."""
    told = settings_told()
    parser = options.Parser()
    options.add_load_options(parser)
    assert {each.name for each in fields(Settings)} == set(told)
    for each in fields(Settings):
        variable, option, default = told[each.name]
        assert variable_of(each.name) == variable
        assert option.partition(" ")[0] in parser._option_string_actions
        if each.name != "max_workers":  # by the machine
            assert str(each.default) == default.strip("`")


def test_every_variable_is_told():
    """Those of the command line too, and none that is gone."""
    known = {variable_of(each.name) for each in fields(Settings)}
    known |= {"MAPPER_SOURCE_URL", "MAPPER_TARGET_URL"}
    others = {"MAPPER_LOCK"}  # a table
    assert known == set(re.findall(r"MAPPER_[A-Z_]*[A-Z]", EVERYTHING)) - others


@pytest.mark.parametrize("keyword", LoadOptions.__annotations__)
def test_every_keyword_is_in_the_docstring(keyword):
    """Where `help()` finds it."""
    assert re.search(rf"\b{keyword}\b", str(execute_query_parallel.__doc__))


def test_every_public_name_is_told():
    """In the guide; errors by their tree."""
    listed = GUIDE[GUIDE.index("## What Can Be Imported") : GUIDE.index("## Support")]
    named = {
        name for row in re.findall(r"^\|([^|]*)\|", listed, re.MULTILINE) for name in _names(row)
    }
    public = set(mapper_core.__all__)
    errors = {
        name
        for name in public
        if isinstance(kind := getattr(mapper_core, name), type) and issubclass(kind, MapperError)
    }
    assert public - errors | {"MapperError"} == named


def _names(cell):
    return re.findall(r"`(\w+)`", cell)


def test_every_name_for_dagster_is_told():
    """In the page on Dagster."""
    assert set(mapper_dagster.__all__) <= set(re.findall(r"\w+", DAGSTER))


def test_every_key_that_dagster_is_told_is_explained():
    """In one table each for metadata and tags, and none that is gone."""
    told = re.findall(r"`(mapper/\w+)`", DAGSTER[DAGSTER.index("## Metadata and tags") :])
    code = "\n".join(
        file.read_text(encoding="utf-8") for file in (ROOT / "mapper_dagster").rglob("*.py")
    )
    assert len(told) == len(set(told))
    assert set(re.findall(r"\"(mapper/\w+)\"", code)) == set(told)
