"""docs/rpc.md is what the code says, and the contract's methods and topics are all there."""

from __future__ import annotations

from pathlib import Path

from moshid.events import TOPICS
from moshid.rpc.document import document
from moshid.rpc.methods import all_methods
from moshid.rpc.registry import openrpc

REFERENCE = Path(__file__).parents[2] / "docs" / "rpc.md"

BUILT = {
    "daemon.hello",
    "daemon.status",
    "daemon.stop",
    "rpc.discover",
    "download.start",
    "download.list",
    "download.get",
    "download.pause",
    "download.resume",
    "download.cancel",
    "download.verify",
    "download.set",
    "download.limits",
    "model.list",
    "model.load",
    "model.unload",
    "model.status",
    "model.bench",
    "model.delete",
    "model.prune",
    "talk.start",
    "talk.stop",
    "talk.status",
    "talk.set",
    "talk.trace",
    "audio.devices",
    "events.subscribe",
    "events.unsubscribe",
}
"""The contract's methods; delete and prune are what
``models --delete`` and ``--prune`` call, set and limits what ``downloads --limit`` does, trace what
``bench --trace`` asks."""


def test_the_reference_is_generated_from_the_code() -> None:
    wanted = document(all_methods())
    assert REFERENCE.read_text() == wanted, "run: python -m moshid.rpc.document > docs/rpc.md"


def test_every_method_of_the_contract_is_there() -> None:
    assert set(all_methods()) == BUILT


def test_every_topic_is_documented() -> None:
    text = REFERENCE.read_text()
    assert [t for t in TOPICS if f"| `{t}` |" not in text] == []


def test_every_method_describes_its_result_and_parameters() -> None:
    for method in openrpc(all_methods())["methods"]:
        assert "Result:" in method["description"], method["name"]
        struct = all_methods()[method["name"]].params
        assert [p["name"] for p in method["params"]] == list(struct.__struct_encode_fields__)


def test_the_hint_of_a_bad_call_names_the_parameters_as_they_go_over_the_wire() -> None:
    for described in openrpc(all_methods())["methods"]:
        name = described["name"]
        names = [p["name"] if p["required"] else f"{p['name']}?" for p in described["params"]]
        assert f"{name} takes {{{', '.join(names)}}};" in all_methods()[name].usage()
