"""The engine beside ``moshi_mlx.run_inference``, unchanged: same weights, same WAV, same answer."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import rustymimi
import soundfile

from moshid.demo.home import World
from moshid.model import mlx_engine
from moshid.model.engine import Sampling
from tests.fakes import small_models
from tests.fakes.mimi_weights import write_mimi

FRAMES = 40
SAMPLES = 1920
REPO = "test/small"
COMMIT = "0123456789abcdef0123456789abcdef01234567"

NUMBERS = small_models.config(
    card=2048, n_q=16, dep_q=8, delays=[0] + ([0] + [1] * 7) * 2, dim=64, num_heads=2
)


def run_upstream(folder: Path, mimi: Path, heard: Path, said: Path) -> str:
    """Upstream's program, greedy; what it printed as text."""
    command = [sys.executable, "-m", "moshi_mlx.run_inference", "--temp", "0"]
    command += ["--lm-config", str(folder / "config.json")]
    command += ["--moshi-weights", str(folder / NUMBERS["moshi_name"])]
    command += ["--tokenizer", str(folder / NUMBERS["tokenizer_name"])]
    command += ["--mimi-weights", str(mimi), str(heard), str(said)]
    env = os.environ | {"MLX_DISABLE_COMPILE": "1"}  # it would need a g++
    out = subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout
    found = re.search(r"steps to run: \d+\S*\n(.*)\n.*steps: \d+, token per sec", out, re.DOTALL)
    assert found is not None, out
    return found[1]


def run_ours(folder: Path, mimi: Path, heard: Path, said: Path) -> str:
    """The same by the engine that talks use."""
    engine = mlx_engine.load(
        folder / "config.json",
        folder / NUMBERS["moshi_name"],
        folder / NUMBERS["tokenizer_name"],
        "bf16",
        lambda _advance: None,
    )
    engine.begin(0, Sampling(0.0, 25, 0.0, 250))
    codec = rustymimi.Tokenizer(str(mimi), num_codebooks=8)
    pcm, _ = soundfile.read(heard, dtype="float32")
    pieces, sound = [], []
    for start in range(0, FRAMES * SAMPLES, SAMPLES):
        codes = np.asarray(codec.encode_step(pcm[None, None, start : start + SAMPLES]))
        result = engine.step(codes[0, :, 0].tolist())
        pieces.append(engine.piece(result.text) or "")
        if result.tokens:
            answer = np.array(result.tokens, np.uint32)[None, :, None]
            sound.append(np.asarray(codec.decode_step(answer)))
    rustymimi.write_wav(str(said), np.concatenate(sound, axis=-1)[0, 0], sample_rate=24000)
    return "".join(pieces)


@dataclass(frozen=True, slots=True)
class Upstream:
    """What upstream's program heard and said."""

    folder: Path
    mimi: Path
    heard: Path
    said: Path
    text: str


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Upstream:
    """3.2 s of noise through ``run_inference``."""
    place = tmp_path_factory.mktemp("upstream")
    folder = small_models.write_checkpoint(place / "model", NUMBERS)
    mimi = write_mimi(place / "mimi.safetensors")
    heard, said = place / "heard.wav", place / "theirs.wav"
    noise = np.random.default_rng(0).standard_normal(FRAMES * SAMPLES).astype(np.float32)
    rustymimi.write_wav(str(heard), 0.1 * noise, sample_rate=24000)
    return Upstream(folder, mimi, heard, said, run_upstream(folder, mimi, heard, said))


def test_says_what_run_inference_says(upstream: Upstream, tmp_path: Path) -> None:
    ours = tmp_path / "ours.wav"
    assert run_ours(upstream.folder, upstream.mimi, upstream.heard, ours) == upstream.text
    assert ours.read_bytes() == upstream.said.read_bytes()
    assert len(upstream.text) > 10
    assert len(ours.read_bytes()) > (FRAMES - 3) * SAMPLES * 2


def put_in_cache(cache: Path, repo: str, upstream: Upstream) -> None:
    """A snapshot as huggingface_hub would leave it."""
    place = cache / f"models--{repo.replace('/', '--')}"
    snapshot = place / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(COMMIT)
    for file in upstream.folder.iterdir():
        (snapshot / file.name).symlink_to(file)
    (snapshot / NUMBERS["mimi_name"]).symlink_to(upstream.mimi)


def test_talk_writes_the_file_that_run_inference_writes(upstream: Upstream, tmp_path: Path) -> None:
    """Sample for sample, through client, daemon, both workers and the codec's own process."""
    said = tmp_path / "ours.wav"
    talk = ["talk", "--model", REPO, "--quality", "bf16", "--fast"]
    talk += ["--text-temperature", "0", "--audio-temperature", "0"]
    with World() as world:
        world.env |= {"HF_HUB_OFFLINE": "1"}
        put_in_cache(world.hf_cache, REPO, upstream)
        world.start_daemon()
        command = [sys.executable, "-m", "moshi_client", *talk]
        command += ["--in", str(upstream.heard), "--out", str(said)]
        done = subprocess.run(command, env=world.env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr + world.daemon_log()
    ours, theirs = (soundfile.read(path, dtype="int16")[0] for path in (said, upstream.said))
    # Theirs begins with the first answer. Ours stands on the time line: that is the answer to frame
    # 1, and is heard when frame 1 is complete. And it ends with what is still said after the input.
    begin = 2 * SAMPLES
    assert len(theirs) == (FRAMES - 1) * SAMPLES
    assert np.array_equal(ours[begin : begin + len(theirs)], theirs)
    assert not ours[:begin].any()
    assert len(ours) > begin + len(theirs)
    assert done.stdout.strip().startswith(upstream.text.strip())
