"""A preset is its weights and its word for them: altered, missing or pickled weights are refused."""

import importlib
import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from art_ext import presets
from art_ext.classifiers import CLASSIFIERS
from art_ext.presets import CLASSES, FOLDER, catalogue
from art_ext.purifiers import PURIFIERS, RDP

ROOT = Path(__file__).parents[2]
ARGUMENTS = {"channels": 2, "width": 3, "blocks": 3, "block": "residual", "fold": 2, "noise_std": 0.125}
FACTS = {
    "paper": "arXiv:2110.07801",
    "data": 'images of "cats" and \\dogs\\,\nTšernobyl 100 % \U0001f63a',
    "command": "python examples/make_presets.py tiny --layer 'a.b'",
    "training": {"epochs": 3, "learning_rate": 1e-05, "cosine": True, "milestones": [1, 2], "torch": "2.13.0+cpu"},
    "measured": {"n": 10, "clean": 0.9, "pgd40": 0.0, "eps": "8/255"},
}


def made(folder, name="tiny", **changes):
    torch.manual_seed(0)
    module = RDP(**ARGUMENTS)
    return module, presets.save(module, name, **{"arguments": ARGUMENTS, "folder": folder} | FACTS | changes)


def edit(file, old, new):
    text = file.read_text("utf-8")
    assert old in text
    file.write_text(text.replace(old, new), "utf-8")


# --- round trip ---


def test_round_trip(tmp_path):
    module, saved = made(tmp_path)
    assert presets.names(tmp_path) == ["tiny"]
    found = presets.describe("tiny", tmp_path)
    assert found == saved
    assert {k: getattr(found, k) for k in FACTS} == FACTS
    assert (found.name, found.class_name, found.arguments) == ("tiny", "RDP", ARGUMENTS)
    loaded = presets.load("tiny", str(tmp_path))
    assert type(loaded) is RDP
    assert loaded.noise_std == 0.125
    assert not any(m.training for m in loaded.modules())
    assert not any(p.requires_grad for p in loaded.parameters())
    expected = module.state_dict()
    assert all(torch.equal(v, expected.pop(k)) for k, v in loaded.state_dict().items())
    assert not expected
    assert sorted(f.name for f in tmp_path.iterdir()) == ["tiny.safetensors", "tiny.toml"]


@pytest.mark.parametrize("name", sorted(CLASSIFIERS))
def test_every_classifier_can_be_a_preset(tmp_path, name):
    """Buffers of batch normalisation travel with the weights."""
    sizes = {"depth": 10, "widen": 1} if name.startswith("Wide") else {"width": 2}
    arguments = {"channels": 1, "classes": 4} | sizes
    module = CLASSIFIERS[name](**arguments)
    module(torch.rand(4, 1, 32, 32))  # in train mode: the running statistics move
    presets.save(module, "net", arguments=arguments, folder=tmp_path, **FACTS)
    x = torch.rand(3, 1, 32, 32)
    torch.testing.assert_close(presets.load("net", tmp_path)(x), module.eval()(x))


def test_saving_changes_no_module(tmp_path):
    module = RDP(**ARGUMENTS)
    presets.save(module, "tiny", arguments=ARGUMENTS, folder=tmp_path, **FACTS)
    assert module.training
    assert all(p.requires_grad for p in module.parameters())


def test_saved_again_in_place_of_the_old_one(tmp_path):
    made(tmp_path)
    torch.manual_seed(1)
    other = RDP(**ARGUMENTS | {"noise_std": 0.0})
    presets.save(other, "tiny", arguments=ARGUMENTS | {"noise_std": 0.0}, folder=tmp_path, **FACTS)
    loaded = presets.load("tiny", tmp_path)
    assert loaded.noise_std == 0
    assert torch.equal(loaded.decoder.conv.weight, other.decoder.conv.weight)


