"""docs/downloads.md, docs/model.md and docs/audio.md name tests and modules that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = {"downloads": (40, 40), "model": (25, 40), "audio": (20, 25)}
"""Package by page, and how many tests and modules it names at least."""


@pytest.mark.parametrize("page", PAGES)
def test_every_test_that_holds_a_promise_exists(page: str) -> None:
    text = (ROOT / "docs" / f"{page}.md").read_text()
    named = re.findall(r"`((?:unit/)?)(test_\w+\*?)(?:::(test_\w+))?[` ]", text)
    assert len(named) > PAGES[page][0]
    for folder, module, function in named:
        found = list((ROOT / "tests" / (folder or "integration")).glob(f"{module}.py"))
        assert found, f"there is no {folder}{module}"
        if function:
            assert f"def {function}(" in found[0].read_text(), f"{module} has no {function}"


@pytest.mark.parametrize("page", PAGES)
def test_every_module_in_the_table_of_parts_exists(page: str) -> None:
    text = (ROOT / "docs" / f"{page}.md").read_text()
    rows = re.findall(r"^\| [^|]+ \| ((?:`[a-z_0-9]+\*?` ?)+) \|", text, re.MULTILINE)
    names = [n for row in rows for n in re.findall(r"`((?!test_)[a-z_0-9]+\*?)`", row)]
    assert len(names) > PAGES[page][1]
    for name in names:
        assert list((ROOT / "moshid" / page).glob(f"{name}.py")), f"there is no {name}"


def test_no_module_of_the_model_is_left_out() -> None:
    text = (ROOT / "docs" / "model.md").read_text()
    modules = {p.stem for p in (ROOT / "moshid" / "model").glob("*.py")} - {"__init__"}
    assert {m for m in modules if f"`{m}`" not in text} == set()
