"""What a method is: name, typed parameters, handler. Owns the table of methods and its schema.

``rpc.discover`` and docs/rpc.md are made from this table, so they cannot disagree with it.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from moshid import MIN_PROTOCOL, PROTOCOL, __version__
from moshid.errors import InvalidParams

if TYPE_CHECKING:
    from moshid.rpc.caller import Caller

App = TypeVar("App")


class Params(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Base of all parameter structs: by name, nothing unknown."""


class NoParams(Params):
    """For methods that take none."""


P = TypeVar("P", bound=Params)

Handler = Callable[[App, "Caller", P], Awaitable[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Method(Generic[App]):
    """One method. ``since`` is the protocol version that brought it; evolution is additive."""

    name: str
    params: type[Params]
    handler: Callable[[App, Caller, Any], Awaitable[dict[str, Any]]]
    since: int = 1

    @property
    def doc(self) -> str:
        """The handler's docstring: summary and result."""
        return inspect.getdoc(self.handler) or ""

    def convert(self, params: dict[str, Any]) -> Params:
        """Parameters by name as the method's struct.

        Raises:
            InvalidParams: something is missing, unknown or of the wrong type.
        """
        try:
            return msgspec.convert(params, self.params)
        except msgspec.ValidationError as e:
            raise InvalidParams(f"{self.name}: {e}", hint=self.usage()) from e

    def usage(self) -> str:
        """One line that shows how to call it, by the names that go over the wire."""
        fields = msgspec.structs.fields(self.params)
        shown = [f.encode_name if f.required else f"{f.encode_name}?" for f in fields]
        return f"{self.name} takes {{{', '.join(shown)}}}; see `moshi-client help {self.name}`."


Methods = dict[str, Method[App]]


def table(methods: Iterable[Method[App]]) -> Methods[App]:
    """The methods by name, in order.

    Raises:
        ValueError: two methods, or two parameter structs, share a name.
    """
    named: Methods[App] = {}
    structs: dict[str, type[Params]] = {}
    for method in methods:
        if method.name in named:
            raise ValueError(f"two methods are called {method.name}")
        named[method.name] = method
        struct = structs.setdefault(method.params.__name__, method.params)
        if struct is not method.params:
            raise ValueError(f"two parameter structs are called {struct.__name__}")
    return dict(sorted(named.items()))


def openrpc(methods: Methods[App]) -> dict[str, Any]:
    """The OpenRPC 1.3 document of all methods."""
    described = [m for m in methods.values() if m.params is not NoParams]
    _, components = msgspec.json.schema_components(
        [m.params for m in described], ref_template="#/components/schemas/{name}"
    )
    return {
        "openrpc": "1.3.2",
        "info": {
            "title": "moshid",
            "version": __version__,
            "x-protocol": PROTOCOL,
            "x-min-protocol": MIN_PROTOCOL,
        },
        "methods": [_describe(m, components) for m in methods.values()],
        "components": {"schemas": components},
    }


def _describe(method: Method[App], components: dict[str, Any]) -> dict[str, Any]:
    summary, _, rest = method.doc.partition("\n")
    schema = components.get(method.params.__name__, {})
    required = schema.get("required", [])
    return {
        "name": method.name,
        "summary": summary,
        "description": rest.strip(),
        "paramStructure": "by-name",
        "params": [
            {"name": name, "required": name in required, "schema": prop}
            for name, prop in schema.get("properties", {}).items()
        ],
        "result": {"name": "result", "schema": {"type": "object"}},
        "x-since": method.since,
    }
