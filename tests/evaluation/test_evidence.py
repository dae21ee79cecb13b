"""A report's folder is evidence: what is changed is found, and its exports say what the report says."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

from art_ext.cli.display import write
from art_ext.evaluation import Attack, Cell, Defended, Knowledge, Probe, Report, Threat, evaluate, paired_difference
from art_ext.evaluation.evidence import MANIFEST, verify, write_manifest
from art_ext.evaluation.judge import MODEL_CHECKS
from art_ext.evaluation.judge.checks import CHECKS
from art_ext.evaluation.report import compare
from art_ext.evaluation.report.exports import EXPORTS, to_csv, to_junit, to_latex, to_sarif
from art_ext.evaluation.report.page import page
from art_ext.evaluation.report.pairs import pair_table
from art_ext.evaluation.report.remedies import NEXT
from art_ext.evaluation.report.rows import rows

from .conftest import Blur, Halves, Noise

Change = Callable[[Path], None]


@pytest.fixture(scope="module")
def report() -> Report:
    torch.manual_seed(1)
    x, y = 0.4 + 0.2 * torch.rand(12, 1, 6, 8), torch.arange(12) % 2
    x[y == 0, ..., :4] += 0.05
    x[y == 1, ..., 4:] += 0.05
    c = Halves()
    models = [Defended("bare", c), Defended("blur | <b>", c, Blur(), Halves(5.0)), Defended("noise_&", c, Noise())]
    attacks = [Attack("native", "PGD", {"steps": 3}), Attack("native", "Square", {"queries": 5}, images=7),
               Attack("yours", "cheat", function=lambda m, x, y, t: x + 1)]  # fmt: skip
    known = [Knowledge.TRANSFER, Knowledge.FULL]
    return evaluate(models, attacks, x, y, threat=Threat("Linf", 0.04, "1/25"), knowledge=known, eot_samples=2,
                    repeats=3, probe=Probe(8, 2), require=("worst_case >= 0.9",), progress=False)  # fmt: skip


@pytest.fixture(scope="module")
def folder(report: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("evidence")
    write(report, found, list(EXPORTS))
    return found


# --- verify ---


def test_what_was_written_fits_together(folder: Path) -> None:
    assert verify(folder) == []
    assert set(json.loads((folder / MANIFEST).read_text())["sha256"]) == {p.name for p in folder.iterdir()} - {MANIFEST}


def digit(name: str) -> Change:
    """Changes one digit of an accuracy in a file."""

    def change(folder: Path) -> None:
        text = (folder / name).read_text("utf-8")
        found = re.search(r"\d\d\.\d \\?%" if name != "report.csv" else r"0\.\d", text)
        assert found
        at = found.start() if name != "report.csv" else found.end() - 1
        (folder / name).write_text(text[:at] + str((int(text[at]) + 1) % 10) + text[at + 1 :], "utf-8")

    return change


def answer(folder: Path) -> None:
    """Turns one wrong answer of an attack into a right one."""
    data = json.loads((folder / "report.json").read_text("utf-8"))
    cell = next(c for c in data["cells"] if c["attack"].startswith("PGD") or "PGD" in c["attack"])
    row, labels = cell["predicted"][0], data["labels"]
    at = next(i for i, c in enumerate(row) if c != str(labels[i]))
    cell["predicted"][0] = row[:at] + str(labels[at]) + row[at + 1 :]
    (folder / "report.json").write_text(json.dumps(data, indent=1, sort_keys=True), "utf-8")


def verdict(folder: Path) -> None:
    data = json.loads((folder / "report.json").read_text("utf-8"))
    bad = next(v for v in data["checks"] if v["verdict"] != "pass")
    bad["verdict"] = "pass"
    (folder / "report.json").write_text(json.dumps(data, indent=1, sort_keys=True), "utf-8")


def criterion(folder: Path) -> None:
    text = (folder / "report.json").read_text("utf-8")
    assert text.count("worst_case >= 0.9") == 1
    (folder / "report.json").write_text(text.replace("worst_case >= 0.9", "worst_case >= 0.1"), "utf-8")


CHANGES: dict[str, Change] = {
    **{name: digit(name) for name in ("report.md", "report.html", "report.tex", "report.csv")},
    "an answer": answer,
    "a verdict": verdict,
    "a criterion": criterion,
}


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("change", CHANGES)
def test_what_was_changed_is_found(folder: Path, tmp_path: Path, change: str, hidden: bool) -> None:
    """Also where the manifest was written anew, so that every hash is right."""
    shutil.copytree(folder, tmp_path / "copy")
    CHANGES[change](tmp_path / "copy")
    if hidden:
        write_manifest(tmp_path / "copy")
    found = verify(tmp_path / "copy")
    assert found
    assert any("was changed" in text for text in found) is not hidden


def test_files_that_are_lost_or_new_are_named(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    (copy / "report.md").unlink()
    (copy / "x_adv.safetensors").write_bytes(b"x")
    assert verify(copy) == [
        "report.md is listed in manifest.json and not there",
        "x_adv.safetensors is there and not listed in manifest.json",
    ]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"art-ext": "1", "sha256": {"../x": "0"}}', '{"art-ext": "1", "sha256": {}}']
)
def test_a_damaged_manifest_is_refused(folder: Path, tmp_path: Path, text: str) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    (copy / MANIFEST).write_text(text)
    with pytest.raises(ValueError, match=r"expected .*manifest\.json"):
        verify(copy)


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no manifest\.json"):
        verify(tmp_path)


# --- rows and exports ---


def test_rows_hold_the_accuracies_of_the_cells(report: Report) -> None:
    found = report.rows()
    assert len(found) == len([c for c in report.cells if c.images or c.refused])
    for row, cell in zip(found, report.cells, strict=True):
        assert (row["model"], row["attack"], row["n"], row["repeats"]) == (
            cell.model, cell.attack, cell.images, cell.repeats
        )  # fmt: skip
        assert row["accuracy"] == (None if cell.refused else cell.accuracy.mean)
    kinds = {(r["knowledge"], r["library"], r["atlas"][:13]) for r in found if r["atlas"]}
    assert ("transfer", "native", "AML.T0043.002") in kinds
    assert {r["atlas"][:13] for r in found if r["attack"].startswith("native Square") and r["knowledge"] == "full"} == {
        "AML.T0043.001"
    }
    assert {r["atlas"][:13] for r in found if "PGD" in r["attack"] and r["knowledge"] == "full"} == {"AML.T0043.000"}


def test_csv_gives_the_rows_back(report: Report) -> None:
    found = list(csv.DictReader(to_csv(report).splitlines()))
    for text, row in zip(found, rows(report), strict=True):
        assert text["model"] == row["model"]
        assert text["accuracy"] == ("" if row["accuracy"] is None else str(row["accuracy"]))


def test_latex_holds_the_table_and_nothing_of_a_name_is_a_command(report: Report) -> None:
    text = to_latex(report)
    header, body = report.table()
    lines = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(lines) == 1 + len(body)
    assert all(len(re.findall(r"(?<!\\)&", line)) == len(header) - 1 for line in lines)
    assert r"noise\_\&" in text
    assert r"\textless{}b\textgreater{}" in text
    walker = pytest.importorskip("pylatexenc.latexwalker")
    walker.LatexWalker(text, tolerant_parsing=False).get_latex_nodes()


def test_junit_counts_its_cases(report: Report) -> None:
    root = ElementTree.fromstring(to_junit(report))
    cases = root.findall(".//testcase")
    assert len(cases) == len(report.checks) + 2  # one criterion, two defended models
    failed = {case.get("name") for case in cases if case.find("failure") is not None}
    assert {v.check for v in report.checks if v.verdict == "fail"} <= failed
    assert "inside the threat" in failed  # the cheat
    for suite in root:
        assert int(suite.get("tests", "")) == len(suite)
        assert int(suite.get("failures", "")) == sum(c.find("failure") is not None for c in suite)
        assert int(suite.get("skipped", "")) == sum(c.find("skipped") is not None for c in suite)
    junit = pytest.importorskip("junitparser")
    assert sum(s.tests for s in junit.JUnitXml.fromstring(to_junit(report).encode())) == len(cases)


def test_sarif_has_a_result_for_all_that_is_no_pass(report: Report) -> None:
    run = json.loads(to_sarif(report))["runs"][0]
    told = [(r["ruleId"], r["level"]) for r in run["results"]]
    levels = {"fail": "error", "warn": "warning", "undetermined": "note"}
    expected = [(v.check.replace(" ", "-"), levels[v.verdict]) for v in report.checks if v.verdict in levels]
    assert told[: len(expected)] == expected
    assert len(told) == len(expected) + 2
    rules = run["tool"]["driver"]["rules"]
    assert all(rules[r["ruleIndex"]]["id"] == r["ruleId"] for r in run["results"])


def test_an_unknown_export_writes_nothing(report: Report, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected exports out of csv, latex, junit, sarif; got 'pdf'"):
        write(report, tmp_path, ["csv", "pdf"])
    assert not list(tmp_path.iterdir())


def test_a_data_frame_or_what_is_missing_for_it(report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(ImportError, match="expected pandas"):
        report.to_pandas()


def test_a_report_is_told_in_a_line_and_shown_in_notebooks(report: Report) -> None:
    assert repr(report).startswith("<Report on bare, blur | <b>, noise_&: Linf eps 1/25, n=12, ")
    assert len(repr(report)) < 160
    shown = report._repr_html_()
    assert "<b>" not in shown.replace("&lt;b&gt;", "")
    assert str(report.clean("bare").accuracy)[:6] in shown


def test_every_check_has_a_remedy() -> None:
    assert set(NEXT) == {*MODEL_CHECKS, *CHECKS}


# --- compare ---


def other(report: Report, **changes: object) -> Report:
    """The report with the PGD rows of full knowledge broken on every other image."""
    from dataclasses import replace

    def halved(c: Cell) -> Cell:
        if c.knowledge != "full" or "PGD" not in c.attack:
            return c
        correct = tuple(tuple(v and i % 2 == 0 for i, v in enumerate(row)) for row in c.correct)
        return replace(c, correct=correct, predicted=())

    return replace(report, cells=tuple(map(halved, report.cells)), **changes)


def test_reports_of_the_same_images_are_paired(report: Report) -> None:
    second = other(report)
    header, found = compare.differences({"a": report, "b": second})
    assert len(found) == 6  # pairs of two defended models in each
    row = next(r for r in found if r[:2] == ["a: blur | <b>", "b: blur | <b>"])
    values = [
        [float(all(c.correct[0][i] for c in r.attacked("blur | <b>"))) for i in range(7)] for r in (report, second)
    ]
    assert row[3] == paired_difference(*values).points
    assert row[2].startswith("0.0 points")
    assert len(header) == len(row)


def test_reports_of_other_images_or_threats_are_not_paired(report: Report) -> None:
    images = {**report.provenance, "sha256_of_images": "0" * 64}
    for changes, why in [
        ({"provenance": images}, "other images"),
        ({"threat": {"norm": "Linf", "eps": 0.1}}, "another threat"),
    ]:
        _, found = compare.differences({"a": report, "b": other(report, **changes)})
        across = [row for row in found if row[0][0] != row[1][0]]
        assert len(across) == 4
        assert all(row[2:] == [f"not paired: {why}"] * 2 for row in across)
        assert not any("not paired" in cell for row in found if row not in across for cell in row)


def test_every_model_stands_side_by_side(report: Report) -> None:
    header, found = compare.side_by_side({"a": report, "b": other(report)})
    assert [row[0] for row in found][-2:] == ["a: bare", "b: bare"]
    assert len(found) == 6
    assert "inside the threat" in found[0][-1]
    assert all(len(row) == len(header) for row in found)
    assert compare.markdown({"a": report, "b": report}).count("blur \\| &lt;b&gt;") >= 3


def test_models_of_one_report_are_paired(report: Report) -> None:
    _, found = compare.differences({"a": report})
    assert [row[:2] for row in found] == [["a: blur | <b>", "a: noise_&"]]
    names = ("blur | <b>", "noise_&")

    def share(name: str, i: int) -> float:
        """Of the repeats in which every attack left the image right."""
        cells = report.attacked(name)
        right = [all(c.correct[r][i] for c in cells) for r in range(cells[0].repeats)]
        return sum(right) / len(right)

    values = [[share(name, i) for i in range(7)] for name in names]
    clean = [list(report.clean(name).survived) for name in names]
    assert found[0][3] == paired_difference(*values).points
    assert found[0][2] == paired_difference(*clean).points
    assert found[0][2:] == pair_table(report)[1][0][2:]
    assert "## Differences" not in report.markdown()
    assert "Differences between the models. Points by which the first is better" in report.markdown()
    assert "<h2>Differences between the models</h2>" in page(report)


def test_every_model_against_one(report: Report) -> None:
    _, found = compare.differences({"a": report}, "bare")
    assert [row[:2] for row in found] == [["a: blur | <b>", "a: bare"], ["a: noise_&", "a: bare"]]
    assert compare.differences({"a": report}, "a: bare")[1] == found
    assert compare.markdown({"a": report}, "bare").count("a: bare") == 3
    for wrong, reports in [("nothing", {"a": report}), ("bare", {"a": report, "b": report})]:
        with pytest.raises(ValueError, match=f"expected one model to compare with, out of .*got '{wrong}'"):
            compare.differences(reports, wrong)


def test_a_single_model_is_no_comparison(report: Report) -> None:
    alone = replace(report, cells=tuple(c for c in report.cells if c.model == "bare"))
    with pytest.raises(ValueError, match="one of several models, to compare, got 1 model"):
        compare.side_by_side({"a": alone})
