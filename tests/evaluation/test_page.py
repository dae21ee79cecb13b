"""The page in a real browser, and every number on it recomputed from the JSON alone."""

from __future__ import annotations

import json
import re
import shutil
import statistics
import subprocess
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from scipy.stats import t
from torch import Tensor, nn

from art_ext import evaluation, plots
from art_ext.evaluation import (
    Attack,
    Cell,
    Defended,
    Knowledge,
    ModelInfo,
    Probe,
    Report,
    Threat,
    evaluate,
    judge,
    save_page,
)
from art_ext.evaluation.report import page

from .conftest import Blur, Halves, Noise, Problem

SCHEMA = Path(evaluation.__file__).parent / "report.schema.json"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def report() -> Report:
    torch.manual_seed(1)
    x = 0.4 + 0.2 * torch.rand(12, 1, 6, 8)
    y = torch.arange(12) % 2
    x[y == 0, ..., :4] += 0.05
    x[y == 1, ..., 4:] += 0.05
    problem = Problem(x, y, Halves())
    c, blur = problem.classifier, Blur()
    models = [Defended("bare", c), Defended("blur", c, blur, Halves(5.0)), Defended("noise <b>", c, Noise())]
    attacks = [
        Attack("native", "PGD", {"steps": 3}),
        Attack("native", "FGSM", images=7),
        Attack("native", "StAdv", {"steps": 2}),
        Attack("yours", "cheat", function=lambda m, x, y, t: x + 1),
    ]
    known = [Knowledge.TRANSFER, Knowledge.BLIND, Knowledge.BPDA, Knowledge.FULL]
    threat = Threat("Linf", 0.04, "1/25")
    return evaluate(models, attacks, problem.x, problem.y, threat=threat, knowledge=known, eot_samples=2,
                    repeats=3, cross=True, suite="mine", probe=Probe(9, 3), progress=False)  # fmt: skip


class Cells(HTMLParser):
    """The texts of table cells and of the verdict boxes."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.open = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.open = True

    def handle_endtag(self, tag: str) -> None:
        self.open = self.open and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self.open:
            self.rows[-1][-1] += data


def interval(values: list[float], repeats: int = 1) -> str:
    """Student's t interval of a mean, with four images added, as the page prints it; written down again."""
    mean, single, most = statistics.mean(values), statistics.pvariance(values), min(repeats, 10)
    alone = mean * (1 - mean)  # the variance that one answer an image would have
    worth = 1 if alone == 0 else most if single == 0 else min(most, max(1, alone / single))
    size = len(values) + 4 / worth
    centre = (sum(values) + 2 / worth) / size
    spread = (sum(v * v for v in values) + 2 / worth) / size - centre**2
    half = t.ppf(0.975, size - 1) * (max(0.0, spread) / (size - 1)) ** 0.5
    low, high = max(0.0, min(mean, centre - half)), min(1.0, max(mean, centre + half))
    answered = f" R={repeats}" if repeats > 1 else ""
    return f"{100 * mean:.1f} % [{100 * low:.1f}, {100 * high:.1f}] n={len(values)}{answered}"


def right(data: dict[str, Any], cell: dict[str, Any]) -> list[list[bool]]:
    """A row a repeat, from the classes that the model gave."""
    if "correct" in cell:
        return [[v == "1" for v in row] for row in cell["correct"]]
    return [[v == str(data["labels"][i]) for i, v in enumerate(row)] for row in cell["predicted"]]


def means(data: dict[str, Any], cell: dict[str, Any]) -> list[float]:
    return [sum(column) / len(column) for column in zip(*right(data, cell), strict=True)]


