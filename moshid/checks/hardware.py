"""The hardware: memory, MLX and its device, PortAudio and the sound devices.

MLX and PortAudio are looked at in processes of their own, as the daemon does.
"""

from __future__ import annotations

from typing import Any, Final

from moshid.checks.check import Check, Machine, ProbeFailed
from moshid.model import memory

MEMORY_WANTED_BYTES: Final = 8_000_000_000
"""The 7B model in 4 bits, its cache and the system."""

MLX_PROBE: Final = """
import importlib.metadata, json
import mlx.core as mx
total = mx.sum(mx.ones((256, 256)) @ mx.ones((256, 256)))
mx.eval(total)
assert total.item() == 256.0 ** 3
info = mx.metal.device_info() if mx.metal.is_available() else {}
print(json.dumps({
    "version": importlib.metadata.version("mlx"),
    "device": str(mx.default_device()),
    "working_set_bytes": info.get("max_recommended_working_set_size"),
}))
"""

SOUND_PROBE: Final = """
import json
import sounddevice as sd
from moshid.audio.device_list import offered
devices = offered()
print(json.dumps({
    "version": sd.get_portaudio_version()[1].split(",")[0],
    "apis": [api["name"] for api in sd.query_hostapis()],
    "inputs": [d["name"] for d in devices["input"]],
    "outputs": [d["name"] for d in devices["output"]],
}))
"""


def check_memory(_machine: Machine) -> list[Check]:
    """The machine's memory."""
    total, available = memory.total_bytes(), memory.available_bytes()
    seen = f"{total / 1e9:.1f} GB"
    if available is not None:
        seen += f", {available / 1e9:.1f} GB available"
    if total < MEMORY_WANTED_BYTES:
        return [Check("memory", "warn", seen, "Too little for the 7B models: use small ones.")]
    return [Check("memory", "ok", seen)]


def check_mlx(machine: Machine) -> list[Check]:
    """MLX can be imported and computes."""
    try:
        facts = machine.probe(MLX_PROBE)
    except ProbeFailed as e:
        return [Check("mlx", "fail", str(e), "Install moshid again, in a fresh environment.")]
    seen = f"mlx {facts['version']}, {facts['device']}"
    if facts["working_set_bytes"]:
        seen += f", {facts['working_set_bytes'] / 1e9:.1f} GB for models"
    if machine.platform == "darwin" and "gpu" not in facts["device"]:
        return [Check("mlx", "warn", seen, "MLX does not see the GPU; steps will be slow.")]
    return [Check("mlx", "ok", seen)]


def check_sound(machine: Machine) -> list[Check]:
    """PortAudio is there and has a microphone and a speaker."""
    try:
        facts = machine.probe(SOUND_PROBE)
    except ProbeFailed as e:
        todo = "Install moshid again, in a fresh environment."
        if machine.platform == "linux":
            todo = "Install PortAudio, on Debian: apt-get install libportaudio2."
        return [Check("sound", "fail", str(e), todo)]
    seen = f"{facts['version']}: {_devices(facts)}"
    if facts["inputs"] and facts["outputs"]:
        return [Check("sound", "ok", seen)]
    todo = "Without both, talk by files: moshi-client talk --in FILE --out FILE."
    return [Check("sound", "warn", seen, todo)]


def _devices(facts: dict[str, Any]) -> str:
    inputs, outputs = len(facts["inputs"]), len(facts["outputs"])
    apis = ", ".join(facts["apis"]) or "no host API"
    return f"{inputs} inputs, {outputs} outputs ({apis})"
