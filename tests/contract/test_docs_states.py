"""The state diagrams in docs/architecture.md are the transition tables of the code."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

from moshid.downloads.states import TRANSITIONS as DOWNLOAD
from moshid.model.states import TRANSITIONS as MODEL
from moshid.talk.states import TRANSITIONS as TALK

ARCHITECTURE = Path(__file__).parents[2] / "docs" / "architecture.md"


def drawn(title: str) -> set[tuple[str, str]]:
    """The arrows of the mermaid diagram below the heading ``title``, without start and end."""
    section = ARCHITECTURE.read_text().split(f"### {title}\n", 1)[1]
    diagram = section.split("```mermaid\n", 1)[1].split("```", 1)[0]
    arrows = re.findall(r"^\s*(\w+) --> (\w+)", diagram, re.MULTILINE)
    return {(a, b) for a, b in arrows}


def tabled(table: Mapping[Any, Any]) -> set[tuple[str, str]]:
    """The pairs that a transition table allows."""
    states: Mapping[StrEnum, frozenset[StrEnum]] = table
    return {(a.value, b.value) for a, others in states.items() for b in others}


@pytest.mark.parametrize(
    ("title", "table"),
    [("A download job", DOWNLOAD), ("The model", MODEL), ("A talk", TALK)],
)
def test_the_drawing_is_the_table(title: str, table: Mapping[Any, Any]) -> None:
    assert drawn(title) == tabled(table)
