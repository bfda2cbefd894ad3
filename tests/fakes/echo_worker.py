"""A worker without a model: echoes, fails, crashes and hangs on request. Run by the supervisor."""

from __future__ import annotations

import logging
import os
import select
import signal
import time

from moshid import worker_base
from moshid.errors import BadCheckpoint, InternalError, InvalidParams
from moshid.worker_base import Control, Request


def main() -> None:
    """Serve requests until shutdown."""
    control = worker_base.connect()
    control.start()
    logging.getLogger("echo").info("echo worker is up")
    while True:
        select.select([control.wake_fd], [], [])
        while request := control.take():
            handle(control, request)


def handle(control: Control, request: Request) -> None:
    """Answer one request."""
    match request.method:
        case "echo":
            control.reply(request, request.params)
        case "fail":
            control.fail(request, BadCheckpoint("no such weights", hint="fetch them"))
        case "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        case "write_to_fd":
            os.write(request.fds[0], b"hello through the descriptor")
            os.close(request.fds[0])
            control.reply(request, {})
        case "notify":
            control.notify("told", request.params)
            control.reply(request, {})
        case "refuse_to_stop":
            control.busy_with = "refusing"
            control.reply(request, {})
        case "farewell":
            for n in range(request.params["words"]):
                control.notify("told", {"n": n})
            os._exit(3)
        case "shutdown" if control.busy_with == "refusing":
            control.fail(request, InternalError("it is not to be had"))
        case "busy":
            control.reply(request, {})
            while True:
                time.sleep(60)
        case "shutdown":
            control.reply(request, {})
            os._exit(0)
        case _:
            control.fail(request, InvalidParams(f"no method {request.method}"))


if __name__ == "__main__":
    main()
