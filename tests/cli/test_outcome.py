"""What a training leaves: a next command that runs as it is printed, a true card, a record for evaluations."""

from __future__ import annotations

import copy
import json
import re
import shlex
import shutil
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from art_ext.classifiers import SmallDRRDN
from art_ext.cli import fingerprint
from art_ext.cli.classifiers import Normalised, load_classifier, users_own
from art_ext.cli.outcome import tell_accuracy
from art_ext.evaluation import mean_interval
from art_ext.images import Normalize
from art_ext.purifiers import RDP, Purifier

CPU = torch.device("cpu")
TINY = ("--width", 2, "--blocks", 2, "--block", "residual", "--fold", 2, "--steps", 1, "--epochs", 1)
FEW = ("--attack", "native:PGD:steps=1", "--knowledge", "full", "--images", 4)
NORMAL = ("--mean", "0.5", "--std", "0.25")


@pytest.fixture(autouse=True)
def _without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("art_ext.plots.figures", lambda report: {})


def next_command(shown: Any, test: Path) -> list[str]:
    """The printed command with a path for TEST, and nothing else changed."""
    (line,) = [line for line in shown.stdout.splitlines() if line.startswith("next: art-ext ")]
    return [str(test) if word == "TEST" else word for word in shlex.split(line.removeprefix("next: art-ext "))]


@pytest.fixture(scope="module")
def trained(call: Any, files: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """RDP for a classifier that wants standardised images, on a folder of images at another size."""
    out: Path = tmp_path_factory.mktemp("outcome") / "a run"
    options = ("--classifier", files.spec("layered"), "--features-layer", "features.1", "--size", "6x8")
    options += ("--channels", 1, *NORMAL, "--device", "cpu")
    return out, call("train", "rdp", "--data", files.folder, *options, *TINY, "--out", out)


def test_the_next_command_runs_as_it_is_printed(call: Any, files: Any, trained: tuple[Path, Any]) -> None:
    out, shown = trained
    command = next_command(shown, files.folder)
    assert (
        " ".join(command[5:])
        == f"--purifier {out} --size 6x8 --channels 1 --mean 0.5 --std 0.25 --device cpu --out {out}_evaluation"
    )
    done = call(*command, *FEW)
    assert "warning" not in done.stderr
    assert Path(f"{out}_evaluation", "report.json").is_file()


def told(capsys: pytest.CaptureFixture[str], purifier: Purifier) -> tuple[str, str]:
    """What is said of a purifier before a classifier that is right about every image of its kind."""
    y = torch.arange(40) % 2
    x = torch.full((40, 1, 6, 8), 0.2)
    x[y == 1] = 0.8
    right = nn.Sequential(nn.AvgPool2d((6, 8)), nn.Flatten(), nn.Linear(1, 2))
    right[2].weight.data, right[2].bias.data = torch.tensor([[-1.0], [1.0]]), torch.tensor([0.5, -0.5])
    job: Any = SimpleNamespace(model=purifier, network=right)
    tell_accuracy(job, x, y, 20)
    tell_accuracy(job, x, None, 20)  # nothing without labels
    found = capsys.readouterr()
    return found.out, found.err


def test_a_training_that_destroys_images_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    purifier = RDP(channels=1, width=2, blocks=1, block="residual")
    grey = copy.deepcopy(purifier)
    for made, value in ((purifier, None), (grey, 0.0)):
        made.purify = (lambda x: x) if value is None else (lambda x: 0.2 + 0 * x)
    out, err = told(capsys, purifier)
    every, none = (str(mean_interval([value] * 40)) for value in (1.0, 0.0))
    assert out == f"accuracy on the first images of the training: {every} without the purifier, {every} with it\n"
    assert not err
    out, err = told(capsys, grey)
    assert "50.0 %" in out
    assert not err  # half of them: not surely more
    grey.purify = lambda x: 1 - x
    out, err = told(capsys, grey)
    assert f", {none} with it" in out
    assert err.startswith(
        "warning: the purifier loses more than half of them, after 20 steps a stage: try more --epochs"
    )


def test_a_training_says_its_accuracy(trained: tuple[Path, Any]) -> None:
    assert re.search(r"accuracy on the first images of the training: .* n=\d+ with it", trained[1].stdout)


def test_keys_are_of_the_next_command_too(call: Any, files: Any, tmp_path: Path) -> None:
    np.savez(tmp_path / "own.npz", images=files.x.numpy(), labels=files.y.numpy())
    data = ("--data", tmp_path / "own.npz", "--keys", "images,labels", "--classifier", files.spec("make"))
    command = next_command(call("train", "rdp", *data, *TINY, "--out", tmp_path / "rdp"), tmp_path / "own.npz")
    call(*command, *FEW)


def test_what_may_be_deleted(trained: tuple[Path, Any]) -> None:
    out, shown = trained
    (line,) = [line for line in shown.stdout.splitlines() if "may be deleted" in line]
    assert re.match(r"training\.pt\.1 \(\d+\.\d MiB\): only needed to go on", line)
    assert (out / "training.pt.1").is_file()


def test_the_card_says_how_it_was_made(trained: tuple[Path, Any], files: Any) -> None:
    out, _ = trained
    text = (out / "README.md").read_text("utf-8")
    record = json.loads((out / "training.json").read_text("utf-8"))
    for said in (
        f"12 images of {files.folder}, sha256 {record['sha256_of_images']}",
        f"{files.spec('layered')}, sha256 of its weights {record['sha256_of_classifier']}",
        f"art-ext train rdp --data {files.folder} --out '{out}' --classifier {files.spec('layered')}",
        "--width 2 --blocks 2 --block residual --fold 2 --size 6x8 --channels 1 --mean 0.5 --std 0.25",
        "- epochs: 1", "- mean: [0.5]", f"- torch: {torch.__version__}", "Nothing yet.",
    ):  # fmt: skip
        assert said in text
    assert "debug" not in text


def test_the_record_and_the_layers_are_of_the_user(trained: tuple[Path, Any]) -> None:
    record = json.loads((trained[0] / "training.json").read_text("utf-8"))
    facts = {"mean": [0.5], "std": [0.25], "size": "6x8", "keys": "x,y", "channels": 1, "shape": [1, 6, 8]}
    assert facts.items() <= record.items()
    assert record["features_layer"] == "features.1"
    assert np.array(record["answers"]).shape == (fingerprint.PROBES, 4)


def test_a_layer_has_one_name_with_and_without_normalisation(files: Any, refused: Any, tmp_path: Path) -> None:
    plain, normal = (
        load_classifier(files.spec("layered"), device=CPU, **n) for n in ({}, {"mean": [0.5], "std": [1.0]})
    )
    for network in (plain, normal):
        own, before = users_own(network)
        assert [name for name, _ in own.named_modules()] == [name for name, _ in plain.named_modules()]
        assert network.get_submodule(before + "features.1") is own.get_submodule("features.1")
    data = ("--data", files.npz, "--classifier", files.spec("layered"), *NORMAL, "--out", tmp_path / "rdp")
    line = refused("train", "rdp", *data, "--features-layer", "feature.1")
    assert "out of features, features.0, features.1, head, head.0, head.1; got 'feature.1'" in line


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"classifier": "make", "normal": ()}, ["other answers (logits up to", "--mean 0.5, now not given"]),
        ({"normal": ()}, ["from the same weights)", "--std 0.25, now not given"]),
        ({"normal": ("--mean", "0.4", "--std", "0.25")}, ["from the same weights)", "--mean 0.5, now 0.4"]),
        ({"size": "12x8"}, ["images of 1 x 6 x 8, now 1 x 12 x 8"]),
    ],
)
def test_an_evaluation_of_something_else_is_told(
    call: Any, files: Any, trained: tuple[Path, Any], tmp_path: Path, changes: dict[str, Any], words: list[str]
) -> None:
    given: dict[str, Any] = {"classifier": "layered", "normal": NORMAL, "size": "6x8"} | changes
    name = "make" if "size" in changes else given["classifier"]  # which takes any size
    options = ("--classifier", files.spec(name), "--size", given["size"], *given["normal"], "--data", files.folder)
    done = call("evaluate", *options, "--purifier", trained[0], *FEW, "--out", tmp_path / "out")
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
    assert "was trained otherwise than it is evaluated: " in line
    assert all(word in line for word in words), line


