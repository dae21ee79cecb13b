"""CD-VAE: latents and losses by hand, the gate of the game, who moves whom, and both kinds of autoencoder."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from art_ext.attacks import L2, Linf, Norm, ascent, cross_entropy, margin, pgd
from art_ext.detectors import Residual
from art_ext.images import OutsideRangeWarning
from art_ext.nn import FeatureExtractor, evaluating, seeded
from art_ext.objectives import CDVAEGame, CDVAETraining, Curriculum
from art_ext.objectives.cdvae import mean_over, mixed
from art_ext.objectives.cdvae_game import LOSSES
from art_ext.purifiers import CDVAE
from art_ext.purifiers.cdvae import Coded, ResidualClassifier
from art_ext.purifiers.cdvae.network import gaussian_kl
from art_ext.training import Batches, Checkpoint, fit

Y = torch.arange(5) % 4
FIRST_TWO = torch.tensor([True, True, False, False, False])


@pytest.fixture
def purifier() -> CDVAE:
    return CDVAE(**CDVAE.small)


@pytest.fixture
def classifier() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(288, 4)).eval()


@pytest.fixture
def x() -> Tensor:
    return torch.rand(5, 3, 8, 12)


def answering(purifier: CDVAE, coded: Coded) -> list[Tensor]:
    """Lets the network give `coded`, and gives what it was handed."""
    seen: list[Tensor] = []
    purifier.network.forward = lambda v, sample=False: (seen.append(v), coded)[1]  # type: ignore[method-assign]
    return seen


class Constant(nn.Module):
    """The same logits whatever comes."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.detach())
        return self.logits + 0 * x.flatten(1).sum(1, keepdim=True)


# Networks


def test_divergence_of_gaussians_by_hand() -> None:
    # Mean 1 and variance 1: 1/2. Mean 0 and variance 4: (4 - 1 - log 4) / 2. Latents are summed, samples are not.
    mean = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    log_variance = torch.tensor([[0.0, math.log(4)], [0.0, 0.0]])
    assert gaussian_kl(mean, log_variance).tolist() == pytest.approx([0.5 + (3 - math.log(4)) / 2, 0.0], rel=1e-6)


def test_z_is_the_mean_or_mean_plus_a_normal_draw_of_that_variance(purifier: CDVAE, x: Tensor) -> None:
    network = purifier.network.eval()
    mean, log_variance = network.posterior(x)
    coded = network(x)
    assert torch.equal(coded.latent, mean)
    with seeded(3):
        drawn = network(x, sample=True).latent
    with seeded(3):
        assert torch.allclose(drawn, mean + (log_variance / 2).exp() * torch.randn(5, 6))
    assert torch.allclose(coded.penalties["kl"], gaussian_kl(mean, log_variance) / 576)  # 2 * 3 * 8 * 12


def test_the_papers_network_has_the_released_shape() -> None:
    purifier = CDVAE(classes=0)
    map_ = purifier.network.encoder(torch.rand(1, 3, 32, 32))
    assert map_.shape == (1, 32, 8, 8)
    assert purifier.network.mean.weight.shape == purifier.network.spread.weight.shape == (2048, 2048)
    # 12.65 M parameters; three fully connected layers have 12.6 M of them.
    assert sum(p.numel() for p in purifier.network.parameters()) == pytest.approx(12.65e6, rel=2e-3)


def test_pixels_are_standardised_on_the_way_in_and_set_back_on_the_way_out() -> None:
    size = {"size": 8, "width": 2, "latent": 3, "classes": 0}
    plain = CDVAE(1, **size, mean=[0.0], std=[1.0]).eval()
    other = CDVAE(1, **size, mean=[0.2], std=[0.5]).eval()
    other.load_state_dict(plain.state_dict())
    x = torch.rand(2, 1, 8, 8)
    with torch.no_grad():
        inside = (x - 0.2) / 0.5
        expected = plain.network(inside).image * 0.5 + 0.2
        assert torch.allclose(other.network(x).image, expected, atol=1e-6)
        error = other.network.squared_error(x, torch.zeros_like(x))
    assert torch.allclose(error, (2 * x).square().mean((1, 2, 3)))


def test_purifying_in_train_mode_uses_the_statistics_of_the_training(purifier: CDVAE, x: Tensor) -> None:
    with torch.no_grad():
        purifier.train().network(x)  # moves them
        whole = purifier(x)
        assert torch.allclose(purifier(x[:1]), whole[:1], atol=1e-6)
        assert torch.equal(purifier.eval()(x), whole)


