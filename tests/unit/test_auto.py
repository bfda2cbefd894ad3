"""Which quality ``auto`` takes, and what it says; what is remembered of measurements."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from moshid.errors import ModelNotFound
from moshid.model import auto, machine, memory
from moshid.model.auto import Candidate, Verdict, Verdicts, decide
from moshid.model.catalogue import Situation, choose, resolve
from moshid.model.files import V0_1_CODEC, V0_1_TOKENIZER
from moshid.model.machine import Machine, WorkingSet
from moshid.model.qualities import QUALITIES

GB = 10**9
SEVEN_B = [
    Candidate("bf16", 15_375_697_208),
    Candidate("q8", 8_168_645_376),
    Candidate("q4", 4_805_385_728),
]


def mac(gigabytes: float, working_set_gb: float | None = None, **changes: Any) -> Machine:
    working_set = None if working_set_gb is None else round(working_set_gb * GB)
    made = Machine("Apple M4", 10, round(gigabytes * GB), "0.26.5", working_set)
    return msgspec.structs.replace(made, **changes)


def decided(here: Machine, free_gb: float | None = None, slow: str = "") -> auto.Decision:
    def verdict_of(quality: str, size_bytes: int | None) -> Verdict | None:
        assert size_bytes in {c.size_bytes for c in SEVEN_B}
        return Verdict(112.0, 25, size_bytes or 0) if quality in slow.split() else None

    free_bytes = None if free_gb is None else round(free_gb * GB)
    return decide(SEVEN_B, here, where="on disk", free_bytes=free_bytes, verdict_of=verdict_of)


@pytest.mark.parametrize(
    ("here", "free_gb", "slow", "quality"),
    [
        (mac(8, 5.7), None, "", "q4"),
        (mac(16, 11.8), None, "", "q4"),
        (mac(24, 17.2), None, "", "q8"),
        (mac(36, 27.0), None, "", "bf16"),
        (mac(64), None, "", "bf16"),
        (mac(64), 12.0, "", "q8"),
        (mac(64), 8.0, "", "q4"),
        (mac(64), 1.0, "", "q4"),
        (mac(64), None, "bf16", "q8"),
        (mac(64), 40.0, "bf16 q8", "q4"),
        (mac(64), 40.0, "bf16 q8 q4", "q4"),
    ],
)
def test_what_is_taken(here: Machine, free_gb: float | None, slow: str, quality: str) -> None:
    assert decided(here, free_gb, slow).quality == quality


def test_it_explains_itself_with_the_numbers() -> None:
    assert decided(mac(24, 17.2)).why == (
        "q8 is the best on disk that suits this machine: it needs 10.3 GB of 13.8 GB, 80% of MLX's "
        "recommended 17.2 GB; bf16 needs 17.5 GB, over 13.8 GB, 80% of MLX's recommended 17.2 GB"
    )
    assert "bf16 needs 17.5 GB, 12.0 GB are free" in decided(mac(64), 12.0).why
    assert "50% of this machine's 64.0 GB" in decided(mac(64)).why
    slow = decided(mac(64), slow="bf16").why
    assert "bf16 was measured here: 112 ms a step (p95, full cache), over 72 of the 80 ms" in slow
    every = decided(mac(64), slow="bf16 q8 q4").why
    assert every.startswith("q4 is the smallest on disk, though bf16 was measured here")


def test_a_size_that_nobody_knows_fits() -> None:
    made = decide([Candidate("bf16", None)], mac(8), where="on the Hub")
    assert (made.quality, made.why) == (
        "bf16",
        "bf16 is the best on the Hub that suits this machine",
    )


def test_another_models_size_is_that_of_its_files(tmp_path: Path) -> None:
    """A repository of which the catalogue knows nothing, and its bf16 quantised at load."""
    names = ("model.safetensors", V0_1_TOKENIZER, V0_1_CODEC)
    files = {name: tmp_path / name for name in names}
    for path in files.values():
        path.touch()
    with files["model.safetensors"].open("wb") as file:
        file.truncate(6 * GB)
    entry = resolve("someone/moshi-3b")
    for memory_gb, quality, size_bytes in (
        (32, "bf16", 6 * GB),
        (10, "q8", round(6 * GB * 0.53125)),
        (6, "q4", round(6 * GB * 0.3125)),
    ):
        situation = Situation(mac(memory_gb))
        choice = choose(entry, "auto", lambda _repo: files, situation=situation)
        assert (choice.quality, choice.loaded_bytes) == (quality, size_bytes)
        assert (choice.fetch, choice.on_disk) == ("bf16", True)


def test_the_free_memory_of_the_moment_does_not_decide_a_download() -> None:
    situation = Situation(mac(64), free_bytes=1 * GB)
    choice = choose(resolve("moshiko"), "auto", lambda _repo: {}, situation=situation)
    assert (choice.quality, choice.on_disk) == ("bf16", False)
    with pytest.raises(ModelNotFound):
        choose(resolve("kyutai/moshiko-mlx-q4"), "bf16", lambda _repo: {}, situation=situation)


VERDICT = Verdict(101.5, 25, 7)


def test_a_verdict_is_remembered(tmp_path: Path) -> None:
    path = tmp_path / "auto.json"
    Verdicts(path, lambda: mac(64)).note("moshiko", "bf16", VERDICT)
    Verdicts(path, lambda: mac(64)).note("moshiko", "q8", Verdict(30.0, 25, 8))
    again = Verdicts(path, lambda: mac(64))
    assert again.of("moshiko", "bf16", 7) == VERDICT
    assert again.of("moshiko", "bf16", None) == VERDICT
    assert again.of("moshiko", "q8", 8) == Verdict(30.0, 25, 8)
    assert [p.name for p in tmp_path.iterdir()] == ["auto.json"]


@pytest.mark.parametrize(
    "other",
    [{"mlx": "0.31.0"}, {"processor": "Apple M1"}, {"total_bytes": 8 * GB}, {"cores": 8}],
)
def test_another_machine_or_mlx_knows_nothing(tmp_path: Path, other: dict[str, Any]) -> None:
    path = tmp_path / "auto.json"
    Verdicts(path, lambda: mac(64)).note("moshiko", "bf16", VERDICT)
    moved = Verdicts(path, lambda: mac(64, **other))
    assert moved.of("moshiko", "bf16", 7) is None
    moved.note("moshiko", "q4", VERDICT)
    assert Verdicts(path, lambda: mac(64)).of("moshiko", "bf16", 7) is None


def test_sizes_within_one_percent_are_one_models(tmp_path: Path) -> None:
    """The catalogue counts tensors, a file has a header besides."""
    verdicts = Verdicts(tmp_path / "auto.json", lambda: mac(64))
    tensors_bytes = resolve("moshiko").sizes_bytes["q4"]
    verdict = Verdict(30.0, 25, tensors_bytes + 120_000)
    verdicts.note("moshiko", "q4", verdict)
    assert verdicts.of("moshiko", "q4", tensors_bytes) == verdict
    assert verdicts.of("moshiko", "q4", round(1.02 * tensors_bytes)) is None


@pytest.mark.parametrize(
    ("held", "slow", "advised"),
    [
        ("q8", {"q8"}, "moshi-client download moshiko --quality q4"),
        ("q8", set(), None),
        ("q4", {"q4"}, None),
        ("bf16", {"bf16", "q8", "q4"}, None),
    ],
)
def test_when_all_on_disk_is_too_slow_it_says_what_to_fetch(
    tmp_path: Path, held: str, slow: set[str], advised: str | None
) -> None:
    weights = {"bf16": "model.safetensors"}.get(held, f"model.{held}.safetensors")
    files = {name: tmp_path / name for name in (weights, V0_1_TOKENIZER, V0_1_CODEC)}
    situation = Situation(
        mac(64),
        verdict_of=lambda _name, q, _size: Verdict(112.0, 25, 1) if q in slow else None,
    )
    choice = choose(
        resolve("moshiko"),
        "auto",
        lambda repo: files if repo.endswith(held) else {},
        situation=situation,
    )
    assert choice.on_disk, "what can be loaded is loaded"
    assert ("moshi-client download" in choice.reason) is (advised is not None)
    assert advised is None or choice.reason.endswith(advised)


def test_another_size_or_model_has_no_verdict(tmp_path: Path) -> None:
    verdicts = Verdicts(tmp_path / "auto.json", lambda: mac(64))
    verdicts.note("moshiko", "bf16", VERDICT)
    assert verdicts.of("moshiko", "bf16", 8) is None
    assert verdicts.of("moshika", "bf16", 7) is None
    assert verdicts.of("moshiko", "q8", 7) is None


def test_too_slow_lapses_after_a_week_and_fast_enough_does_not(tmp_path: Path) -> None:
    now_s = [1e9]
    verdicts = Verdicts(tmp_path / "auto.json", lambda: mac(64), clock=lambda: now_s[0])
    fast = Verdict(30.0, 25, 8)
    verdicts.note("moshiko", "bf16", VERDICT)
    verdicts.note("moshiko", "q8", fast)
    now_s[0] += 6.9 * 24 * 3600
    assert verdicts.of("moshiko", "bf16", 7) == VERDICT
    now_s[0] += 0.2 * 24 * 3600
    assert verdicts.of("moshiko", "bf16", 7) is None
    assert verdicts.of("moshiko", "q8", 8) == fast
    verdicts.note("moshiko", "bf16", VERDICT)
    assert verdicts.of("moshiko", "bf16", 7) == VERDICT
    now_s[0] -= 3600
    assert verdicts.of("moshiko", "bf16", 7) is None, "noted in the future: the clock was set back"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"machine": 1}', '{"verdicts": {}}'])
def test_a_file_that_is_none_of_ours_is_replaced(tmp_path: Path, text: str) -> None:
    path = tmp_path / "auto.json"
    path.write_text(text)
    verdicts = Verdicts(path, lambda: mac(64))
    assert verdicts.of("moshiko", "bf16", 7) is None
    verdicts.note("moshiko", "bf16", VERDICT)
    assert json.loads(path.read_text())["verdicts"]["moshiko bf16"]["p95_ms"] == 101.5


def test_this_machine_is_known() -> None:
    here = machine.here()
    assert here.total_bytes == memory.total_bytes()
    assert here.processor
    assert here.cores >= 1
    assert here.mlx.count(".") == 2
    assert (here.working_set_bytes is None) == (memory.available_bytes() is not None)


@pytest.mark.parametrize(
    ("told", "size_bytes"),
    [
        ('{"working_set_bytes": 11453251584}', 11_453_251_584),
        ('{"working_set_bytes": null}', None),
        ('{"working_set_bytes": -1}', None),
        ("{}", None),
        ("no", None),
        ("[]", None),
    ],
)
def test_the_recommended_working_set(told: str, size_bytes: int | None) -> None:
    assert WorkingSet(lambda: told).ask() == size_bytes


def test_the_probe_runs_and_a_failed_one_is_no_fault() -> None:
    told = json.loads(machine.run_probe())
    assert told.keys() == {"working_set_bytes"}

    def fail() -> str:
        raise OSError("no python")

    assert WorkingSet(fail).ask() is None


def test_a_failed_probe_is_tried_again_and_an_answer_is_kept() -> None:
    now_s, asked = [0.0], 0
    answers = ["no", '{"working_set_bytes": 7}']

    def probe() -> str:
        nonlocal asked
        asked += 1
        return answers.pop(0)

    working_set = WorkingSet(probe, clock=lambda: now_s[0])
    assert [working_set.ask(), working_set.ask()] == [None, None]
    assert asked == 1, "not each call waits for a probe that fails"
    now_s[0] += 61
    assert [working_set.ask(), working_set.ask()] == [7, 7]
    assert asked == 2


def test_no_metal_is_an_answer() -> None:
    answers = ['{"working_set_bytes": null}']
    working_set = WorkingSet(lambda: answers.pop(0), clock=lambda: 1e9)
    assert [working_set.ask(), working_set.ask()] == [None, None]


def test_verdicts_outlive_a_failed_probe(tmp_path: Path) -> None:
    path = tmp_path / "auto.json"
    Verdicts(path, lambda: mac(24, 17.2)).note("moshiko", "bf16", VERDICT)
    blind = Verdicts(path, lambda: mac(24))
    assert blind.of("moshiko", "bf16", 7) == VERDICT
    blind.note("moshiko", "q8", VERDICT)
    assert Verdicts(path, lambda: mac(24, 17.2)).of("moshiko", "bf16", 7) == VERDICT


VM_STAT = """Mach Virtual Memory Statistics: (page size of 16384 bytes)
Pages free:                               10000.
Pages active:                            300000.
Pages inactive:                           20000.
Pages speculative:                          500.
Pages throttled:                              0.
Pages wired down:                        100000.
Pages purgeable:                           1000.
"Translation faults":                 123456789.
"""


def test_free_memory_of_a_mac() -> None:
    assert memory.parse_vm_stat(VM_STAT) == 31_500 * 16384
    assert memory.parse_vm_stat("nothing") is None
    free = memory.free_bytes()
    assert free is not None
    assert 0 < free <= memory.total_bytes()


def test_the_qualities_are_in_order() -> None:
    assert [c.quality for c in SEVEN_B] == list(QUALITIES)
