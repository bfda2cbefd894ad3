"""A ``config.json`` that cannot be a model's is refused by name, whatever stands in it."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moshid.errors import BadCheckpoint
from moshid.model import mlx_engine
from moshid.model.config_check import check
from tests.fakes import small_models


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dim": "wide"}, "dim is 'wide', where 1 to 65536 can be"),
        ({"dim": True}, "dim is True"),
        ({"dim": 0}, "dim is 0"),
        ({"dim": 256.5}, "dim is 256.5"),
        ({"num_layers": 10**9}, "num_layers is 1000000000"),
        ({"text_card": -300}, "text_card is -300"),
        ({"num_heads": 3}, "dim 256 is no multiple of num_heads 3"),
        ({"depformer_num_heads": 5}, "depformer_dim 64 is no multiple of depformer_num_heads 5"),
        ({"n_q": 2}, "dep_q 4 is over n_q 2"),
        ({"delays": [0, -1]}, "delays is no list of frames"),
        ({"delays": "none"}, "delays is no list of frames"),
        ({"delays": None}, "delays is no list of frames"),
        ({"delays": [0, 10**6]}, "delays is no list of frames"),
        ({"context": [3000]}, r"context is \[3000\]"),
    ],
)
def test_what_cannot_be_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BadCheckpoint, match=message) as caught:
        check(small_models.config(**changes))
    assert "config.json" in caught.value.hint


def test_what_models_have_is_taken() -> None:
    check(small_models.config())
    check(small_models.config(dep_q=0, n_q=8, max_period=10000.0, depformer_context=None))
    check({})


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(st.sampled_from(sorted(small_models.config())), _VALUES, max_size=3))
def test_no_config_brings_another_error_than_ours(changes: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "config.json").write_text(json.dumps(small_models.config(**changes)))
        with pytest.raises(BadCheckpoint):
            mlx_engine.load(
                folder / "config.json", folder / "w", folder / "t", "bf16", lambda _advance: None
            )
