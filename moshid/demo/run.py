"""``moshid demo``: downloads, loads and talks with the small demo model, and tells how it went.

Owns the order of the steps; each is what a user would do, by the real commands, against a Hub on
loopback and, where there is one, a sound server. Ends with exit code 0 only if all of it worked.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import soundfile

from moshid.demo import checkpoint, interrupts, lags, report, sound
from moshid.demo.home import DemoFailed, World
from moshid.demo.probe import JackProbe, Samples
from moshid.demo.watch import Watch

MODEL: Final = "demo"
SEED: Final = 1
RATE: Final = 24_000
LINE_BPS: Final = 12_000_000
"""Bytes a second of the Hub on loopback: slow enough to watch, and to kill in the middle."""

CUTS_AT: Final = (0.2, 0.75)
KILL_AT: Final = 0.5
LINE_LIMIT_S: Final = 300.0
TALK_TOPICS: Final = ["talk", "talk.level", "talk.text"]


def cache_folder() -> Path:
    """Where the demo checkpoint is kept between runs."""
    user = Path.home()
    base = user / "Library" / "Caches" if sys.platform == "darwin" else user / ".cache"
    if sys.platform != "darwin" and os.environ.get("XDG_CACHE_HOME"):
        base = Path(os.environ["XDG_CACHE_HOME"])
    return base / "moshid" / "demo"


def main(args: argparse.Namespace) -> int:
    """Run the whole demo; returns the exit code."""
    out = Path(args.out).absolute()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        print(f"moshid: the folder {out} cannot be made: {e.strerror}", file=sys.stderr)
        print("hint: give --out a folder of yours that can be written.", file=sys.stderr)
        return 1
    if importlib.util.find_spec("matplotlib") is None:
        print("the demo draws a picture: make demo, or pip install '.[demo]'", file=sys.stderr)
        return 1
    try:
        with interrupts.raised():
            facts = Demo(out, args.seconds, with_sound=not args.no_sound).run()
    except (DemoFailed, sound.SoundServerMissing, TimeoutError) as e:
        print(f"\nThe demo failed: {e}", file=sys.stderr)
        return 1
    report.write(facts, out)
    return 0


class Demo:
    """The steps, in order; ``facts`` collects what the report tells."""

    def __init__(self, out: Path, seconds: float, *, with_sound: bool) -> None:
        self._out = out
        self._seconds = seconds
        self._with_sound = with_sound
        self._began = time.monotonic()
        self.facts: dict[str, Any] = {}

    def run(self) -> dict[str, Any]:
        """All of it; returns the facts.

        Raises:
            DemoFailed: something did not do what it should.
        """
        built = self._build()
        with World() as world, self._sound_server(world) as server:
            self._serve(world, built)
            self.facts["daemon_start_s"] = round(world.start_daemon(), 2)
            self._say("started the daemon", f"process {world.daemon_pid}, home {world.home}")
            self._download(world)
            self._check_digests(world, built)
            self._load(world)
            self._talk_with_files(world)
            self._talk_aloud(world, server)
            if (code := world.stop_daemon()) != 0:
                raise DemoFailed(f"the daemon stopped with exit code {code}: {world.daemon_log()}")
        self.facts["total_s"] = round(time.monotonic() - self._began, 1)
        return self.facts

    def _say(self, what: str, more: str = "") -> None:
        clock = time.monotonic() - self._began
        print(f"[{clock:6.1f} s] {what}{': ' + more if more else ''}", flush=True)

    def _build(self) -> checkpoint.CheckpointFacts:
        folder = cache_folder() / "hub" / checkpoint.REPO
        self._say("building the demo checkpoint (once)", str(folder))
        return checkpoint.build(folder)

    @contextlib.contextmanager
    def _sound_server(self, world: World) -> Iterator[sound.JackServer | None]:
        """A private jackd on Linux, before the daemon, whose workers have to find it."""
        if sys.platform == "darwin" or not self._with_sound:
            yield None
            return
        if shutil.which("jackd") is None:
            raise DemoFailed("jackd is missing: `make setup`, or run the demo with --no-sound")
        with sound.JackServer(world.folder) as server:
            world.env = sound.sound_environment(server, world.env)
            self._say("started a private sound server", "jackd, dummy driver, 24 kHz")
            yield server

    def _serve(self, world: World, built: checkpoint.CheckpointFacts) -> None:
        total = sum(f.size_bytes for f in built.files.values())
        cuts = [round(total * share) for share in CUTS_AT]
        endpoint = world.start_hub(cache_folder() / "hub", rate_bps=LINE_BPS, cut_at=cuts)
        self.facts["bytes_total"] = total
        self._say("serving it from a Hub on loopback", f"{endpoint}, {LINE_BPS / 1e6:.0f} MB/s")

    def _download(self, world: World) -> None:
        """With the link cut twice by the Hub, and the daemon killed in the middle."""
        kill_at = round(self.facts["bytes_total"] * KILL_AT)
        began = time.monotonic()

        def half_done(_topic: str, data: dict[str, Any]) -> bool:
            return bool(data["job"]["bytes_done"] >= kill_at)

        with Watch(world, ["download"]) as watch:
            client = world.client("download", MODEL)
            watch.wait_for(half_done, "half of the download", LINE_LIMIT_S)
            killed = world.daemon_pid
            world.kill_daemon()
        self._say("killed the daemon with SIGKILL in the middle", f"process {killed}")
        world.start_daemon()
        self._say("started it again", f"process {world.daemon_pid}; the ledger goes on")
        if (code := client.wait(LINE_LIMIT_S)) != 0:
            raise DemoFailed(f"moshi-client download exited with {code}: {world.daemon_log()}")
        job = world.call("download.list")["jobs"][0]
        if job["state"] != "done" or job["bytes_done"] != job["bytes_total"]:
            raise DemoFailed(f"the download ended as {job['state']}: {job['error']}")
        self.facts["job"] = {k: v for k, v in job.items() if k != "files"}
        self.facts["download_s"] = round(time.monotonic() - began, 2)

    def _check_digests(self, world: World, built: checkpoint.CheckpointFacts) -> None:
        folder = world.hf_cache / f"models--{checkpoint.REPO.replace('/', '--')}" / "snapshots"
        snapshot = next(folder.iterdir())
        for path, wanted in built.files.items():
            with (snapshot / path).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != wanted.sha256:
                raise DemoFailed(f"{path} has the wrong digest {found}")
        self.facts["files_verified"] = len(built.files)
        self._say("compared every file's SHA-256 with the built one", f"{len(built.files)} right")

    def _load(self, world: World) -> None:
        world.run_client("load", MODEL)
        world.run_client("status")
        self.facts["model"] = world.call("model.status")

    def _talk_with_files(self, world: World) -> None:
        said, heard = checkpoint.speech_wav(), self._out / "files-output.wav"
        shutil.copyfile(said, self._out / "files-input.wav")
        talk = ["talk", "--model", MODEL, "--in", str(said), "--out", str(heard)]
        with Watch(world, TALK_TOPICS) as watch:
            world.run_client(*talk, "--seed", str(SEED))
            self.facts["talk_files"] = _talk_facts(watch)
        self._measure("talk_files", said, heard)

    def _measure(self, name: str, said: Path, heard: Path) -> None:
        """Lag and likeness of loudness between two WAV files of one clock."""
        played, recorded = _read(said), _read(heard)
        lag_s, correlation = lags.envelope_lag(played, recorded, RATE)
        self.facts[name] |= {"lag_ms": round(lag_s * 1000), "correlation": round(correlation, 3)}
        if correlation < report.CORRELATION_MIN:
            raise DemoFailed(
                f"what came out of {name} is not what went in: correlation {correlation:.2f}"
            )
        self._say("compared what was said and heard", f"{lag_s * 1000:.0f} ms, {correlation:.2f}")

    def _talk_aloud(self, world: World, server: sound.JackServer | None) -> None:
        """Through PortAudio: a player speaks into the microphone, a recorder hears the speaker."""
        if not self._with_sound:
            self._say("left out the talk through PortAudio, as asked")
            return
        if server is None:  # macOS: whoever sits there speaks
            devices = world.call("audio.devices")
            if not (devices["input"] and devices["output"]):
                self._say("left out the talk through PortAudio", "no microphone or no speaker here")
                return
            with Watch(world, TALK_TOPICS) as watch:
                world.run_client("talk", "--model", MODEL, "--seconds", str(self._seconds))
                self.facts["talk_sound"] = _talk_facts(watch)
            return
        speech = _read(checkpoint.speech_wav())
        seconds = len(speech) / RATE + 3.0
        # The probe stands in for microphone and speaker: there is no room, and no echo.
        talk = ["talk", "--model", MODEL, "--seconds", f"{seconds:.1f}", "--no-echo-cancel"]
        talk += ["--seed", str(SEED)]
        with JackProbe(server) as probe, Watch(world, TALK_TOPICS) as watch:
            client = world.client(*talk)
            probe.attach()
            watch.wait_for(_listening, "the talk to listen", 60.0)
            probe.play(speech, tail_s=1.0)
            recorded = probe.wait(seconds + 30.0)
            if (code := client.wait(60.0)) != 0:
                raise DemoFailed(f"moshi-client talk exited with {code}: {world.daemon_log()}")
            self.facts["talk_sound"] = _talk_facts(watch)
        _write(self._out / "sound-input.wav", np.pad(speech, (0, RATE)))
        _write(self._out / "sound-output.wav", recorded)
        self._measure("talk_sound", self._out / "sound-input.wav", self._out / "sound-output.wav")


def _talk_facts(watch: Watch) -> dict[str, Any]:
    """The final status of the talk just over, its levels frame by frame, its words."""
    watch.wait_for(_over, "the talk to end", 60.0)
    status: dict[str, Any] = watch.data("talk")[-1]["status"]
    words = "".join(word["text"] for word in watch.data("talk.text"))
    return status | {"levels": watch.data("talk.level"), "transcript": words.strip()}


def _over(topic: str, data: dict[str, Any]) -> bool:
    return topic == "talk" and data.get("state") in ("stopped", "failed")


def _listening(topic: str, data: dict[str, Any]) -> bool:
    return topic == "talk" and data.get("state") == "listening"


def _read(path: Path) -> Samples:
    pcm, rate = soundfile.read(path, dtype="float32", always_2d=True)
    if rate != RATE:
        raise DemoFailed(f"{path} has {rate} Hz, not {RATE}")
    return np.ascontiguousarray(pcm[:, 0])


def _write(path: Path, pcm: Samples) -> None:
    soundfile.write(path, pcm, RATE, subtype="PCM_16")
