"""The folder of an evaluation: kept by content, damaged pieces, several processes, refused calls."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from art_ext.evaluation import Attack, Defended, Report, Threat, evaluate
from art_ext.evaluation.run import store as store_module
from art_ext.evaluation.run.store import Piece, Store
from art_ext.files import remove_stale, replacing

from .conftest import Blur, Halves, Problem
from .test_inspect import Around, scaled

ROOT = Path(__file__).parents[2]
OPTIONS = {"threat": Threat("Linf", 0.2), "probe": None, "progress": False}
ATTACKS = [Attack("native", "PGD", {"steps": 3})]


def run(problem: Problem, folder: Path, *models: Defended, attacks: list[Attack] = ATTACKS) -> Report:
    return evaluate(models or [Defended("m", problem.classifier, Blur())], attacks, problem.x, problem.y,
                    folder=folder, **OPTIONS)  # fmt: skip


def pieces(folder: Path) -> list[Path]:
    return sorted((folder / "pieces").iterdir())


def flip(file: Path) -> None:
    raw = bytearray(file.read_bytes())
    raw[-100] ^= 1
    file.write_bytes(raw)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:200])


def outside(file: Path) -> None:
    """Another whole file, of images outside the ball."""
    from safetensors import safe_open

    with safe_open(file, "pt") as opened:
        facts = json.loads(opened.metadata()["facts"])
    store = Store(file.parent / "other")
    store.put("x", Piece(load_file(file)["x_adv"] * 0, facts))
    (made,) = (file.parent / "other" / "pieces").iterdir()
    made.replace(file)


@pytest.mark.parametrize(
    "damage", [flip, cut, outside, lambda f: f.write_bytes(b"")], ids=["flip", "cut", "other", "empty"]
)
def test_a_damaged_piece_is_made_anew(damage: object, problem: Problem, tmp_path: Path) -> None:
    whole = run(problem, tmp_path)
    (tmp_path / "report.json").unlink()
    chosen = pieces(tmp_path)[0]
    good = load_file(chosen)["x_adv"].clone()
    damage(chosen)  # type: ignore[operator]
    again = run(problem, tmp_path)
    assert again.findings() == whole.findings()
    assert any(f"{chosen.name} was damaged and made anew" in note for note in again.notes)
    assert torch.equal(load_file(chosen)["x_adv"], good)


def test_no_byte_of_a_piece_can_be_flipped(tmp_path: Path) -> None:
    """Each of them in turn, from the length of the header to the last pixel."""
    store = Store(tmp_path)
    store.put("key", Piece(torch.rand(2, 1, 2, 2), {"seconds": 0.5}))
    (file,) = (tmp_path / "pieces").iterdir()
    held = file.read_bytes()
    for place in range(len(held)):
        file.write_bytes(held[:place] + bytes([held[place] ^ 1]) + held[place + 1 :])
        new = Store(tmp_path)
        assert new.get("key", lambda _: True) is None, place
        assert new.damaged == [file.name]
    file.write_bytes(held)
    assert Store(tmp_path).get("key", lambda _: True) is not None


def test_a_piece_without_a_digest_is_made_anew(problem: Problem, tmp_path: Path) -> None:
    whole = run(problem, tmp_path)
    (tmp_path / "report.json").unlink()
    for file in pieces(tmp_path):
        save_file(load_file(file), file)
    assert run(problem, tmp_path).findings() == whole.findings()


@pytest.mark.parametrize("text", ["", "{", '{"schema": 9}'])
def test_a_damaged_report_or_plan_is_refused_by_name(text: str, problem: Problem, tmp_path: Path) -> None:
    run(problem, tmp_path)
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(ValueError, match="damaged"):
        run(problem, tmp_path)
    (tmp_path / "evaluation.json").write_text("{")
    with pytest.raises(ValueError, match=r"evaluation\.json"):
        run(problem, tmp_path)


@pytest.mark.parametrize("text", ["[]", "{}", "3", '{"images": "x", "attacks": 3}'])
def test_a_plan_of_another_form_is_refused_by_name(text: str, problem: Problem, tmp_path: Path) -> None:
    run(problem, tmp_path)
    (tmp_path / "evaluation.json").write_text(text)
    with pytest.raises(ValueError, match=r"evaluation\.json as this package writes it, got a damaged file"):
        run(problem, tmp_path)


def test_a_report_that_is_no_text_is_refused_by_name(problem: Problem, tmp_path: Path) -> None:
    run(problem, tmp_path)
    (tmp_path / "report.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="expected a whole report"):
        run(problem, tmp_path)


@pytest.mark.parametrize("damage", [cut, Path.unlink], ids=["cut", "gone"])
def test_examples_beside_a_report_are_made_anew(damage: Any, problem: Problem, tmp_path: Path) -> None:
    whole = run(problem, tmp_path)
    file = tmp_path / "x_adv.safetensors"
    good = load_file(file)
    good = {k: v.clone() for k, v in good.items()}
    damage(file)
    again = run(problem, tmp_path)
    assert again.findings() == whole.findings()
    assert "x_adv.safetensors was damaged and made anew" in again.notes
    assert all(torch.equal(v, good[k]) for k, v in load_file(file).items())


def test_a_full_disk_ends_the_evaluation_and_refuses_no_row(
    problem: Problem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(problem, tmp_path / "whole")
    calls = []

    def full(*arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) == 2:
            raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
        save_file(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(store_module, "save_file", full)
        with pytest.raises(SafetensorError, match="No space left"):
            run(problem, tmp_path / "full")
    again = run(problem, tmp_path / "full")
    assert again.findings() == whole.findings()
    assert any("blocks were read from the folder" in note for note in again.notes)


def test_a_refused_call_leaves_nothing(problem: Problem, tmp_path: Path) -> None:
    folder = tmp_path / "e"
    wrong = Attack("torchattacks", "FGSM")  # has no L2 form
    with pytest.raises(ValueError, match="norm"):
        evaluate([Defended("m", problem.classifier)], [wrong], problem.x, problem.y, threat=Threat("L2", 0.2),
                 folder=folder, probe=None, progress=False)  # fmt: skip
    assert not folder.exists()
    run(problem, folder)


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (Defended("m", Around(scaled(-1.0)), Blur()), r"model m \(classifier\)"),
        (Defended("m", Around(scaled(1.0))), r"model m \(purifier"),
        (Defended("n", Around(scaled(1.0)), Blur()), "models"),
    ],
)
def test_another_model_is_refused_by_what_differs(other: Defended, what: str, problem: Problem, tmp_path: Path) -> None:
    run(problem, tmp_path, Defended("m", Around(scaled(1.0)), Blur()))
    with pytest.raises(ValueError, match=what):
        run(problem, tmp_path, other)
    again = run(problem, tmp_path, Defended("m", Around(scaled(1.0)), Blur()))
    assert again.notes == ("read back, nothing was run",)


def test_a_model_of_the_same_parts_that_answers_otherwise_is_refused(problem: Problem, tmp_path: Path) -> None:
    """What no hash can see: here a global."""
    run(problem, tmp_path, Defended("m", Around(lambda n, x: FACTOR[0] * n(x))))
    FACTOR[0] = -1.0
    try:
        with pytest.raises(ValueError, match="answers of m"):
            run(problem, tmp_path, Defended("m", Around(lambda n, x: FACTOR[0] * n(x))))
    finally:
        FACTOR[0] = 1.0


FACTOR = [1.0]


def test_another_function_of_ones_own_is_another_attack(problem: Problem, tmp_path: Path) -> None:
    def attack(by: float) -> list[Attack]:
        return [Attack("yours", "shift", function=lambda m, x, y, t: (x + by).clamp(0, 1))]

    run(problem, tmp_path, attacks=attack(0.1))
    with pytest.raises(ValueError, match="attacks"):
        run(problem, tmp_path, attacks=attack(0.2))


def test_models_that_share_a_network_share_its_examples(problem: Problem, tmp_path: Path) -> None:
    run(problem, tmp_path, Defended("bare", problem.classifier), Defended("twin", Halves()),
        Defended("m", problem.classifier, Blur()))  # fmt: skip
    # The classifier once, for "bare", its twin of the same weights and the blind attacker; bpda and full of "m".
    assert len(pieces(tmp_path)) == 3


def test_what_a_dead_process_left_goes_and_what_a_live_one_writes_stays(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", f"""
from art_ext.files import replacing
import os
with replacing({str(tmp_path / "dead")!r}):
    os._exit(1)
"""]) as process:  # fmt: skip
        process.wait()
    assert len(list(tmp_path.glob("*.part"))) == 1
    with replacing(tmp_path / "alive") as temporary:
        remove_stale(tmp_path)
        assert list(tmp_path.glob("*.part")) == [temporary]
        temporary.write_text("x")
    assert [p.name for p in tmp_path.iterdir()] == ["alive"]
    assert str(os.getpid()) in temporary.name


@pytest.mark.parametrize("below", ["", "evaluation"])
def test_a_file_in_the_place_of_the_folder_is_named(below: str, problem: Problem, tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("x")
    with pytest.raises(NotADirectoryError, match=r"expected a folder for evaluation.json, got a file: .*notes"):
        run(problem, tmp_path / "notes" / below)
    assert (tmp_path / "notes").read_text() == "x"
