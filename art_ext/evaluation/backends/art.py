"""Attacks of the Adversarial Robustness Toolbox, run on an ART classifier."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from art_ext.attacks import Averaged
from art_ext.evaluation.backends.entry import PER_GRADIENT, Backend, Entry, climbing, defaults
from art_ext.evaluation.backends.wrapped import Wrapped, check_classes
from art_ext.evaluation.threat import Threat
from art_ext.purifiers import Purifier

NORMS: dict[str, Any] = {"Linf": "inf", "L2": 2, "L1": 1}
RENAMED = {"steps": "max_iter", "step_size": "eps_step"}
BALL = ("FGSM", "PGD", "APGD", "AutoAttack", "Square")
MINIMUM_NORM = ("C&W", "DeepFool", "HopSkipJump")
"""Look for the nearest example at any distance; what lies outside the ball is projected onto it."""
GIVEN = frozenset(
    {"classifier", "estimator", "estimator_orig", "model", "norm", "eps", "targeted", "summary_writer",
     "adv_criterion", "attacks"}
)  # fmt: skip
SQUARE = {"p_init": 0.8, "max_iter": 100}


def _steps(usual: int, starts: int = 1) -> Callable[[Mapping[str, Any]], float]:
    """Cost of an attack of one gradient a step."""

    def cost(p: Mapping[str, Any]) -> float:
        begun = max(1, p.get("num_random_init", p.get("nb_random_init", starts)))
        return PER_GRADIENT * p.get("max_iter", p.get("steps", usual)) * begun

    return cost


def _fgsm_cost(p: Mapping[str, Any]) -> float:
    return PER_GRADIENT * max(1, p.get("num_random_init", 1))


def _square_cost(p: Mapping[str, Any]) -> float:
    return 3.0 * p.get("max_iter", p.get("steps", 100)) * p.get("nb_restarts", 1)  # three passes a query


def _carlini_cost(p: Mapping[str, Any]) -> float:
    return PER_GRADIENT * p.get("max_iter", p.get("steps", 10)) * p.get("binary_search_steps", 10)


def _deepfool_cost(p: Mapping[str, Any]) -> float:
    return PER_GRADIENT * p.get("max_iter", p.get("steps", 100)) * p.get("nb_grads", 10)


def _hopskipjump_cost(p: Mapping[str, Any]) -> float:
    steps, first, most = p.get("max_iter", p.get("steps", 50)), p.get("init_eval", 100), p.get("max_eval", 10000)
    return float(sum(min(first * math.sqrt(k), most) for k in range(1, steps + 1)))


def _every(name: str, norms: tuple[str, ...] = ("Linf", "L2", "L1")) -> dict[str, str]:
    return dict.fromkeys(norms, name)


ENTRIES = {
    "FGSM": Entry(_every("FastGradientMethod"), _fgsm_cost, climbing(1, "cross_entropy")),
    "PGD": Entry(_every("ProjectedGradientDescentPyTorch"), _steps(100), climbing(100, "cross_entropy")),
    "APGD": Entry(_every("AutoProjectedGradientDescent"), _steps(100, starts=5), climbing(100, "cross_entropy")),
    "AutoAttack": Entry(
        _every("AutoAttack"), lambda _: 1500 * PER_GRADIENT, climbing(100, "cross_entropy", "dlr"), targeted=False
    ),
    "Square": Entry(_every("SquareAttack"), _square_cost, black_box=True, targeted=False),
    "C&W": Entry({"Linf": "CarliniLInfMethod", "L2": "CarliniL2Method"}, _carlini_cost, climbing(10, "margin")),
    "DeepFool": Entry(_every("DeepFool", ("Linf", "L2")), _deepfool_cost, climbing(100, "distance"), targeted=False),
    "HopSkipJump": Entry(_every("HopSkipJump", ("Linf", "L2")), _hopskipjump_cost, black_box=True),
}


def versions() -> dict[str, str]:
    """Version of ART."""
    return {"adversarial-robustness-toolbox": version("adversarial-robustness-toolbox")}


def run(
    name: str, module: nn.Module, x: Tensor, y: Tensor, threat: Threat, parameters: Mapping[str, Any],
    goal: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """ART's attack on the module; parameters are ART's own, plus `steps` for `max_iter` and `step_size` for `eps_step`.

    A purifier followed by a classifier becomes a classifier with a preprocessing defence, the way a user has it: the
    gradient then goes through ART's own path. A randomised model that is to be averaged becomes an `EOTClassifier`.

    Raises:
        ValueError: ART has no such attack for the norm, no targeted form of it, cannot do it on images of that shape or
            with so few classes; images on another device than a CPU or CUDA's, or a model elsewhere than its images.
    """
    options = _options(name, threat, parameters, goal is not None)
    if name == "Square":
        _check_square(x, threat, options)
    with _on_device_of(x), torch.enable_grad():
        classifier = estimator(module, x, y)
        _check_losses(name, options, classifier.nb_classes)
        attack = _class(name, threat)(classifier, **options)
        wanted = y if goal is None else goal
        # ART's Square divides by the norm of a square that may hold no change yet, and drops what comes of it.
        with np.errstate(divide="ignore", invalid="ignore") if name == "Square" else nullcontext():
            found = attack.generate(x.detach().cpu().numpy(), wanted.cpu().numpy())
    x_adv = torch.from_numpy(found).to(x)
    if name not in MINIMUM_NORM:
        return x_adv
    nearest = (x + threat.ball.project(x_adv - x, threat.eps)).clamp(0, 1)
    return torch.where(threat.holds(x, x_adv).view(-1, 1, 1, 1), x_adv, nearest)


def stated(name: str, threat: Threat, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Every parameter under ART's names, and `steps` and `step_size` for those that have them."""
    found = {**defaults(_class(name, threat)), **_options(name, threat, parameters, targeted=False)}
    dropped = ("verbose", "norm", "summary_writer", "targeted")
    return {k: v for k, v in found.items() if k not in dropped} | dict(parameters)


