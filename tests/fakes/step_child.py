"""A fresh process that steps a small model and prints its tokens, as JSON.

``python -m tests.fakes.step_child SEED STEPS [--compiled]``; with ``--compiled`` twice from the
same weights, once with compiled stages and once without. Compiled are they as for a GPU (traced
once, simplified, replayed), but not fused: fused kernels of more than one result crash MLX 0.26 on
a CPU (seen), and need a g++. Python has no name for this mode of MLX's.
"""

from __future__ import annotations

import ctypes
import json
import sys
from pathlib import Path
from typing import Final

import mlx.core as mx

from moshid import mlx_setup
from moshid.model.engine import Sampling
from moshid.model.step import Stepper
from tests.fakes import small_models

NO_FUSE: Final = 2
"""Of ``mlx::core::CompileMode``."""

SAMPLING = Sampling(0.8, 25, 0.8, 50, text_repetition_penalty=1.2)


def tokens_of(stepper: Stepper, seed: int, steps: int) -> list[list[int]]:
    """Text and audio of each step of a fresh conversation that hears a fixed pattern."""
    stepper.reset(seed, SAMPLING)
    results = (stepper.step([(7 * i + k) % 64 for k in range(4)]) for i in range(steps))
    return [[result.text, *result.tokens] for result in results]


def main() -> None:
    """See the module."""
    seed, steps, *flags = sys.argv[1:]
    if flags:
        mlx = ctypes.CDLL(str(Path(mx.__file__).parent / "lib" / "libmlx.so"))
        mlx._ZN3mlx4core16set_compile_modeENS0_11CompileModeE(NO_FUSE)
    else:
        mlx_setup.prepare()
    lm = small_models.random_lm(small_models.config())
    kinds = (True, False) if flags else (False,)
    steppers = [Stepper(lm, SAMPLING, compiled=compiled) for compiled in kinds]
    json.dump([tokens_of(stepper, int(seed), int(steps)) for stepper in steppers], sys.stdout)


if __name__ == "__main__":
    main()
