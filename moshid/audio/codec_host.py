"""A process around one rustymimi object: ``python -m moshid.audio.codec_host FD WEIGHTS CODEBOOKS
POSITIONS``. Owns that object, and the bytes on the socket to the audio worker.

An object cannot be rewound, has to be replaced now and then, and while it is made holds the GIL for
the time of four frames. So each has a process of its own, which is made ready beside the one that
works and whose end gives all its memory back.

Requests and replies, little-endian, one for one and in order::

    E  float32[1920]     → C u16[codebooks]       encode a frame
    B  float32[960]      → A                      begin with a frame's first half
    F  float32[960]      → C u16[codebooks]       finish it with the second
    D  u16[codebooks]    → P float32[1920]        decode a frame
    e, d  the same       → A                      take it in, tell nothing
    U                    → A                      a talk needs you now: be served first
                           R  once, when ready; X u16 length, UTF-8: it cannot be, and why
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from typing import Any, Final

import numpy as np
import rustymimi

from moshid.urgency import Urgency

FRAME_BYTES: Final = 4 * 1920
ENCODE, DECODE, TAKE_SOUND, TAKE_TOKENS, HURRY = b"E", b"D", b"e", b"d", b"U"
BEGIN, FINISH = b"B", b"F"
HALVES, SOUNDS = (BEGIN, FINISH), (ENCODE, TAKE_SOUND, BEGIN, FINISH)
CODES, SOUND, TAKEN, READY, FAILED = b"C", b"P", b"A", b"R", b"X"


def serve(stream: Any, tokenizer: Any, codebooks: int) -> None:
    """Answer until the worker hangs up."""
    urgency = Urgency()
    while kind := stream.read(1):
        if kind == HURRY:
            urgency.raise_()
            stream.write(TAKEN)
            stream.flush()
            continue
        size = _payload_bytes(kind, codebooks)
        payload = stream.read(size)
        if len(payload) < size:
            return
        if kind in SOUNDS:
            codes = tokenizer.encode_step(np.frombuffer(payload, np.float32).reshape(1, 1, -1))
            asked = kind in (ENCODE, FINISH)
            answer = CODES + np.asarray(codes).astype("<u2").tobytes() if asked else TAKEN
        else:
            codes = np.frombuffer(payload, "<u2").astype(np.uint32).reshape(1, -1, 1)
            sound = np.asarray(tokenizer.decode_step(codes), np.float32)
            answer = SOUND + sound.tobytes() if kind == DECODE else TAKEN
        stream.write(answer)
        stream.flush()


def _payload_bytes(kind: bytes, codebooks: int) -> int:
    if kind in SOUNDS:
        return FRAME_BYTES // 2 if kind in HALVES else FRAME_BYTES
    return 2 * codebooks


def main(argv: list[str]) -> None:
    """Make the object, say so, serve; end with the socket."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":  # a spare is not as urgent as the talk in which it is begun
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    fd, weights, codebooks, positions = int(argv[0]), argv[1], int(argv[2]), int(argv[3])
    with socket.socket(fileno=fd) as sock, sock.makefile("rwb") as stream:
        try:
            tokenizer = rustymimi.Tokenizer(weights, num_codebooks=codebooks, max_seq_len=positions)
        except Exception as e:  # noqa: BLE001 (the worker says it)
            text = str(e).encode(errors="replace")[:60_000]
            stream.write(FAILED + len(text).to_bytes(2, "little") + text)
            stream.flush()
            return
        try:
            stream.write(READY)
            stream.flush()
            serve(stream, tokenizer, codebooks)
        except (BrokenPipeError, ConnectionResetError):
            os._exit(0)  # the worker has gone


if __name__ == "__main__":
    main(sys.argv[1:])
