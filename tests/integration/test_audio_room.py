"""The whole session in a simulated room: the parrot, which repeats what it hears, hears itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from moshid.audio.codec import Codec, open_codec
from moshid.audio.frames import SAMPLE_RATE
from moshid.audio.hearing import Choice, Hearing
from moshid.audio.request import CodecSpec
from moshid.audio.session import Plan, Session
from moshid.demo import checkpoint
from moshid.model import mlx_engine
from moshid.model.engine import Engine, Sampling
from tests.fakes import rooms
from tests.fakes.audio_rig import DEMO_CODEC
from tests.fakes.rooms import Samples
from tests.fakes.simulated_room import EngineAtHand, RoomMicrophone, RoomSpeaker

USER_S = 1.4
ALL_S = 3.6
QUIET = round(2.6 * SAMPLE_RATE)
"""By then the user's words have been over for 1.2 s, and their repetition for 0.9 s."""

ROOM = rooms.shoebox(0.2, 40, gain_db=0.0)
"""The speaker is as loud at the microphone as the user."""


@dataclass(frozen=True)
class Wish:
    """What a talk asks for."""

    echo_cancel: Choice = "auto"
    noise_suppression: bool = False
    auto_gain: bool = False


@pytest.fixture(scope="module")
def codec() -> Codec:
    return open_codec(msgspec.convert(DEMO_CODEC, CodecSpec))


@pytest.fixture(scope="module")
def parrot(demo_checkpoint: Path) -> Engine:
    return mlx_engine.load(
        demo_checkpoint / "config.json",
        demo_checkpoint / "model.safetensors",
        demo_checkpoint / checkpoint.TOKENIZER_NAME,
        "bf16",
        lambda _advance: None,
    )


def converse(parrot: Engine, codec: Codec, wish: Wish) -> tuple[Samples, Samples, dict[str, Any]]:
    """What the user says, what the speaker plays, and the session's last numbers."""
    user = np.zeros(round(ALL_S * SAMPLE_RATE), dtype=np.float32)
    said = rooms.near_voice(USER_S)
    user[: len(said)] = said
    parrot.begin(7, Sampling())
    codec.reset()
    model = EngineAtHand(parrot)
    speaker = RoomSpeaker(len(user))
    microphone = RoomMicrophone(user, speaker, ROOM)
    session = Session(
        Plan("s1", 1, parrot.facts.delay_frames),
        microphone,
        speaker,
        lambda _event, _data: None,
        codec=codec,
        link=model.link,
        hearing=Hearing(wish, microphone, speaker),
    )
    while session.ended is None:
        microphone.let_go()
        session.step()
        model.serve()
        session.step()
    stats = session.finish()
    model.close()
    return user, speaker.played, stats


def test_the_model_does_not_talk_to_itself(parrot: Engine, codec: Codec) -> None:
    user, alone, stats = converse(parrot, codec, Wish(echo_cancel=False))
    assert not stats["echo_cancel"]
    assert rooms.level_db(alone[QUIET:]) > -25, "it repeats itself for ever"
    user, cancelled, stats = converse(parrot, codec, Wish())
    assert stats["echo_cancel"]
    assert stats["echo"]["delay_ms"] == pytest.approx(41.5, abs=1)
    assert rooms.level_db(cancelled[: len(user) // 2]) > -40, "it repeats the user"
    assert rooms.level_db(cancelled[QUIET : len(user)]) < -50, "it does not repeat itself"