def test_sampling_is_an_option_that_is_saved(purifier: CDVAE, x: Tensor, tmp_path: Path) -> None:
    assert torch.equal(purifier.eval()(x), purifier(x))
    purifier.set_sampling(True).save_pretrained(tmp_path)
    loaded = CDVAE.from_pretrained(tmp_path)
    assert loaded.stochastic
    assert not torch.equal(loaded(x), loaded(x))
    assert torch.equal(loaded.latents(x), purifier.eval().latents(x))  # the mean, still
    with pytest.raises(ValueError, match="kind 'vae' to sample from, got 'vqvae'"):
        CDVAE(**CDVAE.small, kind="vqvae", sample=True)


def test_residual_and_redundant_part_are_exactly_the_image(purifier: CDVAE, x: Tensor) -> None:
    purifier.eval().requires_grad_(False)
    purifier.network.decoder[-1].bias.data.fill_(0.5)
    purifier.network.output[1].weight.data.fill_(5)  # beyond [0, 1]
    redundant, residual = purifier.redundant(x), purifier.residual(x)
    assert not torch.equal(redundant, redundant.clamp(0, 1))
    assert torch.allclose(redundant + residual, x, atol=1e-6)
    assert torch.equal(redundant.clamp(0, 1), purifier(x))
    purifier.batch_size = 2
    assert torch.allclose(purifier.residual(x), residual, atol=1e-6)
    (gradient,) = torch.autograd.grad(purifier.residual(given := x.clone().requires_grad_()).sum(), given)
    assert gradient.abs().max() > 0
    with pytest.warns(OutsideRangeWarning, match="divide by 255"):
        beyond = purifier.residual(255 * x)
    assert torch.equal(beyond, purifier.residual((255 * x).clamp(0, 1)))
    assert purifier.latents(x[:0]).shape == (0, 6)
    assert purifier.residual(x[:0]).shape == (0, 3, 8, 12)


def test_features_of_the_residuals_classifier(purifier: CDVAE, x: Tensor) -> None:
    purifier.eval().requires_grad_(False)
    assert isinstance(purifier.residual_classifier, ResidualClassifier)
    model = nn.Sequential(Residual(purifier), purifier.residual_classifier)
    assert torch.equal(model(x), purifier.residual_classifier(x - purifier.redundant(x)))
    stages = [FeatureExtractor(purifier.residual_classifier, f"stages.{k}") for k in range(4)]
    shapes = [tuple(nn.Sequential(Residual(purifier), stage)(x).shape[1:]) for stage in stages]
    assert shapes == [(4, 8, 12), (4, 4, 6), (8, 2, 3), (16, 2, 3)]
    # Residuals are divided by the pixels' standard deviation, and by nothing else: half of it, twice the input.
    narrow = ResidualClassifier(3, 4, 4, [0.125] * 3).eval()
    narrow.load_state_dict(purifier.residual_classifier.state_dict())
    assert torch.allclose(narrow(x), purifier.residual_classifier(2 * x), atol=1e-6)


# VQ-VAE


@pytest.fixture
def vector() -> CDVAE:
    return CDVAE(3, kind="vqvae", width=2, codes=2, classes=4, classifier_width=4).eval()


def test_each_place_takes_the_nearest_code(vector: CDVAE) -> None:
    network = vector.network
    network.book.data = torch.tensor([[0.0, 1.0], [3.0, 0.0]])
    # Distances to (0, 1) and (3, 0): of (1, 0) sqrt 2 and 2, of (2, 2) sqrt 5 and sqrt 5 - a little, of (3, 1) 3 and 1.
    encoded = torch.tensor([[1.0, 0.0], [2.01, 2.0], [3.0, 1.0]]).T.view(1, 2, 1, 3)
    assert network.looked_up(encoded).view(2, 3).T.tolist() == [[0, 1], [3, 0], [3, 0]]


def test_the_gradient_goes_straight_through_the_look_up(vector: CDVAE) -> None:
    network, x = vector.network, torch.rand(2, 3, 8, 8)
    encoded = torch.randn(2, 2, 2, 2, requires_grad=True)
    network.encoded = lambda _: encoded  # type: ignore[method-assign]
    coded = network(x)
    codes = network.looked_up(encoded).detach().requires_grad_()
    assert torch.equal(coded.latent, codes.flatten(1))
    weights = torch.rand(2, 3, 8, 8)
    (through,) = torch.autograd.grad((coded.image * weights).sum(), encoded, retain_graph=True)
    (at_the_codes,) = torch.autograd.grad((network.image(network.decoder(codes)) * weights).sum(), codes)
    assert through.abs().max() > 0
    assert torch.equal(through, at_the_codes)
    # The image does not move the book, the book's loss does not move the encoder, the commitment not the book.
    difference = (codes - encoded).square().flatten(1).mean(1)
    for name, moved, still in (("codebook", network.book, encoded), ("commitment", encoded, network.book)):
        assert torch.allclose(coded.penalties[name], difference)
        both = torch.autograd.grad(coded.penalties[name].sum(), [moved, still], retain_graph=True, allow_unused=True)
        assert both[0] is not None
        assert both[1] is None
    assert torch.autograd.grad(coded.image.sum(), network.book, allow_unused=True)[0] is None


