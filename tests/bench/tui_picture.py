"""A picture of the terminal UI: ``python -m tests.bench.tui_picture FILE``.

The real client on the real daemon: a talk with the demo model on files, in real time, while
another download comes in. The screen is taken from a pseudo-terminal and drawn as it stands.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import matplotlib
import pyte
from PIL import Image, ImageDraw, ImageFont

from moshid.demo import checkpoint
from moshid.demo.home import World
from moshid.demo.run import cache_folder
from tests.fakes.tui_screen import TuiScreen

COLUMNS, ROWS = 96, 26
FONT_PX, MARGIN_PX = 15, 12
TALK_S = 6.0
OTHER_REPO = "example/another-model"
OTHER_BYTES = 64_000_000
BACKGROUND, FOREGROUND, DIM = "#14161b", "#d4d7dd", "#565b66"
COLOURS = {
    "default": FOREGROUND,
    "red": "#f0625d",
    "green": "#6fc276",
    "brown": "#e0b04c",  # pyte's name for ANSI's third colour
    "cyan": "#56b6c2",
}


def draw(screen: pyte.Screen) -> Image.Image:
    """The screen as a picture. pyte does not know what is dim: rules and empty bars are."""
    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    plain = ImageFont.truetype(fonts / "DejaVuSansMono.ttf", FONT_PX)
    bold = ImageFont.truetype(fonts / "DejaVuSansMono-Bold.ttf", FONT_PX)
    cell_w, cell_h = round(plain.getlength("M")), FONT_PX + 4
    size = (screen.columns * cell_w + 2 * MARGIN_PX, screen.lines * cell_h + 2 * MARGIN_PX)
    image = Image.new("RGB", size, BACKGROUND)
    pen = ImageDraw.Draw(image)
    for row in range(screen.lines):
        for column in range(screen.columns):
            char = screen.buffer[row][column]
            at = (MARGIN_PX + column * cell_w, MARGIN_PX + row * cell_h)
            colour = DIM if char.data in "░─" else COLOURS[char.fg]
            if char.reverse:
                pen.rectangle((at, (at[0] + cell_w - 1, at[1] + cell_h - 1)), fill=colour)
                colour = BACKGROUND
            pen.text(at, char.data, fill=colour, font=bold if char.bold else plain)
    return image


def hub_root(folder: Path) -> Path:
    """A Hub's folder with the demo model and another one."""
    place = folder / checkpoint.REPO
    place.parent.mkdir(parents=True)
    checkpoint.build(cache_folder() / "hub" / checkpoint.REPO)
    place.symlink_to(cache_folder() / "hub" / checkpoint.REPO)
    other = folder / OTHER_REPO
    other.mkdir(parents=True)
    (other / "model.safetensors").write_bytes(os.urandom(OTHER_BYTES))
    return folder


def take(path: Path) -> None:
    """Have the client talk for a while, and draw what it shows."""
    with tempfile.TemporaryDirectory() as folder, World() as world:
        world.start_hub(hub_root(Path(folder)), rate_bps=1e9, cut_at=[])
        world.start_daemon()
        world.call("download.start", {"model": "demo", "wait": True})
        world.call("model.load", {"model": "demo"})
        other = {"repo": OTHER_REPO, "files": ["model.safetensors"], "limit_bps": 2_500_000}
        world.call("download.start", other)
        files = ("--in", str(checkpoint.speech_wav()), "--out", str(Path(folder) / "out.wav"))
        with TuiScreen(world.env, *files, columns=COLUMNS, rows=ROWS) as tui:
            tui.wait_for("connected", "downloading")
            tui.press("t")
            tui.wait_for("latency p50")
            began = time.monotonic()
            while (left_s := began + TALK_S - time.monotonic()) > 0:
                tui.take(left_s)
            draw(tui.screen).quantize(200).save(path, optimize=True)
            print(tui.text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    take(parser.parse_args().file)
