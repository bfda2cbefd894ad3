"""``talk --in - --out -``: raw PCM through the shell, client, daemon and audio worker."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from moshid.demo.home import World
from moshid.demo.watch import Watch
from tests.fakes.audio_rig import make_speech

FRAME = 1920
LIMIT_S = 60.0
CLIENT = [sys.executable, "-m", "moshi_client"]
TALK = [*CLIENT, "talk", "--engine", "echo", "--in", "-", "--out", "-"]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """A daemon without any model: an echo needs none."""
    with World() as world:
        world.start_daemon()
        yield world
        assert world.stop_daemon() == 0, world.daemon_log()


def run_dir(world: World) -> list[str]:
    return sorted(os.listdir(world.home / "run"))


def start(world: World, *flags: str) -> subprocess.Popen[bytes]:
    """A talk whose three streams are pipes of ours."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([*TALK, *flags], env=world.env, **pipes)  # type: ignore[call-overload,no-any-return]


def test_sound_goes_through_a_shell_pipe(world: World, tmp_path: Path) -> None:
    speech = make_speech(tmp_path / "in.wav", rate=44_100, channels=2)
    raw = "-r 24000 -c 1 -b 16 -e signed -t raw"
    client = shlex.join([*TALK, "--fast"])
    line = f"sox -G in.wav {raw} - | tee in.raw | {client} | cat > out.raw"
    done = subprocess.run(
        line, shell=True, cwd=tmp_path, env=world.env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "the input ended" in done.stderr
    heard, said = (
        np.fromfile(tmp_path / name, "<i2").astype(int) for name in ("out.raw", "in.raw")
    )
    assert len(said) > 20 * FRAME
    assert soundfile.info(speech).channels == 2
    assert not heard[:FRAME].any()
    # 16 bits are cut off by a step, as everywhere.
    assert np.abs(heard[FRAME : FRAME + len(said)] - said).max() <= 1
    assert run_dir(world) == []


def test_at_real_time_a_pipe_ends_with_its_writer(world: World) -> None:
    with start(world) as talk:
        out, err = talk.communicate(b"\0\1" * (5 * FRAME + 7), timeout=LIMIT_S)
    assert talk.returncode == 0, err
    assert b"the input ended" in err
    heard = np.frombuffer(out, "<i2")
    assert len(heard) >= (1 + 6) * FRAME, "longer if the copying was late on a busy machine"
    assert np.count_nonzero(heard) == 5 * FRAME + 7, "nothing is lost or doubled"


def test_a_reader_that_goes_away_ends_the_talk(world: World) -> None:
    with Watch(world, ["talk"]) as watch, start(world) as talk:
        assert talk.stdin is not None
        assert talk.stdout is not None
        talk.stdin.write(bytes(20 * 2 * FRAME))
        talk.stdin.flush()
        assert talk.stdout.read(1000) == bytes(1000)
        talk.stdout.close()
        assert talk.wait(LIMIT_S) == 1
        assert talk.stderr is not None
        shown = talk.stderr.read()
        talk.stdin.close()
        watch.wait_for(lambda _t, d: d.get("state") in ("stopped", "failed"), "the end", LIMIT_S)
    assert b"Traceback" not in shown
    assert b"error: the output cannot be written: whoever read it has gone\n" in shown


def test_ctrl_c_ends_a_talk_through_pipes(world: World) -> None:
    with start(world) as talk:
        assert talk.stdin is not None
        assert talk.stderr is not None
        assert talk.stdout is not None
        talk.stdin.write(bytes(2 * FRAME))
        talk.stdin.flush()
        assert b"talking" in talk.stderr.readline()
        assert talk.stdout.read(2 * FRAME) == bytes(2 * FRAME)
        while run_dir(world):  # both ends are open: the names are not needed any more
            assert talk.poll() is None
        talk.send_signal(signal.SIGINT)
        talk.stdout.read()
        assert talk.wait(LIMIT_S) == 0
        assert b"stopped after" in talk.stderr.read()
        talk.stdin.close()


@pytest.mark.parametrize(
    ("mode", "stdout", "told"),
    [
        (os.O_RDONLY, "/dev/full", b"cannot be written: No space left"),
        (os.O_WRONLY, "out.raw", b"stdin cannot be read: Bad file"),
    ],
)
def test_streams_that_cannot_be_used_are_told(
    world: World, tmp_path: Path, mode: int, stdout: str, told: bytes
) -> None:
    (tmp_path / "in.raw").write_bytes(bytes(30 * 2 * FRAME))
    source = os.open(tmp_path / "in.raw", mode)
    with open(tmp_path / stdout, "wb", buffering=0) as sink:
        done = subprocess.run(
            [*TALK, "--fast"],
            env=world.env,
            stdin=source,
            stdout=sink,
            stderr=subprocess.PIPE,
            check=False,
        )
    os.close(source)
    assert done.returncode == 1
    assert told in done.stderr
    assert b"Traceback" not in done.stderr


def test_what_a_killed_client_left_is_removed_by_the_next(world: World) -> None:
    with subprocess.Popen(["true"]) as gone:
        pass
    orphan = world.home / "run" / f"talk-{gone.pid}.in"
    other = world.home / "run" / f"talk-{os.getpid()}.in"
    os.mkfifo(orphan)
    os.mkfifo(other)
    with start(world, "--fast") as talk:
        talk.communicate(b"", timeout=LIMIT_S)
    assert talk.returncode == 0
    assert run_dir(world) == [other.name], "that one's process is alive"
    other.unlink()


def test_a_sound_file_and_a_strange_suffix_are_refused(world: World, tmp_path: Path) -> None:
    wav = make_speech(tmp_path / "in.wav").read_bytes()
    with start(world, "--fast") as talk:
        _out, err = talk.communicate(wav, timeout=LIMIT_S)
    assert talk.returncode == 1
    assert b"raw PCM" in err
    assert run_dir(world) == []
    command = [*CLIENT, "talk", "--engine", "echo", "--in", str(tmp_path / "in.wav")]
    command += ["--out", str(tmp_path / "out.m4a"), "--fast", "--json"]
    done = subprocess.run(command, env=world.env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    error = json.loads(done.stderr)["error"]
    assert error["kind"] == "audio.bad_file"
    assert ".flac" in error["hint"]


@pytest.mark.parametrize("path", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "link.wav"])
def test_a_descriptor_s_path_is_refused_since_it_would_be_the_daemon_s(
    world: World, tmp_path: Path, path: str
) -> None:
    log = world.folder / "daemon.stderr"
    speech = make_speech(tmp_path / "in.wav")
    (tmp_path / "link.wav").symlink_to("/dev/stdout")
    for ends in (["--in", str(speech), "--out", path], ["--in", path, "--out", "out.wav"]):
        command = [*CLIENT, "talk", "--engine", "echo", *ends, "--fast", "--json"]
        done = subprocess.run(
            command, cwd=tmp_path, env=world.env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        error = json.loads(done.stderr)["error"]
        assert error["kind"] == "audio.bad_file"
        assert "--out -" in error["hint"]
    assert b"\0\0\0\0" not in log.read_bytes(), "no sound in the daemon's log"