def test_a_vqvae_takes_any_size_and_says_that_its_gradient_is_a_stand_in(vector: CDVAE) -> None:
    vector.requires_grad_(False)
    assert not vector.differentiable
    for sides in ((8, 8), (12, 16), (9, 14), (5, 3)):
        x = torch.rand(2, 3, *sides)
        assert vector(x).shape == x.shape
        gradient = ascent(lambda v: vector(v).flatten(1).sum(1))(x)
        assert (gradient.flatten(1).abs().amax(1) > 0).all()
    image = torch.full((1, 3, 9, 10), 0.3)
    larger = torch.full((1, 3, 12, 12), 0.3)
    assert torch.equal(vector(image), vector(larger)[..., :9, :10])  # continued, not filled with black
    assert CDVAE(3, [299, 299], 4, kind="vqvae", classes=0)(torch.rand(1, 3, 299, 299)).shape == (1, 3, 299, 299)


def test_a_vae_of_large_images_is_refused_before_it_is_made() -> None:
    """At 224 pixels and width 32 each of the three layers has 100,352 x 100,352 weights."""
    with pytest.raises(
        ValueError, match=r"at most 2 GiB, got images of 224 x 224 at width 32, whose three take 112\.5 GiB"
    ):
        CDVAE(3, 224)
    assert CDVAE(3, 224, 4, latent=16, classes=0).network is not None


def test_a_vqvae_is_trained_on_its_book_and_commitment(vector: CDVAE) -> None:
    x = torch.rand(4, 3, 8, 8)
    objective = CDVAETraining(vector, gamma=0.5, beta=0.25)
    with evaluating(objective):
        coded = vector.network(x)
        found = objective.terms("cdvae", x, x, Y[:4])
    assert set(found) == {"reconstruction", "codebook", "commitment", "classification"}
    assert torch.allclose(found["codebook"], coded.penalties["codebook"].mean())
    assert torch.allclose(found["commitment"], 0.25 * coded.penalties["commitment"].mean())


# Clean training


def test_eqs_1_to_3_by_hand(purifier: CDVAE, x: Tensor) -> None:
    """G(x) a quarter of a standard deviation off everywhere: 1/16."""
    logits = torch.zeros(5, 4)
    logits[:, 0] = math.log(5)  # softmax 5/8, 1/8, 1/8, 1/8
    residuals = Constant(logits)
    image = x - 0.25 * 0.25
    answering(purifier, Coded(image, torch.zeros(5, 6), {"kl": torch.arange(5.0)}))
    found = CDVAETraining(purifier, residuals, gamma=3.0, beta=0.5).terms("cdvae", x, x, Y)
    assert {k: v.item() for k, v in found.items()} == pytest.approx(
        {
            "reconstruction": 1 / 16,
            "kl": 0.5 * 2,
            "classification": 3 * (2 * math.log(8 / 5) + 3 * math.log(8)) / 5,  # labels 0 1 2 3 0
        },
        rel=1e-4,
    )
    assert torch.allclose(residuals.seen[0], torch.full_like(x, 1 / 16), atol=1e-6)  # x - G(x), not G(x)


def test_clean_training_samples_z(purifier: CDVAE, x: Tensor) -> None:
    objective = CDVAETraining(purifier).eval()
    with seeded(2):
        found = objective.terms("cdvae", x, x, Y)["reconstruction"]
    with seeded(2):
        drawn = purifier.network(x, sample=True).image.detach()
    assert found.item() == pytest.approx(float(((drawn - x) / 0.25).square().mean()), rel=1e-5)


def test_gradients_reach_both_networks_by_both_losses(purifier: CDVAE, x: Tensor) -> None:
    terms = CDVAETraining(purifier, gamma=1.0).terms("cdvae", x, x, Y)
    assert purifier.residual_classifier is not None
    encoder, head = purifier.network.encoder[0].weight, purifier.residual_classifier.head.weight
    reached = {
        k: [
            g is not None and bool(g.abs().max() > 0)
            for g in torch.autograd.grad(v, [encoder, head], retain_graph=True, allow_unused=True)
        ]
        for k, v in terms.items()
    }
    assert reached == {"reconstruction": [True, False], "kl": [True, False], "classification": [True, True]}