def test_the_same_training_in_other_words_goes_on(call: Any, refused: Any, files: Any, tmp_path: Path) -> None:
    """Another name of the file and of the arrays; but not another classifier of the same weights."""
    copied = tmp_path / "copied.py"
    shutil.copy(files.code, copied)
    np.savez(tmp_path / "own.npz", images=files.x.numpy(), labels=files.y.numpy())
    out = ("--device", "cpu", *TINY, "--out", tmp_path / "rdp")
    call("train", "rdp", "--data", files.npz, "--classifier", f"{copied}:layered", *out)
    before = (tmp_path / "rdp" / "training.json").read_text("utf-8")
    other = ("--data", tmp_path / "own.npz", "--keys", "images,labels", "--classifier", f"{copied}:layered")
    assert "going on" in call("train", "rdp", *other, *out).stdout
    assert (tmp_path / "rdp" / "training.json").read_text("utf-8") == before
    copied.write_text(
        copied.read_text("utf-8").replace("self.head(self.features(x))", "self.head(self.features(2 * x))")
    )
    assert "of other answers in" in refused("train", "rdp", *other, *out)


def test_a_classifier_that_was_trained_too_is_evaluated(call: Any, files: Any, tmp_path: Path) -> None:
    """CD-VAE's game behind --mean and --std: the next command has neither, and warns of nothing."""
    out, data = tmp_path / "cdvae", tmp_path / "larger.npz"
    np.savez(data, x=np.pad(files.x.numpy(), ((0, 0), (0, 0), (0, 2), (0, 4)), mode="edge"), y=files.y.numpy())
    game = ("--set", "game=true", "--eps", "0.1", "--steps", 1, "--set", "classifier_width=4", "--width", 4)
    shown = call(
        "train", "cdvae", "--data", data, "--classifier", files.spec("make"), *NORMAL, "--epochs", 1, *game,
        "--device", "cpu", "--out", out,
    )  # fmt: skip
    command = next_command(shown, data)
    assert command[command.index("--classifier") + 1] == str(out / "classifier.pt2")
    assert "--mean" not in command
    assert "warning" not in call(*command, *FEW).stderr
    state = load_file(out / "classifier.safetensors")
    assert [*state] == ["scale"]  # the user's own name
    exported = load_classifier(str(out / "classifier.pt2"), device=CPU)
    record = json.loads((out / "training.json").read_text("utf-8"))
    assert record["answers_afterwards"] == fingerprint.answers(exported, (1, 8, 12), CPU)
    assert record["answers_afterwards"] != record["answers"]
    network = load_classifier(files.spec("make"), device=CPU)
    network.load_state_dict(state)
    x = torch.rand(3, 1, 8, 12)
    whole = Normalised(Normalize([0.5], [0.25]), network)
    torch.testing.assert_close(exported(x), whole(x))
    assert "warning" in call("evaluate", "--classifier", files.spec("make"), "--purifier", out, "--data", data, *FEW,
                             "--out", tmp_path / "old").stderr  # fmt: skip


