"""What a step asks of the device: nodes of graph, and how often the host waits. For benchmarks.

On a GPU a node is a kernel's launch or a view, and each wait is an idle device. MLX tells neither,
so while a ``GraphMeter`` counts it stands in for the calls by which a graph is evaluated, and looks
at each graph just before. A CPU has no kernels of its own for norms, rotary positions and
attention, which become some ten nodes each there; they count as the one that they are on a GPU.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import mlx.core as mx

_WAITS: Final = ("item", "tolist", "__bool__", "__int__", "__float__", "__array__")
"""Methods of an array that need its value."""

_FUSED: Final = ("rms_norm", "layer_norm", "rope", "scaled_dot_product_attention")

Call = Callable[..., Any]


@dataclass(slots=True)
class GraphMeter:
    """What has been evaluated since the count began."""

    nodes: int = 0
    waits: int = 0
    _surplus: dict[Any, int] = field(default_factory=dict, repr=False)

    def evaluating(self, call: Call, *, waits: bool) -> Call:
        """``call``, counting the graphs it is given."""

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.waits += waits
            self.nodes += _nodes(args)
            return call(*args, **kwargs)

        return counted

    def fused(self, call: Call) -> Call:
        """``call``, whose nodes are to count as one."""

        def counted(*args: Any, **kwargs: Any) -> Any:
            arrays = [a for a in args if isinstance(a, mx.array)]
            shapes = (call, *((tuple(a.shape), a.dtype) for a in arrays))
            if shapes not in self._surplus:
                bare = [_evaluated(a) if isinstance(a, mx.array) else a for a in args]
                self._surplus[shapes] = _nodes((call(*bare, **kwargs),)) - 1
            self.nodes -= self._surplus[shapes]
            return call(*args, **kwargs)

        return counted


@contextmanager
def metered() -> Iterator[GraphMeter]:
    """Count what this process evaluates meanwhile, on one thread."""
    meter = GraphMeter()
    with ExitStack() as stack:
        for name in _FUSED:
            _replace(stack, mx.fast, name, meter.fused)
        for name in _WAITS:
            _replace(stack, mx.array, name, lambda call: meter.evaluating(call, waits=True))
        _replace(stack, mx, "eval", lambda call: meter.evaluating(call, waits=True))
        _replace(stack, mx, "async_eval", lambda call: meter.evaluating(call, waits=False))
        yield meter


def _replace(stack: ExitStack, owner: Any, name: str, make: Callable[[Call], Call]) -> None:
    if (own := getattr(owner, name, None)) is not None:
        setattr(owner, name, make(own))
        stack.callback(setattr, owner, name, own)


def _nodes(arrays: tuple[Any, ...]) -> int:
    graph = io.StringIO()
    mx.export_to_dot(graph, *arrays)
    return graph.getvalue().count("[label =")


_EVALUATE: Final = mx.eval


def _evaluated(like: mx.array) -> mx.array:
    array = mx.zeros(like.shape, like.dtype)
    _EVALUATE(array)
    return array