def test_mixup_mixes_images_and_labels_by_one_share(purifier: CDVAE, x: Tensor) -> None:
    with seeded(7):
        share = float(torch.distributions.Beta(2.0, 2.0).sample())
        order = torch.randperm(5)
    with seeded(7):
        images, others, found = mixed(x, Y, 2.0)
    assert 0 < share < 1
    assert found == share
    assert torch.equal(others, Y[order])
    assert torch.allclose(images, share * x + (1 - share) * x[order])
    log_p = torch.log_softmax(torch.arange(4.0).repeat(5, 1), 1)
    seen = answering(purifier, Coded(x, torch.zeros(5, 6), {"kl": torch.zeros(5)}))
    objective = CDVAETraining(purifier, Constant(torch.arange(4.0).repeat(5, 1)), gamma=2.0, mixup=2.0)
    with seeded(7):
        terms = objective.terms("cdvae", x, x, Y)
    own, other = (-log_p[torch.arange(5), y].mean() for y in (Y, Y[order]))
    assert terms["classification"].item() == pytest.approx(2 * float(share * own + (1 - share) * other), rel=1e-5)
    assert torch.allclose(seen[0], images)
    assert terms["reconstruction"].item() == pytest.approx(float(((images - x) / 0.25).square().mean()), rel=1e-4)


def test_the_curriculum_lowers_the_reconstruction_and_is_resumed(purifier: CDVAE, x: Tensor, tmp_path: Path) -> None:
    objective = CDVAETraining(purifier)
    curriculum = Curriculum(objective, falls=(1, 3))
    seen = [objective.reconstruction]
    for _ in range(4):
        curriculum.step()
        seen.append(objective.reconstruction)
    assert seen == [10, 5, 5, 1, 1]
    answering(purifier, Coded(x - 0.25, torch.zeros(5, 6), {"kl": torch.zeros(5)}))
    objective.reconstruction = 5.0
    assert objective.terms("cdvae", x, x, Y)["reconstruction"].item() == pytest.approx(5.0, rel=1e-4)
    checkpoint = Checkpoint(tmp_path / "state.pt", every=1)
    del purifier.network.forward
    for epochs in (2, 3):
        again = CDVAETraining(purifier)
        list(
            fit(
                again,
                Batches(x, Y, batch_size=5),
                epochs=epochs,
                schedulers=[Curriculum(again, (1, 3))],
                checkpoint=checkpoint,
            )
        )
    assert again.reconstruction == 1
    with pytest.raises(ValueError, match="rising falls"):
        Curriculum(objective, falls=(3, 1))


def test_the_papers_optimiser(purifier: CDVAE) -> None:
    objective = CDVAETraining(purifier)
    made = objective.optimizer("cdvae", objective.players()["cdvae"])
    assert isinstance(made, torch.optim.AdamW)
    assert {k: made.defaults[k] for k in ("lr", "betas", "weight_decay")} == {
        "lr": 1e-3, "betas": (0.9, 0.999), "weight_decay": 1e-6,
    }  # fmt: skip


# The game


def test_mean_over_a_selection() -> None:
    values = torch.tensor([1.0, 3.0, torch.inf, 5.0, 7.0], requires_grad=True)
    assert mean_over(values, FIRST_TWO).item() == 2
    nobody = mean_over(values, torch.zeros(5, dtype=torch.bool))
    assert nobody.item() == 0
    assert torch.autograd.grad(nobody, values)[0].tolist() == [0] * 5


def game_by_hand(purifier: CDVAE, x: Tensor, **options: Any) -> tuple[dict[str, float], Constant, Constant]:
    """Terms where G(x') is a third of a standard deviation below x' for sample 1 and two for sample 4, else x'.

    D_G's probabilities of y: sample 0 4/8 (others 2 1 1), sample 1 2/8 (others 3 2 1 -> class 0 before), 2 and 3 sure,
    sample 4 3/8 (class 3 has 4/8).
    """
    parts = torch.tensor([
        [4.0, 2, 1, 1],  # y = 0: 1/4 ahead
        [3.0, 2, 2, 1],  # y = 1: behind class 0 by 1/8
        [0.1, 0.1, 7.7, 0.1],  # y = 2: sure
        [0.1, 0.1, 0.1, 7.7],  # y = 3: sure
        [3.0, 0.5, 0.5, 4.0],  # y = 0: behind class 3 by 1/8
    ])  # fmt: skip
    classifier, residuals = Constant((parts / 8).log()), Constant(torch.zeros(5, 4))
    residuals.logits.data[:, 0] = math.log(5)  # 5/8 for class 0, 1/8 for the others
    shift = torch.tensor([0.0, 1.0, 0.0, 0.0, 2.0]).view(-1, 1, 1, 1)
    image = 0.4 * torch.ones_like(x) - 0.25 * shift
    answering(purifier, Coded(image, torch.zeros(5, 6), {"kl": torch.tensor([8.0, 1.0, 8.0, 8.0, 4.0])}))
    objective = CDVAEGame(purifier, classifier, residuals, **options)
    found = objective.terms("game", x, 0.4 * torch.ones_like(x), Y)
    return {k: v.item() for k, v in found.items()}, classifier, residuals


