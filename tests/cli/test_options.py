"""Options: given once where they take one value, numbers that are numbers, devices that hold, old names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer

from art_ext.cli import app
from art_ext.cli.options import device_of, number, pairs, value
from art_ext.evaluation import Report

SINGLE = [
    (name, max(option.opts, key=len))
    for name, command in typer.main.get_command(app).commands.items()  # type: ignore[attr-defined]
    for option in command.params
    if option.param_type_name == "option" and not option.multiple and not option.is_flag
]
MULTIPLE = {*(("evaluate", f"--{name}") for name in ("knowledge", "attack", "purifier", "require")), ("train", "--set")}


def test_which_options_there_are() -> None:
    assert {("evaluate", "--surrogate"), ("train", "--out"), ("purify", "--seed"), ("report", "--out")} <= {*SINGLE}
    assert not MULTIPLE & {*SINGLE}


@pytest.mark.parametrize(("command", "option"), SINGLE)
def test_an_option_of_one_value_is_given_once(refused: Any, command: str, option: str) -> None:
    assert refused(command, option, "1", f"{option}=2") == f"error: expected {option} once, got it twice\n"
    assert "got it 3 times" in refused(command, option, "1", option, "1", option, "1")


def test_flags_may_stand_twice_and_lists_grow(call: Any) -> None:
    assert call("list", "purifiers", "--json", "--json").stdout == call("list", "purifiers", "--json").stdout


def test_an_option_and_the_same_setting(refused: Any, files: Any, tmp_path: Path) -> None:
    command = ("train", "rdp", "--data", files.npz, "--classifier", files.spec("make"), "--out", tmp_path / "rdp")
    line = refused(*command, "--width", 2, "--set", "width=3")
    assert "expected width once, got --width and --set width=" in line
    assert not (tmp_path / "rdp").exists()


@pytest.mark.parametrize(
    "text", ["nan", "inf", "-inf", "1e400", "1e999999999", "1/0", "1/nan", "8/2/5", "", "x", "9" * 400]
)
def test_what_is_no_finite_number(text: str) -> None:
    with pytest.raises(ValueError, match="expected --eps as a number"):
        number(text, "--eps")


def test_values_as_they_are_read() -> None:
    assert number(" 8 / 255 ", "--eps") == 8 / 255
    assert value("8/255") == 8 / 255
    assert number("8.0/255", "it") == number(" 8 / 255", "it") == 8 / 255
    with pytest.raises(ValueError, match="expected it as a number or a fraction such as 8/255, got '8/255/3'"):
        number("8/255/3", "it")
    assert pairs(["a=[1, 2]", "b=x"]) == {"a": [1, 2], "b": "x"}
    assert value("[" * 100_000) == "[" * 100_000


@pytest.mark.parametrize("rate", ["nan", "inf", "0", "-1"])
def test_a_learning_rate_is_positive(refused: Any, files: Any, tmp_path: Path, rate: str) -> None:
    command = ("train", "rdp", "--data", files.npz, "--classifier", files.spec("make"), "--out", tmp_path / "rdp")
    assert "expected --learning-rate above 0, got" in refused(*command, "--learning-rate", rate)


def test_another_accelerator_is_refused_by_name() -> None:
    for text in ("mps", "xpu", "meta", "xla:0"):
        with pytest.raises(ValueError, match=f"expected --device auto, cpu, cuda or cuda:1, got '{text}': on"):
            device_of(text)
    for text in ("gpu", "", "cuda:x", "CPU"):
        with pytest.raises(ValueError, match="expected --device auto, cpu, cuda or cuda:1, got"):
            device_of(text)
    assert device_of("cpu") == torch.device("cpu")


def test_the_device_that_is_named_becomes_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """ART's "gpu" is the current device."""
    current: list[torch.device] = []
    monkeypatch.setattr(torch, "zeros", lambda *_, **__: None)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device_of("cuda:1") == torch.device("cuda:1")
    assert current == [torch.device("cuda:1")]
    assert device_of("cuda") == device_of("auto") == torch.device("cuda")
    assert len(current) == 1


def test_memory_that_runs_out_on_a_device_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch, "zeros", full)
    with pytest.raises(torch.OutOfMemoryError):
        device_of("cuda")


QUICK = ("--attack", "native:FGSM", "--images", 4, "--batch-size", 4)


