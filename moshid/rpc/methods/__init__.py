"""The methods, one module a subject; each names its own in ``METHODS``. All are joined here."""

from __future__ import annotations

from typing import Any

from moshid.rpc.methods import audio, daemon, discover, download, events, model, talk
from moshid.rpc.registry import Methods, table


def all_methods() -> Methods[Any]:
    """Every method of the control plane, by name."""
    subjects = (audio, daemon, discover, download, events, model, talk)
    return table(method for subject in subjects for method in subject.METHODS)
