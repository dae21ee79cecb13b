"""Reference classifiers: sizes of the literature, any small image, and training, clean and adversarial."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from art_ext.attacks import Linf, ascent
from art_ext.classifiers import (
    CLASSIFIERS,
    VGG,
    ClassifierObjective,
    PreActResNet,
    ResNet18,
    SmallCNN,
    TradesObjective,
    WideResNet,
    n_fgsm,
)
from art_ext.nn import FeatureExtractor, seeded
from art_ext.training import Batches, fit

SMALL = {
    "SmallCNN": {"width": 4},
    "ResNet18": {"width": 4},
    "PreActResNet": {"width": 4, "blocks": 1},
    "WideResNet": {"depth": 10, "widen": 1},
    "VGG": {"width": 4},
    "SmallDRRDN": {"width": 4},
    "WideDRRDN": {"depth": 10, "widen": 1},
    "PreActDRRDN": {"width": 4, "hidden": 6, "critic_width": 4},
}


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_sizes_of_the_literature() -> None:
    with torch.device("meta"):
        assert count(ResNet18(3, 10)) == 11_173_962
        # Of PreActResNet-18: 11,159,232 in convolutions, 7,808 in batch normalisation, 5,130 in the last layer
        assert count(PreActResNet(3, 10)) == 11_172_170
        # stem 864, stages 18,432 + 57,344 + 229,376 + 917,504, normalisation 1,984, last layer 2,570
        assert count(PreActResNet(3, 10, 32, 1)) == 1_228_074
        assert count(WideResNet(3, 10)) == 36_479_194  # WRN-28-10


@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.parametrize("size", [28, 32])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_to_logits(name: str, size: int, channels: int) -> None:
    model = CLASSIFIERS[name](channels, 7, **SMALL[name]).eval()
    x = torch.rand(3, channels, size, size)
    logits = model(x)
    assert logits.shape == (3, 7)
    assert torch.allclose(logits[:1], model(x[:1]), atol=1e-5)


def test_normalisation_happens_inside() -> None:
    with seeded(0):
        plain = ResNet18(3, 10, 4).eval()
    with seeded(0):
        inside = ResNet18(3, 10, 4, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4)).eval()
    x = torch.rand(2, 3, 8, 8)
    scaled = (x - torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)) / torch.tensor([0.2, 0.3, 0.4]).view(3, 1, 1)
    assert torch.allclose(inside(x), plain(scaled), atol=1e-5)


def test_vgg_names_its_layers_as_vgg16() -> None:
    features = FeatureExtractor(VGG(1, 10, 4).eval(), "features.relu3_3")
    assert features(torch.rand(2, 1, 28, 28)).shape == (2, 16, 7, 7)


@pytest.mark.parametrize("depth", [9, 27, 4])
def test_wide_resnet_depths(depth: int) -> None:
    with pytest.raises(ValueError, match=f"got {depth}"):
        WideResNet(depth=depth)


def test_a_stage_has_a_block() -> None:
    with pytest.raises(ValueError, match="at least 1 block a stage, got 0"):
        PreActResNet(blocks=0)


def test_the_original_small_cnn_has_the_parameters_of_trades() -> None:
    model = SmallCNN(original=True)
    # 9 * (1 * 32 + 32 * 32 + 32 * 64 + 64 * 64) weights and 32 + 32 + 64 + 64 biases of the convolutions, then
    # 64 * 4 * 4 * 200 + 200, 200 * 200 + 200 and 200 * 10 + 10
    assert sum(p.numel() for p in model.parameters()) == 64800 + 192 + 205000 + 40200 + 2010
    assert model(torch.rand(2, 1, 28, 28)).shape == (2, 10)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    with pytest.raises(ValueError, match=r"28x28 pixels.*got \(32, 32\)"):
        model(torch.rand(2, 1, 32, 32))


def test_it_learns() -> None:
    x = torch.rand(64, 1, 12, 12)
    y = (x[..., :6].mean((1, 2, 3)) > x[..., 6:].mean((1, 2, 3))).long()
    x[y == 1, ..., :6] += 0.3
    x = x.clamp(0, 1)
    model = SmallCNN(1, 2, 4, hidden=16)
    objective = ClassifierObjective(model)
    optimizers = {"classifier": torch.optim.Adam(model.parameters(), 0.01)}
    losses = [
        s.terms["classifier/cross_entropy"]
        for s in fit(objective, Batches(x, y, batch_size=32), epochs=10, optimizers=optimizers)
    ]
    assert losses[-1] < 0.3 < losses[0]


def test_the_classifier_learns_from_the_adversaries() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False))
    nn.init.zeros_(model[1].weight)
    model[1].weight.data[1] = 1.0
    x, y = torch.zeros(1, 1, 2, 2), torch.tensor([0])
    # Logits (0, 4 * 0.5) of x_adv: log(1 + e^2) = 2.126928; those of x are equal, log 2. Smoothed by 0.2, the share of
    # class 1 is 0.1: 0.9 * 2.126928 + 0.1 * 0.126928 = 1.926928
    for smoothing, expected in ((0.0, 2.126928), (0.2, 1.926928)):
        objective = ClassifierObjective(model, eps=0.5, smoothing=smoothing)
        terms = objective.terms("classifier", x, x + 0.5, y)
        assert terms["cross_entropy"].item() == pytest.approx(expected, abs=1e-5)


def test_adversarial_training_attacks_in_eval_mode_inside_the_ball() -> None:
    model = SmallCNN(1, 3, 4, hidden=16).train()
    modes = []
    model.register_forward_pre_hook(lambda module, args: modes.append(module.training))
    x, y = torch.rand(6, 1, 12, 12), torch.arange(6) % 3
    x_adv = ClassifierObjective(model, eps=0.1, steps=2).perturb(x, y)
    assert modes == [False, False]
    assert model.training
    assert 0.05 < float((x_adv - x).abs().max()) <= 0.1 + 1e-6
    with seeded(0):
        start = ClassifierObjective(model, eps=0.1, steps=1, step_size=0.0).perturb(x, y)
    with seeded(0):
        moved = ClassifierObjective(model, eps=0.1, steps=1, step_size=0.01).perturb(x, y)
    assert float((moved - start).abs().max()) == pytest.approx(0.01, rel=1e-3)
    assert ClassifierObjective(model).perturb(x, y) is x
    with pytest.raises(ValueError, match="expected labels"):
        ClassifierObjective(model).terms("classifier", x, x, None)


# --- N-FGSM ---


def test_n_fgsm_by_hand() -> None:
    """A step of eps from the noisy start, outside the ball of eps and inside the box."""
    x = torch.tensor([0.5, 0.5, 0.01, 0.98]).view(1, 1, 2, 2)
    slopes = torch.tensor([2.0, -0.5, -1.0, 3.0]).view(1, 1, 2, 2)
    seen = []

    class Noise(Linf):
        def sample(self, like: torch.Tensor, eps: float) -> torch.Tensor:
            assert eps == pytest.approx(0.2)
            return torch.tensor([0.15, 0.15, -0.2, 0.2]).view(1, 1, 2, 2)

    def loss(v: torch.Tensor) -> torch.Tensor:
        seen.append(v.detach())
        return (slopes * v).flatten(1).sum(1)

    x_adv = n_fgsm(ascent(loss), x, eps=0.1, norm=Noise(), noise=2.0)
    assert len(seen) == 1
    # Starts 0.65, 0.65, -0.19 -> 0, 1.18 -> 1; then + - - + 0.1 in the direction of each slope, clamped again
    assert torch.allclose(seen[0].flatten(), torch.tensor([0.65, 0.65, 0.0, 1.0]))
    assert torch.allclose(x_adv.flatten(), torch.tensor([0.75, 0.55, 0.0, 1.0]))
    half = n_fgsm(ascent(loss), x, eps=0.1, norm=Noise(), step_size=0.05)
    assert torch.allclose(half.flatten(), torch.tensor([0.70, 0.60, 0.0, 1.0]))


@pytest.mark.parametrize("noise", [0.0, 1.0, 2.0])
def test_n_fgsm_starts_anywhere_within_its_noise(noise: float) -> None:
    model = half_linear()
    x, y = torch.full((500, 1, 2, 2), 0.5), torch.zeros(500, dtype=torch.long)
    with seeded(0):
        x_adv = ClassifierObjective(model, eps=0.1, attack="n-fgsm", noise=noise).perturb(x, y)
    start = x_adv - 0.1 - x  # the loss of class 0 rises with every pixel
    assert float(start.abs().max()) <= noise * 0.1 + 1e-6
    assert float(start.max()) == pytest.approx(noise * 0.1, abs=0.001)
    assert float(start.min()) == pytest.approx(-noise * 0.1, abs=0.001)
    assert float(start.std()) == pytest.approx(noise * 0.1 / 3**0.5, abs=0.005)  # of a uniform draw


def test_n_fgsm_is_one_pass_in_eval_mode_with_its_step_size() -> None:
    model = SmallCNN(1, 3, 4, hidden=16).train()
    modes = []
    model.register_forward_pre_hook(lambda module, args: modes.append(module.training))
    x, y = torch.rand(6, 1, 12, 12) * 0.2 + 0.4, torch.arange(6) % 3
    objective = ClassifierObjective(model, eps=0.1, attack="n-fgsm", noise=0.0, steps=7, step_size=0.03)
    moved = (objective.perturb(x, y) - x).abs()
    assert modes == [False]
    assert model.training
    assert float(moved.max()) == pytest.approx(0.03, abs=1e-6)
    assert ClassifierObjective(model, attack="n-fgsm").perturb(x, y) is x


def test_another_attack_or_impossible_noise_is_refused() -> None:
    with pytest.raises(ValueError, match="expected attack 'pgd' or 'n-fgsm', got 'fgsm'"):
        ClassifierObjective(half_linear(), eps=0.1, attack="fgsm")
    for noise in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="expected noise >= 0, got"):
            ClassifierObjective(half_linear(), eps=0.1, attack="n-fgsm", noise=noise)


def test_half_precision_logits_are_compared_in_full() -> None:
    """In bfloat16 the loss of logits (4, 0), 0.018150, has three digits."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False)).bfloat16()
    model[1].weight.data = torch.tensor([[1.0] * 4, [0.0] * 4], dtype=torch.bfloat16)
    x, y = torch.ones(1, 1, 2, 2, dtype=torch.bfloat16), torch.tensor([0])
    loss = ClassifierObjective(model).terms("classifier", x, x, y)["cross_entropy"]
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(0.0181499, abs=1e-6)


