"""Names to repositories, the quality rule, the files of a Moshi repository."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from moshid.demo import checkpoint
from moshid.errors import BadCheckpoint, ModelNotFound
from moshid.model.catalogue import CATALOGUE, Situation, choose, resolve
from moshid.model.files import V0_1_CODEC, V0_1_TOKENIZER, locate, qualities_on_disk, select_files
from moshid.model.machine import Machine
from tests.fakes import small_models

GB = 10**9
BF16, Q8, Q4 = (f"kyutai/moshiko-mlx-{q}" for q in ("bf16", "q8", "q4"))


def disk(tmp_path: Path, *repos: str) -> Callable[[str], Mapping[str, Path]]:
    """A cache that holds the v0.1 files of ``repos``, each in the quality of its name."""
    held: dict[str, dict[str, Path]] = {}
    for repo in repos:
        quality = next(iter(resolve(repo).repos))
        weights = {"bf16": "model.safetensors"}.get(quality, f"model.{quality}.safetensors")
        held[repo] = {n: tmp_path / n for n in (weights, V0_1_TOKENIZER, V0_1_CODEC)}
    return lambda repo: held.get(repo, {})


def test_names_resolve_to_kyutais_repositories() -> None:
    entry = resolve("moshika")
    assert entry.repos == {q: f"kyutai/moshika-mlx-{q}" for q in ("bf16", "q8", "q4")}
    assert entry.sizes_bytes["bf16"] == 15_375_697_208
    assert list(CATALOGUE) == ["moshiko", "moshika", "demo"]


def test_the_demos_size_is_that_of_its_weights(demo_checkpoint: Path) -> None:
    size = (demo_checkpoint / checkpoint.WEIGHTS_NAME).stat().st_size
    assert resolve("demo").sizes_bytes == {"bf16": size}
    assert resolve("demo").repos == {"bf16": checkpoint.REPO}


def test_repositories_resolve_by_what_their_name_says() -> None:
    assert resolve("someone/moshi-tiny").repos == {"bf16": "someone/moshi-tiny"}
    assert resolve("someone/moshi-tiny-q4").repos == {"q4": "someone/moshi-tiny-q4"}
    assert resolve(Q8).repos == {"q8": Q8}
    assert resolve(Q8).sizes_bytes == {"q8": 8_168_645_376}


@pytest.mark.parametrize("name", ["moshico", "Moshiko", "moshik"])
def test_a_close_name_is_suggested(name: str) -> None:
    with pytest.raises(ModelNotFound, match="did you mean moshi") as caught:
        resolve(name)
    assert "moshiko" in caught.value.facts["suggestions"]
    assert "moshika" in caught.value.hint


@pytest.mark.parametrize("name", ["", "zzzz", "/x", "a/", "a/b/c", "a/\0b", "../..", "a/.."])
def test_what_is_no_name_and_no_repository_is_not_found(name: str) -> None:
    with pytest.raises(ModelNotFound, match="there is no model"):
        resolve(name)


RULE = [
    # on disk, quality asked for, memory → repository, runs as, fetched as, on disk
    ((), "bf16", 16, BF16, "bf16", "bf16", False),
    ((), "q4", 16, Q4, "q4", "q4", False),
    ((BF16,), "q4", 16, BF16, "q4", "bf16", True),
    ((BF16, Q4), "q4", 16, Q4, "q4", "q4", True),
    ((Q4,), "q8", 64, Q8, "q8", "q8", False),
    ((), "auto", 16, Q4, "q4", "q4", False),
    ((), "auto", 24, Q8, "q8", "q8", False),
    ((), "auto", 64, BF16, "bf16", "bf16", False),
    ((), "auto", 4, Q4, "q4", "q4", False),
    ((Q8,), "auto", 64, Q8, "q8", "q8", True),
    ((BF16,), "auto", 16, BF16, "q4", "bf16", True),
    ((BF16, Q8), "auto", 64, BF16, "bf16", "bf16", True),
]


@pytest.mark.parametrize(("held", "asked", "memory_gb", "repo", "runs", "fetch", "there"), RULE)
def test_the_quality_rule(
    tmp_path: Path,
    held: tuple[str, ...],
    asked: str,
    memory_gb: int,
    repo: str,
    runs: str,
    fetch: str,
    there: bool,
) -> None:
    entry = resolve("moshiko")
    machine = Machine("a processor", 8, memory_gb * GB, "0.26.5")
    situation = Situation(machine)
    choice = choose(entry, asked, disk(tmp_path, *held), situation=situation)
    assert (choice.repo, choice.quality, choice.fetch) == (repo, runs, fetch)
    assert choice.on_disk is there
    assert choice.size_bytes == entry.sizes_bytes[fetch]
    assert choice.reason


def test_a_quality_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="cannot be had as bf16"):
        choose(resolve(Q4), "bf16", disk(tmp_path))


def groups(config: dict[str, Any] | None, quality: str) -> list[tuple[str, ...]]:
    selected = select_files(config, quality)
    assert selected is not None
    return [group.candidates for group in selected]


def test_the_files_of_v0_1() -> None:
    rest = [(V0_1_TOKENIZER,), (V0_1_CODEC,)]
    assert groups(None, "bf16") == [("model.safetensors",), *rest]
    assert groups(None, "q4") == [("model.q4.safetensors", "model.safetensors"), *rest]
    every = ("model.safetensors", "model.q8.safetensors", "model.q4.safetensors")
    assert groups(None, "auto") == [every, *rest]


def test_the_files_that_a_config_names() -> None:
    config = small_models.config(mimi_config_name="mimi.json", moshi_name="lm.q8.safetensors")
    rest = [("tokenizer_spm_small.model",), ("codec.safetensors",), ("mimi.json",)]
    assert groups(config, "auto") == [("config.json",), ("lm.q8.safetensors",), *rest]
    q8 = ("lm.q8.safetensors", "model.q8.safetensors", "model.safetensors")
    assert groups(config, "q8") == [("config.json",), q8, *rest]
    standard = small_models.config()
    assert len(groups(standard, "bf16")) == 4, "the standard codec has no configuration file"


def test_a_foreign_config_selects_nothing() -> None:
    assert select_files({"model_type": "gpt2"}, "bf16") is None


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", 7])
def test_a_config_may_not_name_files_elsewhere(name: object) -> None:
    with pytest.raises(BadCheckpoint, match="names no file of its repository"):
        select_files(small_models.config(mimi_name=name), "bf16")


def files_of(folder: Path) -> dict[str, Path]:
    return {p.name: p for p in folder.iterdir()}


def test_locates_the_demo(demo_checkpoint: Path) -> None:
    paths = locate(checkpoint.REPO, "q4", files_of(demo_checkpoint))
    assert paths.weights.name == checkpoint.WEIGHTS_NAME
    assert paths.quality == "q4"
    assert (paths.codebooks, paths.delay_frames) == (8, 2)
    assert paths.codec_spec() == {
        "kind": "mlx_mimi",
        "weights": str(demo_checkpoint / checkpoint.CODEC_NAME),
        "config": str(demo_checkpoint / checkpoint.CODEC_CONFIG_NAME),
        "codebooks": 8,
    }


def test_locates_v0_1_by_its_fixed_names(tmp_path: Path) -> None:
    files = dict(disk(tmp_path, Q4)(Q4))
    paths = locate(Q4, "q4", files)
    assert paths.config is None
    assert paths.codec_spec()["kind"] == "rustymimi"
    assert (paths.codebooks, paths.delay_frames) == (8, 2)
    assert qualities_on_disk(files) == ["q4"]


def test_a_missing_file_is_named(demo_checkpoint: Path) -> None:
    for name in checkpoint.FILE_NAMES:
        if name == checkpoint.CONFIG_NAME:
            continue
        files = files_of(demo_checkpoint)
        del files[name]
        with pytest.raises(ModelNotFound, match=name):
            locate(checkpoint.REPO, "bf16", files)


def test_bf16_cannot_be_made_from_q4(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"there is|model.safetensors is missing"):
        locate(Q4, "bf16", disk(tmp_path, Q4)(Q4))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"model_type": "gpt2"}', "no Moshi model: its config.json lacks card"),
        ("[1]", "no JSON object"),
        ("{", "cannot be read as JSON"),
        (json.dumps(small_models.config(n_q=2, dep_q=9)), "n_q 2 and dep_q 9"),
    ],
)
def test_a_bad_config_is_a_bad_checkpoint(tmp_path: Path, text: str, message: str) -> None:
    small_models.write_checkpoint(tmp_path)
    (tmp_path / "codec.safetensors").write_bytes(b"")
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(BadCheckpoint, match=message):
        locate("some/model", "bf16", files_of(tmp_path))
