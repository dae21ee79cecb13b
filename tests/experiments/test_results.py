"""Committed results: the page is what its JSON says, and the JSON holds what the project promises to report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from art_ext.evaluation import Report
from experiments import page, render

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results"


PAGES = ["README.md", "rdp.md", "cdvae.md", "dir.md", "atop.md", "drrdn.md", "cifar10.md"]


@pytest.fixture(scope="module")
def rendered() -> dict[str, str]:
    return render.pages(RESULTS)


def test_there_are_no_more_pages_than_these(rendered: dict[str, str]) -> None:
    assert sorted(rendered) == sorted(PAGES)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_what_the_json_says(name: str, rendered: dict[str, str]) -> None:
    assert (RESULTS / name).read_text("utf-8") == rendered[name]


@pytest.mark.parametrize("name", ["blind", "white"])
def test_reports_have_versions_seeds_and_enough_images(name: str) -> None:
    report = Report.from_json((RESULTS / f"rdp_fashion_mnist_{name}.json").read_text("utf-8"))
    assert {"art-ext", "torch", "numpy"} <= set(report.provenance["versions"])
    assert "seed" in report.provenance
    assert report.provenance["images"] >= 256
    failed = [v for v in page.judged(report).checks if v.verdict == "fail"]
    assert not failed


def test_our_auto_pgd_agrees_with_pyautoattacks() -> None:
    found = json.loads((RESULTS / "apgd_agreement.json").read_text("utf-8"))
    rows = {row["attack"]: row["correct"] for row in found["rows"]}
    for loss in ("ce", "dlr"):
        theirs, ours = rows[f"pyautoattack apgd-{loss}, 5 restarts"], rows[f"apgd {loss}, 5 restart(s)"]
        assert len(theirs) == len(ours) == 1000
        assert abs(sum(ours) - sum(theirs)) <= 5  # half a point


def test_our_attacks_find_what_is_planted_and_broken_ones_do_not() -> None:
    found = json.loads((RESULTS / "binarisation.json").read_text("utf-8"))
    shares = {row["attack"]: sum(row["solved"]) / sum(row["usable"]) for row in found["rows"]}
    assert min(shares[a] for a in ("PGD-40", "APGD-100", "APGD-100 DLR")) >= 0.95
    assert max(v for a, v in shares.items() if a.startswith("broken")) < 0.95
    assert all(sum(row["solved_at_random"]) < 0.1 * sum(row["usable"]) for row in found["rows"])


def test_the_ablation_says_that_algorithm_1_ignores_the_reconstruction_branch() -> None:
    found = json.loads((RESULTS / "rdp_ablation.json").read_text("utf-8"))
    correct = {(r["variant"], r["seed"]): r["correct"] for r in found["rows"]}
    for seed in found["options"]["seeds"]:
        assert correct["full (Algorithm 1)", seed] == correct["no reconstruction branch", seed]


@pytest.mark.parametrize(
    ("paper", "tables", "figures"), [("RDP", 4, 8), ("CD-VAE", 7, 5), ("DIR", 5, 7), ("DRRDN", 4, 2)]
)
def test_every_table_and_figure_is_listed(paper: str, tables: int, figures: int) -> None:
    listed = [row[1] for row in render.listed(RESULTS) if row[0] == paper]
    assert listed == [*(f"Table {i}" for i in range(1, tables + 1)), *(f"Figure {i}" for i in range(1, figures + 1))]


def test_what_was_measured_is_listed_so() -> None:
    states = {(row[0], row[1]): row[4] for row in render.listed(RESULTS)}
    assert states["RDP", "Table 4"] == "run small (fashion_mnist)"
    assert states["DRRDN", "Table 1"] == "run small (mnist)"
    assert states["DRRDN", "Table 2"] == "declared"
    assert states["AToP", "Table 6"].startswith("in part")  # AutoAttack in L2 was not run through the purifier
