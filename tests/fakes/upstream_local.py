"""The upstream program's loop, ``moshi_mlx.local``, over the demo model and the demo codec.

``python -m tests.fakes.upstream_local CHECKPOINT SECONDS``. The loop is run as it is installed.
Given to it are what a user of another model would have to give: the configuration (it has the
released model's built in), the sound devices, and, in rustymimi's place, a module with the one
class that it uses, ``StreamTokenizer``, over the codec in MLX, on a thread of its own as there.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import queue
import signal
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from moshid.demo import checkpoint

FOLDER: Final = "MOSHID_TEST_CHECKPOINT"


class StreamTokenizer:
    """rustymimi's interface: give sound or codes, ask for the other until it is there."""

    def __init__(self, weights: str) -> None:
        self._weights = weights
        self._work: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._encoded: queue.SimpleQueue[npt.NDArray[np.uint32]] = queue.SimpleQueue()
        self._decoded: queue.SimpleQueue[npt.NDArray[np.float32]] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="codec", daemon=True).start()

    def encode(self, pcm: npt.NDArray[np.float32]) -> None:
        """float32 [1920]."""
        self._work.put(("encode", pcm))

    def decode(self, codes: npt.NDArray[np.uint32]) -> None:
        """uint32 [1, codebooks]."""
        self._work.put(("decode", codes))

    def get_encoded(self) -> npt.NDArray[np.uint32] | None:
        """uint32 [codebooks, 1], or None while there is nothing."""
        codes: npt.NDArray[np.uint32] | None = _take(self._encoded)
        return codes

    def get_decoded(self) -> npt.NDArray[np.float32] | None:
        """float32 [1920], or None while there is nothing."""
        pcm: npt.NDArray[np.float32] | None = _take(self._decoded)
        return pcm

    def _run(self) -> None:
        from moshid.audio.codec_mlx import MlxMimi

        config = Path(self._weights).with_name(checkpoint.CODEC_CONFIG_NAME)
        codec = MlxMimi(self._weights, str(config), 8)
        while True:
            kind, data = self._work.get()
            if kind == "encode":
                self._encoded.put(np.array(codec.encode(data), dtype=np.uint32)[:, None])
            else:
                self._decoded.put(codec.decode(tuple(np.asarray(data).reshape(-1).tolist())))


def _take(source: queue.SimpleQueue[Any]) -> Any:
    try:
        return source.get_nowait()
    except queue.Empty:
        return None


def give(folder: Path) -> None:
    """What the loop takes from elsewhere, in its first process and in the two it starts."""
    stand_in = ModuleType("rustymimi")
    stand_in.StreamTokenizer = StreamTokenizer  # type: ignore[attr-defined]
    sys.modules["rustymimi"] = stand_in
    import sounddevice as sd
    from moshi_mlx import models

    from moshid import mlx_setup
    from moshid.audio.device_list import find_device

    mlx_setup.prepare()
    config = json.loads((folder / "config.json").read_text())
    models.config_v0_1 = lambda: models.LmConfig.from_config_dict(config)
    sd.default.device = (
        find_device("system", "input").index,
        find_device("JACK Audio", "output").index,
    )


def main() -> None:
    """Run upstream's main for some seconds, then interrupt it, as a user would."""
    folder, seconds = Path(sys.argv[1]), float(sys.argv[2])
    os.environ[FOLDER] = str(folder)
    give(folder)
    from moshi_mlx import local

    # As on a Mac: a sound server's client does not survive a fork.
    multiprocessing.set_start_method("spawn")
    given = ["--moshi-weight", str(folder / checkpoint.WEIGHTS_NAME)]
    given += ["--tokenizer", str(folder / checkpoint.TOKENIZER_NAME)]
    given += ["--mimi-weight", str(folder / checkpoint.CODEC_NAME)]
    sys.argv = ["local", *given]
    threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT)).start()
    local.main()


if __name__ == "__main__":
    main()
elif __name__ == "__mp_main__":
    give(Path(os.environ[FOLDER]))
