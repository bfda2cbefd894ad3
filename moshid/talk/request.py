"""What a client asks of a talk: typed, checked, and split into what each worker takes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec

from moshid import durations
from moshid.errors import ABSOLUTE_PATH, OUT_FILE, BadAudioFile, InvalidParams

TEXT_TOP_K: Final = 25
AUDIO_TOP_K: Final = 250
TEMPERATURE: Final = 0.8
SECONDS_MAX: Final = 1e9
"""Three decades. Counted in samples, the largest numbers there are have no end."""

Temperature = Annotated[float, msgspec.Meta(ge=0.0, le=5.0)]
TopK = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
TopP = Annotated[float, msgspec.Meta(gt=0.0, le=1.0)]
Penalty = Annotated[float, msgspec.Meta(gt=0.0, le=10.0)]
Window = Annotated[int, msgspec.Meta(ge=1, le=3000)]
SAMPLING: Final = (
    *("text_temperature", "text_top_k", "text_top_p"),
    *("text_repetition_penalty", "text_repetition_window"),
    *("audio_temperature", "audio_top_k", "audio_top_p"),
)
LINKS_MAX: Final = 40
ENDS: Final = ("input", "output", "in_file", "out_file")
HEARING: Final = ("echo_cancel", "noise_suppression", "auto_gain")
"""What stands between the microphone and the model."""

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]


class TalkRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What a client asks for. Paths are absolute; the audio worker opens them."""

    model: Text | None = None
    quality: Literal["auto", "bf16", "q8", "q4"] = "auto"
    input: Text | int | None = None
    output: Text | int | None = None
    in_file: Text | None = None
    out_file: Text | None = None
    seconds: Annotated[float, msgspec.Meta(gt=0, le=SECONDS_MAX)] | None = None
    fast: bool = False
    record: Text | None = None
    engine: Literal["moshi", "echo"] = "moshi"
    echo_cancel: bool | Literal["auto"] = "auto"
    noise_suppression: bool = False
    auto_gain: bool = False
    seed: Annotated[int, msgspec.Meta(ge=0, lt=2**31)] | None = None
    text_temperature: Temperature = TEMPERATURE
    audio_temperature: Temperature = TEMPERATURE
    text_top_k: TopK = TEXT_TOP_K
    audio_top_k: TopK = AUDIO_TOP_K
    text_top_p: TopP = 1.0
    audio_top_p: TopP = 1.0
    text_repetition_penalty: Penalty = 1.0
    text_repetition_window: Window = 64
    keep_alive: str | float | None = None
    ensure: bool = False
    confirm: bool = False
    detach: bool = False

    def check(self) -> None:
        """What types alone cannot say. Looks at no disk.

        Raises:
            InvalidParams: a relative path, a duration that is none, or options that exclude each
                other.
        """
        check_keep_alive(self.keep_alive)
        for name in ("in_file", "out_file", "record"):
            path = getattr(self, name)
            if path is not None and not Path(path).is_absolute():
                raise InvalidParams(
                    f"{name} has to be an absolute path, not {path!r}", hint=ABSOLUTE_PATH
                )
        if self.in_file is not None and self.input is not None:
            raise InvalidParams("in_file and input exclude each other: one source of sound only")
        if self.out_file is not None and self.output is not None:
            raise InvalidParams("out_file and output exclude each other: one sink of sound only")
        if self.fast and (self.in_file is None or self.out_file is None):
            raise InvalidParams("fast needs both in_file and out_file: devices run in real time")

    def check_files(self) -> None:
        """What would only be found missing once the model is loaded. Blocking.

        Raises:
            InvalidParams: in_file and out_file are one file.
            BadAudioFile: there is no in_file, or no folder for out_file, or out_file is one; or
                they are open files of ours.
        """
        if _are_one(self.in_file, self.out_file):
            raise InvalidParams("in_file and out_file are the same file: it would be lost")
        for path in (self.in_file, self.out_file):
            if path is not None and _is_descriptor(path):
                raise BadAudioFile(
                    f"{path} is what the daemon has open there, not what its client has",
                    hint="For stdin and stdout: --in - and --out -, raw PCM. Or name a file.",
                )
        if self.in_file is not None and _is_missing(self.in_file):
            raise BadAudioFile(f"there is no file {self.in_file}")
        if self.out_file is not None and _is_missing(folder := Path(self.out_file).parent):
            raise BadAudioFile(
                f"there is no folder {folder} to write {Path(self.out_file).name} in", hint=OUT_FILE
            )
        if self.out_file is not None and os.path.isdir(self.out_file):
            raise BadAudioFile(f"{self.out_file} is a folder", hint=OUT_FILE)

    def ends(self) -> dict[str, Any]:
        """Which devices or files it is between."""
        return {name: getattr(self, name) for name in ENDS}

    def audio(self, session: str, epoch: int, *, delay_frames: int) -> dict[str, Any]:
        """What the audio worker's ``start`` takes."""
        names = (*ENDS, "fast", "seconds", "engine")
        chosen = {name: getattr(self, name) for name in (*names, *HEARING)}
        chosen["sound_check"] = self.engine == "echo"
        return {"session": session, "epoch": epoch, "delay_frames": delay_frames} | chosen

    def sampling(self, seed: int) -> dict[str, Any]:
        """What the model worker's ``talk`` takes, besides session and epoch."""
        return {"seed": seed} | {name: getattr(self, name) for name in SAMPLING}


def check_keep_alive(keep_alive: str | float | None) -> None:
    """Whether it is a duration, or none is given.

    Raises:
        InvalidParams: it is not.
    """
    try:
        if keep_alive is not None:
            durations.parse(keep_alive)
    except ValueError as e:
        raise InvalidParams(f"keep_alive: {e}") from e


def _is_missing(path: str | Path) -> bool:
    try:
        Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):  # something else is wrong with it: the audio worker says what
        return False
    return False


def _is_descriptor(path: str) -> bool:
    """Whether it means, by links too, what the process has open that looks: our log, say."""
    own = f"/proc/{os.getpid()}/"
    try:
        for _ in range(LINKS_MAX):
            folder = os.path.realpath(os.path.dirname(path))
            if folder == "/dev/fd" or folder.startswith(own):
                return True
            path = os.path.join(folder, os.path.basename(path))
            if not os.path.islink(path):
                return False
            path = os.path.join(folder, os.readlink(path))
    except (OSError, ValueError):  # the audio worker says what is wrong with it
        pass
    return False


def _are_one(a: str | None, b: str | None) -> bool:
    """Whether two paths name the same file, by links too."""
    if a is None or b is None:
        return False
    try:
        if Path(a).exists() and Path(b).exists():
            return Path(a).samefile(b)
        return Path(a).resolve() == Path(b).resolve()
    except (OSError, ValueError, RuntimeError):  # no path at all: the audio worker says why
        return False
