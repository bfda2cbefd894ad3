"""``talk --in - --out -``: raw PCM between our streams and the talk's FIFOs. Owns those FIFOs.

They are made in the home's ``run`` folder, with names that tell whose they are, opened here before
the talk starts, and unlinked once the audio worker has them open too. Two threads copy; whatever
happens to them, the talk learns of it by its end of the FIFO.
"""

from __future__ import annotations

import os
import sys

from moshi_client.errors import ClientError, OutputFailed, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from threading import Thread

BLOCK_BYTES = 3840
"""One frame: little waits here."""

READER_GONE = "the output cannot be written: whoever read it has gone"


class Pipes:
    """The FIFOs of one talk; a context, at whose end nothing of them is left."""

    def __init__(self, home: str, wanted: tuple[str, ...] = ()) -> None:
        """``wanted``: which of ``in`` and ``out`` to make."""
        self.wanted = wanted
        self._folder = os.path.join(home, "run")
        self._fds: dict[str, int] = {}
        self._paths: dict[str, str] = {}
        self._out_thread: Thread | None = None
        self._failure: ClientError | None = None

    def __enter__(self) -> Pipes:
        return self

    def __exit__(self, *_: object) -> None:
        self.unlink()
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()

    def make(self, name: str) -> str:
        """A FIFO for our stdin (``in``) or stdout (``out``), open on our side; its path.

        Raises:
            ClientError: it cannot be made.
        """
        path = os.path.join(self._folder, f"talk-{os.getpid()}.{name}")
        mode = os.O_RDWR if name == "in" else os.O_RDONLY
        try:
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            _remove_orphans(self._folder)
            os.mkfifo(path, 0o600)
            self._paths[name] = path
            self._fds[name] = os.open(path, mode | os.O_NONBLOCK)
        except OSError as e:
            raise ClientError(f"the pipe {path} cannot be made: {e.strerror}") from e
        return path

    def begin(self) -> None:
        """The talk has started, and has both open: copy from now on."""
        from threading import Thread  # for talks through pipes only

        if "in" in self._fds:
            # One that only writes learns when the reader goes; ours of both ways never would.
            writer = os.open(self._paths["in"], os.O_WRONLY)
            os.close(self._fds.pop("in"))
            Thread(target=self._copy_in, args=(writer,), daemon=True).start()
        if "out" in self._fds:
            reader = self._fds.pop("out")
            os.set_blocking(reader, True)
            self._out_thread = Thread(target=self._copy_out, args=(reader,), daemon=True)
            self._out_thread.start()
        self.unlink()

    def finish(self) -> None:
        """The talk is over: wait until what it said has been written, as long as it is read."""
        if self._out_thread is not None:
            self._out_thread.join()

    def unlink(self) -> None:
        """Remove the names; what is open stays."""
        for path in self._paths.values():
            _unlink(path)
        self._paths.clear()

    def check(self) -> None:
        """After the talk: was all that came and went copied?

        Raises:
            ClientError: stdin could not be read, or stdout not be written; also when its reader
                has gone, which is why the talk ended.
        """
        if self._failure is not None:
            raise self._failure

    def _copy_in(self, writer: int) -> None:
        try:
            while data := os.read(0, BLOCK_BYTES):
                if not _write_all(writer, data):
                    return  # the talk has ended, and says why
        except OSError as e:
            self._failure = ClientError(f"stdin cannot be read: {e.strerror}")
        finally:
            os.close(writer)

    def _copy_out(self, reader: int) -> None:
        try:
            while data := os.read(reader, BLOCK_BYTES):
                if not _write_all(1, data):
                    self._failure = OutputFailed(READER_GONE)
                    return
        except OSError as e:
            self._failure = OutputFailed(f"the output cannot be written: {e.strerror}")
        finally:
            os.close(reader)


def check_in() -> None:
    """Raises UsageError when stdin is closed, or a terminal: nobody can type PCM."""
    is_closed = sys.stdin is None
    if is_closed or sys.stdin.isatty():
        raise UsageError(
            f"--in - takes raw PCM from stdin, which is {'closed' if is_closed else 'a terminal'}",
            "Pipe sound in: sox FILE -r 24000 -c 1 -b 16 -e signed -t raw - | moshi-client "
            "talk --in - ...; or leave --in out for the microphone.",
        )


def check_out() -> None:
    """Raises UsageError when stdout is closed, or a terminal. By the stream of the start: another
    one stands in for a closed one, and its descriptor may be anything by now, our socket too."""
    is_closed = sys.__stdout__ is None
    if is_closed or sys.stdout.isatty():
        raise UsageError(
            f"--out - writes raw PCM to stdout, which is {'closed' if is_closed else 'a terminal'}",
            "Pipe it: moshi-client talk --out - ... | aplay -t raw -r 24000 -f S16_LE -c 1; or "
            "leave --out out for the speaker.",
        )


def _write_all(fd: int, data: bytes) -> bool:
    """Whether it went out; not if whoever read it has gone. Raises OSError."""
    try:
        while data:
            data = data[os.write(fd, data) :]
    except BrokenPipeError:
        return False
    return True


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def _remove_orphans(folder: str) -> None:
    """Those of clients that were killed before they could unlink them."""
    for name in os.listdir(folder):
        pid = name.removeprefix("talk-").partition(".")[0]
        if not name.startswith("talk-") or not pid.isdigit():
            continue
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            _unlink(os.path.join(folder, name))
        except OSError:
            continue  # somebody else's process, so not a client of this home: leave it