def test_eqs_8_to_10_as_printed_by_hand(purifier: CDVAE, x: Tensor) -> None:
    """Margin 0: samples 1 and 4 count, and no other, in every term; the most likely wrong classes are 0 and 3."""
    found, classifier, residuals = game_by_hand(purifier, x, margin=0.0, gamma=0.5, beta=0.1, clean=0.0)
    assert found == pytest.approx(
        {
            "reconstruction": (1 + 4) / 2,  # of x' itself, in standard deviations
            "kl": 0.1 * (1 + 4) / 2,
            "classification": 0.5 * (math.log(8 / 2) + math.log(8 / 3)) / 2,
            "residual": 0.5 * (math.log(8 / 5) + math.log(8)) / 2,
        },
        rel=1e-4,
    )
    assert classifier.seen[0].amin() == 0  # 0.4 - 0.5 is clamped before D_G
    assert residuals.seen[0][4].amax().item() == pytest.approx(0.5)  # and is not before D


def test_the_gate_is_a_margin_of_probabilities(purifier: CDVAE, x: Tensor) -> None:
    """Sample 0 is ahead by 1/4: at that margin it counts, just below it does not."""
    ahead = game_by_hand(purifier, x, margin=0.2501, gamma=1.0, clean=0.0)[0]
    assert ahead["classification"] == pytest.approx((math.log(8 / 4) + math.log(8 / 2) + math.log(8 / 3)) / 3, rel=1e-4)
    # Its most likely wrong class is 1, though 0, which is right, is likelier.
    assert ahead["residual"] == pytest.approx((math.log(8) + math.log(8 / 5) + math.log(8)) / 3, rel=1e-4)
    behind = game_by_hand(purifier, x, margin=0.2499, gamma=1.0, clean=0.0)[0]["classification"]
    assert behind == pytest.approx((math.log(8 / 2) + math.log(8 / 3)) / 2, rel=1e-4)


def test_clean_training_is_mixed_in(purifier: CDVAE, x: Tensor) -> None:
    found, classifier, residuals = game_by_hand(purifier, x, margin=0.0, gamma=0.5, beta=0.1, clean=2.0)
    plain = CDVAETraining(purifier, residuals, gamma=0.5, beta=0.1).terms("cdvae", x, x, Y)
    assert {k: v for k, v in found.items() if k.startswith("clean")} == pytest.approx(
        {f"clean {k}": 2 * v.item() for k, v in plain.items()}, rel=1e-5
    )
    assert len(classifier.seen) == 2  # D_G sees attacked images alone: as they were attacked, and to learn
    assert torch.equal(*classifier.seen)


def test_the_released_game_by_hand(purifier: CDVAE, x: Tensor) -> None:
    """Clean images are reconstructed and D learns the most likely class, over all; log 2 keeps 1, 4 and, just, 0."""
    found, _, _ = game_by_hand(purifier, x, variant="released", margin=math.log(2) + 1e-3)
    image = 0.4 - 0.25 * torch.tensor([0.0, 1.0, 0.0, 0.0, 2.0]).view(-1, 1, 1, 1)
    five = [math.log(8 / 5), math.log(8 / 5), math.log(8), math.log(8), math.log(8)]  # argmax 0, 0, 2, 3, 3
    assert found == pytest.approx(
        {
            "reconstruction": float(((image - x) / 0.25).square().mean()),
            "kl": 0.01 * 29 / 5,
            "classification": 0.1 * (math.log(8 / 4) + math.log(8 / 2) + math.log(8 / 3)) / 3,
            "residual": 0.1 * sum(five) / 5,
        },
        rel=1e-4,
    )


class TwoMinded(Constant):
    """Answers in eval mode that are not those in train mode."""

    def __init__(self, logits: Tensor, others: Tensor) -> None:
        super().__init__(logits)
        self.others = others

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if self.training else self.others


@pytest.mark.parametrize(("variant", "wrong"), [("paper", [1, 3, 1, 1, 1]), ("released", [1, 1, 2, 3, 0])])
def test_gate_and_wrong_class_are_those_of_the_network_that_was_attacked(
    purifier: CDVAE, x: Tensor, variant: str, wrong: list[int]
) -> None:
    """In eval mode samples 0 and 1 are sure or unsure otherwise than in train mode, whose logits are learned from."""
    learned, attacked = torch.zeros(5, 4), 30 * F.one_hot(Y, 4).float()
    attacked[0, 1] = 40.0  # wrong: class 1
    attacked[1, 3] = 29.9  # right by a hair, class 3 next
    learned[torch.arange(5), Y] = torch.tensor([50.0, 50.0, 0.0, 0.0, 0.0])  # sure of 0 and 1 alone
    residuals = Constant(torch.zeros(5, 4))
    residuals.logits.data[:] = torch.tensor([0.0, 1.0, 2.0, 3.0])
    image = 0.4 * torch.ones_like(x)
    answering(purifier, Coded(image, torch.zeros(5, 6), {"kl": torch.arange(5.0)}))
    game = CDVAEGame(purifier, TwoMinded(learned, attacked), residuals, variant=variant, gamma=1.0, clean=0.0,
                     margin=0.6 if variant == "paper" else 5.0)  # fmt: skip
    found = game.train().terms("game", x, image, Y)
    assert found["classification"].item() == pytest.approx(0.0, abs=1e-6)  # over 0 and 1, of which train mode is sure
    each = residuals.logits.log_softmax(1)[torch.arange(5), torch.tensor(wrong)]
    chosen = each[:2] if variant == "paper" else each
    assert found["residual"].item() == pytest.approx(-float(chosen.mean().detach()), rel=1e-5)


