"""How MLX is set up in a worker. Owns what has to hold before its first computation.

Imports mlx: for workers only, never for the daemon.
"""

from __future__ import annotations

import mlx.core as mx


def prepare() -> None:
    """Call before anything is computed; may be called again.

    On a CPU, MLX compiles fused kernels with ``g++`` when they are first used, into files of
    predictable names in the shared temporary folder, and loads what it finds there. A machine
    without g++ fails then, and on one with it any user could plant a library. So fused kernels are
    for the GPU only.
    """
    if computes_on_cpu():
        mx.disable_compile()


def computes_on_cpu() -> bool:
    """Whether MLX computes on the CPU here."""
    return bool(mx.default_device().type == mx.DeviceType.cpu)
