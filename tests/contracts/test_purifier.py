"""What every registered purifier promises; a new method is covered by its entry in PURIFIERS and its `small`."""

from __future__ import annotations

import copy
import json
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from art_ext.attacks import ascent, cross_entropy
from art_ext.images import OutsideRangeWarning
from art_ext.nn import seeded
from art_ext.purifiers import PURIFIERS, Purifier
from art_ext.training import Batches, fit

SHAPE = (5, 3, 8, 12)


class Rounding(Purifier):
    """Without gradients, to hold the contract of BPDA."""

    name = "rounding"
    paper = ""
    differentiable = False

    def purify(self, x: Tensor) -> Tensor:
        return (x * 4).round() / 4


class Tripling(Purifier):
    """Leaves [0, 1] on purpose, to hold the contract of the clamp."""

    name = "tripling"
    paper = ""

    def purify(self, x: Tensor) -> Tensor:
        return 3 * x - 1


class Noisy(Purifier):
    """Draws at every call, to hold the contract of randomised defences."""

    name = "noisy"
    paper = ""
    stochastic = True

    def purify(self, x: Tensor) -> Tensor:
        return x + 0.1 * torch.randn_like(x)


@pytest.fixture(params=[*PURIFIERS.values(), Rounding, Tripling, Noisy], ids=lambda p: p.name)
def purifier(request: pytest.FixtureRequest) -> Purifier:
    return request.param(**request.param.small).eval()


@pytest.fixture
def x() -> Tensor:
    return torch.rand(SHAPE)


def test_says_what_it_is(purifier: Purifier) -> None:
    assert purifier.name
    assert isinstance(purifier.paper, str)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_same_shape_range_dtype_and_device(purifier: Purifier, x: Tensor, dtype: torch.dtype) -> None:
    out = purifier(x.to(dtype)).detach()
    assert (out.shape, out.dtype, out.device) == (x.shape, dtype, x.device)
    assert float(out.min()) >= 0
    assert float(out.max()) <= 1


def test_pieces_make_the_whole_and_no_call_is_larger(purifier: Purifier, x: Tensor) -> None:
    sizes = []
    inner = purifier.purify
    purifier.purify = lambda v: (sizes.append(len(v)), inner(v))[1]  # type: ignore[method-assign]
    with seeded(0):
        whole = purifier(x)
    purifier.batch_size = 2
    with seeded(0):
        pieces = purifier(x)
    assert sizes == [5, 2, 2, 1]
    if not purifier.stochastic:
        assert torch.allclose(whole, pieces, atol=1e-6)


def test_samples_do_not_mix(purifier: Purifier, x: Tensor) -> None:
    if not purifier.stochastic:
        singles = torch.cat([purifier(x[i : i + 1]) for i in range(len(x))])
        assert torch.allclose(purifier(x), singles, atol=1e-6)
    x = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(purifier(x)[2].sum(), x)
    assert gradient[[0, 1, 3, 4]].abs().max() == 0


def test_the_gradient_reaches_every_image(purifier: Purifier, x: Tensor) -> None:
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(288, 4))
    y = torch.arange(5) % 4
    for view in (purifier, purifier.relaxed, purifier.approximate):
        gradient = ascent(cross_entropy(lambda v, view=view: classifier(view(v)), y))(x)
        assert (gradient.flatten(1).abs().amax(1) > 0).all()
    assert all(p.grad is None for p in purifier.parameters())


def test_relaxed_and_approximate_have_the_values_of_forward(purifier: Purifier, x: Tensor) -> None:
    with seeded(1):
        expected = purifier(x)
    for view in (purifier.relaxed, purifier.approximate):
        with seeded(1):
            assert torch.equal(view(x), expected)


