"""The verdict of a sound check (``--engine echo``) as text and as ``doctor``'s checks. Pure."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Json = dict[str, Any]

SILENT = ("silent", "nothing_heard")


def is_deaf(verdict: Json | None) -> bool:
    """Whether nothing at all came from the microphone."""
    return ((verdict or {}).get("microphone") or {}).get("reason") in SILENT


def lines(verdict: Json | None) -> list[str]:
    """One line a part; a part that was a file has none."""
    return [
        f"{name}: {seen}{'. ' + todo if todo else ''}"
        for name, _, seen, todo in findings(verdict or {})
    ]


def findings(verdict: Json) -> list[tuple[str, str, str, str | None]]:
    """``(name, ok | warn | fail, seen, todo)`` of each part."""
    found = []
    if microphone := verdict.get("microphone"):
        found.append(("microphone", *_microphone(microphone)))
    if speaker := verdict.get("speaker"):
        state = "ok" if speaker.get("ok") else "warn"
        found.append(("speaker", state, str(speaker.get("reason")), speaker.get("hint")))
    if verdict.get("latency_ms") is not None:
        how = "by the chirps" if verdict.get("latency_measured") else "by the devices' own word"
        seen = f"{verdict['latency_ms']:.0f} ms there and back, {how}"
        found.append(("latency", "ok", seen, None))
    if (echo := verdict.get("echo")) and not is_deaf(verdict):
        found.append(("echo", *_echo(echo)))
    return found


def _microphone(part: Json) -> tuple[str, str, str | None]:
    state = "ok" if part.get("reason") == "ok" else "warn" if part.get("ok") else "fail"
    seen = str(part.get("reason")).replace("_", " ")
    if part.get("level_dbfs") is not None and part.get("reason") not in SILENT:
        seen += f" ({part['level_dbfs']:.0f} dBFS)"
    return state, seen, part.get("hint")


def _echo(part: Json) -> tuple[str, str, str | None]:
    if part.get("heard") is None:
        return "warn", "not measured", "Let it run for three seconds at least."
    if not part["heard"]:
        return "ok", "none", None
    seen = f"heard {max(0.0, part['below_db']):.0f} dB below after {part['delay_ms']:.0f} ms"
    return "warn", seen, part.get("hint")
