"""Whether the numbers of a ``config.json`` can be a model's. Pure.

moshi_mlx builds whatever it is told: a text where a number belongs fails far from its cause, and a
billion layers are built for ever. What no Moshi comes near is refused here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from moshid.errors import BadCheckpoint

_RANGES: Final = {
    "dim": (1, 65_536),
    "num_heads": (1, 1024),
    "num_layers": (1, 512),
    "context": (1, 1_000_000),
    "max_period": (1, 1_000_000_000),
    "n_q": (0, 256),
    "dep_q": (0, 256),
    "card": (1, 1_000_000),
    "text_card": (1, 10_000_000),
    "depformer_dim": (1, 65_536),
    "depformer_num_heads": (1, 1024),
    "depformer_num_layers": (1, 512),
    "depformer_dim_feedforward": (1, 1_000_000),
    "depformer_context": (1, 1_000_000),
    "depformer_max_period": (1, 1_000_000_000),
    "depformer_low_rank_embeddings": (1, 65_536),
    "extra_heads_num_heads": (0, 256),
    "extra_heads_dim": (1, 1_000_000),
    "existing_text_padding_id": (0, 10_000_000),
}
_MAY_BE_NULL: Final = ("depformer_context", "depformer_low_rank_embeddings")
_DELAY_MAX: Final = 1000


def check(numbers: Mapping[str, Any]) -> None:
    """Refuse what cannot be.

    Raises:
        BadCheckpoint: a number is none, or out of all bounds; the message names it.
    """
    for name, (least, most) in _RANGES.items():
        value = numbers.get(name)
        if name not in numbers or (value is None and name in _MAY_BE_NULL):
            continue
        if name.endswith("max_period") and isinstance(value, float) and value.is_integer():
            value = int(value)
        if type(value) is not int or not least <= value <= most:
            raise _refused(f"{name} is {value!r}, where {least} to {most} can be")
    for heads, dim in (("num_heads", "dim"), ("depformer_num_heads", "depformer_dim")):
        if heads in numbers and dim in numbers and numbers[dim] % numbers[heads]:
            raise _refused(f"{dim} {numbers[dim]} is no multiple of {heads} {numbers[heads]}")
    if numbers.get("dep_q", 0) > numbers.get("n_q", 256):
        raise _refused(f"dep_q {numbers['dep_q']} is over n_q {numbers['n_q']}")
    check_delays(numbers)


def check_delays(numbers: Mapping[str, Any]) -> None:
    """Refuse delays that are none.

    Raises:
        BadCheckpoint: they are no list of frames.
    """
    delays = numbers.get("delays", [])
    if not isinstance(delays, list) or not all(
        type(d) is int and 0 <= d <= _DELAY_MAX for d in delays
    ):
        raise _refused("delays is no list of frames")


def _refused(why: str) -> BadCheckpoint:
    return BadCheckpoint(
        f"config.json does not describe a Moshi model: {why}",
        hint="Fetch the repository's own config.json again (moshi-client verify MODEL --repair).",
    )