def test_the_clamp_stops_the_gradient_in_forward_alone() -> None:
    x = torch.tensor([0.1, 0.5, 0.9]).view(1, 1, 1, 3).requires_grad_()
    tripling = Tripling()
    assert torch.autograd.grad(tripling(x).sum(), x)[0].flatten().tolist() == [0, 3, 0]
    assert torch.autograd.grad(tripling.relaxed(x).sum(), x)[0].flatten().tolist() == [3, 3, 3]
    assert torch.autograd.grad(tripling.approximate(x).sum(), x)[0].flatten().tolist() == [1, 1, 1]


def test_leaves_no_trace(purifier: Purifier, x: Tensor) -> None:
    purifier.train()
    before = {k: v.clone() for k, v in purifier.state_dict().items()}
    given = x.clone()
    purifier(x)
    assert purifier.training
    assert torch.equal(x, given)
    assert all(torch.equal(v, before[k]) for k, v in purifier.state_dict().items())


def test_draws_from_the_ambient_generator_if_at_all(purifier: Purifier, x: Tensor) -> None:
    torch.manual_seed(4)
    before = torch.get_rng_state()
    first = purifier(x)
    assert torch.equal(torch.get_rng_state(), before) is not purifier.stochastic
    torch.manual_seed(4)
    assert torch.equal(purifier(x), first)


def test_stochastic_tells_the_truth(purifier: Purifier, x: Tensor) -> None:
    assert purifier.stochastic is not torch.equal(purifier(x), purifier(x))


def test_no_images(purifier: Purifier) -> None:
    assert purifier(torch.rand(0, 3, 8, 12)).shape == (0, 3, 8, 12)


@pytest.mark.parametrize(
    ("bad", "error", "got"),
    [
        (torch.rand(3, 8, 12), ValueError, r"N, C, H, W.*got shape \(3, 8, 12\)"),
        (torch.zeros(SHAPE, dtype=torch.uint8), TypeError, "expected floating-point.*got torch.uint8"),
        ([[0.5]], TypeError, "expected images as a torch tensor, got list"),
    ],
)
def test_bad_images(purifier: Purifier, bad: object, error: type[Exception], got: str) -> None:
    for view in (purifier, purifier.relaxed, purifier.approximate):
        with pytest.raises(error, match=got):
            view(bad)


def outside(x: Tensor) -> Tensor:
    return 1.5 * x - 0.25


def test_what_lies_outside_is_clamped_straight_through_and_said_once(purifier: Purifier, x: Tensor) -> None:
    x = outside(x)
    x.view(-1)[:2] = torch.tensor([-0.25, 1.25])
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for view in (purifier, purifier.relaxed, purifier.approximate):
            with seeded(0):
                found = view(x)
            with seeded(0):
                assert torch.equal(found, view(x.clamp(0, 1)))
    (one,) = said
    assert one.category is OutsideRangeWarning
    assert f"got values in [-0.25, 1.25]; clamped for {purifier.name!r}" in str(one.message)


@pytest.mark.filterwarnings("ignore::art_ext.images.OutsideRangeWarning")
def test_a_pixel_outside_still_tells_the_way(purifier: Purifier, x: Tensor) -> None:
    mask = torch.rand(SHAPE)
    for view in (purifier.relaxed, purifier.approximate):

        def gradient(v: Tensor, view: Callable[[Tensor], Tensor] = view) -> Tensor:
            v = v.clone().requires_grad_()
            with seeded(0):
                return torch.autograd.grad((view(v) * mask).sum(), v)[0]

        assert torch.equal(gradient(outside(x)), gradient(outside(x).clamp(0, 1)))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_an_image_that_is_not_finite_stays_so_and_spoils_no_other(purifier: Purifier, x: Tensor, bad: float) -> None:
    broken = x.clone()
    broken[1, 0, 2, 3] = bad
    for view in (purifier, purifier.relaxed, purifier.approximate):
        with seeded(0):
            found = view(broken)
        with seeded(0):
            expected = view(x)
        assert found[1].isnan().all()
        if not purifier.stochastic:
            assert torch.allclose(found[[0, 2, 3, 4]], expected[[0, 2, 3, 4]], atol=1e-6)
        assert found[[0, 2, 3, 4]].isfinite().all()


