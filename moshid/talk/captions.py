"""Words with times as WebVTT cues. Owns where a cue begins and ends. Pure."""

from __future__ import annotations

from typing import Any, Final

HEAD: Final = "WEBVTT\n\n"
CUE_CHARS_MAX: Final = 60
CUE_CHARS_UNBROKEN_MAX: Final = 2 * CUE_CHARS_MAX
"""Where no piece begins with a blank: Japanese and Chinese are written without them."""

SENTENCE_ENDS: Final = (".", "!", "?", "\u3002", "\uff01", "\uff1f")
"""Those of full width, too."""

PAUSE_S: Final = 1.0
"""After a silence this long a new cue begins."""

WORD_S: Final = 0.4
"""How long the last piece of a cue is shown."""


class Captions:
    """Collects pieces of text; gives out each cue when it is complete."""

    def __init__(self) -> None:
        self._text = ""
        self._begin_s = self._end_s = 0.0

    def add(self, text: str, at_s: float) -> str:
        """A piece is heard at ``at_s`` seconds; returns the cue that is complete before it, or
        with it, else nothing."""
        done = ""
        chars = len(self._text) + len(text)
        is_long = chars > (CUE_CHARS_MAX if text.startswith(" ") else CUE_CHARS_UNBROKEN_MAX)
        if self._text and (is_long or at_s - self._end_s > PAUSE_S):
            done = self.finish(at_s)
        if not self._text.strip():
            self._begin_s = at_s
        self._text += text
        self._end_s = at_s + WORD_S
        if self._text.rstrip().endswith(SENTENCE_ENDS):
            done += self.finish(None)
        return done

    def finish(self, next_s: float | None = None) -> str:
        """The cue that has begun, ending before the next one begins; nothing if there is none."""
        text = " ".join(self._text.split())
        self._text = ""
        if not text:
            return ""
        end_s = self._end_s if next_s is None else min(self._end_s, next_s)
        text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        return f"{_time(self._begin_s)} --> {_time(end_s)}\n<v Moshi>{text}\n\n"


def whole(words: list[dict[str, Any]]) -> str:
    """The WebVTT file of pieces ``{heard_s, text}``."""
    captions = Captions()
    cues = [captions.add(word["text"], word["heard_s"]) for word in words]
    return HEAD + "".join(cues) + captions.finish()


def _time(seconds: float) -> str:
    ms = round(seconds * 1000)
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}.{ms % 1000:03}"
