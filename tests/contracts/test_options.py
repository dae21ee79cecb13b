"""Every option of every method's training: it reaches the objectives, and every door to a training takes it.

The table is made from the signatures of `stages`, so that an option which is added there has to be taken everywhere.
"""

from __future__ import annotations

import inspect
import json
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from art.estimators.classification import PyTorchClassifier
from torch import nn
from typer.testing import CliRunner

from art_ext import defences
from art_ext.attacks import NORMS
from art_ext.classifiers import SmallDRRDN
from art_ext.classifiers.drrdn import DRRDN
from art_ext.cli import app
from art_ext.estimators import DRRDNClassifier
from art_ext.objectives import options_of, stages
from art_ext.purifiers import PURIFIERS, Purifier
from art_ext.purifiers.cdvae import ResidualClassifier
from art_ext.training import Objective, made_optimizers

N, C, SIDE, K = 5, 3, 12, 4
X = np.random.default_rng(0).random((N, C, SIDE, SIDE), dtype=np.float32)
Y = np.arange(N) % K
KINDS: dict[str, Any] = {**PURIFIERS, "drrdn": DRRDN}
TABLE = [(name, option) for name, kind in KINDS.items() for option in options_of(kind)]
SMALL = {name: {**kind.small} for name, kind in PURIFIERS.items()}
SMALL["cdvae"] |= {"size": [SIDE, SIDE], "classes": K}
SMALL["drrdn"] = {"channels": C, "classes": K, "width": 2, "hidden": 6, "critic_width": 4}
WHOLE: dict[str, dict[str, Any]] = {"cdvae": {"train_classifier": True, "game": True}}
"""What asks for every stage of a method, where that is not the default."""
TEXTS = {"attack": "pgd", "data": "clean", "variant": "released", "loss": "margin"}
MAPPINGS = {"rdp": {"latent": 0.5}, "drrdn": {"entropy": 0.5}}
NUMBERS = {"radius": 0.05, "step_size": 0.06, "margin": 0.3}
"""For options whose default is None."""
NETWORKS: dict[str, Callable[[], Any]] = {
    "features": nn.Flatten,
    "discriminator": lambda: Critic(),
    "residual_classifier": lambda: ResidualClassifier(C, K, 2, [0.25] * C),
    "enter": lambda: brighter,
}
CODE = "from tests.contracts.test_options import NETWORKS, network\n" + "".join(
    f"{name} = NETWORKS[{name!r}]{'()' if name == 'enter' else ''}\n" for name in NETWORKS
)


def brighter(x: torch.Tensor) -> torch.Tensor:
    return (x + 0.1).clamp(0, 1)


class Critic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(C, 1, 3)

    def forward(self, x: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.layer(x)
        return scores


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(C * SIDE * SIDE, K))


def made(name: str) -> Any:
    torch.manual_seed(0)
    return SmallDRRDN(**SMALL[name]) if name == "drrdn" else PURIFIERS[name](**SMALL[name])


def other(name: str, option: str) -> Any:
    """A value that is not the default, and fits."""
    parameter = options_of(KINDS[name])[option]
    default, annotation = parameter.default, parameter.annotation
    members = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    if option in NETWORKS:
        return NETWORKS[option]()
    if option in TEXTS:
        return TEXTS[option]
    if option == "norm":
        return "L2"
    if option == "weights":
        return MAPPINGS[name]
    if option == "printed":
        return ["entropy"]
    if bool in members:
        return not default if default is not None else False
    if int in members:
        return default + 1
    assert float in members, f"a value for {option} of {name}"
    if default is None:
        return NUMBERS.get(option, 0.07)
    return (0.75 if option == "eps" else 1.5) * default if default else 0.5


NUMBERED = [(n, o) for n, o in TABLE if options_of(KINDS[n])[o].annotation in (int, float, int | None, float | None)]


