"""CD-VAE's tables: hand-made cells end where they belong, and both scripts run, tiny, from networks to tables."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import cdvae_cifar10
import cdvae_fashion_mnist
import cdvae_tables
import pytest

from art_ext.evaluation import Cell, Report

from .test_examples import cifar10_like
from .test_paper_tables import cell, made, rows


def bounded(model: str, name: str, correct: str) -> Cell:
    return cell(model, name, "full", correct, threat=name.split()[-1])


def test_tables_6_and_7_by_hand() -> None:
    x, g, played = "undefended", "CD-VAE", "CD-VAE, game"
    reports = {
        "grey": made(
            cell(x, "native PGD-100", "undefended", "0000"),
            cell(g, "native PGD-100", "transfer", "1110"),
            cell(g, "native PGD-100 margin", "transfer", "1101"),
        ),
        "grey_l2": made(cell(x, "native PGD-100", "undefended", "0001"), cell(g, "native PGD-100", "transfer", "1111")),
        "white": made(
            cell(x, "native PGD-200", "undefended", "0000"),
            cell(g, "native PGD-200", "full", "1000"),
            cell(played, "native PGD-200", "full", "1110"),
            cell(played, "autoattack standard", "full", "1101"),
            bounded(played, "native JPEG-100 0.125", "1000"),
            bounded(played, "native StAdv-100 0.05", "0011"),
        ),
        "white_l2": made(
            cell(x, "native PGD-200", "undefended", "0000"),
            cell(g, "native PGD-200", "full", "0100"),
            cell(played, "native PGD-200", "full", "1111"),
        ),
    }
    text = cdvae_tables.table(reports)
    assert (
        text.count("| points, over images, for these networks |") == 2
    )  # nobody was adversarially trained, to whom the games could be compared
    six, second, seven, eighth, unseen = (rows(t) for t in text.split("\n\n") if t.startswith("| model"))
    # 1, 1, 1, 0 and the added 1, -1: 1/2 - 2.5706 * sqrt((5/6 - 1/4) / 5) = -0.378. Clean and StAdv by none.
    assert "| CD-VAE minus undefended | +0.0 [-66.4, +66.4] n=4 | +75.0 [-37.8, +100.0] n=4 | +25.0" in text
    # StAdv and AutoAttack stand in no report.
    assert six["model"] == ["clean", "PGD-100, grey-box", "C&W-100, grey-box", "PGD-200", "worst case"]
    assert six[g] == ["100.0", "75.0", "75.0", "25.0", "25.0"]
    assert list(six) == ["model", "---", x, g]
    assert (second[x][1], second[g][1], second[g][2]) == ("25.0", "100.0", "25.0")
    assert seven[played] == ["100.0", "75.0", "75.0", "25.0", "50.0", "50.0"]
    assert eighth[played] == ["100.0", "100.0", "100.0"]
    assert unseen["model"] == ["Linf", "L2", "JPEG-100", "StAdv-100", cdvae_tables.MEAN, cdvae_tables.LOWEST]
    # 1 and 0 hold against both; the mean is over L2, JPEG and StAdv.
    assert unseen[played] == ["50.0", "100.0", "25.0", "50.0", "58.3", "JPEG-100: 25.0"]
    assert unseen[g][-2:] == ["", "Linf: 25.0"]  # nobody ran them on it
    assert "Does not even break" not in text
    weak = made(cell(x, "native PGD-200", "undefended", "00000001"), bounded(x, "native JPEG-100 0.125", "11111111"))
    # With the added ones 10 of 12: 5/6 - 2.2010 * sqrt((5/6 - 25/36) / 11) = 0.586.
    assert {k: str(v) for k, v in cdvae_tables.too_weak(weak).items()} == {"JPEG-100": "100.0 % [58.6, 100.0] n=8"}
    alone = cdvae_tables.table({"white": weak, "white_l2": reports["white_l2"]}).split("The last columns")[1]
    assert rows(alone)["model"] == ["Linf", "L2", cdvae_tables.MEAN, cdvae_tables.LOWEST]  # that attack tells nothing
    both = rows(cdvae_tables.unseen_table([reports["white"]], reports["white_l2"], ["JPEG-100"]))
    assert both[played] == ["50.0", "100.0", "50.0", "75.0", "Linf: 50.0"]
    robust = made(cell("adversarially trained", "native PGD-200", "undefended", "0001"))
    against = replace(reports["white"], cells=reports["white"].cells + robust.cells)
    gains = cdvae_tables.table({"white": against}).split("| points, over")[1]
    assert "| CD-VAE, game minus adversarially trained | +0.0 [-66.4, +66.4] n=4 | +50.0 [" in gains
    assert "released" not in gains
    alone = cdvae_tables.table({"grey": reports["grey"]})
    assert "worst case" not in alone  # of attackers who know nothing it would be none
    assert rows(alone)[g] == ["100.0", "75.0", "75.0"]


def test_the_unseen_mean_is_of_the_images_that_all_of_its_columns_saw() -> None:
    x, played = "undefended", "CD-VAE, game"
    linf = made(
        cell(x, "native PGD-200", "undefended", "00000000"),
        cell(played, "native PGD-200", "full", "11111110"),
        bounded(played, "native StAdv-100 0.05", "0101"),
    )
    l2 = made(cell(x, "native PGD-200", "undefended", "0000"), cell(played, "native PGD-200", "full", "110000"))
    text = cdvae_tables.unseen_table([linf], l2)
    # The first four images have 1/2, 1, 0 and 1/2 of L2 and StAdv, a mean of 1/2 with an interval of 1/2 +- 2.3646 *
    # sqrt((3.5 / 8 - 1/4) / 7); all of the six and of the four would give (2/6 + 2/4) / 2 = 0.417.
    of_game = next(line for line in text.splitlines() if line.startswith(f"| {played}")).strip("| ").split(" | ")
    assert of_game[-2] == "50.0 % [11.3, 88.7] n=4"
    # The lowest column stands with its own name and number of images.
    assert of_game[-1].startswith("L2: 33.3 % [")
    assert of_game[-1].endswith("n=6")
    assert rows(text)[x][-2:] == ["", "Linf: 0.0"]


def test_the_fashion_mnist_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*more: str) -> None:
        small = ("--images", "4", "--quick", "--epochs", "1", "--game-epochs", "1", "--train", "8", "--steps", "1")
        folders = ("--runs", str(tmp_path / "runs"), "--out", str(tmp_path))
        monkeypatch.setattr(sys, "argv", ["", *small, "--gammas", "0.002", *folders, *more])
        cdvae_fashion_mnist.main()

    run("--train-only")
    networks = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "runs").glob("*.pt")}
    assert len(networks) == 5  # two gammas, a classifier of G(x), two games
    # Those in L2 are the same with another norm.
    run("--parts", "grey", "white", "jpeg", "sampled", "analysis", "gamma")
    found = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "runs").glob("*.pt")}
    assert found.items() >= networks.items()  # none was made again
    assert len(found) == 8  # of x, G(x) and R(x) for Table 3
    reports = {k: Report.load(tmp_path / f"cdvae_fashion_mnist_{k}.json") for k in ("grey", "white", "jpeg", "sampled")}
    assert reports["white"].models() == [
        "undefended", "adversarially trained", "CD-VAE", "CD-VAE, game", "CD-VAE, released game",
    ]  # fmt: skip
    drawn = "CD-VAE, released game, z sampled"
    assert reports["sampled"].models() == ["undefended", drawn]
    assert {c.knowledge for c in reports["grey"].attacked("CD-VAE")} == {"transfer"}
    assert {c.knowledge for c in reports["white"].attacked("CD-VAE")} == {"full", "adaptive"}
    assert reports["sampled"].provenance["randomised"][drawn]
    wide = [c.attack for c in reports["jpeg"].cells if c.attack.startswith("native JPEG")]
    assert wide == ["native JPEG-2 0.5"] * 5
    white_box = cdvae_tables.table(reports).split("White box, Linf:")[1].split("| points, over")[0]
    assert list(rows(white_box))[-1] == drawn
    assert not reports["white"].provenance["randomised"]["CD-VAE, released game"]
    unseen = cdvae_tables.unseen_table([reports["white"]], reports["white"])  # of attacks of other lengths
    assert list(rows(unseen)) == ["model", "---", *reports["white"].models()]
    text = cdvae_tables.findings_table(tmp_path, "cdvae_fashion_mnist")
    analysis = json.loads((tmp_path / "cdvae_fashion_mnist_analysis.json").read_text())
    mean, _ = analysis["norms"]["delta"]["Linf"]
    assert mean == pytest.approx(0.1, abs=0.01) or mean < 0.1
    assert len(analysis["correlation"]) == 128
    assert {len(row) for row in analysis["top-5"].values()} == {3}
    assert "| delta_G |" in text
    assert "| 0.002 |" in text
    for name in ("analysis", "gamma"):
        assert (tmp_path / f"cdvae_fashion_mnist_{name}.png").read_bytes().startswith(b"\x89PNG")
    assert "| model |" not in capsys.readouterr().out  # a trial prints no table


def test_the_cifar10_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cifar10_like(tmp_path)
    small = (
        "--quick", "--classifier-epochs", "1", "--epochs", "1", "--game-epochs", "1", "--batch-size", "4", "--train",
        "8", "--images", "4", "--strong-images", "2", "--width", "2", "--latent", "4", "--depth", "10", "--widen", "1",
        "--steps", "1",
    )  # fmt: skip
    folders = ("--data", str(tmp_path), "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "found.json"))
    monkeypatch.setattr(sys, "argv", ["", *small, *folders])
    cdvae_cifar10.main()
    found = json.loads((tmp_path / "found.json").read_text())
    assert list(found["schedule"]) == [
        "classifier of x", "cdvae, gamma 0.002", "cdvae, gamma 2", "classifier of G(x)", "game, paper",
    ]  # fmt: skip
    assert {v["steps"] for v in found["schedule"].values()} == {2}
    white, second = (Report.from_json(json.dumps(found["reports"][k])) for k in ("white", "grey_l2"))
    assert white.models() == ["undefended", "CD-VAE", "CD-VAE, paper game"]
    assert {"native ReColorAdv-2 0.06", "native JPEG-2 0.125"} <= {c.attack for c in white.cells}
    assert second.threat == {"norm": "L2", "eps": 1.0, "given": "1"}
    assert second.provenance["images"] == 4
