"""DRRDN's tables: a tiny run of both scripts from end to end, their schedule, and where a cell ends up."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import cifar10
import drrdn_cifar10
import drrdn_mnist
import drrdn_tables
import numpy as np
import parts
import pytest
import torch
from PIL import Image
from torch import nn

from art_ext.classifiers import ClassifierObjective, SmallCNN, SmallDRRDN, TradesObjective
from art_ext.classifiers.drrdn import DRRDNObjective
from art_ext.evaluation import Cell, Report
from art_ext.training import Batches

ATTACK = {"eps": 0.3, "steps": 2, "step_size": 0.1}


def mnist(folder: Path) -> None:
    """12 and 6 images, bright in the row of their class."""
    arrays = {}
    for split, n in (("train", 12), ("test", 6)):
        y = np.arange(n, dtype=np.uint8) % 10
        x = np.random.default_rng(n).integers(0, 60, (n, 28, 28), dtype=np.uint8)
        x[np.arange(n), 2 * y] = 250
        arrays |= {f"x_{split}": x, f"y_{split}": y}
    np.savez(folder / "mnist.npz", **arrays)


def cifar(folder: Path) -> None:
    rng = np.random.default_rng(0)
    blobs = []
    for _ in range(8):
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(buffer, "JPEG", quality=75)
        blobs.append(np.frombuffer(buffer.getvalue(), np.uint8))
    ends = np.cumsum([0, *map(len, blobs)])
    y = np.arange(8, dtype=np.uint8)
    np.savez(folder / "cifar10_jpeg75.npz", train_jpeg=np.concatenate(blobs), train_offsets=ends, y_train=y)
    x = rng.integers(0, 255, (8, 3, 32, 32), dtype=np.uint8)
    np.savez(folder / "cifar10_exact.npz", x_train=x[:4], y_train=y[:4], x_test=x[4:], y_test=y[4:])


def started(monkeypatch: pytest.MonkeyPatch, module: Any, *arguments: Any) -> None:
    monkeypatch.setattr(sys, "argv", ["script", *map(str, arguments)])
    module.main()


@pytest.mark.timeout(600)  # a busy machine
def test_the_mnist_script_from_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mnist(tmp_path)
    monkeypatch.chdir(tmp_path)  # where `results` must not appear
    small = ["--width", 1, "--hidden", 4, "--epochs", 1, "--batch-size", 6, "--train-steps", 1]
    common = ["--data", tmp_path, "--images", 5, "--first", 1, *small]
    started(monkeypatch, drrdn_mnist, *common, "--quick", "--figure", tmp_path / "figure2.png")
    assert not (tmp_path / "results").exists()
    quick = tmp_path / "runs/drrdn_mnist/quick"
    stamps = {p: p.stat().st_mtime_ns for p in quick.glob("*.pt")}
    assert sorted(p.name.split(" 0 ")[0] for p in stamps) == sorted({*drrdn_mnist.MODELS, *drrdn_mnist.VARIANTS})
    started(monkeypatch, drrdn_mnist, *common, "--runs", quick, "--train-only")
    assert {p: p.stat().st_mtime_ns for p in quick.glob("*.pt")} == stamps  # all of them were there
    reports = {k: Report.load(quick / f"drrdn_mnist_{k}.json") for k in drrdn_mnist.PARTS}
    assert {k: {cell.images for cell in report.cells} for k, report in reports.items()} == {
        **{key: {5} for key in drrdn_mnist.PARTS},
        "before": {1},
    }
    assert [reports[k].provenance["data"]["order"] for k in ("before", "white")] == [
        f"from number {first} on" for first in (0, 1)
    ]
    assert len(reports["transfer"].transfer_matrix("PGD-40")[1]) == 16
    assert {c.parameters["loss"] for c in reports["white"].attacked("DRRDN") if c.attack[:2] == "CW"} == {"margin"}
    text = drrdn_tables.table(reports)
    found = {line.split("|")[1].strip(): line.count("%") for line in text.splitlines() if "%" in line and "|" in line}
    transferred, ablated = ("Standard", "Madry", "TRADES"), ("DRRDN", "DRRDN-MI", "DRRDN-REC", "halves")
    assert found == dict.fromkeys(transferred, 4) | dict.fromkeys(ablated, 3)
    hybrids = json.loads((quick / "drrdn_mnist_hybrid.json").read_text("utf-8"))
    assert [len(row["correct"]) for row in hybrids["rows"]] == [5] * 4
    own, fresh = ("c_i_on_z_s", "c_i_on_z_i", "c_s_on_z_i", "mutual_information"), ("domain", "class")
    assert set(hybrids["parts"]) == {*own, *(f"{what} from {part}" for what in fresh for part in ("z_s", "z_i"))}
    assert drrdn_tables.hybrid_table(quick).count(" %") == 4
    assert (tmp_path / "figure2.png").read_bytes().startswith(b"\x89PNG")


def test_the_cifar_script_from_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cifar(tmp_path)
    monkeypatch.setattr(cifar10, "Probe", lambda *_: None)
    size = ["--depth", 10, "--widen", 1, "--epochs", 1, "--train-steps", 1, "--batch-size", 6]
    size += ["--models", "TRADES", "DRRDN"]
    where = ["--data", tmp_path, "--runs", tmp_path / "runs", "--out", tmp_path / "found.json"]
    started(monkeypatch, drrdn_cifar10, *where, *size, "--images", 4, "--strong-images", 2, "--quick")
    text = (tmp_path / "found.json").read_text("utf-8")
    found = json.loads(text)
    assert found["training_images"] == 12
    assert str(tmp_path) not in text  # where files lie is nobody's business
    assert {k: v["falls"] for k, v in found["schedule"].items()} == {"TRADES": [1, 1, 1], "DRRDN": [1, 1, 1]}
    assert found["schedule"]["DRRDN"]["weights"]["adversarial"] == 0.05
    reports = {k: Report.from_json(json.dumps(v)) for k, v in found["reports"].items()}
    assert {k: r.cells[0].images for k, r in reports.items()} == {"white": 4, "transfer": 4, "autoattack": 2}
    assert len(reports["transfer"].transfer_matrix("PGD-20")[1]) == 4
    assert {(c.parameters["eps"], c.parameters["step_size"]) for c in reports["transfer"].attacked("DRRDN")} == {
        (0.031, 0.003)
    }


def test_rates_and_radius_follow_the_share_of_the_training_that_is_done() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    objective = ClassifierObjective(model, eps=0.4, step_size=0.1)
    batches = Batches(torch.zeros(4, 1, 2, 2), batch_size=2)
    optimizer = torch.optim.SGD(model.parameters(), 0.8)

    def seen(start: int) -> list[tuple[float, float, float]]:
        fresh = torch.optim.SGD(model.parameters(), 0.8)
        paced = drrdn_mnist.Paced(batches, 2, objective, {"classifier": fresh}, rise=0.5, warmup=0.25)
        fresh.load_state_dict(optimizer.state_dict())  # as resuming does
        return [
            (fresh.param_groups[0]["lr"], objective.eps, objective.step_size or 0.0)
            for epoch in range(start // 2, 2)
            for _ in paced.epoch(epoch, start % 2 if epoch == start // 2 else 0)
        ]

    # Done: 1/8, 3/8, 5/8, 7/8. Rates: 0.8 times 1/4, 3/4, 3/4, 1/4. Radius: half of it, then all.
    expected = [(0.2, 0.2, 0.05), (0.6, 0.4, 0.1), (0.6, 0.4, 0.1), (0.2, 0.4, 0.1)]
    assert [pytest.approx(e) for e in expected] == seen(0)
    objective.eps, objective.step_size = 0.4, 0.1
    assert [pytest.approx(e) for e in expected[1:]] == seen(1)
    for rise, rates in ((0.0, [7 / 8, 5 / 8, 3 / 8, 1 / 8]), (1.0, [1 / 8, 3 / 8, 5 / 8, 7 / 8])):
        optimizer.param_groups[0]["lr"] = 0.8
        paced = drrdn_mnist.Paced(batches, 2, objective, {"classifier": optimizer}, rise=rise, warmup=0.0)
        found = [optimizer.param_groups[0]["lr"] for epoch in (0, 1) for _ in paced.epoch(epoch)]
        assert found == pytest.approx([0.8 * r for r in rates])


def test_each_name_has_its_objective() -> None:
    args = drrdn_mnist.arguments().parse_args(["--data", "."])
    cnn, net = SmallCNN(1, 10, 1), SmallDRRDN(1, 10, 1, hidden=4, critic_width=4)
    made = {name: drrdn_mnist.objective(name, cnn, ATTACK, args) for name in ("Standard", "Madry", "TRADES")}
    assert {k: (type(v), v.eps) for k, v in made.items()} == {
        "Standard": (ClassifierObjective, 0.0), "Madry": (ClassifierObjective, 0.3), "TRADES": (TradesObjective, 0.3)
    }  # fmt: skip
    games = {name: drrdn_mnist.objective(name, net, ATTACK, args) for name in drrdn_mnist.VARIANTS}
    assert all(isinstance(g, DRRDNObjective) and g.eps == 0.3 for g in games.values())
    assert {k: list(g.players()) for k, g in games.items()} == {
        "DRRDN": ["classifiers", "disentanglers", "critic", "information", "reconstructor"],
        "DRRDN-MI": ["classifiers", "disentanglers", "reconstructor"],
        "DRRDN-REC": ["classifiers", "disentanglers", "critic", "information"],
        "halves": ["classifiers"],
    }
    groups = {k: o.param_groups[0] for k, o in drrdn_mnist.optimizers_of(games["DRRDN"], 0.02, args).items()}
    assert [k for k, group in groups.items() if group["weight_decay"]] == ["classifiers"]
    assert {k: group["lr"] for k, group in groups.items()} == {**dict.fromkeys(groups, 0.02), "critic": 1e-3}


def test_trades_alone_has_a_rate_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mnist(tmp_path)
    seen, facts = {}, {}

    def follow(game: Any, name: str, data: Any, optimizers: Any, *others: Any, **settings: Any) -> None:
        seen[name] = optimizers["classifiers" if "classifiers" in optimizers else "classifier"].param_groups[0]["lr"]
        facts[name] = settings["facts"]

    monkeypatch.setattr(drrdn_mnist.ablations, "follow", follow)
    small = ["--width", "1", "--hidden", "4", "--rate", "0.5", "--trades-rate", "0.25"]
    args = drrdn_mnist.arguments().parse_args(["--data", str(tmp_path), *small])
    for name in drrdn_mnist.COMPARED:
        drrdn_mnist.trained(name, args)
    assert seen == {**dict.fromkeys(drrdn_mnist.COMPARED, 0.5), "TRADES": 0.25}
    assert [name for name in facts if 0.25 in facts[name]] == ["TRADES"]  # another rate is another checkpoint


def test_settings_can_be_chosen_on_training_images_that_are_not_trained_on(tmp_path: Path) -> None:
    mnist(tmp_path)
    parse = drrdn_mnist.arguments().parse_args
    args = parse(["--data", str(tmp_path), "--train", "8", "--held-out"])
    every = np.load(tmp_path / "mnist.npz")["x_train"] / 255
    for split, expected in (("train", every[:3]), ("test", every[8:11])):
        np.testing.assert_allclose(drrdn_mnist.load(args, split, 3).x[:, 0], expected, atol=1e-6)
    test = np.load(tmp_path / "mnist.npz")["x_test"] / 255
    found = drrdn_mnist.load(parse(["--data", str(tmp_path), "--first", "2"]), "test", 3).x[:, 0]
    np.testing.assert_allclose(found, test[2:5], atol=1e-6)
    with pytest.raises(ValueError, match="--first below 6, got 1000"):
        drrdn_mnist.load(parse(["--data", str(tmp_path)]), "test", 3)
    with pytest.raises(ValueError, match="below 12"):
        drrdn_mnist.load(parse(["--data", str(tmp_path), "--held-out"]), "test", 3)


def test_transfers_stand_under_their_source() -> None:
    def cell(model: str, attack: str, correct: str) -> Cell:
        return Cell(model, attack, "undefended", (tuple(c == "1" for c in correct),))

    models = drrdn_mnist.MODELS
    clean = [Cell(m, "clean", "none", ((True,) * 4,)) for m in (*models, *drrdn_mnist.VARIANTS)]
    crossed = [
        Cell(
            m,
            "PGD-40" if m == s else f"PGD-40 from {s}",
            "undefended" if m == s else "transfer",
            (tuple(i < (3 if (s, m) == ("Madry", "DRRDN") else 1) for i in range(4)),),
            source="" if m == s else s,
        )
        for s in models
        for m in models
    ]
    ablation = [
        cell(v, f"PGD-{k}", "1110" if v == "DRRDN" else "1000") for v in drrdn_mnist.VARIANTS for k in (40, 100)
    ]
    compared = drrdn_mnist.COMPARED
    white = [cell(m, k, "1100") for m in compared for k in ("FGSM", "CW-100")]
    auto = [cell(m, "autoattack standard", "1000" if m != "halves" else "1110") for m in compared]

    def report(*cells: Cell) -> Report:
        return Report({"norm": "Linf", "eps": 0.3}, (*clean, *cells), (), (), {})

    reports = {"white": report(*white), "transfer": report(*crossed), "ablation": report(*ablation)}
    alone = drrdn_tables.table(reports)  # PGD's worst case would be none
    assert "worst case" not in alone
    assert "AutoAttack" not in alone
    text = drrdn_tables.table(reports | {"autoattack": report(*auto)})
    assert "| AutoAttack | worst case |" in text
    header, _, *gaps = text.split("\n\n")[1].splitlines()
    assert header == f"| {parts.POINTS} | clean | CW-100 | AutoAttack |"
    told = [[entry.split(" [")[0] for entry in row.strip("| ").split(" | ")] for row in gaps]
    assert told == [[f"DRRDN minus {m}", "+0.0", "+0.0", auto] for m, auto in
                    (("TRADES", "+0.0"), ("Madry", "+0.0"), ("halves", "-50.0"))]  # fmt: skip
    grid = next(t for t in text.split("\n\n") if t.startswith("| model | Standard")).splitlines()
    header = [e.strip() for e in grid[0].strip("|").split("|")]
    row = next(line for line in grid if line.startswith("| DRRDN"))
    entries = [e.strip().split(" %")[0] for e in row.strip("|").split("|")]
    assert dict(zip(header, entries, strict=True))["Madry"] == "75.0"
    assert entries.count("25.0") == 3
    last = text.split("\n\n")[-1].splitlines()
    assert last[0] == f"| {parts.POINTS} | clean | PGD-100 |"
    assert last[-1].split(" | ")[2].startswith("+50.0 [")


def test_all_images_are_those_before_and_those_of_the_tables() -> None:
    kinds = (("clean", "none"), ("PGD-40", "undefended"))

    def report(**correct: str) -> Report:
        cells = (
            Cell(m, a, k, (tuple(c == "1" for c in correct[a[0]]),)) for m in drrdn_mnist.COMPARED for a, k in kinds
        )
        return Report({"norm": "Linf", "eps": 0.3}, tuple(cells), (), (), {"images": 4})

    text = drrdn_tables.pooled({"white": report(c="1110", P="1100"), "before": report(c="1111", P="1110")})
    rows = [line for line in text.splitlines() if "%" in line]
    assert [row.split("|")[1].strip() for row in rows] == list(drrdn_mnist.COMPARED)
    for row in rows:
        assert [e.strip().split(" %")[0] for e in row.split("|")[2:4]] == ["87.5", "62.5"]
        assert row.count("n=8") == 2


def test_what_the_images_before_show_by_themselves() -> None:
    def report(**correct: str) -> Report:
        cells = (Cell(m, "PGD-40", "undefended", (tuple(c == "1" for c in right),)) for m, right in correct.items())
        return Report({"norm": "Linf", "eps": 0.3}, tuple(cells), (), (), {})

    later = report(DRRDN="1" * 20, TRADES="1" * 10 + "0" * 10, Madry="1" * 20, halves="1" * 8 + "0" * 12)
    before = report(DRRDN="1111111111", TRADES="1111111011", Madry="1111111111", halves="0000000000")
    text = drrdn_tables.replication({"white": later, "before": before})
    rows = [
        [entry.strip() for entry in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| D")
    ]
    # TRADES on those before: one of ten, with the added 1 and -1 of twelve, 1/12 +- 2.2010 * sqrt((3/12 - 1/144) / 11);
    # on the later ones 10/22 +- 2.0796 * sqrt((12/22 - (10/22)**2) / 21); on all 11/32 +- 2.0395 * sqrt(0.2881 / 31).
    assert rows[0] == [
        "DRRDN minus TRADES", "+10.0 [-24.4, +41.1] n=10", "+50.0 [+19.0, +71.9] n=20", "+36.7 [+14.7, +54.0] n=30"
    ]  # fmt: skip
    assert [row[1].split(" [")[0] for row in rows] == ["+10.0", "+0.0", "+100.0"]
    # Madry's shows nothing anywhere, that of halves both times.
    assert text.endswith("\n\nShown by the images of the tables and not by those before alone: DRRDN minus TRADES.")
    assert "Shown" not in drrdn_tables.replication({"white": later, "before": later})


@pytest.mark.parametrize(("options", "there"), [(["--first", "0"], False), (["--held-out"], False), ([], True)])
def test_images_before_the_first_are_measured_where_there_are_any(
    options: list[str], there: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen = []
    monkeypatch.setattr(drrdn_mnist.parts, "run", lambda args, _, found, __: seen.append((args.parts, list(found))))
    started(monkeypatch, drrdn_mnist, "--data", tmp_path, *options)
    ((asked, found),) = seen
    assert ("before" in asked, "before" in found) == (there, there)
    assert {*asked} == {*drrdn_mnist.PARTS, "hybrid"} - (set() if there else {"before"})
