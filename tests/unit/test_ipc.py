"""Wire formats: to the letter, in any split of the stream, and garbage refused."""

from __future__ import annotations

import os
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moshid.ipc import (
    FrameDecoder,
    FrameKind,
    MessageDecoder,
    TokenFrame,
    WireError,
    pack_message,
    recv_with_fds,
    send_with_fds,
)

frames = st.builds(
    TokenFrame,
    kind=st.sampled_from(FrameKind),
    epoch=st.integers(0, 2**32 - 1),
    frame=st.integers(0, 2**32 - 1),
    capture_ns=st.integers(0, 2**64 - 1),
    text=st.integers(-1, 2**31 - 1),
    tokens=st.lists(st.integers(0, 2**16 - 1), max_size=32).map(tuple),
)


def test_the_frame_is_the_contract_to_the_letter() -> None:
    packed = TokenFrame(FrameKind.USER, 7, 9, 11, -1, (2047, 3)).pack()
    assert packed == struct.pack("<IBIIQiH2H", 27, 1, 7, 9, 11, -1, 2, 2047, 3)


@given(sent=st.lists(frames, max_size=8), data=st.data())
def test_frames_survive_any_split(sent: list[TokenFrame], data: st.DataObject) -> None:
    stream = b"".join(f.pack() for f in sent)
    decoder = FrameDecoder()
    received = []
    while stream:
        n = data.draw(st.integers(1, len(stream)))
        received += decoder.feed(stream[:n])
        stream = stream[n:]
    assert received == sent


@pytest.mark.parametrize(
    "garbage",
    [
        struct.pack("<I", 5000),
        struct.pack("<I", 3) + b"abc",
        struct.pack("<IBIIQiH", 23, 99, 1, 1, 1, 1, 0),
        struct.pack("<IBIIQiH", 23, 1, 1, 1, 1, 1, 4),
    ],
    ids=["too long", "too short", "unknown kind", "count does not fit"],
)
def test_garbage_is_no_frame(garbage: bytes) -> None:
    with pytest.raises(WireError):
        FrameDecoder().feed(garbage)


@pytest.mark.parametrize("body", [b"{", b"[1]", b"\xff"])
def test_garbage_is_no_message(body: bytes) -> None:
    with pytest.raises(WireError):
        MessageDecoder().feed(struct.pack("<I", len(body)) + body)


def test_messages_come_whole() -> None:
    decoder = MessageDecoder()
    stream = pack_message({"a": "é"}) + pack_message({"b": 2})
    assert decoder.feed(stream[:5]) == []
    assert decoder.feed(stream[5:]) == [{"a": "é"}, {"b": 2}]


def test_descriptors_travel_and_are_not_inherited() -> None:
    ours, theirs = socket.socketpair()
    r, w = os.pipe()
    with ours, theirs:
        send_with_fds(ours, b"x", [w])
        data, fds = recv_with_fds(theirs)
    os.close(w)
    assert (data, len(fds)) == (b"x", 1)
    assert not os.get_inheritable(fds[0])
    os.write(fds[0], b"through")
    os.close(fds[0])
    assert os.read(r, 100) == b"through"
    os.close(r)
