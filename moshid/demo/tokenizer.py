"""The demo's text tokenizer: a real sentencepiece model, written without training.

Owns the vocabulary and the few protobuf fields that sentencepiece reads; imports nothing of moshid.
Ids as in Moshi: 0 end of padding (``<unk>``), 1 and 2 sentence marks, 3 padding.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from typing import Final

PADDING_ID: Final = 3
FIRST_SYLLABLE_ID: Final = 4
WORD_START: Final = "▁"

_NORMAL, _UNKNOWN, _CONTROL = 1, 2, 3
_SPECIAL: Final = (("<unk>", _UNKNOWN), ("<s>", _CONTROL), ("</s>", _CONTROL), ("<pad>", _CONTROL))
_ONSETS: Final = ("b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "w", "z", "sh",
                  "ch", "br", "dr", "fl", "gr", "kl", "pl", "pr", "sk", "st", "tr")  # fmt: skip
_VOWELS: Final = ("a", "e", "i", "o", "u", "ai", "ee", "oo", "ou")
_CODAS: Final = ("", "n", "m", "l", "r", "s", "t", "k", "p", "b", "d", "f", "g", "v", "z", "sh",
                 "ch", "ng", "nt", "nd", "st", "sk", "ft", "lt", "lk", "mp", "nk", "rm", "rn", "rt",
                 "rd", "rk", "ls", "ns", "ts", "ks", "ps", "th", "nth", "rth", "lth", "x", "ck",
                 "ff", "ll", "ss", "zz", "bs", "ds", "gs", "ms", "rs", "ngs", "lm", "lp", "lf",
                 "rp", "rf", "rl", "sp", "pt", "kt", "xt", "cks", "lls", "nts")  # fmt: skip


def pieces(count: int) -> list[str]:
    """The vocabulary, ``count`` distinct pieces: specials, short syllables first, then longer."""
    if count > (most := 4 + 2 * len(_ONSETS) * len(_VOWELS) * len(_CODAS)):
        raise ValueError(f"a vocabulary of {count} is over the {most} that can be spelled")
    return [text for text, _ in _SPECIAL] + list(itertools.islice(_syllables(), count - 4))


def _syllables() -> Iterator[str]:
    """By coda, then vowel, then onset; each as the start of a word and inside one."""
    for coda, vowel, onset in itertools.product(_CODAS, _VOWELS, _ONSETS):
        yield WORD_START + onset + vowel + coda
        yield onset + vowel + coda


def build(count: int) -> bytes:
    """A sentencepiece ``.model`` file (unigram) of ``count`` pieces.

    The fields are those of sentencepiece_model.proto: ModelProto.pieces = 1 (piece 1, score 2,
    type 3), trainer_spec = 2 (model_type 3, vocab_size 4), normalizer_spec = 3 (name 1).
    """
    special_types = dict(_SPECIAL)
    chunks = []
    for index, text in enumerate(pieces(count)):
        piece = _bytes_field(1, text.encode()) + _float_field(2, -float(index))
        piece += _int_field(3, special_types.get(text, _NORMAL))
        chunks.append(_bytes_field(1, piece))
    trainer = _int_field(3, 1) + _int_field(4, count)
    return (
        b"".join(chunks) + _bytes_field(2, trainer) + _bytes_field(3, _bytes_field(1, b"identity"))
    )


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _int_field(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _float_field(number: int, value: float) -> bytes:
    return _varint(number << 3 | 5) + struct.pack("<f", value)


def _bytes_field(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value