def test_wrong_channels(purifier: Purifier) -> None:
    if purifier.channels is None:
        pytest.skip("takes any number of channels")
    with pytest.raises(ValueError, match=r"expected images with 3 channel\(s\), got shape \(2, 1, 8, 12\)"):
        purifier(torch.rand(2, 1, 8, 12))


def test_saved_and_loaded_bit_for_bit(purifier: Purifier, x: Tensor, tmp_path: Path) -> None:
    if not list(purifier.parameters()):
        pytest.skip("nothing to save")
    purifier.save_pretrained(tmp_path)
    loaded = type(purifier).from_pretrained(tmp_path)
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())
    with seeded(0):
        expected = purifier(x)
    with seeded(0):
        assert torch.equal(loaded(x), expected)
    config = json.loads((tmp_path / "config.json").read_text())
    assert {k: config[k] for k in purifier.small} == purifier.small
    assert type(purifier)(**config).state_dict().keys() == purifier.state_dict().keys()


def test_loads_with_what_older_hub_libraries_hand_over(purifier: Purifier, x: Tensor, tmp_path: Path) -> None:
    if not list(purifier.parameters()):
        pytest.skip("nothing to save")
    purifier.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    hub = dict.fromkeys(("revision", "cache_dir", "force_download", "local_files_only", "token"))
    older = dict.fromkeys(("proxies", "resume_download"))  # huggingface_hub 0.x
    loaded = type(purifier)._from_pretrained(model_id=str(tmp_path), **hub, **older, **config)
    with seeded(0):
        expected = purifier(x)
    with seeded(0):
        assert torch.equal(loaded(x), expected)


def test_every_stage_trains_it_and_returns_the_classifier_as_it_was(purifier: Purifier, x: Tensor) -> None:
    classifier = nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Dropout(), nn.Linear(120, 4))
    given = copy.deepcopy(classifier.state_dict())
    for objective in purifier.stages(classifier):
        before = copy.deepcopy(purifier.state_dict())
        for step in fit(objective, Batches(x, torch.arange(5) % 4, batch_size=3), epochs=1):
            assert set(step.terms)
            assert all(p.grad is None and p.requires_grad for p in classifier.parameters())
            assert all(m.training for m in classifier.modules())
        assert any(not torch.equal(v, before[k]) for k, v in purifier.state_dict().items())
    assert all(torch.equal(v, given[k]) for k, v in classifier.state_dict().items())


def test_adaptive_attacks_are_gradients(purifier: Purifier, x: Tensor) -> None:
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(288, 4)).eval()
    purifier.requires_grad_(False)
    for name, gradient in purifier.adaptive_attacks(classifier, x, torch.arange(5) % 4).items():
        for start in (0.98 * x, (0.98 * x).repeat(2, 1, 1, 1)):  # copies, as `eot` makes them
            direction = gradient(start)
            assert direction.shape == start.shape, name
            assert not direction.requires_grad
            assert (direction.flatten(1).abs().amax(1) > 0).all(), name
    assert all(p.grad is None for p in classifier.parameters())


def test_a_pickle_is_refused(purifier: Purifier, tmp_path: Path) -> None:
    if not list(purifier.parameters()):
        pytest.skip("nothing to save")
    purifier.save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    torch.save(purifier.state_dict(), weights)
    with pytest.raises(ValueError, match="expected a safetensors file"):
        type(purifier).from_pretrained(tmp_path)
    weights.rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="got no such file"):
        type(purifier).from_pretrained(tmp_path)


def test_a_folder_that_is_not_there(purifier: Purifier) -> None:
    with pytest.raises(ValueError, match="no such folder"):
        type(purifier).from_pretrained("runs/not_there")


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["copy", "pickle"])
def test_copies(purifier: Purifier, x: Tensor, copier: object) -> None:
    twin = copier(purifier)
    with seeded(0):
        expected = purifier(x)
    with seeded(0):
        assert torch.equal(twin(x), expected)
