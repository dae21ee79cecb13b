"""Examples whose gradients are bfloat16's: never weaker unsaid, and answered in float32."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from typer.testing import CliRunner

from art_ext.attacks import Averaged
from art_ext.cli.main import app
from art_ext.evaluation import Attack, Cell, Defended, Knowledge, Report, Threat, evaluate, merged
from art_ext.evaluation.judge import judge
from art_ext.evaluation.judge.crafting import lost, weaker
from art_ext.evaluation.run import craft
from art_ext.evaluation.schedule import Job
from art_ext.nn.precision import RoughGradients, exact, has_bfloat16

from .conftest import Blur, Noise

CHECK = "crafting not weaker"
PGD = Attack("native", "PGD", {"steps": 6})
OPTIONS: dict[str, Any] = {
    "threat": Threat("Linf", 0.2), "probe": None, "progress": False, "eot_samples": 2, "repeats": 2,
    "knowledge": [Knowledge.FULL], "crafting": "bfloat16",
}  # fmt: skip


class Sides(nn.Module):
    """How much brighter the left half of an image is than the right one, in (-1, 1), plus 256; bfloat16 then has 256.

    Args:
        ties: the logits are what is above 256 and what is below: in bfloat16 both are 0, and so are their gradients.
        early: class 1 has 0.05 instead, which in bfloat16 is more than the 0 of class 0 on every image.
        lift: what is added and taken away again; 0 for a network that bfloat16 hardly changes.
    """

    def __init__(self, ties: bool = False, early: bool = False, lift: float = 256.0) -> None:
        super().__init__()
        self.ties, self.early, self.lift = ties, early, lift
        self.linear = nn.Linear(48, 1)
        with torch.no_grad():
            self.linear.weight.copy_(torch.tensor([1.0] * 4 + [-1.0] * 4).repeat(6)[None] / 24)
            self.linear.bias.fill_(lift)

    def forward(self, x: Tensor) -> Tensor:
        left = self.linear(x.flatten(1))[:, 0] - self.lift
        if self.early:
            return torch.stack([left, torch.full_like(left, 0.05)], 1)
        return torch.stack([left.relu(), (-left).relu()] if self.ties else [left, -left], 1)


class Raises(Sides):
    """A network that is not for autocast."""

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_autocast_enabled("cpu"):
            raise RuntimeError("no kernel for BFloat16")
        return super().forward(x)


@pytest.fixture
def images() -> tuple[Tensor, Tensor]:
    x = 0.4 + 0.1 * torch.rand(70, 1, 6, 8)
    y = torch.arange(70) % 2
    x[y == 0, ..., :4] += 0.1
    x[y == 1, ..., 4:] += 0.1
    return x, y


@pytest.fixture(autouse=True)
def able(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the machine has."""
    monkeypatch.setattr("art_ext.evaluation.numerics.has_bfloat16", lambda device: True)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """Of every block that is attacked, the format, and whether iterates are watched; each takes a second."""
    jobs: list[tuple[str, bool]] = []
    seconds = iter(range(1000))
    inner = craft.examples

    def counting(job: Job, *rest: Any) -> Any:
        jobs.append((job.crafting, rest[-1]))
        return inner(job, *rest)

    monkeypatch.setattr(craft, "examples", counting)
    monkeypatch.setattr(craft, "clock", lambda device: next(seconds))
    return jobs


def run(network: nn.Module, images: tuple[Tensor, Tensor], attack: Attack = PGD, **changes: Any) -> Report:
    return evaluate([Defended("m", network)], [attack], *images, **OPTIONS | changes)


def row(report: Report) -> Cell:
    (cell,) = (c for c in report.cells if not c.is_clean and not c.source)
    return cell


def verdict(report: Report) -> tuple[str, str]:
    (found,) = ((v.verdict, v.detail) for v in report.checks if v.check == CHECK)
    assert found == next((v.verdict, v.detail) for v in judge(report) if v.check == "crafting not weaker")
    return found