@pytest.mark.parametrize(("name", "option"), NUMBERED)
def test_what_is_no_number_trains_nothing(name: str, option: str) -> None:
    wrong: list[Any] = [float("nan"), "0.1", True]
    if options_of(KINDS[name])[option].annotation in (int, int | None):
        wrong += [1.5, 0]
    if option.endswith("rate") or option in ("eps", "step_size", "radius"):
        wrong += [-0.1, float("inf")]
    classifier = None if name == "drrdn" else network()
    for value in wrong:
        with pytest.raises((TypeError, ValueError), match=r"expected.*got"):
            stages(made(name), classifier, **{**WHOLE.get(name, {}), option: value})


# --- from the options to the objectives ---


def told(found: list[Objective]) -> list[Any]:
    """What there is to tell apart of stages: kinds, plain attributes, optimisers, and which networks they hold."""
    said: list[Any] = []
    for stage, optimizers in zip(found, made_optimizers(found), strict=True):
        names = [k for k in vars(stage) if k not in vars(nn.Module())]
        values = [(k, getattr(vars(stage)[k], "name", repr(vars(stage)[k]))) for k in names if k != "enter"]
        groups = [{k: v for k, v in g.items() if k != "params"} for o in optimizers.values() for g in o.param_groups]
        players = [len(parameters) for parameters in stage.players().values()]
        inside = [type(m).__name__ for m in stage.modules()]
        said.append(
            (
                type(stage).__name__,
                values,
                groups,
                players,
                inside,
                getattr(stage, "enter", brighter)(torch.from_numpy(X[:1])),
            )
        )
    return said


def given(name: str, option: str) -> dict[str, Any]:
    """All stages but one that the option asks for, and the option."""
    whole = WHOLE.get(name, {})
    return whole | {option: not whole[option] if option in whole else other(name, option)}


def test_every_option_is_in_the_table() -> None:
    assert {name: len(options_of(kind)) for name, kind in KINDS.items() if len(options_of(kind)) > 5}.keys() == {*KINDS}
    assert {"shared_latent", "pixel", "discriminator", "train_classifier", "critic_rate"} <= {o for _, o in TABLE}


@pytest.mark.parametrize(("name", "option"), TABLE)
def test_an_option_makes_other_stages(name: str, option: str) -> None:
    model, classifier = made(name), None if name == "drrdn" else network()
    before, after = (stages(model, classifier, **o) for o in (WHOLE.get(name, {}), given(name, option)))
    assert str(told(before)) != str(told(after))


@pytest.mark.parametrize("name", KINDS)
def test_settings_of_a_method_have_one_meaning(name: str) -> None:
    kind = SmallDRRDN if name == "drrdn" else KINDS[name]
    assert not {*inspect.signature(kind.__init__).parameters} & {*options_of(kind)}


@pytest.mark.parametrize(("name", "option"), TABLE)
def test_an_option_is_documented(name: str, option: str) -> None:
    assert f"        {option}: " in str(stages.dispatch(KINDS[name]).__doc__)


# --- the doors ---


class Arrived(ValueError):
    pass


