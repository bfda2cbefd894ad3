"""What ``bench_load`` measures, each in a process of its own: ``python -m tests.bench.load_child
WHAT WEIGHTS CONFIG QUALITY STORE``. Prints one JSON object.

``raw`` reads the file once through a buffer, as ``cat`` does; ``own`` does so into as much new
memory; ``touch`` writes to so much; ``load`` fills a model with the file; ``mx.load`` does so in
the plain way. Memory counts above what the imports took.
"""

from __future__ import annotations

import gc
import json
import mmap
import os
import sys
import time
from pathlib import Path
from typing import Any

BUFFER_BYTES = 8 * 1024 * 1024


def raw(path: Path) -> dict[str, Any]:
    """Seconds to read the file once, in order."""
    buffer = bytearray(BUFFER_BYTES)
    fd = os.open(path, os.O_RDONLY)
    if sys.platform == "linux":
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
    begun = time.perf_counter()
    while os.readv(fd, [buffer]):
        pass
    read_s = time.perf_counter() - begun
    os.close(fd)
    return {"seconds": read_s}


def own(path: Path) -> dict[str, Any]:
    """Seconds to read the file once, in order, into new memory of its size."""
    size = path.stat().st_size
    with path.open("rb", buffering=0) as file, new_memory(size) as memory:
        if sys.platform == "linux":
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        begun = time.perf_counter()
        with memoryview(memory) as view:
            at = 0
            while at < size:
                at += os.readv(file.fileno(), [view[at : at + BUFFER_BYTES]])
        return {"seconds": time.perf_counter() - begun}


def touch(path: Path) -> dict[str, Any]:
    """Seconds to write to each page of as much new memory as the file has bytes."""
    size, page = path.stat().st_size, os.sysconf("SC_PAGE_SIZE")
    with new_memory(size) as memory:
        begun = time.perf_counter()
        memory[::page] = b"1" * len(range(0, size, page))
        return {"seconds": time.perf_counter() - begun}


def new_memory(size_bytes: int) -> mmap.mmap:
    """As an allocator has it from the system (``mmap``'s own default is shared memory)."""
    return mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def load(path: Path, config: Path, quality: str, store: Path | None, how: str) -> dict[str, Any]:
    """Seconds to fill a model of that configuration, and what memory that took."""
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from moshi_mlx import models

    from moshid import mlx_setup
    from moshid.model import quantise, weights
    from moshid.model.quantised_writer import Keep

    mlx_setup.prepare()
    lm = models.Lm(models.LmConfig.from_config_dict(json.loads(config.read_bytes())))
    lm.set_dtype(mx.bfloat16)
    quantise.quantise_modules(lm, quality)
    mx.eval(mx.zeros(1))
    gc.collect()
    before_bytes = rss_bytes()
    reset_peak()
    print(json.dumps({"began": time.monotonic(), "before_bytes": before_bytes}), flush=True)
    begun = time.perf_counter()
    if how == "mx.load":
        lm.load_weights(str(path))
        mx.eval(lm.parameters())
        came = "mx.load"
        writer = None
    else:
        keep = Keep(store) if store is not None else None
        filled = weights.fill(lm, path, quality, lambda _advance: None, keep)
        came, writer = filled.how, filled.writer
    seconds = time.perf_counter() - begun
    peak_bytes = peak_rss_bytes()
    copied = writer.outcome() if writer is not None else None
    with_copy_s = time.perf_counter() - begun
    return {
        "seconds": seconds,
        "how": came,
        "before_bytes": before_bytes,
        "peak_bytes": max(peak_bytes, peak_rss_bytes()) - before_bytes,
        "after_bytes": rss_bytes() - before_bytes,
        "model_bytes": sum(w.nbytes for _, w in tree_flatten(lm.parameters())),
        "with_copy_s": with_copy_s,
        "copy": copied and {"path": str(copied.path), "error": copied.error},
    }


def ready(path: Path, config: Path, quality: str, store: Path | None) -> dict[str, Any]:
    """Seconds from local files to a warm model, by stage, and what memory that took."""
    from moshid.model import mlx_engine
    from moshid.model.quantised_writer import Keep

    tokenizer = config.parent / json.loads(config.read_bytes())["tokenizer_name"]
    keep = Keep(store) if store is not None else None
    before_bytes = rss_bytes()
    reset_peak()
    begun = time.perf_counter()
    engine = mlx_engine.load(config, path, tokenizer, quality, lambda _advance: None, keep)
    loaded = time.perf_counter()
    engine.warm_up()
    warm = time.perf_counter()
    return {
        "load_s": loaded - begun,
        "warm_up_s": warm - loaded,
        "seconds": warm - begun,
        "peak_bytes": peak_rss_bytes() - before_bytes,
        "memory_bytes": rss_bytes() - before_bytes,
    }


def rss_bytes() -> int:
    """This process's resident memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def reset_peak() -> None:
    """Have the kernel count the peak from here on."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_rss_bytes() -> int:
    """The highest resident memory since ``reset_peak``."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("the kernel does not tell the peak")


def main() -> None:
    """Do what the arguments say."""
    what, path, config, quality, store = sys.argv[1:]
    folder = Path(store) if store else None
    if what == "raw":
        result = raw(Path(path))
    elif what == "own":
        result = own(Path(path))
    elif what == "touch":
        result = touch(Path(path))
    elif what == "ready":
        result = ready(Path(path), Path(config), quality, folder)
    else:
        result = load(Path(path), Path(config), quality, folder, what)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