@pytest.mark.parametrize("norm", [Linf(), L2()])
@pytest.mark.parametrize("variant", ["paper", "released"])
@pytest.mark.parametrize("loss", ["cross-entropy", "margin"])
def test_loss_and_norm_of_the_training_attack(
    purifier: CDVAE, classifier: nn.Module, x: Tensor, norm: Norm, variant: str, loss: str
) -> None:
    game = CDVAEGame(purifier, classifier, variant=variant, loss=loss, norm=norm, eps=0.5, steps=4)
    assert CDVAEGame(purifier, classifier, variant=variant).loss == {"paper": LOSSES[0], "released": LOSSES[1]}[variant]
    with torch.no_grad():
        y = classifier(purifier.eval()(x)).argmax(1)
    with seeded(1):
        x_adv = game.perturb(x, y)
    assert float(norm.size(x_adv - x).max()) <= 0.5 + 1e-5
    rule = cross_entropy if loss == "cross-entropy" else margin
    with seeded(1):
        expected = pgd(ascent(rule(game.attacked, y)), x, norm=norm, eps=0.5, steps=4, step_size=0.25)
    assert torch.allclose(x_adv, expected, atol=1e-6)
    with pytest.raises(ValueError, match="expected loss to be one of cross-entropy, margin; got 'cw'"):
        CDVAEGame(purifier, classifier, loss="cw")


def test_clipped_gradients(purifier: CDVAE, classifier: nn.Module) -> None:
    game = CDVAEGame(purifier, classifier, clip=1.0)
    for objective, step in ((game, 0.1), (CDVAEGame(purifier, classifier), 0.5)):
        weight = nn.Parameter(torch.zeros(2))
        sgd = objective.optimizer("game", [weight])
        moved = torch.optim.SGD([weight], lr=0.1)  # AdamW's step would not tell the size of a gradient
        for hook in sgd._optimizer_step_pre_hooks.values():
            moved.register_step_pre_hook(hook)
        weight.grad = torch.tensor([5.0, -0.5])
        moved.step()
        assert weight.tolist() == pytest.approx([-step, 0.05])
    with pytest.raises(ValueError, match="expected clip > 0, got 0"):
        CDVAEGame(purifier, classifier, clip=0)


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_nobody_in_the_selection_gives_zeros_and_no_nan(
    purifier: CDVAE, classifier: nn.Module, x: Tensor, variant: str
) -> None:
    objective = CDVAEGame(purifier, classifier, variant=variant, margin=-1e9, steps=1, clean=0.0)
    before = copy.deepcopy(classifier.state_dict())
    terms = objective.terms("game", x, x, Y)
    assert terms["classification"].item() == 0
    if variant == "paper":
        assert [v.item() for v in terms.values()] == [0.0] * 4
    steps = list(fit(objective, Batches(x, Y, batch_size=5), epochs=1))
    assert all(math.isfinite(v) for v in steps[0].terms.values())
    assert all(p.isfinite().all() for p in objective.parameters())
    # AdamW's decay, 1e-9 of a weight, is all that a loss of zero leaves
    assert all(torch.allclose(v, before[k], atol=1e-6) for k, v in classifier.state_dict().items())


def test_the_game_moves_all_three_networks(purifier: CDVAE, classifier: nn.Module, x: Tensor) -> None:
    objective = CDVAEGame(purifier, classifier, steps=1, margin=1.0)
    before = copy.deepcopy(objective.state_dict())
    assert len(objective.players()["game"]) == len(list(objective.parameters()))
    list(fit(objective, Batches(x, Y, batch_size=5), epochs=1))
    moved = {k.split(".")[0] + k.split(".")[1] for k, v in objective.state_dict().items() if not v.equal(before[k])}
    assert moved == {"purifiernetwork", "purifierresidual_classifier", "classifier1"}


