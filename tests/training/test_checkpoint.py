"""Files are replaced at once or not at all, and a checkpoint that is not what was written is refused by its name."""

from __future__ import annotations

import io
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from toys import game, train

from art_ext.files import replacing
from art_ext.training import Checkpoint
from art_ext.training.checkpoint import SEAL


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


def position_of(content: bytes) -> Callable[[bytes], int]:
    """Where some content begins in a file."""
    return lambda held: held.index(content)


def _weight(held: bytes) -> bytes:
    state = torch.load(io.BytesIO(held[:-SEAL]), weights_only=True)
    content: bytes = state["objective"]["generator.0.weight"].numpy().tobytes()
    return content


PLACES: dict[str, Callable[[bytes], int]] = {
    "start": lambda _: 0,
    "header": lambda _: 20,
    "names": position_of(b"generator.0.weight"),
    "settings": position_of(b"betas"),
    "weights": lambda held: held.index(_weight(held)) + 3,
    "directory": lambda held: held.rindex(b"PK\x01\x02") + 40,
    "seal": lambda held: len(held) - SEAL,
    "end": lambda held: len(held) - 1,
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The checkpoint of a training of two players, one epoch of it."""
    path = tmp_path_factory.mktemp("training") / "state.pt"
    train(game(), str(path), epochs=1)
    return path.read_bytes()


def refused(held: bytes, path: Path) -> None:
    """The training of two epochs that finds this file ends with its name, and has changed nothing."""
    path.write_bytes(held)
    method = game()
    before = {k: v.clone() for k, v in method.state_dict().items()}
    with pytest.raises(
        ValueError, match=rf"expected the checkpoint of a training, got \S*{path.name}, which is damaged"
    ):
        train(method, str(path), epochs=2)
    assert all(torch.equal(v, before[k]) for k, v in method.state_dict().items())
    assert path.read_bytes() == held


@pytest.mark.parametrize("place", PLACES)
def test_one_flipped_byte_is_refused(place: str, written: bytes, tmp_path: Path) -> None:
    held = bytearray(written)
    held[PLACES[place](written)] ^= 1
    refused(bytes(held), tmp_path / "flipped.pt")


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_a_cut_file_is_refused(share: float, written: bytes, tmp_path: Path) -> None:
    refused(written[: int(share * len(written))], tmp_path / "cut.pt")


def test_a_whole_file_is_gone_on_with(written: bytes, tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    path.write_bytes(written)
    resumed, unbroken = game(), game()
    train(resumed, str(path), epochs=2)
    train(unbroken, None, epochs=2)
    assert all(torch.equal(v, unbroken.state_dict()[k]) for k, v in resumed.state_dict().items())