@pytest.fixture
def arrivals(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What comes to the function of any method; there it ends."""
    honest = {kind: stages.dispatch(kind) for kind in KINDS.values()}
    seen: dict[str, Any] = {}
    for kind, function in honest.items():

        def noted(model: Any, classifier: Any = None, *, function: Any = function, **options: Any) -> Any:
            inspect.signature(function).bind(model, classifier, **options)
            seen.update(options, classifier=classifier)
            raise Arrived("expected to end here, got there")

        noted.__signature__ = inspect.signature(function, eval_str=True)  # type: ignore[attr-defined]
        stages.register(kind, noted)
    yield seen
    for kind, function in honest.items():
        stages.register(kind, function)


def estimator(name: str) -> Any:
    """An ART classifier, defended by the method or, for DRRDN, made of it."""
    options: dict[str, Any] = {"input_shape": (C, SIDE, SIDE), "nb_classes": K, "clip_values": (0, 1)}
    if name == "drrdn":
        return DRRDNClassifier(made(name), nn.CrossEntropyLoss(), **options, device_type="cpu")
    defence = preprocessor(name)
    return PyTorchClassifier(
        network(), nn.CrossEntropyLoss(), **options, preprocessing_defences=defence, device_type="cpu"
    )


CLASSES = {"rdp": "RDP", "cdvae": "CDVAE", "dir": "DIR", "atop": "AToP", "drrdn": "DRRDN"}


def preprocessor(name: str) -> Any:
    small = SMALL[name]
    return getattr(defences, f"{CLASSES[name]}Preprocessor")(**small, device_type="cpu")


def same(found: Any, wanted: Any) -> bool:
    return found is wanted or (type(found) is type(wanted) and isinstance(found, nn.Module)) or found == wanted


@pytest.mark.parametrize(("name", "option"), [row for row in TABLE if row != ("drrdn", "enter")])
def test_trainers_take_it(arrivals: dict[str, Any], name: str, option: str) -> None:
    """But `enter` of DRRDN, which is the classifier's own standardisation."""
    trainer, value, classifier = getattr(defences, f"{CLASSES[name]}Trainer"), other(name, option), estimator(name)
    with pytest.raises(Arrived):
        trainer(classifier, **{option: value})
    assert same(arrivals[option], value)
    defaults = {k: p.default for k, p in inspect.signature(trainer).parameters.items()}
    assert defaults[option] == options_of(KINDS[name])[option].default


@pytest.mark.parametrize(("name", "option"), [row for row in TABLE if row[0] != "drrdn"])
def test_the_trainer_of_any_purifier_and_fit_take_it(arrivals: dict[str, Any], name: str, option: str) -> None:
    value, classifier = other(name, option), network()
    with pytest.raises(Arrived):
        defences.PurifierTrainer(estimator(name), **{option: value})
    assert same(arrivals.pop(option), value)
    with pytest.raises(Arrived):
        preprocessor(name).fit(X, Y, classifier=classifier, **{option: value})
    assert same(arrivals[option], value)
    assert arrivals["classifier"] is classifier
    with pytest.raises(TypeError, match=r"got \['nothing'\]"):
        preprocessor(name).fit(X, Y, classifier=classifier, nothing=1)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("options")
    np.savez(root / "train.npz", x=(255 * X).astype(np.uint8), y=Y)
    (root / "code.py").write_text(CODE)
    return root


def setting(option: str, value: Any) -> str:
    return f"{option}={json.dumps(value)}"


@pytest.mark.parametrize(("name", "option"), TABLE)
def test_the_command_line_takes_it(
    arrivals: dict[str, Any], files: Path, monkeypatch: pytest.MonkeyPatch, name: str, option: str
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    value = other(name, option)
    said = f"{option}={files / 'code.py'}:{option}" if option in NETWORKS else setting(option, value)
    shape = [word for k, v in SMALL[name].items() for word in ("--set", setting(k, v))]
    classifier = [] if name == "drrdn" else ["--classifier", f"{files / 'code.py'}:network"]
    command = ["train", name, "--data", str(files / "train.npz"), *classifier, *shape, "--set", said]
    result = CliRunner().invoke(app, [*command, "--device", "cpu", "--out", str(files / "out")])
    assert result.stderr == "error: expected to end here, got there\n"
    assert same(arrivals[option], value) or getattr(arrivals[option], "__name__", "") == "brighter"


# --- what names mean, and a class of one's own ---


def test_norms_by_name() -> None:
    for name in ("dir", "atop", "cdvae"):
        *_, last = stages(made(name), network(), **WHOLE.get(name, {}), norm="L2", eps=1.5)
        assert last.norm is NORMS["L2"]
        with pytest.raises(ValueError, match="expected norm out of Linf, L2, L1, got 'L3'"):
            stages(made(name), network(), **WHOLE.get(name, {}), norm="L3")


class Own(Purifier):
    name, paper = "own", ""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def purify(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * x

    def stages(self, classifier: nn.Module | None = None, *, target: float = 0.5) -> list[Objective]:  # type: ignore[override]
        return [Towards(self, target)]


class Towards(Objective):
    def __init__(self, purifier: Own, target: float) -> None:
        super().__init__()
        self.purifier, self.target = purifier, target

    def players(self) -> dict[str, list[nn.Parameter]]:
        return {"scale": [self.purifier.scale]}

    def terms(self, player: str, x: Any, x_adv: Any, y: Any) -> dict[str, torch.Tensor]:
        return {"distance": (self.purifier.scale - self.target) ** 2}


class Louder(PURIFIERS["rdp"]):  # type: ignore[misc]
    """One more option than its base, which has the others."""

    def stages(self, classifier: Any = None, *, loudness: float = 1.0, **options: Any) -> list[Objective]:
        found: list[Objective] = super().stages(classifier, **options)
        found[0].loudness = loudness  # type: ignore[assignment]
        return found


def test_a_class_with_stages_of_its_own(monkeypatch: pytest.MonkeyPatch, files: Path, tmp_path: Path) -> None:
    assert [*options_of(Own)] == ["target"]
    (stage,) = stages(Own(), None, target=0.25)
    assert stage.target == 0.25  # type: ignore[comparison-overlap]
    defence = defences.PurifierPreprocessor(Own(), device_type="cpu")
    defence.fit(X, nb_epochs=1, target=2.0)
    assert float(defence.purifier.scale) > 1  # type: ignore[arg-type]
    art = PyTorchClassifier(
        network(), nn.CrossEntropyLoss(), (C, SIDE, SIDE), K, clip_values=(0, 1), device_type="cpu",
        preprocessing_defences=defence,
    )  # fmt: skip
    assert defences.PurifierTrainer(art, target=0.125).stages[0].target == 0.125  # type: ignore[comparison-overlap]
    for call in (lambda: defences.PurifierTrainer(art, eps=1), lambda: defence.fit(X, eps=1)):
        with pytest.raises(TypeError, match=r"options of Own \(target\), got \['eps'\]"):
            call()
    monkeypatch.setitem(PURIFIERS, "own", Own)
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    command = ["train", "own", "--data", str(files / "train.npz"), "--classifier", f"{files / 'code.py'}:network"]
    done = CliRunner().invoke(app, [*command, "--set", "target=2", "--epochs", "1", "--out", str(tmp_path / "own")])
    assert done.exit_code == 0, done.output
    assert float(Own.from_pretrained(tmp_path / "own").scale) > 1


class Foreseen(Own):
    """As a user writes it whose annotations name what is imported for type checkers alone."""

    def __init__(self, start: Start = 1.0) -> None:  # type: ignore[name-defined]  # noqa: F821
        super().__init__()
        self.scale.data.fill_(start)

    def stages(self, classifier: Any = None, *, aim: Aim = 0.5) -> list[Objective]:  # type: ignore  # noqa: F821
        return [Towards(self, aim)]


def test_annotations_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch, files: Path, tmp_path: Path) -> None:
    monkeypatch.setitem(PURIFIERS, "foreseen", Foreseen)
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    command = ["train", "foreseen", "--data", str(files / "train.npz"), "--classifier", f"{files / 'code.py'}:network"]
    command += ["--set", "start=3", "--set", "aim=2", "--epochs", "1", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert 2 < float(Foreseen.from_pretrained(tmp_path / "out").scale) < 3


def test_a_class_that_passes_options_on() -> None:
    assert {*options_of(Louder)} == {"loudness", *options_of(PURIFIERS["rdp"])}
    (stage,) = Louder(**SMALL["rdp"]).stages(network(), loudness=2.0, shared_latent=True)
    assert (stage.loudness, stage.shared_latent) == (2.0, True)


def test_a_class_without_training_has_no_options() -> None:
    class Still(Purifier):
        name, paper = "still", ""

        def purify(self, x: torch.Tensor) -> torch.Tensor:
            return x

    assert stages(Still()) == Still().stages() == []
    for call in (lambda: stages(Still(), eps=1), lambda: Still().stages(eps=1)):
        with pytest.raises(TypeError, match=r"\(none\), got \['eps'\]"):
            call()
    with pytest.raises(TypeError, match="expected a purifier or a DRRDN to train, got Flatten"):
        stages(nn.Flatten())