def test_names_are_those_of_the_descriptions(tmp_path):
    for name in ("b", "a"):
        made(tmp_path, name)
    (tmp_path / "c.safetensors").write_bytes(b"")
    (tmp_path / ".b.toml.x.part").write_bytes(b"")
    assert presets.names(tmp_path) == ["a", "b"]
    assert presets.names(tmp_path / "none") == []


def test_every_method_and_classifier_is_registered():
    assert set(CLASSES.values()) == {*CLASSIFIERS.values(), *PURIFIERS.values()}
    assert all(kind.__name__ == name for name, kind in CLASSES.items())


def accurate(x):
    return lambda network: network(x).argmax(1)


def test_what_half_precision_holds_is_stored_in_it(tmp_path):
    """The file is half as large, and what is loaded is float32 again, bit for bit what was saved."""
    torch.manual_seed(0)
    arguments = {"channels": 1, "classes": 4, "width": 8}
    module, x = CLASSIFIERS["SmallCNN"](**arguments), torch.rand(16, 1, 28, 28)
    made_with = {"arguments": arguments, "folder": tmp_path} | FACTS
    presets.save(module, "whole", **made_with)
    classes = accurate(x)(module.eval())
    module.train()
    assert presets.round_weights(module, accurate(x)) == 1
    assert module.training
    assert torch.equal(accurate(x)(module.eval()), classes)
    presets.save(module, "half", **made_with)
    sizes = {n: (tmp_path / f"{n}.safetensors").stat().st_size for n in ("whole", "half")}
    assert sizes["half"] < 0.6 * sizes["whole"]
    for key, value in presets.load("half", tmp_path).state_dict().items():
        assert value.dtype == module.state_dict()[key].dtype
        assert torch.equal(value, module.state_dict()[key])


