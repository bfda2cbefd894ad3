"""What a talk looks like: transcript on stdout, level meter on stderr, the summary at its end.

Owns the session's state as its events tell it; sends nothing.
"""

from __future__ import annotations

from collections import deque

from moshi_client import keys, progress, render, sound_check

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from moshi_client.context import Context

    Json = dict[str, Any]

FINAL_STATES = ("stopped", "failed")
LINE_CHARS = 72
TAIL_CHARS = 40
"""The newest words beside the meter, until their line is full."""

_METER_FLOOR_DBFS = -60.0
_REASONS = {
    "input_end": "the input ended",
    "seconds": "the time was up",
    "stopped": "stopped",
    "device": "the sound device failed",
    "model_gone": "the model went away",
    "paused": "it was paused for too long",
}
_STOPPED_BECAUSE = {
    "limit": "it is as long as it may be",
    "disk_full": "the disk is full",
    "failed": "the disk failed",
}
_CHANGES = {"lost": "lost, waiting for", "back": "is back:", "changed": "is now"}


class TalkView:
    """Follows one session. Before ``begin`` it shows how the model is fetched and loaded."""

    def __init__(self, ctx: Context, *, one_a_line: bool) -> None:
        self._ctx = ctx
        self._one_a_line = one_a_line
        self._line = progress.ProgressLine(ctx)
        self._early: deque[tuple[str, Json]] = deque()
        self._partial = ""
        self._seed: int | None = None
        self._split_lines = ctx.live and ctx.out.isatty()
        self.session: str | None = None
        self.status: Json = {}
        self.controls: Json = {}
        self.transcript: list[Json] = []

    @property
    def is_over(self) -> bool:
        """Whether the session has ended."""
        return self.status.get("state") in FINAL_STATES

    def begin(self, started: Json) -> None:
        """The session has started (talk.start's result); what came before is shown now."""
        self.status = started["session"]
        self._seed = started.get("seed")
        self.session = self.status.get("session")
        self._line.clear()
        self._ctx.say("talking; Ctrl-C stops")
        self.controls = self.status.get("controls") or {}
        if self.status.get("recording"):
            self._ctx.say(f"RECORDING both sides to {_recording_file(self.status)}")
        if (check := self.status.get("verdict")) and check.get("delay_ms"):
            self._ctx.say(
                "sound check: three chirps, then you hear yourself, "
                f"{check['delay_ms'] / 1000:.2f} s later"
            )
        self._show_early()

    def on_notification(self, method: str, params: Json) -> None:
        """Take a notification of the daemon."""
        if method != "event":
            return
        topic, data = str(params.get("topic")), params.get("data") or {}
        if not topic.startswith("talk"):
            if self.session is None:
                self._show_preparation(topic, data)
        elif self.session is None and data.get("event") == "warning":
            self._emit(topic, data)
            self._show_news(data)  # at once: it may say what the start waits for
        elif self.session is None:
            self._early.append((topic, data))
        else:
            self._show_early()
            self._on_session(topic, data)

    def end(self) -> None:
        """Finish the lines begun."""
        self._line.clear()
        if self.session is not None:
            self._show_early()
        if self._partial and not self._ctx.json:
            self._ctx.write(self._partial.strip() + "\n" if self._split_lines else "\n")
        self._partial = ""

    def result(self) -> Json:
        """The whole talk as one object."""
        text = "".join(str(piece["text"]) for piece in self.transcript).strip()
        return {
            "session": self.session,
            "seed": self._seed,
            "text": text,
            "transcript": self.transcript,
            "status": self.status,
        }

    def summary(self) -> str:
        """The end of the talk in a few lines."""
        status = self.status
        reason = str(status.get("reason") or (status.get("state") if self.is_over else "cut off"))
        step_ms = (status.get("stage_ms") or {}).get("step")
        lines = [
            f"{self.session}: {_REASONS.get(reason, reason)} after "
            f"{status.get('seconds') or 0:.1f} s, "
            f"{render.count(status.get('frames') or 0, 'frame')}, "
            f"{status.get('lagged_frames') or 0} lagged, "
            f"{render.count(status.get('underruns') or 0, 'underrun')}",
            f"latency {render.percentiles(status.get('latency_ms'))}; step "
            f"{render.percentiles(step_ms)}; seed {self._seed}",
        ]
        lines += sound_check.lines(status.get("verdict"))
        if recording := status.get("recording"):
            facts = f"{recording.get('seconds') or 0:.1f} s"
            if lost := recording.get("lost_frames"):
                facts += f", {render.count(lost, 'frame')} missing: the disk was too slow"
            lines.append(f"recording: {_recording_file(status)} ({facts})")
        if status.get("transcript_file"):
            lines.append(f"transcript: {status['transcript_file']}")
        return "\n".join(lines)

    def _show_early(self) -> None:
        """What came before the session was known, one by one: a Ctrl-C may come in between."""
        while self._early:
            self._on_session(*self._early.popleft())

    def _on_session(self, topic: str, data: Json) -> None:
        if data.get("session") != self.session:
            return
        self._emit(topic, data)
        if topic == "talk":
            self._take_status(data)
            self._show_news(data)
        elif topic == "talk.text":
            self.transcript.append({k: data.get(k) for k in ("frame", "t_s", "text")})
            self._show_text(str(data.get("text") or ""))
        elif topic == "talk.level" and self._ctx.live:
            self._line.show(self._meter(data))

    def _emit(self, topic: str, data: Json) -> None:
        if self._one_a_line:
            self._ctx.emit({"topic": topic, "data": data}, "")

    def _take_status(self, data: Json) -> None:
        told = data.get("status") or ({"state": data["state"]} if data.get("state") else {})
        self.status = self.status | told
        self.controls = self.status.get("controls") or self.controls

    def _show_news(self, data: Json) -> None:
        """What happened to the devices, or to the recording."""
        event = data.get("event")
        if event == "recording":
            reason = str((data.get("recording") or {}).get("reason"))
            news = f"recording has stopped: {_STOPPED_BECAUSE.get(reason, reason)}"
            self._line.clear()
            self._ctx.warn(f"{news}; the talk goes on")
        elif event == "device":
            what = "microphone" if data.get("direction") == "input" else "speaker"
            change = _CHANGES.get(str(data.get("change")), "")
            self._line.clear()
            self._ctx.say(f"{what} {change} {data.get('device')}")
        elif event == "warning":
            self._line.clear()
            self._ctx.say(": ".join(str(data[k]) for k in ("message", "hint") if data.get(k)))

    def _show_preparation(self, topic: str, data: Json) -> None:
        if topic == "download" and (job := data.get("job")):
            fraction, stage = progress.job_fraction(job), str(job.get("state"))
            line = progress.job_line(job, columns=self._line.columns)
            self._line.show(line, fraction=fraction, stage=stage)
        elif topic == "model" and (status := data.get("status")):
            stage = str((status.get("progress") or {}).get("stage") or status.get("state"))
            if stage not in ("ready", "busy"):
                self._line.show(progress.model_line(status), stage=stage)

    def _show_text(self, text: str) -> None:
        if self._ctx.json:
            return
        self._partial += text
        if not self._split_lines:
            self._ctx.write(text)
        elif len(self._partial) > LINE_CHARS or text.rstrip().endswith((".", "!", "?")):
            self._line.clear()
            self._ctx.write(self._partial.strip() + "\n")
            self._partial = ""

    def _meter(self, levels: Json) -> str:
        you = render.bar(_loudness(levels.get("input_dbfs")), 10)
        moshi = render.bar(_loudness(levels.get("output_dbfs")), 10)
        state = keys.described(self.controls)
        meter = f"you {you}  moshi {moshi}  " + (f"{state}  " if state else "")
        room = min(TAIL_CHARS, (self._line.columns or 0) - len(meter))
        tail = self._partial[-room:] if self._split_lines and room > 0 else ""
        while render.columns(tail) > room > 0:
            tail = tail[1:]
        return (meter + tail).rstrip()


def _recording_file(status: Json) -> str:
    recording = status.get("recording") or {}
    return f"{recording.get('folder')}/{recording.get('name')}"


def _loudness(dbfs: float | None) -> float:
    return 0.0 if dbfs is None else 1.0 - max(dbfs, _METER_FLOOR_DBFS) / _METER_FLOOR_DBFS
