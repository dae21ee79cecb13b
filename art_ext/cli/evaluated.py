"""The models of an evaluation, from the options of the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from art_ext.cli.terminal import warn
from art_ext.cli.users import Users

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from art_ext.data import Images
    from art_ext.evaluation import Defended

UNDEFENDED, ROBUST = "undefended", "robust baseline"
ROLES = {"classifier": "the classifier", "surrogate": "the surrogate", "robust": "the robust baseline"}
PATTERN = "*?["
"""Characters that make a purifier a pattern of presets' names."""


def models_of(
    specs: dict[str, str | None], purifiers: Sequence[str], method: str | None, found: Images, normal: dict[str, Any],
    bare: bool, users: Users,
) -> tuple[list[Defended], int]:  # fmt: skip
    """What is evaluated, undefended first, and the number of classes; everything has been tried on the images.

    Args:
        specs: of "classifier", "surrogate" and "robust".
        purifiers: specs as `load_purifier` takes them, or patterns of presets' names; each is a model of its own.
        method: of the purifiers' folders.
        found: the images.
        normal: mean, std and device.
        bare: leave out the undefended classifier.
        users: what users' models are noted in.

    Raises:
        ValueError: what does not load or fit, or two purifiers of one name.
    """
    from art_ext.cli.classifiers import load_classifier
    from art_ext.cli.purifiers import load_purifier
    from art_ext.cli.trying import check_classifier, check_purifier
    from art_ext.evaluation import Defended

    purifiers = expanded(purifiers)
    if not purifiers and (bare or specs["surrogate"] is not None):
        raise ValueError("expected --purifier with --surrogate and --no-purifier-baseline, got none")
    where: torch.device = normal["device"]
    x, y = found.x[:3].to(where), found.y
    networks = {role: load_classifier(spec, **normal) for role, spec in specs.items() if spec is not None}
    for role, network in networks.items():
        users.add(ROLES[role], network, specs[role] or "")
    classes = {role: check_classifier(n, x, y, f"--{role}", finite=False) for role, n in networks.items()}
    if len(set(classes.values())) > 1:
        raise ValueError(f"expected models of the same classes, got {classes}")
    trained = is_robust(specs)
    named = _name(specs["classifier"] or "") if trained else UNDEFENDED
    models = [] if bare else [Defended(named, networks["classifier"], robust=trained)]
    for purifier in purifiers:
        cleaner = load_purifier(purifier, device=where, method=method)
        users.add("the purifier", cleaner, purifier)
        check_purifier(cleaner, x)
        models.append(Defended(_name(purifier), networks["classifier"], cleaner, networks.get("surrogate")))
    names = [model.name for model in models]
    if len({*names}) < len(names):
        raise ValueError(f"expected purifiers of different names, got {', '.join(names)}")
    if "robust" in networks and not (trained and specs["robust"] == specs["classifier"]):
        models.append(Defended(ROBUST, networks["robust"], robust=True))
    return models, classes["classifier"]


def warn_of_other_trainings(
    purifiers: Sequence[str], models: Sequence[Defended], found: Images, normal: dict[str, Any]
) -> None:
    """Warns of purifiers that were trained for another classifier than the one behind them.

    Args:
        purifiers: as `models_of` has them.
        models: what it gave.
        found: the images.
        normal: mean, std and device.
    """
    x = found.x[:3].to(normal["device"])
    defended = [model for model in models if model.purifier is not None]
    for spec, model in zip(expanded(purifiers), defended, strict=True):
        _compare(Path(spec), model.classifier, x, normal)
        _compare_preset(spec, model.classifier, x)


def _compare(folder: Path, classifier: nn.Module, x: Tensor, normal: dict[str, Any]) -> None:
    """Warns where a purifier was trained for another classifier than the one behind it, or on images of other sizes."""
    from art_ext.cli.fingerprint import difference
    from art_ext.cli.records import RECORD, json_object

    if not (folder / RECORD).is_file():
        return
    found = difference(json_object(folder / RECORD), classifier, x.shape[1:], normal, normal["device"])
    if found:
        warn(f"{folder} was trained otherwise than it is evaluated: {found}")


def _compare_preset(name: str, classifier: nn.Module, x: Tensor) -> None:
    """Warns where a preset was trained for a classifier that answers otherwise than the one behind it."""
    from art_ext import presets
    from art_ext.cli.fingerprint import answers, apart

    wanted = presets.describe(name).classifier if name in presets.names() and not Path(name).exists() else ""
    if not wanted:
        return
    then, now = (answers(c, x.shape[1:], x.device) for c in (presets.load(wanted).to(x.device), classifier))
    if then is not None and now is not None and apart(then, now) > 0:
        warn(
            f"{name} was trained for the classifier {wanted}, and another one stands behind it: its numbers say little "
            f"about the method. Say --classifier {wanted}, or train one for yours (art-ext train)"
        )


def is_robust(specs: Mapping[str, str | None]) -> bool:
    """Whether --classifier was trained against attacks: a preset of that kind, or named by --robust, too."""
    from art_ext import presets

    spec = specs["classifier"] or ""
    known = spec in presets.names() and not Path(spec).exists() and presets.describe(spec).robust
    return known or specs["robust"] == spec


def _name(spec: str) -> str:
    """For the report: the preset, the folder's name, the function's or the file's."""
    path = Path(spec)
    name = path.resolve().name if path.is_dir() else spec.rpartition(":")[2]
    return f"purifier {name}" if name in (UNDEFENDED, ROBUST) else name


def expanded(purifiers: Sequence[str]) -> list[str]:
    """The purifiers, with each pattern replaced by the presets that it matches, in order, each once.

    Raises:
        ValueError: a pattern that matches no purifier among the presets.
    """
    from art_ext.cli.purifiers import purifier_presets

    found: list[str] = []
    for text in purifiers:
        if any(c in text for c in PATTERN) and ":" not in text and not Path(text).exists():
            there = purifier_presets()
            matched = [name for name in there if fnmatchcase(name, text)]
            if not matched:
                raise ValueError(f"expected a pattern of purifiers' presets ({', '.join(there)}), got {text!r}")
            found += matched
        else:
            found.append(text)
    return list(dict.fromkeys(found))
