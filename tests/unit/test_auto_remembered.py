"""``auto`` takes tomorrow what it takes today, unless memory is really too small."""

from __future__ import annotations

from pathlib import Path

import pytest

from moshid.model.auto import Chosen, Decision, Verdicts, decide
from moshid.model.catalogue import Situation, choose, resolve
from moshid.model.files import V0_1_CODEC, V0_1_TOKENIZER
from tests.unit.test_auto import GB, SEVEN_B, mac

METAL = mac(24, 17.2)  # q8 is the best that fits; it takes 10.3 GB, 8.2 of them weights
Q8 = Chosen("q8", ["bf16", "q8", "q4"])


def decided(free_gb: float, before: Chosen | None, *, metal: bool = True) -> Decision:
    here = METAL if metal else mac(24)
    free_bytes = round(free_gb * GB)
    return decide(SEVEN_B, here, where="on disk", free_bytes=free_bytes, before=before)


@pytest.mark.parametrize(
    ("free_gb", "before", "metal", "quality", "lasting"),
    [
        (12.0, None, True, "q8", True),
        (9.0, None, True, "q4", False),  # for now, and not to be remembered
        (9.0, Q8, True, "q8", True),
        (8.0, Q8, True, "q4", False),  # not even its weights fit
        (9.0, Q8, False, "q4", False),  # Linux would refuse the load, or kill
        (9.0, Chosen("q8", ["q8", "q4"]), True, "q4", False),  # of other candidates
        (20.0, Chosen("q4", ["bf16", "q8", "q4"]), True, "q8", True),
    ],
)
def test_what_was_taken_before_stands(
    free_gb: float, before: Chosen | None, metal: bool, quality: str, lasting: bool
) -> None:
    made = decided(free_gb, before, metal=metal)
    assert (made.quality, made.lasting, made.among) == (quality, lasting, ("bf16", "q8", "q4"))


def test_it_says_that_it_was_taken_before() -> None:
    assert decided(9.0, Q8).why.endswith("; 9.0 GB are free now, but it was taken here before")
    assert "q8 needs 10.3 GB, 8.0 GB are free, though it was taken here before" in (
        decided(8.0, Q8).why
    )
    assert "before" not in decided(12.0, Q8).why


def test_what_was_taken_is_kept_for_this_machine_beside_the_verdicts(tmp_path: Path) -> None:
    path = tmp_path / "auto.json"
    Verdicts(path, lambda: METAL).note_chosen("moshiko", Q8)
    assert Verdicts(path, lambda: METAL).chosen("moshiko") == Q8
    assert Verdicts(path, lambda: METAL).chosen("moshika") is None
    assert Verdicts(path, lambda: mac(64, 48.0)).chosen("moshiko") is None
    before = path.stat().st_mtime_ns, path.stat().st_ino
    Verdicts(path, lambda: METAL).note_chosen("moshiko", Q8)
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == before, "nothing new, nothing written"


def test_a_choice_among_files_carries_what_is_to_be_remembered(tmp_path: Path) -> None:
    files = {n: tmp_path / n for n in ("model.safetensors", V0_1_TOKENIZER, V0_1_CODEC)}
    for path in files.values():
        path.touch()
    with files["model.safetensors"].open("wb") as file:
        file.truncate(SEVEN_B[0].size_bytes or 0)
    entry = resolve("someone/moshi")
    here = Situation(METAL, 12 * GB)
    first = choose(entry, "auto", lambda _repo: files, situation=here)
    assert first.lasting == Q8
    squeezed = Situation(METAL, 9 * GB, chosen=lambda _name: first.lasting)
    assert choose(entry, "auto", lambda _repo: files, situation=squeezed).quality == "q8"
    assert choose(entry, "q4", lambda _repo: files, situation=here).lasting is None
    assert choose(entry, "auto", lambda _repo: {}, situation=here).lasting is None
