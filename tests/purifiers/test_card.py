"""Model cards say what is known, and nothing of weights that are others by now."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from torch import Tensor

from art_ext import presets
from art_ext.card import MARK, Facts, card, facts_of, note
from art_ext.evaluation.statistics import clopper_pearson
from art_ext.purifiers import CDVAE, DIR, PURIFIERS, RDP, Purifier

FILES = {"README.md", "config.json", "model.safetensors"}


@pytest.mark.parametrize("name", PURIFIERS)
def test_three_files_and_a_card_that_loads_it(name: str, tmp_path: Path) -> None:
    purifier = PURIFIERS[name](**PURIFIERS[name].small)
    purifier.save_pretrained(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == FILES
    text = (tmp_path / "README.md").read_text("utf-8")
    for said in (
        f"- Method: {name}, ",
        f"- Paper: {purifier.paper}",
        "Licence of the weights: not stated",
        "Not known",
    ):
        assert said in text
    assert "pushed" not in text
    assert "More Information Needed" not in text
    assert ModelCard(text).data.to_dict()["library_name"] == "art_ext"
    (block,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    names: dict[str, Any] = {}
    exec(block.replace("FOLDER", str(tmp_path)), names)
    assert all(torch.equal(v, purifier.state_dict()[k]) for k, v in names["purifier"].state_dict().items())


@pytest.mark.parametrize("name", [n for n in presets.names() if presets.describe(n).class_name in ("RDP", "DIR")])
def test_the_card_of_a_preset_has_its_facts(name: str, tmp_path: Path) -> None:
    preset = presets.describe(name)
    presets.load(name).save_pretrained(tmp_path)  # type: ignore[operator]
    text = (tmp_path / "README.md").read_text("utf-8")
    for said in (f"# {name}\n", preset.data, preset.command, "license: mit", f"- seed: {preset.training['seed']}"):
        assert said in text
    n = preset.measured["n"]
    assert f"Shares of {n} images" in text
    for figure, share in preset.measured.items():
        if figure != "n":
            found = clopper_pearson(round(share * n), n)
            assert f"| {figure} | {share:.1%} | {found.low:.1%} to {found.high:.1%} |" in text


def test_facts_stay_with_what_they_are_facts_of(tmp_path: Path) -> None:
    presets.load("fashion_mnist_rdp").save_pretrained(tmp_path / "a")  # type: ignore[operator]
    loaded = RDP.from_pretrained(tmp_path / "a")
    loaded.save_pretrained(tmp_path / "b")
    first, second = ((tmp_path / folder / "README.md").read_text("utf-8") for folder in "ab")
    assert first == second
    loaded.set_noise(0.1).save_pretrained(tmp_path / "b")
    assert "Not known" in (tmp_path / "b" / "README.md").read_text("utf-8")
    trained = RDP.from_pretrained(tmp_path / "a")
    next(trained.parameters()).data.add_(1)
    assert facts_of(trained) == Facts()
    trained.save_pretrained(tmp_path / "b")
    assert "86.7%" not in (tmp_path / "b" / "README.md").read_text("utf-8")


def test_a_card_of_the_owner_stays(tmp_path: Path) -> None:
    purifier = RDP(**RDP.small)
    purifier.save_pretrained(tmp_path)
    own = (tmp_path / "README.md").read_text("utf-8").replace(MARK, "") + "Mine.\n"
    (tmp_path / "README.md").write_text(own, "utf-8")
    purifier.save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text("utf-8") == own
    assert facts_of(RDP.from_pretrained(tmp_path)) == Facts()  # what it says is not taken for true elsewhere


def test_facts_of_the_caller(tmp_path: Path) -> None:
    purifier = RDP(**RDP.small)
    purifier.save_pretrained(tmp_path, model_card_kwargs={"data": "cats", "measured": {"clean": 0.5, "images": 3}})
    text = (tmp_path / "README.md").read_text("utf-8")
    assert "- Data: cats" in text
    assert "| clean | 50.0% |  |" in text
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(TypeError, match="datta"):
        purifier.save_pretrained(tmp_path, model_card_kwargs={"datta": "cats"})
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before
    note(purifier, Facts(command="sh make.sh"))
    assert "sh make.sh" in card(purifier)
    assert "sh make.sh" in card(purifier, data="dogs")


class Bare(Purifier):
    """Without arguments or weights."""

    name = "bare"
    paper = ""

    def purify(self, x: Tensor) -> Tensor:
        return x


def test_a_purifier_without_arguments_has_a_configuration_too(tmp_path: Path) -> None:
    Bare().save_pretrained(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == FILES
    assert (tmp_path / "config.json").read_text("utf-8") == "{}"
    assert isinstance(Bare.from_pretrained(tmp_path), Bare)
    assert "- Paper: none" in (tmp_path / "README.md").read_text("utf-8")


@dataclass
class Configuration:
    channels: Any = 1


@pytest.mark.parametrize("config", [{"channels": np.int64(1)}, Configuration(np.int64(1))])
def test_a_configuration_that_is_given_is_plain_too(config: Any, tmp_path: Path) -> None:
    Bare().save_pretrained(tmp_path, config=config)
    assert (tmp_path / "config.json").read_text("utf-8").split() == ["{", '"channels":', "1", "}"]


@pytest.mark.parametrize("number", [np.int64, np.int8, torch.tensor], ids=["int64", "int8", "tensor"])
@pytest.mark.parametrize("kind", [RDP, DIR, CDVAE])
def test_numbers_of_any_library(kind: type[Purifier], number: Any, tmp_path: Path) -> None:
    kind(**kind.small | {"channels": number(3)}).save_pretrained(tmp_path)
    assert '"channels": 3' in (tmp_path / "config.json").read_text("utf-8")
    assert kind.from_pretrained(tmp_path).channels == 3
