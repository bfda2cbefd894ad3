"""How much memory there is: the machine's, and what a control group leaves of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from moshid.model import memory
from moshid.model.memory import Limit

MEMINFO = "MemTotal: 90000 kB\nMemAvailable: 50000 kB\n"
PARTS = ("memory.max", "memory.current", "memory.stat")


def groups(root: Path, limits: dict[str, tuple[int, int, int]]) -> None:
    """Control groups below ``root``, each path with its limit, what it holds, and files in that;
    this process is in the last."""
    top = root / "sys" / "fs" / "cgroup"
    for path, (most, held, files) in limits.items():
        folder = top / path
        folder.mkdir(parents=True, exist_ok=True)
        stat = f"anon 7\ninactive_file {files // 2}\nactive_file {files - files // 2}\n"
        for name, text in zip(PARTS, (f"{most}\n", f"{held}\n", stat), strict=True):
            (folder / name).write_text(text)
    (root / "proc" / "self").mkdir(parents=True, exist_ok=True)
    (root / "proc" / "self" / "cgroup").write_text(f"1:name=x:/\n0::/{path}\n")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "meminfo").write_text(MEMINFO)
    return tmp_path


def test_without_a_control_group_the_machine_counts(root: Path) -> None:
    assert memory.available_bytes(root) == 50_000 * 1024
    assert memory.group_limit(root) is None
    assert memory.total_bytes(root) >= memory.total_bytes()


def test_a_control_group_has_less_than_the_machine(root: Path) -> None:
    groups(root, {"user/moshid": (10_000_000, 7_000_000, 0)})
    assert memory.total_bytes(root) == 10_000_000
    assert memory.available_bytes(root) == 3_000_000


def test_what_files_have_in_memory_can_be_had(root: Path) -> None:
    """A checkpoint that was read fills a control group, and harms nobody."""
    groups(root, {"moshid": (10_000_000, 9_999_000, 8_000_000)})
    assert memory.available_bytes(root) == 8_001_000


def test_the_narrowest_of_the_groups_around_it_counts(root: Path) -> None:
    groups(root, {"a": (8_000_000, 7_500_000, 0), "a/b": (9_000_000, 1_000_000, 0)})
    assert memory.group_limit(root) == Limit(8_000_000, 500_000)


def test_a_wide_group_changes_nothing_nor_does_one_without_a_limit(root: Path) -> None:
    groups(root, {"a": (10**15, 5, 0)})
    assert memory.available_bytes(root) == 50_000 * 1024
    (root / "sys" / "fs" / "cgroup" / "a" / "memory.max").write_text("max\n")
    assert memory.group_limit(root) is None


def test_a_group_that_is_not_to_be_found_is_no_limit(root: Path) -> None:
    groups(root, {"a": (10, 5, 0)})
    (root / "proc" / "self" / "cgroup").write_text("0::/../b\n")
    assert memory.group_limit(root) is None
    assert memory.group_folders(root) == []