@pytest.mark.parametrize("attack", [PGD, Attack("native", "APGD", {"steps": 6}), Attack("native", "FGSM")])
def test_bfloat16_breaks_what_float32_breaks(images: tuple[Tensor, Tensor], attack: Attack) -> None:
    rough, full = (run(Sides(lift=0), images, attack, crafting=c) for c in ("bfloat16", "float32"))
    cell = row(rough)
    assert cell.parameters["crafting"] == "bfloat16"
    assert cell.correct == row(full).correct
    assert {k: v for k, v in cell.observed.items() if k in ("compared", "left_by_bfloat16", "left_by_float32")} == {
        "compared": 64, "left_by_bfloat16": 0, "left_by_float32": 0,
    }  # fmt: skip
    assert verdict(rough) == (
        "pass", f"largest loss: of 64 images bfloat16 leaves 0, float32 0 by {attack.title} (undefended)",
    )  # fmt: skip
    assert "crafting" not in row(full).parameters
    assert [v for v in full.checks if v.check == CHECK] == []
    assert [r.provenance["precision"]["crafting"] for r in (rough, full)] == ["bfloat16", "float32"]


@pytest.mark.parametrize("all_steps", [False, True])
def test_gradients_that_tie_fall_back(
    images: tuple[Tensor, Tensor], made: list[tuple[str, bool]], all_steps: bool
) -> None:
    report, full = (run(Sides(ties=True), images, crafting=c, all_steps=all_steps) for c in ("bfloat16", "float32"))
    cell = row(report)
    assert cell.parameters["crafting"] == "float32"
    assert cell.parameters["fell_back"] == "of 64 images bfloat16 leaves 64, float32 0"
    assert verdict(report)[0] == "warn"
    assert (cell.correct, cell.predicted) == (row(full).correct, row(full).predicted)
    assert cell.accuracy.mean == 0
    assert [crafting for crafting, _ in made] == ["float32"] * 2 + ["bfloat16"] * 2 + ["float32"] + ["float32"] * 3
    assert (cell.seconds, row(full).seconds) == (5, 3)


def test_a_network_that_raises_in_bfloat16_falls_back(images: tuple[Tensor, Tensor]) -> None:
    report = run(Raises(lift=0), images)
    assert row(report).parameters["fell_back"] == "bfloat16 raises RuntimeError: no kernel for BFloat16"
    assert row(report).correct == row(run(Sides(lift=0), images, crafting="float32")).correct
    assert verdict(report)[0] == "warn"


@pytest.mark.parametrize("attack", [PGD, Attack("native", "APGD", {"steps": 6})])
def test_an_image_leaves_only_when_float32_confirms_it(images: tuple[Tensor, Tensor], attack: Attack) -> None:
    """In bfloat16 every image seems broken from the start; unconfirmed, each would leave as it is."""
    report = run(Sides(early=True), (images[0], torch.zeros(70, dtype=torch.int64)), attack)
    assert row(report).parameters["crafting"] == "bfloat16"
    assert row(report).observed["left_by_bfloat16"] == 0
    assert row(report).accuracy.mean == 0


