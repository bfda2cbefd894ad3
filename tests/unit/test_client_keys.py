"""Whose the terminal's keys are: a talk's in front, the shell's while it is in the background."""

from __future__ import annotations

import fcntl
import os
import pty
import subprocess
import sys
import termios
from pathlib import Path

import moshi_client

JOB = """
import os, sys
from moshi_client.keys import Keyboard
with Keyboard(use=True) as keyboard:
    for _ in range(3):
        where = keyboard.fd
        print(where, repr(keyboard.read()), flush=True)
        os.read(int(sys.argv[1]), 1)
print("left", flush=True)
"""

SHELL = """
import os, signal, subprocess, sys, termios
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
def take():
    os.tcsetpgrp(0, os.getpid())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
def look(*_):
    try:
        is_stopped = os.waitid(os.P_PID, job.pid, os.WSTOPPED | os.WNOHANG)
    except ChildProcessError:  # it has ended, as it was to
        return
    if is_stopped:
        job.kill()
        os.write(1, b"it was stopped")
        os._exit(1)
commands, to_job = os.pipe()
job = subprocess.Popen([sys.executable, "-S", "-c", sys.argv[1], str(commands)], process_group=0,
                       preexec_fn=take, stdout=subprocess.PIPE, pass_fds=[commands], text=True)
signal.signal(signal.SIGCHLD, look)
def told():
    return job.stdout.readline().strip()
shell_mode = termios.tcgetattr(0)
print(f"in front: {told()}", flush=True)
os.tcsetpgrp(0, os.getpgrp())
shell_mode[3] |= termios.ICANON | termios.ECHO
termios.tcsetattr(0, termios.TCSANOW, shell_mode)
os.write(to_job, b".")
print(f"in the background: {told()}", flush=True)
print(f"typed for the shell: {input()}", flush=True)
os.tcsetpgrp(0, job.pid)
os.write(to_job, b".")
print(f"in front again: {told()}", flush=True)
os.tcsetpgrp(0, os.getpgrp())
os.write(to_job, b".")
print(f"{told()} in the background", flush=True)
sys.exit(job.wait())
"""
"""Moves the job between front and background, as a shell does with ``bg`` and ``fg``, untold."""


def test_in_the_background_the_keys_are_the_shells() -> None:
    master, slave = pty.openpty()
    shell = subprocess.Popen(
        [sys.executable, "-S", "-c", SHELL, JOB],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": str(Path(moshi_client.__file__).parents[1])},
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(slave)  # or reading would not end with the shell
    shown = b""

    def read_until(marker: bytes) -> None:
        nonlocal shown
        while marker not in shown and b"it was stopped" not in shown:
            shown += os.read(master, 4096)

    os.write(master, b"m\n")
    read_until(b"in the background: ")
    os.write(master, b"mmm\n")
    read_until(b"mmm\r\n")
    os.write(master, b"p\n")
    read_until(b"left in the background\r\n")
    code = shell.wait(30)
    os.close(master)
    assert b"it was stopped" not in shown
    assert b"in front: 0 'm" in shown
    assert b"in the background: None ''" in shown
    assert b"typed for the shell: mmm" in shown
    assert b"in front again: 0 'p" in shown
    assert code == 0