@pytest.mark.parametrize("own", [True, False])
def test_clean_training_moves_g_and_d_alone(purifier: CDVAE, classifier: nn.Module, x: Tensor, own: bool) -> None:
    given = None if own else nn.Sequential(nn.Flatten(), nn.Linear(288, 4))
    objective = CDVAETraining(purifier, given)
    kept = {k: v.clone() for k, v in {**purifier.state_dict(), **classifier.state_dict()}.items()}
    list(fit(objective, Batches(x, Y, batch_size=5), epochs=1))
    after = {**purifier.state_dict(), **classifier.state_dict()}
    moved = {k.split(".")[0] for k in kept if not torch.equal(kept[k], after[k])}
    assert moved == ({"network", "residual_classifier"} if own else {"network"})
    if given is not None:
        assert objective.residual_classifier is given
        assert any(p is given[1].weight for p in objective.players()["cdvae"])


def test_the_classifier_of_residuals_may_be_an_empty_looking_container(purifier: CDVAE) -> None:
    """An nn.Sequential has a length, and one of no layers is no None."""
    given = nn.Sequential()
    assert CDVAETraining(purifier, given).residual_classifier is given


def test_the_training_attack_goes_through_the_purifier_in_eval_mode(
    purifier: CDVAE, classifier: nn.Module, x: Tensor
) -> None:
    modes = []
    purifier.network.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    objective = CDVAEGame(purifier, classifier, eps=0.1, steps=4).train()
    assert objective.step_size == pytest.approx(0.05)  # eps / sqrt(steps)
    with seeded(1):
        x_adv = objective.perturb(x, Y)
    assert modes == [False] * 4
    assert objective.training
    assert float((x_adv - x).abs().max()) <= 0.1 + 1e-6
    purifier.eval().requires_grad_(False)
    loss = cross_entropy(lambda v: classifier(purifier.relaxed(v)), Y)
    with seeded(1):
        expected = (x + torch.empty_like(x).uniform_(-0.1, 0.1)).clamp(0, 1)
    for _ in range(4):
        moved = expected + 0.05 * ascent(loss)(expected).sign()
        expected = (x + (moved - x).clamp(-0.1, 0.1)).clamp(0, 1)
    assert torch.allclose(x_adv, expected, atol=1e-6)


@pytest.mark.parametrize(("variant", "sampled"), [("paper", False), ("released", True)])
def test_the_released_attack_samples_z_and_the_papers_takes_its_mean(
    purifier: CDVAE, classifier: nn.Module, x: Tensor, variant: str, sampled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, true = [], purifier.network.forward

    def forward(v: Tensor, sample: bool = False) -> Coded:
        seen.append(sample)
        return true(v, sample)

    monkeypatch.setattr(purifier.network, "forward", forward)
    CDVAEGame(purifier, classifier, variant=variant, eps=0.1, steps=2).perturb(x, Y)
    assert set(seen) == {sampled}


def test_the_released_attack_leaves_what_was_wrong_before_it(purifier: CDVAE, x: Tensor) -> None:
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(288, 4)).eval()
    with torch.no_grad():
        found = classifier(purifier(x)).argmax(1)
    y = torch.where(FIRST_TWO, found, (found + 1) % 4)  # right on two
    objective = CDVAEGame(purifier, classifier, variant="released", eps=0.1, steps=2)
    unchanged = [torch.equal(a, b) for a, b in zip(objective.perturb(x, y), x, strict=True)]
    assert unchanged == [False, False, True, True, True]
    assert not any(
        torch.equal(a, b) for a, b in zip(CDVAEGame(purifier, classifier, steps=2).perturb(x, y), x, strict=True)
    )


def test_the_released_attack_stops_at_a_margin_of_ten(purifier: CDVAE, x: Tensor) -> None:
    """Steps of size 0 from no random start would hide it: a margin above 10 has no gradient, one below has."""
    answers = nn.Sequential(nn.Flatten(), nn.Linear(288, 2))
    answers[1].weight.data = torch.cat([-torch.ones(1, 288), torch.ones(1, 288)]) / 288
    with torch.no_grad():
        level = float((answers(purifier.eval()(x))[:, 1] - answers(purifier(x))[:, 0]).mean())
    for offset, moves in ((20.0, False), (-20.0, True)):
        answers[1].bias.data = torch.tensor([0.0, offset - level])
        objective = CDVAEGame(purifier, answers, variant="released", eps=0.1, steps=1)
        # y = 0 at offset 20 is wrong by far; the mask of what is right would leave it, so look at the gradient's step.
        seen: list[Tensor] = []
        handle = answers.register_forward_pre_hook(lambda _, given, seen=seen: seen.append(given[0]))
        with seeded(1):
            start = (x + torch.empty_like(x).uniform_(-0.1, 0.1)).clamp(0, 1)
        with seeded(1), pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "where", lambda condition, a, b: a)
            x_adv = objective.perturb(x, torch.zeros(5, dtype=torch.long))
        handle.remove()
        assert torch.equal(x_adv, start) is not moves


