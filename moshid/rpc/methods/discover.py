"""``rpc.discover``: the control plane describes itself."""

from __future__ import annotations

import functools
from typing import Any

from moshid.rpc.caller import Caller
from moshid.rpc.registry import Method, NoParams, openrpc


async def discover(_app: Any, _caller: Caller, _p: NoParams) -> dict[str, Any]:
    """Describe all methods.

    Result: an OpenRPC 1.3 document.
    """
    return _described()


@functools.cache
def _described() -> dict[str, Any]:
    """It never changes, and making it takes 20 ms in which the daemon does nothing else."""
    from moshid.rpc.methods import all_methods

    return openrpc(all_methods())


METHODS: list[Method[Any]] = [Method("rpc.discover", NoParams, discover)]