class Halving(nn.Module):
    """A purifier with weights, a running statistic and noise."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5))
        self.norm = nn.BatchNorm2d(1)
        self.noise = 0.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.norm(x)  # would move its statistics in train mode
        return self.scale * x + self.noise * torch.randn_like(x)


def test_the_classifier_learns_on_purified_images() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False))
    nn.init.zeros_(model[1].weight)
    model[1].weight.data[1] = 1.0
    x, y = torch.full((1, 1, 2, 2), 0.5), torch.tensor([0])
    # Logits (0, 4 * 0.5 * 0.5): log(1 + e) = 1.313262; without the purifier (0, 2): 2.126928
    for purifier, expected in ((Halving(), 1.313262), (None, 2.126928)):
        objective = ClassifierObjective(model, purifier=purifier)
        assert objective.terms("classifier", x, x, y)["cross_entropy"].item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("eps", [0.0, 0.1])
def test_the_purifier_comes_back_as_it_was_and_is_no_player(eps: float) -> None:
    model, purifier = SmallCNN(1, 3, 4, hidden=16), Halving().train()
    before = {k: v.clone() for k, v in purifier.state_dict().items()}
    weights = [p.clone() for p in model.parameters()]
    objective = ClassifierObjective(model, eps=eps, steps=2, purifier=purifier)
    assert [[id(p) for p in ps] for ps in objective.players().values()] == [[id(p) for p in model.parameters()]]
    assert not any(k.startswith("purifier") for k in objective.trained_state())
    for _ in fit(objective, Batches(torch.rand(6, 1, 12, 12), torch.arange(6) % 3, batch_size=3), epochs=1):
        assert purifier.scale.grad is None
        assert purifier.scale.requires_grad
        assert all(m.training for m in purifier.modules())
    assert all(torch.equal(v, before[k]) for k, v in purifier.state_dict().items())
    assert not all(torch.equal(p, w) for p, w in zip(model.parameters(), weights, strict=True))


def test_adversarial_training_attacks_the_whole_pipeline() -> None:
    """Behind a purifier that turns the image round, the pixels of the other half are those to change."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False))
    model[1].weight.data = torch.tensor([[0.0, 0.0, 0.0, 0.0], [1.0, 0.0, -2.0, 0.0]])
    x, y = torch.full((1, 1, 1, 4), 0.5), torch.tensor([0])

    class Turning(nn.Module):
        def forward(self, v: torch.Tensor) -> torch.Tensor:
            assert not self.training
            return v.flip(3)

    purifier = Turning()
    for seen, expected in ((purifier, [0.0, -0.1, 0.0, 0.1]), (None, [0.1, 0.0, -0.1, 0.0])):
        x_adv = ClassifierObjective(model, eps=0.1, steps=5, purifier=seen).perturb(x, y)
        moved = (x_adv - x).flatten()
        wanted = torch.tensor(expected)
        assert torch.allclose(moved[wanted != 0], wanted[wanted != 0], atol=1e-6)
    assert purifier.training