def test_old_names_still_work_and_say_the_new_ones(
    call: Any, files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("art_ext.plots.figures", lambda report: {})
    command = ("evaluate", "--classifier", files.spec("make"), "--data", files.npz, *QUICK)
    old = call(
        *command, "--preset", "smoke", "--draws", 3, "--redraws", 2, "--knowledge", "own", "--out", tmp_path / "a"
    )
    assert [line for line in old.stderr.splitlines() if line.startswith("warning")] == [
        "warning: --draws is called --eot-samples now",
        "warning: --redraws is called --repeats now",
        "warning: --preset is called --suite now",
        "warning: --knowledge own is called adaptive now",
    ]
    new = call(
        *command, "--suite", "smoke", "--eot-samples", 3, "--repeats", 2, "--knowledge", "adaptive",
        "--out", tmp_path / "b",
    )  # fmt: skip
    assert "warning" not in new.stderr
    a, b = (Report.load(tmp_path / name / "report.json").findings() for name in "ab")
    assert a == b


def test_old_names_are_not_shown(call: Any) -> None:
    shown = call("evaluate", "--help").stdout
    assert not any(name in shown for name in ("--preset", "--draws", "--redraws"))
    assert all(name in shown for name in ("--suite", "--eot-samples", "--repeats", "adaptive"))


def test_suites_by_their_old_name(call: Any) -> None:
    old = call("list", "plans", "--json")
    assert old.stderr == "warning: plans are called suites now: art-ext list suites\n"
    rows, plans = json.loads(call("list", "suites", "--json").stdout)["suites"], json.loads(old.stdout)["plans"]
    assert [r["eot_samples"] for r in rows] == [p["draws"] for p in plans]
    assert [r["repeats"] for r in rows] == [p["redraws"] for p in plans]
    assert [r["name"] for r in rows] == ["smoke", "standard", "full"]


NAN = """
import torch
from torch import nn
class Nan(nn.Module):
    def forward(self, x):
        logits = torch.stack([x.mean((1, 2, 3)), x[..., 0].mean((1, 2))], 1)
        return logits.masked_fill((torch.arange(len(x)) == 1)[:, None], float("nan"))
make = Nan
"""


def test_logits_that_are_not_finite_are_said(
    call: Any, refused: Any, files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("art_ext.plots.figures", lambda report: {})
    (tmp_path / "nan.py").write_text(NAN)
    model = ("--classifier", f"{tmp_path / 'nan.py'}:make", "--data", files.npz)
    shown = call("evaluate", *model, *QUICK, "--out", tmp_path / "out").stderr
    assert "warning: --classifier gives NaN or Inf for 1 of the first 3 images: such answers count as wrong" in shown
    line = refused("train", "rdp", *model, "--out", tmp_path / "rdp")
    assert "expected --classifier to give finite logits, got NaN or Inf for 1 of 3 images" in line


@pytest.mark.parametrize("output", ["{'logits': x}", "(x, x)", "None", "[x]", "x.mean()"])
def test_what_is_no_logits_is_refused(refused: Any, files: Any, tmp_path: Path, output: str) -> None:
    code = f"from torch import nn\nclass Net(nn.Module):\n    def forward(self, x):\n        return {output}\n"
    (tmp_path / "net.py").write_text(code)
    line = refused(
        "evaluate", "--classifier", f"{tmp_path / 'net.py'}:Net", "--data", files.npz, "--out", tmp_path / "o"
    )
    assert "expected --classifier to give logits (1, K), got " in line


def test_images_that_are_not_finite_are_not_written(call: Any, refused: Any, files: Any, tmp_path: Path) -> None:
    """They would become black or white pixels."""
    (tmp_path / "nan.py").write_text("def cleans(x):\n    return x * float('nan')\n")
    command = ("purify", "--purifier", f"{tmp_path / 'nan.py'}:cleans")
    message = "expected the purifier to give finite images, got NaN or Inf"
    assert message in call(*command, files.folder, tmp_path / "out", code=1).stderr
    assert not (tmp_path / "out").exists()
    np.savez(tmp_path / "in.npz", x=files.x.numpy())
    assert message in refused(*command, tmp_path / "in.npz", tmp_path / "out.npz")
    assert not (tmp_path / "out.npz").exists()


def test_a_normalisation_stands_in_the_report_and_makes_another_evaluation(
    call: Any, refused: Any, files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("art_ext.plots.figures", lambda report: {})
    command = ("evaluate", "--classifier", files.spec("make"), "--data", files.npz, *QUICK, "--out", tmp_path / "out")
    call(*command)
    before = (tmp_path / "out" / "report.json").read_bytes()
    refused(*command, "--mean", "0.9", "--std", "0.25")
    assert (tmp_path / "out" / "report.json").read_bytes() == before
    call(*command[:-1], tmp_path / "other", "--mean", "0.9", "--std", "0.25")
    data = json.loads((tmp_path / "other" / "report.json").read_text())["provenance"]["data"]
    assert (data["mean"], data["std"]) == ([0.9], [0.25])
