"""A process that asks to be served first: what is granted, and that it is given back."""

from __future__ import annotations

import json
import os
import subprocess
import sys

CHILD = """
import json, os, threading
from pathlib import Path
from moshid.urgency import Urgency

def standing():
    threads = [int(t.name) for t in Path("/proc/self/task").iterdir()]
    return sorted((os.sched_getscheduler(t), os.getpriority(os.PRIO_PROCESS, t)) for t in threads)

over = threading.Event()
threading.Thread(target=over.wait).start()
urgency = Urgency()
found = [standing()]
urgency.raise_()
urgency.raise_()
found.append(standing())
raised = urgency.raised
urgency.lower()
urgency.lower()
found.append(standing())
over.set()
print(json.dumps([raised, urgency.raised, found]))
"""
NOT_ALLOWED = """
import os, resource

def refuse(*_):
    raise PermissionError(1, "not allowed")

os.sched_setscheduler = refuse
"""


def run(code: str) -> tuple[bool, bool, list[list[list[int]]]]:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    raised, still, found = json.loads(done.stdout)
    return raised, still, found


def test_what_is_granted_holds_for_every_thread_and_is_given_back() -> None:
    raised, still, (before, during, after) = run(CHILD)
    assert len(before) == 2
    assert not still
    assert after == before
    ordinary = [os.SCHED_OTHER, before[0][1]]
    changed = [standing != ordinary for standing in during]
    assert changed == [raised, raised], "all threads or, where nothing is allowed, none"
    if raised:
        assert during[0][0] == os.SCHED_RR or during[0][1] < before[0][1]


def test_without_real_time_it_is_nice_and_without_that_it_goes_on() -> None:
    raised, _, (before, during, after) = run(NOT_ALLOWED + CHILD)
    assert {scheduler for scheduler, _ in during} == {os.SCHED_OTHER}
    assert (during < before) == raised
    assert after == before
    refuse_both = NOT_ALLOWED + "os.setpriority = refuse\n" + CHILD
    raised, _, (before, during, after) = run(refuse_both)
    assert not raised
    assert before == during == after