def test_stages(purifier: CDVAE, classifier: nn.Module) -> None:
    (first,) = purifier.stages(classifier, gamma=2.0, beta=0.1, mixup=2.0, learning_rate=0.5)
    assert isinstance(first, CDVAETraining)
    assert (first.gamma, first.beta, first.mixup, first.learning_rate) == (2.0, 0.1, 2.0, 0.5)
    _, game = purifier.stages(classifier, game=True, eps=0.2, steps=3, learning_rate=0.5)
    assert isinstance(game, CDVAEGame)
    assert game.classifier is classifier
    assert (game.eps, game.steps, game.learning_rate, game.gamma, game.beta) == (0.2, 3, 0.5, 0.1, 0.2)
    with pytest.raises(ValueError, match="classifier of G"):
        purifier.stages(None, game=True)
    with pytest.raises(ValueError, match=r"only with game=True, got eps=0\.1"):
        purifier.stages(classifier, eps=0.1)


def test_adaptive_attacks(purifier: CDVAE, classifier: nn.Module, x: Tensor) -> None:
    purifier.eval().requires_grad_(False)
    assert list(purifier.adaptive_attacks(classifier, x, Y)) == ["latent"]
    start = (x + 0.05).clamp(0, 1)
    away = purifier.adaptive_attacks(classifier, x, Y)["latent"](start)
    expected = ascent(lambda v: (purifier.latents(v) - purifier.latents(x)).square().mean(1))(start)
    assert torch.allclose(away, expected, atol=1e-7)
    at_the_mean = ascent(cross_entropy(lambda v: classifier(purifier.relaxed(v)), Y))(start)
    sampled = purifier.set_sampling(True).adaptive_attacks(classifier, x, Y)["mean of z"]
    assert torch.allclose(sampled(start), at_the_mean, atol=1e-7)
    assert torch.equal(sampled(start), sampled(start))


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"kind": "gan"}, "kind to be one of vae, vqvae; got 'gan'"),
        ({"size": [8, 10]}, r"multiples of 4 of at least 8, got \[8, 10\]"),
        ({"size": 4}, "at least 8, got 4"),
        ({"size": [8]}, "size"),
        ({"latent": 0}, "latent=0"),
        ({"classes": -1}, "classes=-1"),
        ({"mean": [0.5]}, "one mean and one std for each of 3 channels"),
    ],
)
def test_bad_arguments(arguments: dict[str, object], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        CDVAE(**{**CDVAE.small, **arguments})


def test_bad_objectives_and_sizes(purifier: CDVAE, classifier: nn.Module, x: Tensor) -> None:
    for options in ({"eps": 0.0}, {"eps": 2.0}, {"steps": 0}, {"gamma": -1.0}, {"clean": -1.0}, {"variant": "mine"}):
        with pytest.raises(ValueError, match=r"expected .* got"):
            CDVAEGame(purifier, classifier, **options)  # type: ignore[arg-type]
    for weights in ({"gamma": -1.0}, {"beta": math.nan}, {"mixup": -1.0}):
        with pytest.raises(ValueError, match=r"expected .* got"):
            CDVAETraining(purifier, **weights)
    with pytest.raises(ValueError, match="a purifier without one"):
        CDVAETraining(CDVAE(**{**CDVAE.small, "classes": 0}))
    with pytest.raises(ValueError, match=r"size \(8, 12\), got \(12, 8\)"):
        purifier(x.transpose(2, 3))
    with pytest.raises(ValueError, match="labels"):
        CDVAETraining(purifier).terms("cdvae", x, x, None)
    with pytest.raises(ValueError, match="labels"):
        CDVAEGame(purifier, classifier).perturb(x, None)


def test_it_learns_to_decompose() -> None:
    """Class in one pixel's brightness, everything else noise that repeats: R(x) keeps the one, G(x) has the other."""
    torch.manual_seed(0)
    x = torch.rand(64, 1, 8, 8) * 0.2 + torch.rand(64, 1, 1, 1) * 0.6
    y = torch.arange(64) % 2
    x[y == 1, :, :4, :4] += 0.2
    purifier = CDVAE(1, 8, 8, 16, classes=2, classifier_width=8)
    objective = CDVAETraining(purifier, gamma=1.0)
    rows = [step.terms for step in fit(objective, Batches(x, y, batch_size=32), epochs=30)]
    assert rows[-1]["cdvae/reconstruction"] < rows[0]["cdvae/reconstruction"] / 2
    assert rows[-1]["cdvae/classification"] < rows[0]["cdvae/classification"] / 2
    with torch.no_grad():
        assert purifier.residual_classifier is not None
        right = purifier.residual_classifier.eval()(purifier.eval().residual(x)).argmax(1) == y
    assert float(right.float().mean()) > 0.9
    assert F.mse_loss(purifier(x), x).item() < F.mse_loss(x.mean(0, keepdim=True).expand_as(x), x).item()
