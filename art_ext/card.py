"""Model cards: what a saved purifier is, how to load it, and, where that is known, how it was made and measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from art_ext.nn.hashing import sha256

README = "README.md"
MARK = "<!-- Written by art_ext, and again each time the purifier is saved here: delete this line to keep your own. -->"
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Facts:
    """How weights came to be and what was measured of them; what is empty is not known.

    Attributes:
        preset: name of the preset that they are.
        data: what they were trained on.
        classifier: what they were trained for.
        command: what made them.
        licence: of the weights, as the Hugging Face Hub writes it, such as "mit".
        training: settings, by name.
        measured: shares of images, by name, and their number n.
        text: a whole card that was read with the weights, instead of all of these.
    """

    preset: str = ""
    data: str = ""
    classifier: str = ""
    command: str = ""
    licence: str = ""
    training: Mapping[str, Any] = field(default_factory=dict)
    measured: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""


_KNOWN: WeakKeyDictionary[nn.Module, tuple[str, Facts]] = WeakKeyDictionary()
"""Facts of purifiers, each with what they are facts of; nothing is written to the purifiers."""


def note(purifier: nn.Module, facts: Facts) -> None:
    """Keeps facts about a purifier as it is now, for its card; they are forgotten where it changes."""
    _KNOWN[purifier] = (_state(purifier), facts)


def facts_of(purifier: nn.Module) -> Facts:
    """What was noted about a purifier; nothing where its weights or its configuration are others since then."""
    state, facts = _KNOWN.get(purifier, ("", Facts()))
    return facts if state and state == _state(purifier) else Facts()


def _state(purifier: Any) -> str:
    return f"{sha256(purifier.state_dict().values())} {purifier._hub_mixin_config or {}}"


def is_written(file: Path) -> bool:
    """Whether a file is a card that `card` gave, and that nobody has taken over."""
    return file.is_file() and MARK in file.read_text("utf-8", errors="replace")


def card(purifier: Any, **more: Any) -> str:
    """The model card of a purifier, as Markdown with the Hub's metadata in front.

    Args:
        purifier: with `name` and `paper`.
        more: fields of `Facts`, in place of what was noted.

    Raises:
        TypeError: something else.
    """
    facts = replace(facts_of(purifier), **more)
    if facts.text and not more:
        return facts.text
    parts = [_front(facts), MARK, *_what(purifier, facts), *_use(purifier), *_training(facts), *_measured(facts)]
    return "\n\n".join(parts) + "\n"


def _front(facts: Facts) -> str:
    tags = ("adversarial-purification", "adversarial-robustness", "art_ext")
    licence = [f"license: {json.dumps(facts.licence)}"] if facts.licence else []
    return "\n".join(["---", "library_name: art_ext", *licence, "tags:", *(f"- {tag}" for tag in tags), "---"])


def _what(purifier: Any, facts: Facts) -> list[str]:
    kind = type(purifier)
    first = (kind.__doc__ or "").strip().partition("\n")[0]
    rows = [
        f"- Method: {purifier.name}, class `{kind.__module__}.{kind.__qualname__}`",
        f"- Paper: {purifier.paper or 'none'}",
        f"- Licence of the weights: {facts.licence or 'not stated'}",
        f"- Parameters: {sum(p.numel() for p in purifier.parameters()):,}; configuration in `config.json`",
    ]
    rows += [f"- Preset: {facts.preset}"] if facts.preset else []
    head = f"# {facts.preset or kind.__name__}"
    about = "A purifier: images in, cleaned images of the same shape out, before a classifier."
    return [head, " ".join([about, first]).strip(), "\n".join(rows)]


def _use(purifier: Any) -> list[str]:
    kind = type(purifier)
    module = "art_ext.purifiers" if kind.__module__.startswith("art_ext.purifiers.") else kind.__module__
    lines = [
        "```python",
        f"from {module} import {kind.__qualname__.partition('.')[0]}",
        "",
        f'purifier = {kind.__qualname__}.from_pretrained("FOLDER")',
        "```",
    ]
    told = (
        "Images are floats (N, C, H, W) in [0, 1]. `torch.nn.Sequential(purifier, classifier)` is the defended model."
    )
    return ["## Use", "\n".join(lines), told]


def _training(facts: Facts) -> list[str]:
    said = {"Data": facts.data, "Classifier": facts.classifier}
    rows = [f"- {what}: {value}" for what, value in said.items() if value]
    rows += [f"- {key}: {_plain(value)}" for key, value in facts.training.items()]
    command = [f"Made by\n\n```sh\n{facts.command}\n```"] if facts.command else []
    found = ["\n".join(rows)] if rows else []
    return ["## Training", *(found + command or ["Not known: the purifier was saved without it."])]


def _measured(facts: Facts) -> list[str]:
    n = facts.measured.get("n")
    rows = [(key, *_share(value, n)) for key, value in facts.measured.items() if key != "n"]
    if not rows:
        return ["## Measured", "Nothing yet. `art-ext evaluate --purifier FOLDER` attacks it with a classifier."]
    of = f"Shares of {n} images" if isinstance(n, int) else "Shares"
    head = ["| figure | value | 95 % interval |", "|---|---|---|"]
    table = "\n".join([*head, *(f"| {key} | {value} | {interval} |" for key, value, interval in rows)])
    return [
        "## Measured",
        f"{of}, under the names that the making command gives them; intervals are exact (Clopper-Pearson).",
        table,
    ]


def _share(value: Any, n: Any) -> tuple[str, str]:
    """A share of n images and its interval, in percent; anything else as it is."""
    if not isinstance(value, float) or not 0 <= value <= 1:
        return _plain(value), ""
    if not isinstance(n, int) or n < 1:
        return f"{value:.1%}", ""
    from scipy.stats import binomtest

    low, high = binomtest(round(value * n), n).proportion_ci(CONFIDENCE, method="exact")
    return f"{value:.1%}", f"{low:.1%} to {high:.1%}"


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)