def test_weights_are_rounded_tensor_by_tensor_where_an_answer_would_change():
    """Half precision holds 1.0001 as 1: the second class would win no longer."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.Linear(2, 2)).train()
    with torch.no_grad():
        module[1].weight.copy_(torch.tensor([[1.0] * 4, [1.0001] * 4]))
        module[1].bias.copy_(torch.tensor([0.1, 0.1]))
        module[2].weight.copy_(torch.eye(2))
        module[2].bias.copy_(torch.tensor([0.3, 0.3]))
    x = torch.ones(3, 1, 2, 2)
    assert presets.round_weights(module, accurate(x)) == (4 + 2 + 2) / 16
    state = {k: v.tolist() for k, v in module.state_dict().items()}
    assert state["1.weight"] == torch.tensor([[1.0] * 4, [1.0001] * 4]).tolist()
    assert state["1.bias"] == torch.tensor([0.1, 0.1]).half().tolist()
    assert state["2.bias"] == torch.tensor([0.3, 0.3]).half().tolist()
    assert accurate(x)(module).tolist() == [1, 1, 1]
    assert module.training


def test_numbers_beyond_half_precision_are_stored_as_they_are(tmp_path):
    arguments = {"channels": 1, "classes": 4, "width": 2}
    module = CLASSIFIERS["SmallCNN"](**arguments)
    with torch.no_grad():
        for p in module.parameters():
            p.fill_(70000.0)
    presets.save(module, "net", arguments=arguments, folder=tmp_path, **FACTS)
    assert all((p == 70000.0).all() for p in presets.load("net", tmp_path).parameters())


# --- refused ---


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "a\\b", "/x", "", ".", "..", ".hidden", "a\n", "a\x1b[31m", "x|y", "C:x", 3]
)
def test_a_preset_stays_in_its_folder(tmp_path, name):
    folder = tmp_path / "presets"
    with pytest.raises(ValueError, match="expected the name of a preset"):
        made(folder, name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["other", "", "../tiny", "tiny.toml", "TINY "])
@pytest.mark.parametrize("call", [presets.load, presets.describe])
def test_unknown_preset_lists_the_known(tmp_path, call, name):
    made(tmp_path)
    with pytest.raises(ValueError, match="expected a preset out of tiny; got") as caught:
        call(name, tmp_path)
    assert repr(name) in str(caught.value)
    with pytest.raises(ValueError, match="out of none"):
        call(name, tmp_path / "empty")


@pytest.mark.parametrize("where", [0.02, 0.5, 0.999])
def test_one_altered_byte_is_refused(tmp_path, where):
    """In the header, in the middle, in the last tensor."""
    made(tmp_path)
    file = tmp_path / "tiny.safetensors"
    content = bytearray(file.read_bytes())
    content[int(where * len(content))] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"was altered|safetensors file"):
        presets.load("tiny", tmp_path)


def test_altered_tensor_names_both_hashes(tmp_path):
    _, preset = made(tmp_path)
    file = tmp_path / "tiny.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match="was altered") as caught:
        presets.load("tiny", tmp_path)
    assert preset.sha256 in str(caught.value)
    assert str(file) in str(caught.value)


def test_other_valid_weights_are_refused(tmp_path):
    made(tmp_path)
    file = tmp_path / "tiny.safetensors"
    save_file({k: v + 1 for k, v in RDP(**ARGUMENTS).state_dict().items()}, file)
    with pytest.raises(ValueError, match="was altered"):
        presets.load("tiny", tmp_path)


@pytest.mark.parametrize("text", ["a = [", "name = 'tiny'", "\x00", "[" * 5000])
def test_a_damaged_description_is_named(tmp_path, text):
    made(tmp_path)
    (tmp_path / "tiny.toml").write_text(text)
    for call in (presets.describe, presets.load):
        with pytest.raises(ValueError, match=r"expected the description of a preset, got .*tiny\.toml, which is none"):
            call("tiny", tmp_path)


@pytest.mark.parametrize(
    ("old", "new"), [("width = 3", "width = 4"), ("width = 3", "widht = 3"), ("blocks = 3", "blocks = -1")]
)
def test_arguments_of_another_network_are_refused(tmp_path, old, new):
    made(tmp_path)
    edit(tmp_path / "tiny.toml", old, new)
    with pytest.raises(ValueError, match=r"expected arguments and weights of a RDP in 'tiny'"):
        presets.load("tiny", tmp_path)


class Bomb:
    def __reduce__(self):
        return (Path("exploded").touch, ())


@pytest.mark.parametrize("dump", [pickle.dump, torch.save], ids=["pickle", "torch"])
def test_pickle_under_the_name_of_safetensors_is_refused_unread(tmp_path, monkeypatch, dump):
    monkeypatch.chdir(tmp_path)
    made(tmp_path)
    file = tmp_path / "tiny.safetensors"
    with file.open("wb") as opened:
        dump(Bomb(), opened)
    edit(tmp_path / "tiny.toml", presets.describe("tiny", tmp_path).sha256, catalogue._sha256(file))  # its word for it
    with pytest.raises(ValueError, match="expected a safetensors file"):
        presets.load("tiny", tmp_path)
    assert not Path("exploded").exists()


def test_missing_and_truncated_weights(tmp_path):
    made(tmp_path)
    file = tmp_path / "tiny.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(ValueError, match="safetensors file"):
        presets.load("tiny", tmp_path)
    file.write_bytes(b"")
    with pytest.raises(ValueError, match="safetensors file"):
        presets.load("tiny", tmp_path)
    file.unlink()
    with pytest.raises(ValueError, match="no such file"):
        presets.load("tiny", tmp_path)
    assert presets.describe("tiny", tmp_path).name == "tiny"


def test_class_that_nobody_registered(tmp_path):
    with pytest.raises(ValueError, match=r"instance of .*RDP.*got Linear"):
        presets.save(nn.Linear(2, 2), "linear", arguments={}, folder=tmp_path, **FACTS)
    assert not list(tmp_path.iterdir())
    made(tmp_path)
    edit(tmp_path / "tiny.toml", '"RDP"', '"Linear"')
    with pytest.raises(ValueError, match="Linear"):
        presets.load("tiny", tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("arguments", ARGUMENTS | {"encoder_blocks": None}),
        ("measured", {"n": 3, "clean": float("nan")}),
        ("measured", {"n": 3, "pgd": {"eps": 0.1}}),
        ("measured", {"n": 3, "pgd 40": 0.1}),
        ("training", {"optimizer.lr": 0.1}),
        ("training", {"folder": Path("a")}),
        ("data", None),
    ],
    ids=str,
)
def test_what_toml_cannot_hold_is_refused_before_anything_is_written(tmp_path, field, value):
    """The old preset stays whole."""
    _, old = made(tmp_path)
    content = {f.name: f.read_bytes() for f in tmp_path.iterdir()}
    torch.manual_seed(1)
    with pytest.raises((ValueError, TypeError), match=r"expected|JSON"):
        presets.save(RDP(**ARGUMENTS), "tiny", **{"arguments": ARGUMENTS, "folder": tmp_path} | FACTS | {field: value})
    assert {f.name: f.read_bytes() for f in tmp_path.iterdir()} == content
    assert presets.describe("tiny", tmp_path) == old


@pytest.mark.parametrize("facts", [{}, {"paper": "p"}, FACTS | {"more": 1}])
def test_missing_and_unknown_facts_are_refused_before_anything_is_written(tmp_path, facts):
    with pytest.raises(TypeError, match="argument"):
        presets.save(RDP(**ARGUMENTS), "tiny", arguments=ARGUMENTS, folder=tmp_path, **facts)
    assert not list(tmp_path.iterdir())


# --- what ships ---

SHIPPED = presets.names()


def test_presets_ship():
    assert SHIPPED
    assert {f.stem for f in FOLDER.glob("*.safetensors")} == set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_preset_loads_frozen(name):
    module = presets.load(name)
    assert type(module) is CLASSES[presets.describe(name).class_name]
    assert not any(m.training for m in module.modules())
    assert not any(p.requires_grad for p in module.parameters())
    assert all(torch.isfinite(v).all() for v in module.state_dict().values())
    channels = presets.describe(name).arguments["channels"]
    with torch.no_grad():
        out = module(torch.rand(2, channels, *([32, 32] if name.startswith("cifar10") else [28, 28])))
    assert out.shape[0] == 2
    assert torch.isfinite(out).all()


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_preset_tells_where_it_comes_from(name):
    preset = presets.describe(name)
    assert preset.name == name
    assert (FOLDER / f"{name}.safetensors").stat().st_size <= 4 * 2**20  # a DRRDN brings the critic it was trained with
    program, script, *words = preset.command.split()
    assert program == {".py": "python", ".sh": "sh"}[Path(script).suffix]
    assert name in words or name in (ROOT / script).read_text("utf-8")
    assert preset.data
    assert {"seed", "torch", "seconds"} <= preset.training.keys()
    accuracies = {k: v for k, v in preset.measured.items() if k != "n"}
    assert preset.measured["n"] >= 100
    assert "clean" in accuracies
    assert any("pgd" in k for k in accuracies)
    assert all(0 <= v <= 1 for v in accuracies.values())
    assert json.loads(json.dumps(dict(preset.measured))) == preset.measured
    if preset.class_name in {p.__name__ for p in PURIFIERS.values()}:
        assert preset.paper == CLASSES[preset.class_name].paper


@pytest.fixture
def measure(monkeypatch):
    """That of examples/preset_measures.py."""
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    return importlib.import_module("preset_measures").measure


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_preset_measures_what_it_says(name, measure):
    """`measure(...)` of the scripts that made it; another processor may round a few images elsewhere.

    Those for CIFAR-10 need its folder, in ART_EXT_CIFAR10.
    """
    preset, data = presets.describe(name), os.environ.get("ART_EXT_CIFAR10")
    if name.startswith("cifar10") and data is None:
        pytest.skip("expected the folder of CIFAR-10 in ART_EXT_CIFAR10, got none")
    n = preset.measured["n"]
    found = measure(presets.load(name), n, FOLDER, data if name.startswith("cifar10") else None)
    assert found.keys() == preset.measured.keys()
    assert found == pytest.approx(dict(preset.measured), abs=max(2 / n, 0.003))
