"""What keeps a talk on its devices, with processes that do as they are told."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from moshid.errors import DeviceFailed, WorkerDied
from tests.fakes.device_keepers import STATS, FakeProcess, FakeScout, Keeping, device

pytestmark = pytest.mark.asyncio


def seen(
    input_: str | None,
    output: str | None,
    hostapi: str = "Core Audio",
    system: dict[str, str] | None = None,
) -> dict[str, Any]:
    def find(name: str | None) -> dict[str, Any] | None:
        return None if name is None else device(name, hostapi)

    return {"input": find(input_), "output": find(output), "system": system or {}}


def opened(input_: str, output: str, hostapi: str = "Core Audio") -> dict[str, Any]:
    return {"devices": {"input": device(input_, hostapi), "output": device(output, hostapi)}}


async def test_a_lost_device_is_waited_for_and_a_fresh_process_takes_over() -> None:
    keeping = Keeping(input=3)
    talk = keeping.talk
    talk.away = True
    talk.lost.add("input")
    ours, theirs = socket.socketpair()
    talk.sock = ours
    last = seen("mic", "speaker")
    keeping.scouts = [FakeScout(talk, seen(None, None), seen(None, "speaker"), last, last)]
    scout = keeping.scouts[0]
    fresh = FakeProcess(opened("mic", "speaker"))
    keeping.next = [fresh]
    await keeping.run()
    assert keeping.changes() == [
        ("output", "lost", "speaker"),
        ("input", "back", "mic"),
        ("output", "back", "speaker"),
    ]
    assert keeping.retired[0] is keeping.first
    ((method, params, fds),) = fresh.calls
    assert (method, fds) == ("start", [ours.fileno()])
    assert params["input"] == "mic, Core Audio", "by name: an index means another one by now"
    assert params["output"] is None, "the default, whichever it is"
    assert params["exact"], "no other one whose name ends with that"
    assert params["first_frame"] >= 100
    assert scout.calls[1][1] == {"input": "mic, Core Audio", "output": None, "exact": True}
    assert not talk.away
    assert keeping.told("back") == [{"devices": opened("mic", "speaker")["devices"]}]
    ours.close()
    theirs.close()


async def test_counters_go_on_from_process_to_process() -> None:
    keeping = Keeping()
    talk = keeping.talk
    talk.away = True
    keeping.scouts = [FakeScout(talk, seen("mic", "speaker"), seen("mic", "speaker"))]
    keeping.next = [FakeProcess(opened("mic", "speaker"))]
    talk.count(90)
    await keeping.run()
    missed = talk.frames - 90
    stats = talk.note(STATS)
    assert (stats["underruns"], stats["overruns"], stats["late_frames"]) == (6, 8, 4)
    assert stats["lagged_frames"] == 2 + missed


async def test_a_device_that_does_not_open_yet_is_tried_again() -> None:
    keeping = Keeping()
    keeping.talk.away = True
    here = seen("mic", "speaker")
    keeping.scouts = [FakeScout(keeping.talk, here, here, here, here)]
    refused, hanging = FakeProcess(DeviceFailed("busy")), FakeProcess(WorkerDied("no answer"))
    keeping.next = [refused, hanging, FakeProcess(opened("mic", "speaker"))]
    await keeping.run()
    assert keeping.retired[1:3] == [refused, hanging]
    assert not keeping.talk.away


async def test_a_scout_that_hangs_or_dies_is_replaced() -> None:
    keeping = Keeping()
    talk = keeping.talk
    talk.away = True
    here = seen("mic", "speaker")
    hanging = FakeScout(talk, WorkerDied("it did not answer"), here)
    keeping.scouts = [hanging, FakeScout(talk, here, here)]
    keeping.next = [FakeProcess(opened("mic", "speaker"))]
    await keeping.run()
    assert hanging in keeping.retired
    assert not talk.away


async def test_another_default_is_gone_to_in_order() -> None:
    keeping = Keeping(output="speaker")
    talk = keeping.talk
    other = seen("headset", "speaker")
    keeping.scouts = [FakeScout(talk, seen("mic", "speaker"), other, other, other)]
    keeping.next = [FakeProcess(opened("headset", "speaker"))]
    await keeping.run()
    assert [call[0] for call in keeping.first.calls] == ["leave"]
    assert [name for name, _ in keeping.events] == ["away", "back", "device"]
    assert keeping.changes() == [("input", "changed", "headset")]


async def test_another_default_of_the_server_behind_alsa_is_only_told() -> None:
    keeping = Keeping()
    talk = keeping.talk
    talk.devices = opened("default", "default", "ALSA")["devices"]
    looks = [{"system": {"output": n, "input": "mic"}} for n in ("spk", "headset", "headset")]
    keeping.scouts = [scout := FakeScout(talk, *looks)]
    await keeping.run()
    assert keeping.changes() == [("output", "changed", "headset")]
    assert not keeping.first.calls, "the server moves the stream itself"
    asked = [method for method, *_ in scout.calls]
    assert asked == ["look", "defaults", "defaults", "defaults"], "PortAudio opens all"


async def test_where_one_side_is_no_server_s_all_devices_are_looked_at() -> None:
    keeping = Keeping()
    talk = keeping.talk
    talk.devices["output"] = device("default", "ALSA")
    scout = FakeScout(talk, seen("mic", "speaker"), seen("mic", "speaker"))
    keeping.scouts = [scout]
    await keeping.run()
    assert {method for method, *_ in scout.calls} == {"look"}


async def test_a_device_that_was_named_is_not_left_for_another_default() -> None:
    keeping = Keeping(input="mic", output="speaker")
    keeping.talk.over = True
    await keeping.run()
    assert not keeping.events
    keeping = Keeping(input="mic")
    looks = [seen("mic", "speaker"), seen("mic", "speaker")]
    keeping.scouts = [FakeScout(keeping.talk, *looks)]
    await keeping.run()
    assert not keeping.events


async def test_a_talk_for_some_seconds_ends_though_its_devices_are_away() -> None:
    keeping = Keeping(seconds=5.0)
    keeping.talk.away = True
    await keeping.run()
    assert keeping.told("ended") == [{"reason": "seconds", "stats": keeping.talk.stats}]


async def test_with_a_file_at_one_end_nobody_can_take_over() -> None:
    assert Keeping().talk.can_move
    assert not Keeping(in_file="/a.wav").talk.can_move
    assert not Keeping(out_file="/a.wav").talk.can_move


async def test_patience_grows_while_devices_stand_still_again_and_again() -> None:
    talk = Keeping().talk
    patience_s = []
    for _ in range(6):
        talk.blame(DeviceFailed("no callback", stalled=True))
        patience_s.append(talk.resume()["patience_s"])
    assert patience_s == pytest.approx([0.8, 1.6, 3.2, 6.4, 6.4, 6.4])
    assert not talk.zeros_known
    talk.blame(DeviceFailed("zeros", silent=True))
    assert talk.resume()["zeros_known"]
