"""Tables over several reports: hand-made cells end in the columns where they belong."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import ablations
import atop_fashion_mnist
import dir_fashion_mnist
import parts
import pytest
import render
import torch

from art_ext.evaluation import Cell, Report
from art_ext.evaluation.report import Verdict
from art_ext.purifiers import AToP
from art_ext.training import Objective


def made(*cells: Cell) -> Report:
    clean = [Cell(m, "clean", "none", ((True, True, True, True),)) for m in dict.fromkeys(c.model for c in cells)]
    return Report({"norm": "Linf", "eps": 0.1}, (*clean, *cells), (), (), {})


def cell(model: str, attack: str, knowledge: str, correct: str, **more: object) -> Cell:
    return Cell(model, attack, knowledge, (tuple(c == "1" for c in correct),), **more)  # type: ignore[arg-type]


def rows(table: str) -> dict[str, list[str]]:
    split = [[entry.strip() for entry in line.strip("|").split("|")] for line in table.splitlines() if "|" in line]
    return {row[0]: [entry.split(" %")[0] for entry in row[1:]] for row in split}


def test_cells_stand_under_their_attack_and_the_worst_case_is_over_the_reports_that_count() -> None:
    first = made(
        cell("bare", "native PGD-20", "undefended", "0000"),
        cell("d", "native PGD-20 + EOT-20", "blind", "1110"),
        cell("d", "native StAdv-50 0.05", "full", "1000", threat="bound 0.05"),
    )
    second = made(
        cell("d", "native PGD-200 + EOT-20", "full", "1011"), cell("d, frozen", "native PGD-200", "full", "0000")
    )
    columns = {
        "blind": ("native PGD-20, blind", "native PGD-20"),
        "full": ("native PGD-200",),
        "StAdv": ("native StAdv-50 0.05",),
    }
    found = rows(parts.table([first, second], columns, {"d": [first, second], "d, frozen": [second]}))
    assert found["model"] == ["clean", "blind", "full", "StAdv", "worst case"]
    assert found["bare"] == ["100.0", "0.0", "", "", ""]
    assert found["d"] == ["100.0", "75.0", "75.0", "25.0", "50.0"]  # StAdv has its column and no part in the worst case
    assert found["d, frozen"] == ["100.0", "", "0.0", "", "0.0"]


def test_dirs_table_says_what_dir_adds_to_its_target() -> None:
    target, dir_, frozen = "target alone", "DIR", "DIR, masks frozen"
    paper = made(cell(target, "native PGD-20", "undefended", "1110"), cell(dir_, "native PGD-20", "full", "1100"))
    strong = made(
        cell(target, "native PGD-40", "undefended", "1111"),
        cell(dir_, "native PGD-40 + EOT-20", "bpda", "0111"),
        cell(target, "autoattack standard", "undefended", "11"),
        cell(dir_, "autoattack rand + EOT-20", "full", "10"),
    )
    fixed = made(cell(frozen, "native PGD-200", "full", "0000"))
    text = dir_fashion_mnist.table({"paper": paper, "strong": strong, "frozen": fixed})
    found = rows(text)
    at = {name: i for i, name in enumerate(found["model"])}
    assert (found[target][at["AutoAttack"]], found[dir_][at["AutoAttack"]]) == ("100.0", "50.0")
    assert (found[target][at["BPDA + EOT-20, PGD-40"]], found[dir_][at["BPDA + EOT-20, PGD-40"]]) == ("100.0", "75.0")
    assert [found[m][-1] for m in (target, dir_, frozen)] == ["100.0", "0.0", "0.0"]
    assert "- PGD-20: -25.0" in text
    assert "- AutoAttack: -50.0" in text
    assert "- worst case: -100.0" in text
    assert "PGD-200 + EOT-20:" not in text  # nobody ran it


def test_gains_are_paired_and_only_of_what_both_were_put_through() -> None:
    report = made(
        cell("a", "native FGSM", "full", "1110"), cell("b", "native FGSM", "full", "0111"),
        cell("a", "native PGD-20", "full", "1111"), cell("a", "native StAdv-50 0.05", "full", "0100"),
        cell("b", "native StAdv-50 0.05", "full", "01"),
    )  # fmt: skip
    columns = {"FGSM": ("native FGSM",), "PGD": ("native PGD-20",), "StAdv": ("native StAdv-50 0.05",)}
    text = parts.gains([report], [("a", "b"), ("a", "nobody")], columns)
    # Differences 1, 0, 0, -1: deviation sqrt(2 / 3), half a width of 1.96 * sqrt(2 / 3) / 2 = 0.800.
    assert text.splitlines() == [
        "| points | clean | FGSM | StAdv |", "|---|---|---|---|",
        "| a minus b | +0.0 [+0.0, +0.0] n=4 | +0.0 [-80.0, +80.0] n=4 | +0.0 [+0.0, +0.0] n=2 |",
    ]  # fmt: skip


def test_atops_frozen_models_have_rows_of_their_own() -> None:
    blind = made(cell("RT2", "native FGSM", "blind", "1111"), cell("undefended", "native FGSM", "undefended", "0000"))
    averaged = made(cell("RT2", "native PGD-200 + EOT-20", "full", "1100"))
    auto = made(cell("RT2", "autoattack rand + EOT-20", "full", "011"))
    frozen = made(cell("RT2, frozen", "native PGD-200", "full", "0000"))
    small = made(cell("RT2 + AToP", "native PGD-50 + EOT-20", "full", "1000"))
    those = {"blind": blind, "averaged": averaged, "autoattack": auto, "frozen": frozen, "known": small}
    text = atop_fashion_mnist.table({**those, "unseen": small})
    found = rows(text.split("\n\n")[0])
    assert found["model"][-3:] == ["PGD-200 + EOT-20", "AutoAttack", "worst case"]
    assert found["RT2"][-3:] == ["50.0", "66.7", "33.3"]  # the worst case over the three that both saw
    assert [found["RT2, frozen"][-1], found["undefended"][1]] == ["0.0", "0.0"]
    assert "| RT2 minus undefended | +0.0 [+0.0, +0.0] n=4 | +100.0 [+100.0, +100.0] n=4 |" in text


def test_where_the_posters_order_holds() -> None:
    def each(attack: str, knowledge: str, **correct: str) -> list[Cell]:
        return [cell(f"{kind} + AToP", attack, knowledge, right) for kind, right in correct.items()]

    # FGSM: half of the eight each time, 0.5 +- 0.37; PGD-20: one and one of four, 0.25 +- 0.49 each.
    report = made(
        *each("native FGSM", "blind", RT1="00000000", RT2="11111111", RT3="11110000"),
        *each("native PGD-20", "blind", RT1="1100", RT2="1111", RT3="1110"),
        *each("native PGD-10", "blind", RT1="1111", RT2="1110", RT3="1100"),
        *each("native PGD-200 + EOT-20", "full", RT1="11", RT2="1111"),
    )
    assert atop_fashion_mnist.ordering([report]) == (
        "The poster's order of the fine-tuned ones, RT2 > RT3 > RT1, holds under FGSM, blind (n=8); it holds in the "
        "means alone under PGD-20, blind (n=4); it does not hold under PGD-10, blind (n=4)."
    )
    assert atop_fashion_mnist.ordering([]) == ""


def test_what_the_worst_case_leaves_of_the_best() -> None:
    blind = made(
        cell("adversarially trained", "native FGSM", "undefended", "1111"),
        cell("RT1 + AToP", "native FGSM", "blind", "1101"),
        cell("RT2 + AToP", "native FGSM", "blind", "1111"),
        cell("RT2", "native FGSM", "blind", "1111"),
    )
    averaged = made(
        cell("adversarially trained", "native PGD-200", "undefended", "0111"),
        cell("RT1 + AToP", "native PGD-200 + EOT-20", "full", "1011"),
        cell("RT2 + AToP", "native PGD-200 + EOT-20", "full", "110"),
        cell("RT2", "native PGD-200 + EOT-20", "full", "1111"),
    )
    stadv = made(cell("RT2 + AToP", "native StAdv-50", "full", "0000", threat="StAdv"))
    # Of the first three images RT1 keeps one, RT2 two; each would be as good over all images or with one report less.
    found = atop_fashion_mnist.remains({"blind": blind, "averaged": averaged, "stadv": stadv})
    assert found == (
        "In the worst case RT2 + AToP is the best of them with 66.7 % [20.8, 93.9] n=3; the adversarially trained "
        "network, which purifies nothing, keeps 66.7 % [20.8, 93.9] n=3."
    )
    assert atop_fashion_mnist.remains({"blind": blind}) == ""


def test_the_page_tells_which_checks_were_run_and_what_the_sweeps_found() -> None:
    verdicts = [
        Verdict("converged", "undefended", "pass", "a"),
        Verdict("converged", "RT2 + AToP", "warn", "b"),
        Verdict("converged", "RT3 + AToP", "pass", "c"),
        Verdict("gives logits", "RT3 + AToP", "pass", "d"),
        Verdict("seeds", "RT3 + AToP", "not run", "e"),
    ]
    report = replace(made(cell("RT2 + AToP", "native PGD-20", "full", "1111")), checks=tuple(verdicts))
    swept = render.sweeps(report, ["undefended"])
    assert [line.split(" | ")[-1][0] for line in swept[4:-1]] == ["b", "c", "e"]
    told = render.unhappy({"first": report, "second": report})
    assert [line for line in told if "| warn |" in line] == [
        f"| {part} | converged | RT2 + AToP | warn | b |" for part in ("first", "second")
    ]
    assert told[-1] == "Checks that passed, and how often: converged (4), gives logits (2)."


def test_networks_are_kept_for_the_same_training_alone(tmp_path: Path) -> None:
    numbers = {"train": 8, "rate": 0.1, "tuning_share": 0.3, "weight": 0.05, "adversarial": 0.1, "seed": 0}
    args = argparse.Namespace(networks=tmp_path, pretraining_epochs=1, epochs=2, **numbers)
    ours, other = (AToP(transform="RT2", **atop_fashion_mnist.SHAPE) for _ in range(2))
    l2 = "RT2 + AToP, PGD in L2"
    assert not atop_fashion_mnist.kept(other, l2, args)
    for name in ("RT2", l2):
        atop_fashion_mnist.keep(ours, name, args)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rt2.safetensors", "rt2_atop_pgd_in_l2.safetensors"]
    before = other.network.join.conv.weight.clone()
    assert not atop_fashion_mnist.kept(other, l2, argparse.Namespace(**{**vars(args), "epochs": 3}))
    assert not atop_fashion_mnist.kept(other, "RT2", argparse.Namespace(**{**vars(args), "rate": 0.2}))
    assert torch.equal(other.network.join.conv.weight, before)
    # Pre-training does not know how long the fine-tuning will be.
    assert atop_fashion_mnist.kept(other, "RT2", argparse.Namespace(**{**vars(args), "epochs": 3}))
    assert torch.equal(other.network.join.conv.weight, ours.network.join.conv.weight)
    (tmp_path / "rt2.safetensors").rename(tmp_path / "rt1.safetensors")
    assert not atop_fashion_mnist.kept(AToP(transform="RT1", **atop_fashion_mnist.SHAPE), "RT1", args)


def test_another_setting_is_another_training(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    seen = []

    def fit(*_: object, checkpoint: object, **__: object) -> list[object]:
        seen.append(checkpoint.path)  # type: ignore[attr-defined]
        return []

    class Setting(Objective):
        def __init__(self, weight: float) -> None:
            super().__init__()
            self.weight = weight

        def players(self) -> dict:  # type: ignore[type-arg]
            return {}

        def terms(self, *_: object) -> dict:  # type: ignore[type-arg]
            return {}

    monkeypatch.setattr(ablations, "fit", fit)
    same = {"images": 8, "epochs": 1, "seed": 0, "runs": tmp_path, "labels": True}
    for weight, changes in ((1.0, {}), (1.0, {}), (2.0, {}), (1.0, {"rate": 0.5}), (1.0, {"epochs": 2})):
        ablations.train(Setting(weight), "name", **(same | changes))  # type: ignore[arg-type]
    assert seen[0] == seen[1]
    assert len(set(seen)) == 4
