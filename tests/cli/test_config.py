"""Several purifiers in one call, attacks of a user's own, and an evaluation as a TOML file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tomllib

from art_ext.cli.attacks import attack_of
from art_ext.cli.evaluated import expanded
from art_ext.cli.purifiers import purifier_presets
from art_ext.evaluation import Report

QUICK = ("--attack", "native:FGSM", "--knowledge", "blind", "--eps", 0.02, "--device", "cpu", "--eot-samples", 2)
OWN = """
def up(module, x, y, threat):
    return (x + threat.eps).clamp(0, 1)


number = 3
"""


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("art_ext.plots.figures", lambda report: {})


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "own.py").write_text(OWN)
    return tmp_path / "own.py"


@pytest.fixture
def command(files: Any) -> tuple[Any, ...]:
    models = ("--classifier", files.spec("make"), "--purifier", files.rdp, "--purifier", files.spec("blur"))
    return ("evaluate", *models, "--data", files.npz, *QUICK)


def test_several_purifiers_and_an_own_attack_stand_in_one_report(
    call: Any, command: Any, own: Path, tmp_path: Path
) -> None:
    call(*command, "--attack", f"{own}:up:label=brighter,images=4", "--out", tmp_path / "out")
    report = Report.load(tmp_path / "out" / "report.json")
    assert report.models() == ["undefended", "rdp", "blur"]
    rows = [c for c in report.cells if c.attack == "brighter"]
    assert {(c.model, c.images, c.backend) for c in rows} == {(m, 4, "yours") for m in report.models()}


def test_a_call_can_be_kept_and_repeated(call: Any, command: Any, tmp_path: Path) -> None:
    config = tmp_path / "mine.toml"
    call(*command, "--out", tmp_path / "out", "--save-config", config, "--require", 'clean of my "rdp" >= 0', code=4)
    kept = tomllib.loads(config.read_text())
    assert kept["attack"] == ["native:FGSM"]
    assert len(kept["purifier"]) == 2
    assert (kept["eps"], kept["eot-samples"], kept["require"]) == ("0.02", 2, ['clean of my "rdp" >= 0'])
    assert not {"seed", "save-config", "strict", "debug"} & {*kept}  # as they are by default
    first = Report.load(tmp_path / "out" / "report.json")
    call("evaluate", config, "--out", tmp_path / "again", code=4)
    assert Report.load(tmp_path / "again" / "report.json").findings() == first.findings()


def test_what_is_said_on_the_command_line_counts(call: Any, command: Any, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('eps = "0.01"\nimages = 4\nno_purifier_baseline = true\n')
    call(*command, tmp_path / "c.toml", "--out", tmp_path / "out")  # whose --eps is 0.02
    report = Report.load(tmp_path / "out" / "report.json")
    assert (report.threat["eps"], report.clean("rdp").images) == (0.02, 4)
    assert "undefended" not in report.models()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("eps = ", "expected a TOML file of options"),
        ("epsilon = 0.1", "expected options in"),
        ("attack = 'native:FGSM'", "expected a list for 'attack'"),
        ("eps = [1]", "expected a single value for 'eps'"),
        ("[eps]\nx = 1", "expected a single value for 'eps'"),
        ("debug = true", "got 'debug'"),
    ],
)
def test_a_file_of_something_else_is_refused(
    refused: Any, command: Any, tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "c.toml").write_text(text)
    assert message in refused(*command, tmp_path / "c.toml", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_value_of_the_wrong_kind_is_refused_as_on_the_command_line(call: Any, command: Any, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("images = 'many'")
    assert "--images" in call(*command, tmp_path / "c.toml", "--out", tmp_path / "out", code=2).stderr


def test_own_attacks_that_are_none(own: Path) -> None:
    assert attack_of(f"{own}:up").title == "yours up"
    for text, error, message in [
        (f"{own}:number", TypeError, "expected a function"),
        (f"{own}:up:steps=3", ValueError, "got 'steps'"),
        (f"{own}:down", ValueError, "got 'down'"),
        ("missing.py:up", ValueError, "no such file"),
    ]:
        with pytest.raises(error, match=message):
            attack_of(text)


def test_patterns_are_of_presets(tmp_path: Path) -> None:
    assert expanded(["fashion_mnist_r*", "runs/rdp", "fashion_mnist_rdp"]) == ["fashion_mnist_rdp", "runs/rdp"]
    assert expanded(["*"]) == purifier_presets()
    with pytest.raises(ValueError, match="expected a pattern of purifiers"):
        expanded(["mnist_*"])


def test_purifiers_of_one_name_are_refused(refused: Any, files: Any, tmp_path: Path) -> None:
    words = ("--purifier", files.spec("blur"), "--purifier", f"{files.code.parent}/./{files.code.name}:blur")
    line = refused(
        "evaluate", "--classifier", files.spec("make"), *words, "--data", files.npz, *QUICK, "--out", tmp_path / "o"
    )
    assert "purifiers of different names" in line