def _options(name: str, threat: Threat, parameters: Mapping[str, Any], targeted: bool) -> dict[str, Any]:
    options = {RENAMED.get(k, k): v for k, v in {"batch_size": 256, "verbose": False, **parameters}.items()}
    if name in BALL:
        options["eps"] = threat.eps
        options["norm"] = NORMS[threat.norm] if name == "PGD" else float(NORMS[threat.norm])
    if name == "HopSkipJump":
        options["norm"] = NORMS[threat.norm]
    if name in ("FGSM", "AutoAttack"):
        options.pop("verbose")
    if name == "AutoAttack":
        options["targeted"] = False
    if targeted:
        if not ENTRIES[name].targeted:
            raise ValueError(f"expected an untargeted attack, got ART's {name} with a goal")
        options["targeted"] = True
    return options


def _load(function: str) -> Any:
    from art.attacks import evasion

    return getattr(evasion, function)


def _class(name: str, threat: Threat) -> Any:
    functions = ENTRIES[name].function
    if threat.norm not in functions:
        raise ValueError(f"expected norm {' or '.join(functions)} for ART's {name}, got {threat.norm}")
    return _load(functions[threat.norm])


def _check_square(x: Tensor, threat: Threat, options: Mapping[str, Any]) -> None:
    """ART's Square draws squares that need not fit into an image that is small or far from square."""
    height, width = x.shape[2:]
    side = max(round(math.sqrt(options.get("p_init", SQUARE["p_init"]) * height * width)), 1)
    if threat.norm == "L2":
        side = max(side, 3)
        side += side % 2 == 0
        if height < 10 or 5 * (height // 5) > width:
            raise ValueError(
                f"expected images at least 10 pixels high and as wide as they are high for ART's Square in L2, got "
                f"{height} x {width}: the Square of torchattacks and that of autoattack take others"
            )
    if side >= min(height, width):
        fits = max(min(height, width) - (2.5 if threat.norm == "L2" else 1.5), 0)
        largest = math.floor(1000 * fits**2 / (height * width)) / 1000
        raise ValueError(
            f"expected squares smaller than the image for ART's Square, got a side of {side} on {height} x {width} "
            f"pixels: p_init={largest:g} is small enough, or take another library's Square"
        )


def _check_losses(name: str, options: Mapping[str, Any], classes: int) -> None:
    if name == "APGD" and options.get("loss_type") == "difference_logits_ratio":
        check_classes(classes, 3, "ART's APGD with loss_type difference_logits_ratio")
    if name == "AutoAttack":
        check_classes(classes, 3, "ART's AutoAttack, one of whose losses is a difference of logits ratio")


@contextmanager
def _on_device_of(x: Tensor) -> Iterator[None]:
    """ART calls the current CUDA device "gpu": inside, that is the images' own.

    Raises:
        ValueError: images on neither a CPU nor a CUDA device.
    """
    if x.device.type not in ("cpu", "cuda"):
        raise ValueError(f"expected images on cpu or cuda, which are the devices that ART has, got {x.device}")
    if x.device.type == "cpu":
        yield
        return
    before = torch.cuda.current_device()
    torch.cuda.set_device(x.device)
    try:
        yield
    finally:
        torch.cuda.set_device(before)


def _check_devices(module: nn.Module, x: Tensor) -> None:
    """ART would move a model that is elsewhere to where it works."""
    elsewhere = {t.device for t in (*module.parameters(), *module.buffers())} - {x.device}
    if elsewhere:
        places = ", ".join(sorted(map(str, elsewhere)))
        raise ValueError(f"expected the model on {x.device}, where the images are, got parts of it on {places}")


def estimator(module: nn.Module, x: Tensor, y: Tensor) -> Any:
    """An ART classifier for a module on images in [0, 1]; a leading purifier becomes its preprocessing defence.

    `Averaged` becomes an `EOTClassifier` of the classifier inside it. The classifier is on the device of x, whichever
    that is, and asks the module as a whole, in float32; see `Wrapped`.

    Raises:
        ValueError: a device that ART does not have, or a module elsewhere than x.
    """
    from art.estimators.classification import PyTorchClassifier

    from art_ext.defences import PurifierPreprocessor

    if isinstance(module, Averaged):
        from art_ext.estimators import EOTClassifier

        inner = estimator(module.module, x, y)
        with _on_device_of(x):
            return EOTClassifier(inner, module.eot_samples, module.average, module.at_once)
    _check_devices(module, x)
    device = "cpu" if x.device.type == "cpu" else "gpu"
    defences, model = [], module
    with _on_device_of(x):
        if isinstance(module, nn.Sequential) and len(module) == 2 and isinstance(module[0], Purifier):
            defences = [PurifierPreprocessor(module[0], batch_size=module[0].batch_size, device_type=device)]
            model = module[1]
        with torch.no_grad():
            classes = module(x[:1]).shape[1]
        return PyTorchClassifier(
            Wrapped(model), nn.CrossEntropyLoss(), tuple(x.shape[1:]), classes, clip_values=(0.0, 1.0),
            preprocessing_defences=defences or None, device_type=device,
        )  # fmt: skip


def loss_gradient(classifier: Any, x: Tensor, labels: Any) -> Tensor:
    """ART's `loss_gradient` of a classifier for images in [0, 1], as if its own range and layout were these.

    Args:
        classifier: an ART classifier with clip values.
        x: images (N, C, H, W) in [0, 1].
        labels: one-hot, (N, K).
    """
    from art_ext.defences.view import View

    view = View(classifier.clip_values, classifier.channels_first)
    with torch.inference_mode(False), torch.enable_grad():
        inside = x.detach().requires_grad_()
        outside = view.leave(inside)
        gradient = classifier.loss_gradient(outside.detach().cpu().numpy(), labels)
        return torch.autograd.grad(outside, inside, torch.from_numpy(gradient).to(outside))[0]


BACKEND = Backend(ENTRIES, run, stated, versions, load=_load, given=GIVEN, aliases=RENAMED)
