"""From one decoded JSON value to one reply. Owns error shapes; knows no sockets.

jsonrpcserver dispatches one request at a time. Around it, because it cannot: batches
are split here so that one bad element spoils no other, parameters are typed, every error carries
kind and hint, and no inside text of an unexpected fault reaches the client.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, Final, Generic

import msgspec
from jsonrpcserver import Error, Success, async_dispatch_to_serializable
from jsonrpcserver.utils import identity

from moshid.errors import (
    InternalError,
    InvalidParams,
    InvalidRequest,
    MethodNotFound,
    MoshidError,
    ParseFailed,
)
from moshid.rpc.caller import Caller
from moshid.rpc.registry import App, Method, Methods

log = logging.getLogger(__name__)

Reply = dict[str, Any]

VALUES_MAX: Final = 20_000
"""Commas and opening brackets in a line, those in strings too: without parsing it that tells how
many values it may unfold to, whose lists would take fifty times its size, and half a second. A full
batch of talks with all their options has 3,000."""

_BY_CODE: Final[dict[int, type[MoshidError]]] = {
    cls.code: cls for cls in (ParseFailed, InvalidRequest, MethodNotFound, InvalidParams)
}


def decode(line: bytes) -> Any:
    """One line as a JSON value.

    Raises:
        InvalidRequest: more values than any request needs.
        ParseFailed: no JSON, no UTF-8, or nested too deeply.
    """
    if sum(map(line.count, (b",", b"[", b"{"))) > VALUES_MAX:
        raise InvalidRequest(f"a line holds no more than {VALUES_MAX:,} commas and brackets")
    try:
        return msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise ParseFailed(f"the line is no JSON: {e}") from e


def error_reply(request_id: Any, error: MoshidError) -> Reply:
    """The JSON-RPC error object for an error of the tree."""
    return {
        "jsonrpc": "2.0",
        "id": request_id,
        "error": {"code": error.code, "message": error.message, "data": error.to_data()},
    }


def check_request(value: Any) -> dict[str, Any]:
    """The value as a request object.

    Raises:
        InvalidRequest: it is none; the message says why.
        InvalidParams: parameters by position.
    """
    if not isinstance(value, dict):
        raise InvalidRequest("a request has to be a JSON object")
    if value.get("jsonrpc") != "2.0":
        raise InvalidRequest('"jsonrpc" has to be "2.0"')
    if not isinstance(value.get("method"), str):
        raise InvalidRequest('"method" has to be a string')
    if isinstance(value.get("id"), (bool, dict, list)):
        raise InvalidRequest('"id" has to be a string or a number')
    if unknown := set(value) - {"jsonrpc", "method", "id", "params"}:
        raise InvalidRequest(f"a request has no member {sorted(unknown)[0]!r}")
    if "params" in value and not isinstance(value["params"], dict):
        raise InvalidParams("parameters go by name: params has to be a JSON object")
    return value


class Dispatcher(Generic[App]):
    """Serves requests from a table of methods, on behalf of one application object."""

    def __init__(
        self, methods: Methods[App], app: App, on_call: Callable[[], None] = lambda: None
    ) -> None:
        """``on_call`` hears of every request, whatever it is."""
        self._on_call = on_call
        self._endpoints = {m.name: _endpoint(m, app) for m in methods.values()}

    async def serve(self, request: dict[str, Any], caller: Caller) -> Reply | None:
        """The reply to a checked request; None for a notification."""
        self._on_call()
        reply = await async_dispatch_to_serializable(
            request,
            methods=self._endpoints,
            context=caller,
            deserializer=identity,
            validator=identity,  # a JSON schema that ``check_request`` has checked, in 0.3 ms
        )
        if reply is None:
            return None
        assert isinstance(reply, dict)
        return _with_kind(reply)


def _endpoint(method: Method[App], app: App) -> Callable[..., Awaitable[Any]]:
    async def endpoint(caller: Caller, /, **params: Any) -> Any:
        try:
            return Success(await method.handler(app, caller, method.convert(params)))
        except MoshidError as e:
            return Error(e.code, e.message, e.to_data())
        except Exception:
            # str(e) may hold paths or worse; the client gets a reference into the log instead.
            reference = secrets.token_hex(4)
            log.exception("%s failed unexpectedly", method.name, extra={"reference": reference})
            error = InternalError(
                f"an unexpected fault in {method.name}",
                hint=f"See the daemon's log, reference {reference}: moshi-client logs.",
                reference=reference,
            )
            return Error(error.code, error.message, error.to_data())

    return endpoint


def _with_kind(reply: Reply) -> Reply:
    """Give jsonrpcserver's own errors their kind and hint."""
    error = reply.get("error")
    if error is None or isinstance(error.get("data"), dict):
        return reply
    cls = _BY_CODE.get(error["code"], InternalError)
    detail = error.get("data")
    message = f"{error['message']}: {detail}" if cls is MethodNotFound else error["message"]
    return error_reply(reply.get("id"), cls(message))
