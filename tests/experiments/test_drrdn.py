"""DRRDN's tables: what trains each network, the pace of the training, and where a cell ends up."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from art_ext.classifiers import ClassifierObjective, TradesObjective
from art_ext.classifiers.drrdn import DRRDNObjective
from art_ext.evaluation import Cell, Report
from art_ext.evaluation.report import several
from art_ext.training import Batches
from experiments import drrdn
from experiments.lab import Paced


def test_rates_and_radius_follow_the_share_of_the_training_that_is_done() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    objective = ClassifierObjective(model, eps=0.4, step_size=0.1)
    batches = Batches(torch.zeros(4, 1, 2, 2), batch_size=2)
    optimizer = torch.optim.SGD(model.parameters(), 0.8)

    def seen(start: int) -> list[tuple[float, float, float]]:
        fresh = torch.optim.SGD(model.parameters(), 0.8)
        paced = Paced(batches, 2, objective, {"classifier": fresh}, rise=0.5, warmup=0.25)
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
        paced = Paced(batches, 2, objective, {"classifier": optimizer}, rise=rise, warmup=0.0)
        found = [optimizer.param_groups[0]["lr"] for epoch in (0, 1) for _ in paced.epoch(epoch)]
        assert found == pytest.approx([0.8 * r for r in rates])


def test_transfers_stand_under_their_source() -> None:
    def cell(model: str, attack: str, correct: str) -> Cell:
        return Cell(model, attack, "undefended", (tuple(c == "1" for c in correct),))

    models = drrdn.MODELS
    clean = [Cell(m, "clean", "none", ((True,) * 4,)) for m in (*models, *drrdn.VARIANTS)]
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
    ablation = [cell(v, f"PGD-{k}", "1110" if v == "DRRDN" else "1000") for v in drrdn.VARIANTS for k in (40, 100)]
    compared = drrdn.COMPARED
    white = [cell(m, k, "1100") for m in compared for k in ("FGSM", "CW-100")]
    auto = [cell(m, "autoattack standard", "1000" if m != "halves" else "1110") for m in compared]

    def report(*cells: Cell) -> Report:
        return Report({"norm": "Linf", "eps": 0.3}, (*clean, *cells), (), (), {})

    reports = {"white": report(*white), "transfer": report(*crossed), "ablation": report(*ablation)}
    alone = "\n\n".join(drrdn.tables(reports))  # PGD's worst case would be none
    assert "worst case" not in alone
    assert "AutoAttack" not in alone
    text = "\n\n".join(drrdn.tables(reports | {"autoattack": report(*auto)}))
    assert "| AutoAttack | worst case |" in text
    header, _, *gaps = text.split("\n\n")[1].splitlines()
    assert header == f"| {several.POINTS} | clean | CW-100 | AutoAttack |"
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
    assert last[0] == f"| {several.POINTS} | clean | PGD-100 |"
    assert last[-1].split(" | ")[2].startswith("+50.0 [")


def test_all_images_are_those_before_and_those_of_the_tables() -> None:
    kinds = (("clean", "none"), ("PGD-40", "undefended"))

    def report(**correct: str) -> Report:
        cells = (Cell(m, a, k, (tuple(c == "1" for c in correct[a[0]]),)) for m in drrdn.COMPARED for a, k in kinds)
        return Report({"norm": "Linf", "eps": 0.3}, tuple(cells), (), (), {"images": 4})

    text = drrdn.pooled({"white": report(c="1110", P="1100"), "before": report(c="1111", P="1110")})
    rows = [line for line in text.splitlines() if "%" in line]
    assert [row.split("|")[1].strip() for row in rows] == list(drrdn.COMPARED)
    for row in rows:
        assert [e.strip().split(" %")[0] for e in row.split("|")[2:4]] == ["87.5", "62.5"]
        assert row.count("n=8") == 2


def test_what_the_images_before_show_by_themselves() -> None:
    def report(**correct: str) -> Report:
        cells = (Cell(m, "PGD-40", "undefended", (tuple(c == "1" for c in right),)) for m, right in correct.items())
        return Report({"norm": "Linf", "eps": 0.3}, tuple(cells), (), (), {})

    later = report(DRRDN="1" * 20, TRADES="1" * 10 + "0" * 10, Madry="1" * 20, halves="1" * 8 + "0" * 12)
    before = report(DRRDN="1111111111", TRADES="1111111011", Madry="1111111111", halves="0000000000")
    text = "\n\n".join(drrdn.replication({"white": later, "before": before}))
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
    assert "Shown" not in "".join(drrdn.replication({"white": later, "before": later}))


def test_each_name_has_its_objective_and_its_rate() -> None:
    networks = drrdn.of("mnist", "small")
    made = {name: n.objective(n.make(str), str) for name, n in networks.items() if n.objective is not None}
    assert {k: (type(made[k]), made[k].eps) for k in ("Standard", "Madry", "TRADES")} == {
        "Standard": (ClassifierObjective, 0.0), "Madry": (ClassifierObjective, 0.3), "TRADES": (TradesObjective, 0.3)
    }  # fmt: skip
    games = {name: made[name] for name in drrdn.VARIANTS}
    assert all(isinstance(g, DRRDNObjective) and g.eps == 0.3 for g in games.values())
    assert {k: list(g.players()) for k, g in games.items()} == {
        "DRRDN": ["classifiers", "disentanglers", "critic", "information", "reconstructor"],
        "DRRDN-MI": ["classifiers", "disentanglers", "reconstructor"],
        "DRRDN-REC": ["classifiers", "disentanglers", "critic", "information"],
        "halves": ["classifiers"],
    }
    groups = {k: o.param_groups[0] for k, o in networks["DRRDN"].recipe.optimizers(games["DRRDN"]).items()}
    assert [k for k, group in groups.items() if group["weight_decay"]] == ["classifiers"]
    assert {k: group["lr"] for k, group in groups.items()} == {**dict.fromkeys(groups, 0.05), "critic": 1e-3}
