"""The echo worker, in a terminal where Ctrl-C is pressed while it is still being imported."""

from __future__ import annotations

import os
import signal

os.kill(os.getpid(), signal.SIGINT)

from tests.fakes import echo_worker  # noqa: E402

if __name__ == "__main__":
    echo_worker.main()
