"""Files are replaced at once or not at all."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
import torch

from art_ext.files import replacing
from art_ext.training import Checkpoint


def test_the_old_file_stays_when_writing_fails(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file.txt"
    with replacing(target) as temporary:
        temporary.write_text("old")

    def half(temporary: Path) -> None:
        temporary.write_text("half of the n")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"), replacing(target) as temporary:
        half(temporary)
    assert target.read_text() == "old"
    assert list(target.parent.iterdir()) == [target]
    assert target.stat().st_mode & stat.S_IRUSR


def test_the_target_is_untouched_until_the_end(tmp_path: Path) -> None:
    target = tmp_path / "file.txt"
    target.write_text("old")
    with replacing(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
        reader = target.open()
    with reader:  # still has the whole old file: the new one took its place, it was not written over
        assert reader.read() == "old"
    assert target.read_text() == "new"


def test_checkpoints_hold_no_code(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "state.pt")
    assert checkpoint.load() is None
    checkpoint.save({"steps": 3, "w": torch.ones(2)})
    state = checkpoint.load()
    assert state is not None
    assert state["steps"] == 3
    checkpoint.save({"code": print})
    with pytest.raises(Exception, match="weights_only"):
        checkpoint.load()