def test_the_purifier_draws_anew_at_every_step() -> None:
    model, purifier = SmallCNN(1, 3, 4, hidden=16).eval(), Halving().eval()
    purifier.noise = 0.3
    objective = ClassifierObjective(model, purifier=purifier)
    x, y = torch.rand(6, 1, 12, 12), torch.arange(6) % 3
    values = {objective.terms("classifier", x, x, y)["cross_entropy"].item() for _ in range(3)}
    assert len(values) == 3


# --- TRADES ---


def half_linear() -> nn.Sequential:
    """Logits (0, sum of the pixels)."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False))
    nn.init.zeros_(model[1].weight)
    model[1].weight.data[1] = 1.0
    return model


def test_trades_by_hand() -> None:
    x, y = torch.zeros(1, 1, 2, 2), torch.tensor([0])
    # p(x) = (1/2, 1/2). x' has logits (0, 2): log q = (-2.126928, -0.126928).
    # KL(p || q) = (-0.693147 + 2.126928) / 2 + (-0.693147 + 0.126928) / 2 = 0.433781; the other way round 0.327813.
    terms = TradesObjective(half_linear(), eps=0.5, beta=6.0).terms("classifier", x, x + 0.5, y)
    assert terms["cross_entropy"].item() == pytest.approx(0.693147, abs=1e-5)
    assert terms["divergence"].item() == pytest.approx(6 * 0.433781, abs=1e-5)


def test_trades_attacks_the_prediction_whatever_the_label() -> None:
    model = nn.Sequential(half_linear(), nn.Dropout(0.5)).train()
    x = torch.full((2, 1, 2, 2), 0.5)
    objective = TradesObjective(model, eps=0.2, steps=20)
    x_adv = objective.perturb(x, None)
    assert model[1].training
    # The logit of class 1 is 2: KL is larger below than above, but convex on both sides, so every pixel ends at +-0.2.
    torch.testing.assert_close((x_adv - x).abs(), torch.full_like(x, 0.2))
    assert all(len(set(one.flatten().tolist())) == 1 for one in (x_adv - x).sign())
    with pytest.raises(ValueError, match="expected labels"):
        objective.terms("classifier", x, x, None)
    with pytest.raises(ValueError, match="expected beta >= 0, got -1"):
        TradesObjective(model, eps=0.2, beta=-1)


def test_trades_is_one_batch_for_batch_normalisation() -> None:
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(4, 2)).train()
    x, x_adv = torch.zeros(3, 1, 2, 2), torch.ones(3, 1, 2, 2)
    TradesObjective(model, eps=1.0).terms("classifier", x, x_adv, torch.zeros(3, dtype=torch.long))
    assert model[0].running_mean.item() == pytest.approx(0.1 * 0.5)
    assert model[0].num_batches_tracked == 1