JOINT = ("--set", "heads=2", "--set", "depth=1", "--set", "decoder_depth=1", "--set", "patch=2", "--set", "joint=true")


@pytest.mark.parametrize(("kind", "file"), [("code", "classifier.pt2"), ("script", "classifier.pt")])
def test_so_is_one_that_dir_trained(call: Any, files: Any, tmp_path: Path, kind: str, file: str) -> None:
    """With TorchScript, --mean and --std stay in the next command."""
    spec = files.spec("layered")
    if kind == "script":
        spec = tmp_path / "net.pt"
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated", DeprecationWarning)
            torch.jit.script(load_classifier(files.spec("layered"), device=CPU)).save(spec)
    out = tmp_path / "dir"
    small = ("--width", 8, "--eps", "0.1", "--steps", 1, "--epochs", 1, "--device", "cpu")
    shown = call("train", "dir", "--data", files.npz, "--classifier", spec, *NORMAL, *JOINT, *small, "--out", out)
    command = next_command(shown, files.npz)
    assert command[command.index("--classifier") + 1] == str(out / file)
    assert ("--mean" in command) is (kind == "script")
    assert "warning" not in call(*command, *FEW).stderr


def test_a_folder_is_a_classifier(files: Any, tmp_path: Path, refused: Any) -> None:
    arguments = {"channels": 1, "classes": 2, "width": 2, "hidden": 6, "critic_width": 4}
    network = SmallDRRDN(**arguments).eval()
    from safetensors.torch import save_file

    save_file(network.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"class": "SmallDRRDN", "arguments": arguments}))
    x = torch.rand(3, 1, 28, 28)
    loaded = load_classifier(str(tmp_path), device=CPU, mean=[0.5], std=[0.5])  # it normalises by itself
    assert torch.equal(loaded(x), network(x))
    assert not any(p.requires_grad for p in loaded.parameters())
    for config, message in (
        ({"class": "Sequential", "arguments": {}}, "class out of SmallCNN"),
        ({"class": "SmallDRRDN", "arguments": {**arguments, "width": 3}}, "arguments and weights of a SmallDRRDN"),
        ({"class": "SmallDRRDN", "arguments": {"depth": 3}}, "arguments and weights of a SmallDRRDN"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(ValueError, match=message):
            load_classifier(str(tmp_path), device=CPU)
    with pytest.raises(ValueError, match="expected the folder of a classifier"):
        load_classifier(str(files.rdp), device=CPU)


def test_answers_that_vary_are_not_kept() -> None:
    class Noisy(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.randn(len(x), 3)

    assert fingerprint.answers(Noisy(), (1, 6, 8), CPU) is None
    assert fingerprint.apart([[1.0, 2.0]], [[1.0, 2.01]]) == 0
    assert fingerprint.apart([[1.0, 2.0]], [[1.0, 2.1]]) == pytest.approx(0.1)
    assert fingerprint.apart([[1.0, 2.0]], [[1.0, 2.0, 3.0]]) == float("inf")
    assert fingerprint.apart([[1.0, float("nan")]], [[1.0, 2.0]]) == float("inf")


def test_a_folder_of_an_older_version_goes_on(call: Any, files: Any, tmp_path: Path) -> None:
    data = (
        "--data",
        files.npz,
        "--classifier",
        files.spec("layered"),
        "--device",
        "cpu",
        *TINY,
        "--out",
        tmp_path / "a",
    )
    call("train", "rdp", *data)
    record = json.loads((tmp_path / "a" / "training.json").read_text("utf-8"))
    old = {k: v for k, v in record.items() if k not in (*fingerprint.NOT_COMPARED, fingerprint.ANSWERS)}
    (tmp_path / "a" / "training.json").write_text(json.dumps(old))
    assert "going on" in call("train", "rdp", *data).stdout
    assert isinstance(RDP.from_pretrained(tmp_path / "a"), RDP)