def left(data: dict[str, Any], cells: list[dict[str, Any]], r: int) -> list[float]:
    """Per image that all cells hold, in which share of all choices of r repeats every cell is right in every one."""
    rows = [right(data, c) for c in cells]
    n, repeats = min(len(c[0]) for c in rows), max(len(c) for c in rows)
    whole = [c * (repeats // len(c)) for c in rows]  # a deterministic model repeats itself
    chosen = list(combinations(range(repeats), min(r, repeats)))
    return [statistics.mean(all(c[k][i] for c in whole for k in some) for some in chosen) for i in range(n)]


def recomputed(data: dict[str, Any], model: str, attack: str, knowledge: str) -> str:
    """An entry of the table from the JSON, without the package."""
    bare = next(c["model"] for c in data["cells"] if c["knowledge"] == "undefended")
    own = any(c["model"] == model and c["knowledge"] == "undefended" for c in data["cells"])
    model = bare if knowledge == "undefended" and not own else model
    mine = [c for c in data["cells"] if c["model"] == model and c["knowledge"] == knowledge]
    if not mine:
        return ""
    clean = clean_of(data, model)
    if attack == "clean":
        return interval(means(data, clean), clean["repeats"])
    if attack.startswith("worst case"):
        r = int(attack.removeprefix("worst case, R = ")) if "=" in attack else 1
        r = min(r, max(len(right(data, c)) for c in mine))  # what is deterministic has one answer
        worst = left(data, [c for c in mine if not c.get("threat") and not c.get("refused")], r)
        if len(worst) == len(left(data, [clean], 1)):
            return interval(worst, r)
        r = min(r, clean["repeats"])
        same = 100 * statistics.mean(left(data, [clean], r)[: len(worst)])
        return f"{interval(worst, r)} (clean {same:.1f} %{f' R={r}' if r > 1 else ''})"  # FGSM saw seven of twelve
    found = [c for c in mine if c["attack"] == attack]
    if not found and knowledge == "undefended" and re.search(r" \+ EOT-\d+$", attack):
        found = [c for c in mine if c["attack"] == attack.rpartition(" + ")[0]]  # the classifier alone draws nothing
    if not found:
        return ""
    return "refused" if found[0].get("refused") else interval(means(data, found[0]), found[0]["repeats"])


def clean_of(data: dict[str, Any], model: str) -> dict[str, Any]:
    return next(c for c in data["cells"] if c["model"] == model and c["attack"] == "clean")


def check_every_number(report: Report, html: str) -> None:
    data = json.loads(report.to_json())
    parser = Cells()
    parser.feed(html)
    at = next(i for i, row in enumerate(parser.rows) if row[:2] == ["model", "attack"])
    header, shown = parser.rows[at], []
    for row in parser.rows[at + 1 :]:
        if len(row) != len(header) or row[0] == "model" or "n=" not in "".join(row[2:]) + "n=":
            break
        shown.append(row)
        known = ["undefended" if k == "bare classifier" else k for k in header[2:]]
        assert row[2:] == [recomputed(data, row[0], row[1], k) for k in known], row[:2]
    assert len(shown) == len(report.table()[1])
    verdicts = [[v.check, v.model, v.verdict, v.detail] for v in judge(report)]
    assert verdicts
    assert all(v in parser.rows for v in verdicts)
    for model in dict.fromkeys(c["model"] for c in data["cells"]):
        cells = [c for c in data["cells"] if c["model"] == model and c["attack"] != "clean"]
        cells = [c for c in cells if not c.get("threat") and not c.get("refused")]
        worst, clean = left(data, cells, 1), clean_of(data, model)
        same = interval(means(data, clean)[: len(worst)], clean["repeats"])
        assert f"{same} of clean images, <b>{interval(worst)}</b> of the same images" in html, model
        if clean["repeats"] > 1:
            most = max(len(right(data, c)) for c in cells)
            curve = [interval(left(data, cells, r), r) for r in (1, 2, 3, 5, 10, 20) if r <= most]
            assert [model, *curve] in parser.rows
            assert f"(R = 1), <b>{curve[-1]}</b> when answered {most} times" in html


def test_every_number_on_the_page_is_recomputed_from_the_json(report: Report, tmp_path: Path) -> None:
    save_page(report, tmp_path / "page.html", plots.figures(report))
    html = (tmp_path / "page.html").read_text("utf-8")
    check_every_number(report, html)
    assert html.count("data:image/png;base64,") == 4
    assert "noise &lt;b&gt;" in html
    repeats = report.cell("noise <b>", "native PGD-3 + EOT-2", "full").correct
    columns = list(zip(*repeats, strict=True))
    parser = Cells()
    parser.feed(html)
    for flags in ([float(all(c)) for c in columns], [float(sum(c) >= 2) for c in columns]):
        assert any(interval(flags, 3) in row for row in parser.rows)


def test_a_wrong_number_on_the_page_is_noticed(report: Report, tmp_path: Path) -> None:
    save_page(report, tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text("utf-8")
    entry = f"<td>{report.table()[1][1][3].split(' [')[0]} "
    assert entry in html
    with pytest.raises(AssertionError):
        check_every_number(report, html.replace(entry, "<td>1.0 % ", 1))


def test_the_json_is_what_its_schema_says(report: Report) -> None:
    schema = json.loads(SCHEMA.read_text("utf-8"))
    data = json.loads(report.to_json(), parse_constant=pytest.fail)  # NaN is no JSON
    jsonschema.validate(data, schema, jsonschema.Draft202012Validator)
    assert set(schema["properties"]) == {"schema", "estimands", *Report.__dataclass_fields__}
    assert set(schema["$defs"]["cell"]["properties"]) == {"repeats", *Cell.__dataclass_fields__}
    assert set(schema["$defs"]["model"]["properties"]) == set(ModelInfo.__dataclass_fields__)
    assert set(data["provenance"]) <= set(schema["properties"]["provenance"]["properties"])
    broken: list[dict[str, Any]] = [{"cells": [{"model": "m"}]}, {"schema": 2}, {"more": 1}, {"started": "today"}]
    for change in broken:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(data | change, schema)


def test_the_json_holds_what_readers_need(report: Report) -> None:
    data = json.loads(report.to_json())
    noise = next(c for c in data["cells"] if c["model"] == "noise <b>" and c["attack"] == "clean")
    assert noise["repeats"] == len(noise["predicted"]) == 3
    assert all(len(row) == 12 for row in noise["predicted"])
    assert "correct" not in noise  # said by classes and labels
    refused = [c for c in data["cells"] if c.get("refused")]
    assert {(c["refusal"], c["repeats"]) for c in refused} == {("left the threat", 0)}
    assert data["threat"] == {"norm": "Linf", "eps": 0.04, "given": "1/25"}
    assert data["suite"] == "mine"
    assert data["started"] <= data["ended"]
    assert data["provenance"]["scheme"]["block"] == 32
    assert data["provenance"]["precision"]["tf32"] is False
    assert data["provenance"]["device"] == "cpu"
    assert [len(m["sha256"]) for m in data["inspected"]] == [64] * 3
    assert [m["randomised"] for m in data["inspected"]] == ["", "", "clean images"]
    assert all(m["fingerprint"]["predicted"] for m in data["inspected"])
    assert {"accuracy", "worst", "vote", "worst_case", "repeat_curve", "paired"} <= set(data["estimands"])
    assert not any("Wilson" in figure["interval"] for figure in data["estimands"].values())


class Forty(Halves):
    """Forty classes, and no finite logits for dark images."""

    def forward(self, x: Tensor) -> Tensor:
        logits = nn.functional.pad(super().forward(x), (36, 0), value=-9.0)
        return logits.masked_fill((x.mean((1, 2, 3)) < 0.4)[:, None], torch.nan)


def test_a_report_of_many_classes_answers_that_are_not_finite_and_images_that_are_skipped_is_read_back() -> None:
    x = torch.full((40, 1, 6, 8), 0.5)
    x[::4] = 0.3
    x[..., :4] += 0.02
    attacks = [Attack("native", "FGSM", targeted="random"), Attack("native", "PGD", {"steps": 2})]
    report = evaluate([Defended("m", Forty())], attacks, x, torch.full((40,), 36), threat=Threat("Linf", 0.02),
                      survivors_only=True, shard=(1, 2), probe=None, progress=False)  # fmt: skip
    clean, first, second = report.cells
    assert clean.predicted == ((-1, 36, 36, 36, -1, 36, 36, 36),)
    assert clean.correct == ((False, True, True, True, False, True, True, True),)
    assert json.loads(report.to_json())["inspected"][0]["fingerprint"]["logits"][0][0] == {"not finite": "nan"}
    assert first.hits
    assert second.skipped
    assert clean.indices == tuple(range(32, 40))
    assert report.shard == (1, 2)
    assert Report.from_json(report.to_json()) == report
    jsonschema.validate(json.loads(report.to_json(), parse_constant=pytest.fail), json.loads(SCHEMA.read_text("utf-8")))
    assert "native FGSM" in page(report)


def test_the_page_opens_in_a_browser(report: Report, tmp_path: Path) -> None:
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"needs one of {', '.join(BROWSERS)}")
    save_page(report, tmp_path / "page.html", plots.figures(report))
    quiet = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}"]  # fmt: skip
    script = "<script>document.title = [...document.images].filter(i => i.naturalWidth > 100).length</script>"
    probed = tmp_path / "probed.html"
    probed.write_text((tmp_path / "page.html").read_text("utf-8").replace("</body>", f"{script}</body>"), "utf-8")
    done = subprocess.run([browser, *quiet, "--virtual-time-budget=2000", "--dump-dom", probed.as_uri()],
                          capture_output=True, text=True, timeout=60, check=True)  # fmt: skip
    assert "<title>4</title>" in done.stdout  # four pictures, decoded
    check_every_number(report, done.stdout)
