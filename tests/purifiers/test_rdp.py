"""RDP against the paper: sizes, every loss term, Algorithm 1, noise, both branches."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from art_ext.attacks import feature
from art_ext.nn import FeatureExtractor, seeded
from art_ext.objectives import RDPObjective, Weights
from art_ext.purifiers import RDP
from art_ext.purifiers.rdp import Discriminator
from art_ext.training import Batches, fit

X = torch.rand(6, 1, 8, 12, generator=torch.Generator().manual_seed(0))


def count(*modules: nn.Module) -> int:
    return sum(p.numel() for m in modules for p in m.parameters())


def features() -> nn.Module:
    with seeded(5):
        return nn.Sequential(nn.Conv2d(1, 3, 3, stride=2), nn.ReLU())


def objective(**options: object) -> RDPObjective:
    with seeded(1):
        return RDPObjective(RDP(1, 4, 3, "residual"), features(), steps=3, **options)


def test_sizes_are_those_of_the_papers_family() -> None:
    big, light = RDP(), RDP(block="residual")
    # 23 RRDB of 719,424 parameters, 3 -> 64 with 1,792 and 64 -> 3 with 1,731
    assert count(big.encoder, big.decoder) == 23 * 719_424 + 1_792 + 1_731 == 16_550_275
    # 23 residual blocks of 2 * (64 * 64 * 9 + 64) = 73,856
    assert count(light.encoder, light.decoder) == 23 * 73_856 + 1_792 + 1_731 == 1_702_211
    assert len(big.encoder.trunk) == 12
    assert len(big.decoder.trunk) == 11
    assert len(RDP(1, 4, 5, "residual", encoder_blocks=5).decoder.trunk) == 0


def test_no_skip_from_input_to_output() -> None:
    rdp = RDP(1, 4, 2, "residual")
    nn.init.zeros_(rdp.decoder.conv.weight)
    nn.init.constant_(rdp.decoder.conv.bias, 0.25)
    assert torch.equal(rdp(X), torch.full_like(X, 0.25))


@pytest.mark.parametrize("block", ["rrdb", "residual"])
@pytest.mark.parametrize("fold", [1, 2])
def test_latents_and_images(block: str, fold: int) -> None:
    rdp = RDP(1, 4, 2, block, fold=fold)
    parts = rdp.disentangle(X)
    assert parts.natural_latent.shape == parts.adversarial_latent.shape == (6, 4, 8 // fold, 12 // fold)
    assert parts.purified.shape == parts.reconstructed.shape == parts.without_natural.shape == X.shape
    assert torch.equal(parts.purified, rdp(X))
    rebuilt, _ = rdp.reconstructor(X, rdp.encoder(X))
    assert torch.equal(parts.reconstructed, rebuilt.clamp(0, 1))
    assert not torch.equal(parts.without_natural, parts.reconstructed)
    seen = []
    rdp.reconstructor.register_forward_pre_hook(lambda module, args: seen.append(args[1]))
    natural = rdp.disentangle(X).natural_latent
    assert torch.equal(seen[0], natural)
    assert float(seen[1].mean()) == pytest.approx(float(natural.mean()), abs=0.15 * float(natural.std()))
    assert float(seen[1].std()) == pytest.approx(float(natural.std()), rel=0.15)
    assert not parts.purified.requires_grad


def test_every_term_is_the_papers() -> None:
    o = objective()
    o.eval()
    x_adv = (X + 0.05 * torch.randn_like(X)).clamp(0, 1)
    rdp, f, d = o.purifier, o.features, o.discriminator
    latent, latent_clean = rdp.encoder(x_adv), rdp.encoder(X)
    purified = rdp.decoder(latent)
    rebuilt, _ = rdp.reconstructor(x_adv, latent)

    def l1(a: Tensor, b: Tensor) -> float:
        return float((a - b).abs().sum().detach() / a.numel())

    gap = (d(purified) - d(X)).flatten().tolist()
    expected = {
        "feature": l1(f(purified), f(X)),  # eq. 2
        "pixel": 1e-2 * l1(purified, X),  # eq. 3, alpha_1
        "latent": 1e-1 * l1(latent, latent_clean),  # eq. 4, alpha_2
        "adversarial": 1e-4 * sum(math.log(1 + math.exp(-g)) for g in gap) / 6,  # eq. 5, alpha_3
        "reconstruction_feature": l1(f(rebuilt), f(x_adv)),  # eq. 7
        "reconstruction_pixel": 1e-4 * l1(rebuilt, x_adv),  # eq. 8, beta
    }
    found = {k: v.item() for k, v in o.terms("restorers", X, x_adv, None).items()}
    assert found == pytest.approx(expected, rel=1e-5)
    # Not printed in the paper, the mirror of eq. 5: -log sigmoid(D(x) - D(P(x')))
    mirror = sum(math.log(1 + math.exp(g)) for g in gap) / 6
    assert o.terms("discriminator", X, x_adv, None)["relativistic"].item() == pytest.approx(mirror, rel=1e-5)


def test_terms_by_hand() -> None:
    """Networks that add constants: every norm is a constant."""

    class Add(nn.Module):
        def __init__(self, value: float) -> None:
            super().__init__()
            self.value = nn.Parameter(torch.tensor(value))

        def forward(self, x: Tensor) -> Tensor:
            return x + self.value

    o = objective(weights=Weights(1, 1, 1, 1, 1, 1))
    o.purifier.encoder, o.purifier.decoder, o.features = Add(0.0), Add(0.25), nn.Identity()
    o.purifier.reconstructor.forward = lambda x_adv, natural: (x_adv - 0.125, natural)
    o.discriminator = nn.Sequential(nn.Flatten(), nn.Linear(96, 1, bias=False))
    nn.init.constant_(o.discriminator[1].weight, 1 / 96)  # the mean of the image
    found = {k: v.item() for k, v in o.terms("restorers", X, X + 0.5, None).items()}
    assert found == pytest.approx({
        "feature": 0.75,  # P(x') = x + 0.5 + 0.25
        "pixel": 0.75,
        "latent": 0.5,
        "adversarial": math.log(1 + math.exp(-0.75)),
        "reconstruction_feature": 0.125,
        "reconstruction_pixel": 0.125,
    }, rel=1e-5)  # fmt: skip
    # Each player wants its own images preferred, so the same rise of D(P(x')) pleases one and hurts the other.
    value = o.purifier.decoder.value
    for player, name, sign in (("restorers", "adversarial", -1), ("discriminator", "relativistic", 1)):
        with torch.no_grad():
            low = o.terms(player, X, X + 0.5, None)[name]
            value.add_(0.25)
            assert torch.sign(o.terms(player, X, X + 0.5, None)[name] - low) == sign
            value.sub_(0.25)
    found = o.terms("discriminator", X, X + 0.5, None)["relativistic"].item()
    assert found == pytest.approx(math.log(1 + math.exp(0.75)), rel=1e-5)


@pytest.mark.parametrize("name", ["feature", "pixel", "latent", "adversarial"])
def test_weight_zero_leaves_a_term_out(name: str) -> None:
    assert name not in objective(weights=Weights(**{name: 0.0})).terms("restorers", X, X, None)
    none = objective(weights=Weights(reconstruction=0.0)).terms("restorers", X, X, None)
    assert set(none) == {"feature", "pixel", "latent", "adversarial"}


@pytest.mark.parametrize("shared", [False, True])
def test_the_reconstruction_reaches_the_purifier_only_when_the_latent_is_shared(shared: bool) -> None:
    o = objective(shared_latent=shared)
    terms = o.terms("restorers", X, X, None)
    loss = terms["reconstruction_feature"] + terms["reconstruction_pixel"]
    parameters = list(o.purifier.encoder.parameters())
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True)
    assert all((g is not None) is shared for g in gradients)
    assert all(g is not None for g in torch.autograd.grad(terms["feature"], parameters, allow_unused=True))


def trained(**options: object) -> RDPObjective:
    o = objective(**options)
    for _ in fit(o, Batches(X, batch_size=4), epochs=2):
        pass
    return o


def test_algorithm_1_trains_the_same_purifier_without_the_reconstructor() -> None:
    start, full, without = objective(), trained(), trained(weights=Weights(reconstruction=0.0))
    shared = trained(shared_latent=True)
    for part in ("encoder", "decoder"):
        for name, value in getattr(full.purifier, part).state_dict().items():
            assert torch.equal(value, getattr(without.purifier, part).state_dict()[name])
            assert not torch.equal(value, getattr(start.purifier, part).state_dict()[name])
    reconstructors = full.purifier.reconstructor, without.purifier.reconstructor, start.purifier.reconstructor
    for moved, kept, first in zip(*(r.state_dict().values() for r in reconstructors), strict=True):
        assert torch.equal(kept, first)
        assert not torch.equal(moved, first)
    names = full.purifier.encoder.state_dict()
    assert any(not torch.equal(v, shared.purifier.encoder.state_dict()[k]) for k, v in names.items())


def test_training_leaves_the_feature_extractor_alone() -> None:
    with seeded(5):
        normed = nn.Sequential(nn.Conv2d(1, 3, 3, stride=2), nn.BatchNorm2d(3), nn.Dropout(0.5))
    fresh = copy.deepcopy(normed.state_dict())
    o = objective()
    o.features = normed
    for _ in fit(o, Batches(X, batch_size=4), epochs=2):
        assert all(m.training for m in normed.modules())
    assert all(torch.equal(v, fresh[k]) for k, v in o.features.state_dict().items())  # the running statistics too
    assert all(p.requires_grad and p.grad is None for p in o.features.parameters())
    assert not any(name.startswith("features") for name in o.trained_state())


def test_adversaries_raise_the_feature_distance_inside_the_ball() -> None:
    o = objective(eps=0.1)
    distance = feature(o.features, X)
    x_adv = o.perturb(X, None)
    noise = (X + torch.empty_like(X).uniform_(-0.1, 0.1)).clamp(0, 1)
    assert float((x_adv - X).abs().max()) <= 0.1 + 1e-6
    assert float(x_adv.min()) >= 0
    assert float(x_adv.max()) <= 1
    assert (distance(x_adv) > 1.5 * distance(noise)).all()
    assert not torch.equal(o.perturb(X, None), x_adv)  # a random start
    # Short steps, so that each must lead upwards: long ones leave the original's features in any direction.
    with seeded(3):
        start = objective(eps=0.1, step_size=1e-9).perturb(X, None)
    with seeded(3):
        climbed = objective(eps=0.1, step_size=5e-3).perturb(X, None)
    assert (distance(climbed) > distance(start)).all()


def test_clean_share_spares_about_that_share() -> None:
    x = X[:1].repeat(400, 1, 1, 1)
    spared = (objective(clean_share=0.3).perturb(x, None) == x).flatten(1).all(1)
    assert float(spared.float().mean()) == pytest.approx(0.3, abs=0.08)
    assert not (objective().perturb(x, None) == x).flatten(1).all(1).any()


def test_dynamic_inference() -> None:
    rdp = RDP(1, 4, 2, "residual").requires_grad_(False)
    x = X[:1].repeat(300, 1, 1, 1)
    assert not rdp.stochastic
    rdp.set_noise(0.05, "output")
    assert rdp.stochastic
    noise = rdp.purify(x) - rdp.clean(x)
    assert float(noise.std()) == pytest.approx(0.05, rel=0.03)
    rdp.set_noise(0.05, "input")
    seen = []
    rdp.encoder.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    rdp.purify(torch.full_like(x, 0.5))
    assert float((seen[0] - 0.5).std()) == pytest.approx(0.05, rel=0.03)
    rdp.purify(torch.ones_like(x))
    assert float(seen[1].max()) <= 1  # what the encoder sees stays an image
    assert not rdp.set_noise(0.0).stochastic


def test_own_attack_is_ssp_through_the_purifier() -> None:
    rdp = RDP(1, 4, 2, "residual").requires_grad_(False)
    f = FeatureExtractor(nn.Sequential(features(), nn.Flatten()), "0")
    gradient = rdp.adaptive_attacks(f, X, torch.zeros(6).long())["feature"](0.98 * X)
    x = (0.98 * X).requires_grad_()
    expected = (f(rdp.relaxed(x)) - f(X)).square().flatten(1).mean(1).sum()
    assert torch.allclose(gradient, torch.autograd.grad(expected, x)[0], atol=1e-7)


@pytest.mark.parametrize("size", [8, 28, 32, 128])
def test_the_discriminator_takes_any_size(size: int) -> None:
    d = Discriminator(1, 4)
    assert d(torch.rand(2, 1, size, size + 3)).shape == (2, 1)
    assert sum(isinstance(m, nn.Conv2d) for m in d.modules()) == 5
    assert sum(isinstance(m, nn.Linear) for m in d.modules()) == 1


@pytest.mark.parametrize(
    ("arguments", "got"),
    [
        ({"block": "dense"}, "rrdb, residual; got 'dense'"),
        ({"width": 0}, "width=0"),
        ({"fold": 0}, "fold=0"),
        ({"blocks": 4, "encoder_blocks": 5}, "encoder_blocks=5"),
        ({"noise_std": -0.1}, "got -0.1"),
        ({"noise_std": math.nan}, "got nan"),
        ({"noise_position": "middle"}, "got 'middle'"),
    ],
)
def test_bad_arguments(arguments: dict[str, object], got: str) -> None:
    with pytest.raises(ValueError, match=got):
        RDP(**arguments)


@pytest.mark.parametrize("bad", [{"eps": 0}, {"eps": 16}, {"clean_share": 1.0}])
def test_bad_training_arguments(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        objective(**bad)
    with pytest.raises(ValueError, match="got None"):
        RDP(**RDP.small).stages()
