"""The demo checkpoint's builder: files, determinism, atomicity, the tokenizer's vocabulary."""

from __future__ import annotations

import json
import wave
from pathlib import Path

import pytest
import sentencepiece
from moshi_mlx import models

from moshid.demo import checkpoint, parrot, tokenizer


def test_names_every_file_a_loader_asks_for(demo_checkpoint: Path) -> None:
    config = json.loads((demo_checkpoint / "config.json").read_text())
    for key in ("moshi_name", "mimi_name", "mimi_config_name", "tokenizer_name"):
        assert (demo_checkpoint / config[key]).is_file(), key
    assert config["tokenizer_name"].startswith("tokenizer_spm_")
    lm_config = models.LmConfig.from_config_dict(config)
    assert lm_config.generated_codebooks == lm_config.other_codebooks == 8
    assert lm_config.audio_delays == [0, 1, 1, 1, 1, 1, 1, 1] * 2


def test_a_complete_build_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    first = checkpoint.build(folder)
    before = {p.name: p.stat().st_mtime_ns for p in folder.iterdir()}
    assert checkpoint.build(folder) == first
    assert {p.name: p.stat().st_mtime_ns for p in folder.iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["demo"], "nothing is left beside it"


def test_builds_the_same_bytes_each_time(tmp_path: Path, demo_checkpoint: Path) -> None:
    """The kept build too: where this fails and nothing else does, raise BUILDER_VERSION."""
    first = checkpoint.build(tmp_path / "a")
    assert checkpoint.build(tmp_path / "b") == first
    assert checkpoint.read_facts(demo_checkpoint) == first


def test_a_damaged_or_older_build_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    facts = checkpoint.build(folder)
    (folder / "model.safetensors").write_bytes(b"short")
    assert checkpoint.read_facts(folder) is None
    assert checkpoint.build(folder) == facts
    assert checkpoint.read_facts(folder) == facts


def test_a_folder_that_cannot_be_made_is_an_error_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file"):
        checkpoint.main([str(tmp_path / "file" / "demo")])
    assert capsys.readouterr().out == ""
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_tokenizer_has_moshis_special_ids_and_readable_pieces(tmp_path: Path) -> None:
    path = tmp_path / "spm.model"
    path.write_bytes(tokenizer.build(32000))
    spm = sentencepiece.SentencePieceProcessor(str(path))
    assert spm.vocab_size() == parrot.TEXT_CARD
    assert spm.id_to_piece(0) == "<unk>"
    assert spm.id_to_piece(tokenizer.PADDING_ID) == "<pad>"
    assert spm.decode(spm.encode("ba dooshi kana")) == "ba dooshi kana"
    syllables = [spm.id_to_piece(t) for t in parrot.syllable_tokens().values()]
    assert all(s.replace("▁", "").isalpha() for s in syllables)


def test_a_vocabulary_beyond_the_alphabet_is_refused() -> None:
    with pytest.raises(ValueError, match="can be spelled"):
        tokenizer.pieces(1_000_000)


def test_the_shipped_speech_is_what_its_readme_says() -> None:
    path = checkpoint.speech_wav()
    assert path.stat().st_size < 500_000
    with wave.open(str(path)) as wav:
        assert (wav.getframerate(), wav.getnchannels(), wav.getsampwidth()) == (24000, 1, 2)
        assert 7.0 < wav.getnframes() / 24000 < 10.0
