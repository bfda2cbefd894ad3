"""MLX's memory limits on Metal, set once a model is loaded. Worker only."""

from __future__ import annotations

import logging

import mlx.core as mx

from moshid.model.footprint import Footprint, MetalLimits, metal_limits

log = logging.getLogger(__name__)


def apply(footprint: Footprint) -> MetalLimits | None:
    """Wire what the model needs and bound MLX's free buffers; None where there is no Metal."""
    if not mx.metal.is_available():
        return None
    info = mx.metal.device_info()
    limits = metal_limits(footprint, int(info["max_recommended_working_set_size"]))
    mx.clear_cache()  # what loading left over
    mx.set_cache_limit(limits.cache_bytes)
    try:
        mx.set_wired_limit(limits.wired_bytes)
    except ValueError as e:  # above what the system lets anybody wire (iogpu.wired_limit_mb)
        log.warning("the model's memory is not wired: %s", e)
    log.info(
        "Metal's limits are set",
        extra={"wired_bytes": limits.wired_bytes, "cache_bytes": limits.cache_bytes},
    )
    return limits