def test_answers_are_those_of_float32(images: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    network = Sides(early=True)
    y = torch.zeros(70, dtype=torch.int64)
    report = run(network, (images[0], y), folder=tmp_path, threat=Threat("Linf", 0.025))
    (x_adv,) = load_file(tmp_path / "x_adv.safetensors").values()
    assert row(report).predicted == (tuple(network(x_adv).argmax(1).tolist()),)
    assert 0 < row(report).accuracy.mean < 1


def test_examples_of_a_row_that_fell_back_are_those_of_float32(images: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    network = Sides(ties=True)
    report = run(network, images, folder=tmp_path)
    (x_adv,) = load_file(tmp_path / "x_adv.safetensors").values()
    assert row(report).predicted == (tuple(network(x_adv).argmax(1).tolist()),)


def test_nothing_is_made_twice(images: tuple[Tensor, Tensor], tmp_path: Path, made: list[tuple[str, bool]]) -> None:
    first = run(Sides(lift=0), images, folder=tmp_path)
    assert made == [("float32", True)] * 2 + [("bfloat16", False)] * 3
    assert row(first).seconds == 5
    assert (row(first).observed["watched"], row(first).observed["silent"]) == (64, 0)
    for name in ("report.json", "x_adv.safetensors"):
        (tmp_path / name).unlink()
    made.clear()
    again = run(Sides(lift=0), images, folder=tmp_path)
    assert made == []
    assert again.findings() == first.findings()
    assert row(again).seconds == row(first).seconds


def test_a_folder_of_another_crafting_is_refused(images: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    run(Sides(lift=0), images, folder=tmp_path)
    assert json.loads((tmp_path / "evaluation.json").read_text())["settings"]["crafting"] == "bfloat16"
    with pytest.raises(ValueError, match="got one of other settings"):
        run(Sides(lift=0), images, folder=tmp_path, crafting="float32")
    with pytest.raises(ValueError, match="expected crafting to be one of float32, bfloat16; got 'float16'"):
        run(Sides(lift=0), images, crafting="float16")


@pytest.mark.parametrize("ties", [False, True])
def test_shards_agree(images: tuple[Tensor, Tensor], ties: bool) -> None:
    network = Sides(ties=ties, lift=256 * ties)
    parts = [run(network, images, shard=(i, 3)) for i in range(3)]
    assert merged(parts).findings() == run(network, images).findings()


def test_a_sequence_is_compared_on_all_images(images: tuple[Tensor, Tensor]) -> None:
    attacks = [Attack("native", "FGSM"), PGD]
    report = evaluate([Defended("m", Sides(lift=0))], attacks, *images, **OPTIONS, survivors_only=True)
    cells = [c for c in report.cells if not c.is_clean]
    assert [(c.observed["compared"], c.observed["left_by_bfloat16"]) for c in cells] == [(64, 0)] * 2
    assert len(cells[1].skipped) == 70


def test_a_randomised_defence_is_confirmed_in_float32(images: tuple[Tensor, Tensor]) -> None:
    models = [Defended("m", Sides(lift=0), purifier) for purifier in (Noise(), Blur())]
    for model in models:
        report = evaluate([model], [PGD], *images, **OPTIONS)
        assert row(report).parameters["crafting"] == "bfloat16"
        assert verdict(report)[0] == "pass"
        assert row(report).worst.mean == 0


def test_targeted_attacks_keep_their_goal(images: tuple[Tensor, Tensor]) -> None:
    report = run(Sides(lift=0), images, Attack("native", "PGD", {"steps": 6}, targeted="random"))
    assert row(report).parameters["crafting"] == "bfloat16"
    assert row(report).success is not None
    assert row(report).success.mean == 1  # type: ignore[union-attr]


def test_few_images_other_attacks_and_other_formats_are_float32(images: tuple[Tensor, Tensor]) -> None:
    few = run(Sides(lift=0), (images[0][:64], images[1][:64]))
    square = run(Sides(lift=0), images, Attack("native", "Square", {"queries": 5}))
    double = run(Sides(lift=0).double(), images)
    for report in (few, square, double):
        assert "crafting" not in row(report).parameters
        assert "compared" not in row(report).observed


def test_undetermined_where_no_difference_would_be_sure(images: tuple[Tensor, Tensor]) -> None:
    report = run(Sides(lift=0), images, threat=Threat("Linf", 0.001))
    assert row(report).accuracy.mean == 1
    assert verdict(report)[0] == "undetermined"


def compared(exact: int, alone: int, other: int = 0) -> dict[str, int]:
    """Of 64 images float32 leaves so many, bfloat16 alone leaves `alone`, float32 alone leaves `other`."""
    return {"compared": 64, "left_by_float32": exact, "left_by_bfloat16": exact - other + alone,
            "left_by_bfloat16_alone": alone}  # fmt: skip


# 5 of 5 have 2^-5 = 3.1 %, 6 of 6 1.6 %; 10 or more of 12 have (1 + 12 + 66) / 2^12 = 1.9 %, 11 or more of 14
# (1 + 14 + 91 + 364) / 2^14 = 2.9 %, where the t interval would leave 0 out.
@pytest.mark.parametrize(
    ("alone", "other", "expected"),
    [(5, 0, False), (6, 0, True), (0, 6, False), (10, 2, True), (11, 3, False), (0, 0, False)],
)
def test_bfloat16_is_weaker_where_it_surely_leaves_more(alone: int, other: int, expected: bool) -> None:
    found = lost(compared(20, alone, other))
    assert (found.more, found.less, found.n) == (alone, other, 64)
    assert weaker(compared(20, alone, other)) is expected


@pytest.mark.parametrize(("left", "expected"), [(64, "undetermined"), (59, "undetermined"), (58, "pass"), (0, "pass")])
def test_six_broken_images_could_have_told(left: int, expected: str) -> None:
    cells = [
        Cell("m", "clean", "none", ((True,) * 64,)),
        Cell("m", "a", "full", ((True,) * 64,), observed=compared(left, 0)),
    ]
    report = Report({"norm": "Linf", "eps": 0.1}, tuple(cells), (), (), {})
    assert verdict(replace(report, checks=judge(report)))[0] == expected


def test_hardware_without_bfloat16_says_so(images: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("art_ext.evaluation.numerics.has_bfloat16", lambda device: False)
    with pytest.warns(UserWarning, match="cpu has no bfloat16 instructions: examples are made in float32") as said:
        report = run(Sides(ties=True), images)
    assert len(said) == 1
    assert report.notes == ("cpu has no bfloat16 instructions: examples are made in float32",)
    assert "crafting" not in row(report).parameters
    assert report.provenance["precision"]["crafting"] == "float32"
    assert row(report).accuracy.mean == 0


@pytest.mark.parametrize(("has", "expected"), [({}, False), ({"bf16": True}, True), ({"avx512_bf16": False}, False)])
def test_instructions_are_asked_for(monkeypatch: pytest.MonkeyPatch, has: dict[str, bool], expected: bool) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has, raising=False)
    assert has_bfloat16(torch.device("cpu")) is expected


def test_only_passes_with_gradients_are_rough() -> None:
    convolution = nn.Conv2d(3, 4, 3).requires_grad_(False)
    seen = []
    convolution.register_forward_hook(lambda _, inputs, out: seen.append((inputs[0], out.dtype)))
    rough = RoughGradients(nn.Sequential(convolution, nn.Flatten()))
    x = torch.rand(2, 3, 5, 6).requires_grad_()
    (gradient,) = torch.autograd.grad(rough(x).sum(), x)
    with torch.no_grad():
        logits = rough(x)
    assert [dtype for _, dtype in seen] == [torch.bfloat16, torch.float32]
    assert seen[0][0].is_contiguous(memory_format=torch.channels_last)
    assert gradient.is_contiguous()
    assert (gradient.dtype, logits.dtype) == (torch.float32, torch.float32)
    assert torch.equal(logits, exact(rough)(x))
    assert exact(convolution) is convolution


def test_samples_of_a_randomised_model_are_averaged_in_float32() -> None:
    model = Averaged(RoughGradients(Sides(lift=0)), 2, "logits", 1)
    assert model(torch.rand(3, 1, 6, 8).requires_grad_()).dtype is torch.float32


def test_the_command_line_has_it(images: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    x, y = images
    np.savez(tmp_path / "test.npz", x=(x * 255).round().byte().numpy(), y=y.numpy())
    (tmp_path / "net.py").write_text(
        "import torch\nfrom torch import nn\n\n\ndef make():\n    net = nn.Sequential(nn.Flatten(), nn.Linear(48, 2))\n"
        "    side = torch.tensor([1.0] * 4 + [-1.0] * 4).repeat(6)\n"
        "    net[1].weight.data = torch.stack([side, -side])\n    net[1].bias.data.zero_()\n    return net\n"
    )
    call = ["evaluate", "--classifier", f"{tmp_path / 'net.py'}:make", "--data", str(tmp_path / "test.npz"),
            "--attack", "native:PGD:steps=2", "--eps", "0.2", "--device", "cpu", "--out", str(tmp_path / "out"),
            "--crafting"]  # fmt: skip
    assert "expected crafting to be one of float32, bfloat16" in CliRunner().invoke(app, [*call, "half"]).output
    done = CliRunner().invoke(app, [*call, "bfloat16"])
    assert done.exit_code == 0, done.output
    assert row(Report.load(tmp_path / "out" / "report.json")).parameters["crafting"] == "bfloat16"
