"""DRRDN: every loss against numbers worked out by hand, who moves what, MINE against a closed form, the networks."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from math import exp, log
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from art_ext.classifiers import (
    ClassifierObjective,
    PreActDRRDN,
    PreActResNet,
    SmallCNN,
    SmallDRRDN,
    WideDRRDN,
    WideResNet,
)
from art_ext.classifiers.drrdn import DRRDN, DRRDNObjective, Mine, Rise, diagnose, headless, read_out
from art_ext.classifiers.drrdn.mine import elsewhere, log_mean_exp
from art_ext.nn import FeatureExtractor, seeded, trainable
from art_ext.training import Batches, Checkpoint, fit

PARTS = ("encoder", "d_s", "c_s", "d_i", "c_i", "critic", "reconstructor")
PLAYERS = ["classifiers", "disentanglers", "critic", "information", "reconstructor"]
X, X_ADV, Y = torch.tensor([[[[1.0, 0.0]]]]), torch.tensor([[[[0.0, 1.0]]]]), torch.tensor([0])


def linear(weight: list[list[float]], bias: float = 0.0) -> nn.Linear:
    layer = nn.Linear(len(weight[0]), len(weight))
    layer.weight.data, layer.bias.data = torch.tensor(weight), torch.full((len(weight),), bias)
    return layer


@pytest.fixture
def by_hand() -> DRRDN:
    """z = x; z_s = x, z_i = 2 x; c_s gives its input, c_i a - b + 0.5; T = relu(z_s[0] + z_i[0] - 2).

    Of X: z_s (1, 0), z_i (2, 0); of X_ADV: z_s (0, 1), z_i (0, 2). r gives (z_s[0], z_i[0]).
    """
    model = DRRDN(nn.Flatten(), 2, 2, width=2)
    model.d_s[0], model.d_i[0] = linear([[1.0, 0.0], [0.0, 1.0]]), linear([[2.0, 0.0], [0.0, 2.0]])
    model.c_s, model.c_i = nn.Sequential(linear([[1.0, 0.0], [0.0, 1.0]])), nn.Sequential(linear([[1.0, -1.0]], 0.5))
    model.critic.score = nn.Sequential(linear([[1.0, 0.0, 1.0, 0.0]], -2.0), nn.ReLU())
    model.reconstructor = nn.Sequential(linear([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]))
    return model


def small(**options: int) -> SmallDRRDN:
    return SmallDRRDN(1, 3, 2, hidden=5, critic_width=6, **options)


def batch(n: int = 6) -> tuple[Tensor, Tensor]:
    return torch.rand(n, 1, 12, 14), torch.arange(n) % 3


# --- losses ---

# Logits of c_s: (1, 0) and (0, 1), y = 0: log(1 + e^-1) + log(1 + e) = 0.313262 + 1.313262.
# u of c_i: z_s 1.5 and -0.5, z_i 2.5 and -1.5. softplus: -2.5: 0.078889, -1.5: 0.201413, -0.5: 0.474077, 0.5: 0.974077,
# 1.5: 1.701413. Eq. 6: (0.078889 + 0.201413) + (0.201413 + 0.474077).
# Eq. 7: 1.701413 + 0.974077; in print minus Eq. 6's part for z_s.
# softmax(2, 0) = (0.880797, 0.119203), logarithms (-0.126928, -2.126928): entropy 0.365334, twice;
# crossed 0.880797 * 2.126928 + 0.119203 * 0.126928 = 1.888522.
# T of the pairs as they are: 1 + 2 - 2 = 1 and 0; of those exchanged: 1 + 0 - 2 < 0 and 0 + 2 - 2, so 0: I = 0.5.
# r: (1, 2) for z = (1, 0), and (0, 0) for (0, 1): squared distances 4 and 1, means over two values 2 and 0.5.
HAND = {
    ("classifiers", "class"): (1.626523, 1.626523),
    ("classifiers", "domain"): (0.955792, 0.955792),
    ("disentanglers", "adversarial"): (2.675490, -0.675490),
    ("disentanglers", "entropy"): (-0.730668, -1.888522),
    ("information", "information"): (0.5, 0.5),
    ("reconstructor", "reconstruction"): (2.5, 5.0),
}
WEIGHTS = {"domain": 2.0, "adversarial": 3.0, "entropy": 5.0}
SCALE = {**WEIGHTS, "class": 1.0, "information": 7.0, "reconstruction": 11.0}
ALL = ("adversarial", "entropy", "information", "reconstruction")


@pytest.mark.parametrize("in_print", [False, True])
@pytest.mark.parametrize(("player", "term"), HAND)
def test_every_term_by_hand_and_its_weight(by_hand: DRRDN, player: str, term: str, in_print: bool) -> None:
    printed = ALL if in_print else ()
    plain = DRRDNObjective(by_hand, lambda_mi=1.0, lambda_rec=1.0, printed=printed)
    expected = HAND[player, term][in_print]
    assert plain.terms(player, X, X_ADV, Y)[term].item() == pytest.approx(expected, abs=1e-5)
    weighted = DRRDNObjective(by_hand, lambda_mi=7.0, lambda_rec=11.0, weights=WEIGHTS, printed=printed)
    assert weighted.terms(player, X, X_ADV, Y)[term].item() == pytest.approx(SCALE[term] * expected, abs=1e-4)


def test_the_printed_entropy_is_of_images_by_what_adversaries_look_like(by_hand: DRRDN) -> None:
    # softmax(2, 0) times the logarithm of softmax(0, 6), (-6.002476, -0.002476); the other way round it is -2.121982.
    objective = DRRDNObjective(by_hand, printed=("entropy",))
    found = objective.terms("disentanglers", X, 3 * X_ADV, Y)["entropy"]
    assert found.item() == pytest.approx(-5.287258, abs=1e-5)


def test_information_below_zero_counts_only_in_print(by_hand: DRRDN) -> None:
    by_hand.critic.score = nn.Sequential(linear([[1.0, 0.0, 1.0, 0.0]]))
    # T: 3 and 0 as they are, 1 and 2 exchanged: 1.5 - log((e + e^2) / 2) = 1.5 - 1.620115
    for printed, expected in (((), 0.0), (("information",), -0.120115)):
        objective = DRRDNObjective(by_hand, lambda_mi=1.0, printed=printed)
        found = objective.terms("information", X, X_ADV, Y)["information"]
        assert found.item() == pytest.approx(expected, abs=1e-5)


def test_one_of_many_images_counts_its_share(by_hand: DRRDN) -> None:
    """Two images, of which the second is its own adversary: x and x' are told apart by place, not by order of rows."""
    x, x_adv, y = torch.cat([X, X]), torch.cat([X_ADV, X]), torch.tensor([0, 1])
    objective = DRRDNObjective(by_hand)
    # x: CE of class 0 at (1, 0) and of class 1: (0.313262 + 1.313262) / 2. x': 1.313262 twice.
    terms = objective.terms("classifiers", x, x_adv, y)
    assert terms["class"].item() == pytest.approx(0.813262 + 1.313262, abs=1e-5)
    # z_i: u 2.5 twice and -1.5, 2.5: 0.078889 + (0.201413 + 2.578889) / 2; z_s: 0.201413 + (0.474077 + 1.701413) / 2
    assert terms["domain"].item() == pytest.approx(1.469040 + 1.289158, abs=1e-5)


def test_the_model_gets_what_enter_makes_of_images(by_hand: DRRDN) -> None:
    seen: list[Tensor] = []
    by_hand.encoder.register_forward_pre_hook(lambda module, args: seen.append(args[0].detach()))
    objective = DRRDNObjective(by_hand, eps=0.25, steps=1, enter=lambda x: 3 - 2 * x)
    objective.terms("classifiers", X, X_ADV, Y)
    assert torch.equal(seen[-1], 3 - 2 * torch.cat([X, X_ADV]))
    x_adv = objective.perturb(X_ADV, Y)
    assert float(seen[-1].max()) > 2
    torch.testing.assert_close(x_adv, torch.tensor([[[[0.25, 0.75]]]]))  # the logit of class 0 is 3 - 2 x[0]


# --- who moves what ---

MOVES = {
    ("classifiers", "class"): {"encoder", "d_s", "c_s"},  # theta, phi_s, w_s
    ("classifiers", "domain"): {"encoder", "d_i", "c_i"},
    ("disentanglers", "adversarial"): {"encoder", "d_s"},
    ("disentanglers", "entropy"): {"encoder", "d_i"},
    ("critic", "information"): {"critic"},
    ("information", "information"): {"d_s", "d_i"},
    ("reconstructor", "reconstruction"): {"d_s", "d_i", "reconstructor"},
}


def test_eqs_7_and_8_may_leave_the_encoder_alone() -> None:
    model = small().train()
    objective = DRRDNObjective(model)
    objective.through_encoder = False
    x, y = batch()
    optimizers = {k: torch.optim.SGD(p, 0.1) for k, p in objective.players().items()}
    before = copy.deepcopy(model.state_dict())
    sum(objective.terms("disentanglers", x, torch.rand_like(x), y).values()).backward()  # type: ignore[union-attr]
    optimizers["disentanglers"].step()
    changed = {n.split(".")[0] for n, v in model.state_dict().items() if not torch.equal(v, before[n])}
    assert changed == {"d_s", "d_i"}
    assert all(p.grad is None for p in model.encoder.parameters())


@pytest.mark.parametrize(("player", "term"), MOVES)
def test_a_term_reaches_what_its_superscript_says(player: str, term: str) -> None:
    model = small().train()
    objective = DRRDNObjective(model, printed=("information",))
    x, y = batch()
    with trainable(objective.players()[player], objective.parameters()):
        loss = objective.terms(player, x, torch.rand_like(x), y)[term]
        named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        gradients = torch.autograd.grad(loss, [p for _, p in named], allow_unused=True)
    moved = {n.split(".")[0] for (n, _), g in zip(named, gradients, strict=True) if g is not None and g.any()}
    assert moved == MOVES[player, term]


@pytest.mark.parametrize(
    ("player", "reached"),
    [
        ("critic", {"critic"}),
        ("information", {"d_s", "d_i", "critic"}),
        ("reconstructor", {"d_s", "d_i", "reconstructor"}),
    ],
)
def test_no_graph_is_made_through_what_a_term_does_not_move(player: str, reached: set[str]) -> None:
    """Also where every parameter requires a gradient."""
    model = small().train()
    x, y = batch()
    terms = DRRDNObjective(model, printed=("information",)).terms(player, x, torch.rand_like(x), y)
    next(iter(terms.values())).backward()
    assert {n.split(".")[0] for n, p in model.named_parameters() if p.grad is not None} == reached


@pytest.mark.parametrize("player", PLAYERS)
def test_a_player_moves_its_own_parameters(player: str) -> None:
    model = small()
    objective = DRRDNObjective(model, eps=0.1, steps=1, printed=("information",))
    before = {k: p.clone() for k, p in model.named_parameters()}
    optimizers = {k: torch.optim.SGD(p, 0.1 * (k == player)) for k, p in objective.players().items()}
    x, y = batch()
    for _ in fit(objective, Batches(x, y, batch_size=6), epochs=1, optimizers=optimizers):
        pass
    moved = {k.split(".")[0] for k, p in model.named_parameters() if not torch.equal(before[k], p)}
    assert moved == set.union(*(parts for (who, _), parts in MOVES.items() if who == player))


def test_terms_and_players_without_weight_are_off() -> None:
    model = small()
    none = {"domain": 0.0, "adversarial": 0.0, "entropy": 0.0}
    assert list(DRRDNObjective(model).players()) == PLAYERS
    assert list(DRRDNObjective(model, lambda_mi=0.0).players()) == ["classifiers", "disentanglers", "reconstructor"]
    assert list(DRRDNObjective(model, lambda_rec=0.0).players()) == PLAYERS[:4]
    calls = []
    for part in ("d_i", "c_i", "critic", "reconstructor"):
        getattr(model, part).register_forward_hook(lambda *_: calls.append(1))
    halves = DRRDNObjective(model, eps=0.1, steps=1, lambda_mi=0.0, lambda_rec=0.0, weights=none)
    x, y = batch()
    steps = list(fit(halves, Batches(x, y, batch_size=6), epochs=1))
    assert [list(step.terms) for step in steps] == [["classifiers/class"]]
    assert not calls
    terms = DRRDNObjective(model, weights={"adversarial": 0.0}).terms("disentanglers", x, x, y)
    assert list(terms) == ["entropy"]


def test_running_statistics_are_those_of_images_and_adversaries_once_a_step() -> None:
    model = small()
    objective = DRRDNObjective(model, eps=0.1, steps=1)
    seen: list[Tensor] = []
    model.encoder[0].register_forward_hook(lambda module, args, output: seen.append((module.training, output.detach())))
    x, y = batch()
    for _ in fit(objective, Batches(x, y, batch_size=6, shuffle=False), epochs=1):
        pass
    passes = [output for training, output in seen if training]
    assert [len(output) for training, output in seen] == [6] + [12] * 5  # the attack, then five players
    norm = model.encoder[1]
    assert norm.num_batches_tracked == 1
    torch.testing.assert_close(norm.running_mean, 0.1 * passes[0].mean((0, 2, 3)))


def test_adversaries_are_those_of_adversarial_training_on_the_inference_branch() -> None:
    model = small().train()
    x, y = batch()
    options = {"eps": 0.1, "steps": 2, "step_size": 0.03}
    with seeded(3):
        expected = ClassifierObjective(model, **options).perturb(x, y)  # type: ignore[arg-type]
    with seeded(3):
        found = DRRDNObjective(model, **options).perturb(x, y)  # type: ignore[arg-type]
    assert torch.equal(found, expected)
    assert all(m.training for m in model.modules())


@pytest.mark.parametrize("lambda_mi", [0.0, 0.5])
def test_a_resumed_run_ends_at_the_same_weights(tmp_path: Path, lambda_mi: float) -> None:
    x, y = batch()

    def run(model: DRRDN, epochs: int, checkpoint: Checkpoint | None) -> dict[str, Tensor]:
        objective = DRRDNObjective(model, eps=0.1, steps=1, lambda_mi=lambda_mi)
        for _ in fit(objective, Batches(x, y, batch_size=3), epochs=epochs, checkpoint=checkpoint):
            pass
        return model.state_dict()

    models = [small() for _ in range(3)]
    for other in models[1:]:
        other.load_state_dict(models[0].state_dict())
    whole = run(models[0], 2, None)
    run(models[1], 1, Checkpoint(tmp_path / "state"))
    resumed = run(models[2], 2, Checkpoint(tmp_path / "state"))
    assert all(torch.equal(whole[k], resumed[k]) for k in whole)
    assert bool(whole["critic.log_mean"].isfinite()) == bool(lambda_mi)


def test_it_learns_and_comes_apart() -> None:
    y = torch.arange(96) % 2
    x = torch.full((96, 1, 4, 4), 0.3) + 0.02 * torch.rand(96, 1, 4, 4)
    x[y == 1, ..., :2] += 0.4
    x[y == 0, ..., 2:] += 0.4
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(16, 32), nn.ReLU())
    found, fresh = {}, {}
    for weight in (1.0, 0.0):
        with seeded(0):
            model = DRRDN(copy.deepcopy(encoder), 32, 2, width=16, hidden=(16,), critic_width=16)
        objective = DRRDNObjective(model, eps=0.1, steps=2, weights={"adversarial": weight})
        objective.learning_rate = 0.02
        for _ in fit(objective, Batches(x, y, batch_size=32), epochs=60):
            pass
        model.eval()
        x_adv = objective.perturb(x, y)
        assert float((model(x_adv).argmax(1) == y).float().mean()) > 0.95
        found[weight], fresh[weight] = diagnose(model, x, x_adv, y), read_out(model, x, x_adv, y)
    assert found[1.0]["c_i_on_z_s"] < 0.7 < found[0.0]["c_i_on_z_s"]  # Eq. 7 blinds c_i to z_s ...
    assert min(fresh[1.0]["domain from z_s"], fresh[1.0]["class from z_s"]) > 0.9  # ... but what it hid is still there
    assert found[0.0]["c_i_on_z_i"] > 0.9


def test_fresh_heads_read_what_is_there_and_nothing_else() -> None:
    """z_s is the image's first pixel, z_i its second: the class is in the first, the perturbation in the second."""
    with seeded(0):
        model = DRRDN(nn.Flatten(), 2, 2, width=1)
    for part, pixel in ((model.d_s, 0), (model.d_i, 1)):
        part[0].weight.data = torch.eye(2)[pixel : pixel + 1]
        part[0].bias.data.zero_()
    y = torch.arange(200) % 2
    x = torch.stack([0.3 + 0.4 * y, torch.full((200,), 0.5)], 1).view(200, 1, 1, 2) + 0.01 * torch.rand(200, 1, 1, 2)
    x_adv = x + torch.tensor([0.0, 0.3])
    modes: list[bool] = []
    model.encoder.register_forward_hook(lambda module, *_: modes.append(module.training))
    found = read_out(model.train(), x, x_adv, y, batch_size=64)
    assert modes == [False] * 8
    assert model.training
    assert found["class from z_s"] == found["domain from z_i"] == 1.0
    assert abs(found["class from z_i"] - 0.5) < 0.15
    assert abs(found["domain from z_s"] - 0.5) < 0.15
    order = y.argsort()  # class by class, of which the first half would hold one
    assert read_out(model, x[order], x_adv[order], y[order])["class from z_s"] == 1.0
    for call in (diagnose, read_out):
        with pytest.raises(ValueError, match=r"expected . images or more, .*got shapes \(0, 1, 1, 2\)"):
            call(model, x[:0], x_adv[:0], y[:0])
        with pytest.raises(ValueError, match=r"a label each, got shapes .* and \(199,\)"):
            call(model, x, x_adv, y[1:])


# --- MINE ---


def test_two_gaussians() -> None:
    """Correlation rho: -log(1 - rho^2) / 2 nats, 0.83 at 0.9."""

    def pairs(n: int) -> Iterator[Tensor]:
        a, noise = torch.randn(2, n, 1)
        yield from (a, 0.9 * a + (1 - 0.81) ** 0.5 * noise)

    critic = Mine(2, 48)
    optimizer = torch.optim.Adam(critic.parameters(), 3e-3)
    for _ in range(500):
        optimizer.zero_grad()
        critic.loss(*pairs(512)).backward()
        optimizer.step()
    with torch.no_grad():
        assert critic.information(*pairs(20_000)).item() == pytest.approx(-log(1 - 0.81) / 2, rel=0.1)
        a, b = pairs(20_000)
        assert critic.information(a, b[torch.randperm(20_000)]).item() < 0.05


def test_the_critics_loss_and_its_unbiased_gradient_by_hand() -> None:
    a, b = torch.tensor([[1.0], [0.0]]), torch.tensor([[2.0], [0.0]])
    critic = Mine(2, rate=0.5, drift=0.1)
    critic.score = nn.Sequential(linear([[1.0, 1.0]]))  # T = a + b: 3 and 0; exchanged 1 and 2, log mean e^T 1.620115
    first = critic.loss(a, b)
    assert first.item() == pytest.approx(0.120115 + 0.1 * 1.620115**2, abs=1e-5)
    assert critic.log_mean.item() == pytest.approx(1.620115, abs=1e-5)
    # A constant added to T leaves the bound as it is; the penalty's gradient is 0.1 * 2 * log mean e^T.
    (gradient,) = torch.autograd.grad(first, critic.score[0].bias)
    assert gradient.item() == pytest.approx(0.2 * 1.620115, abs=1e-5)
    critic.log_mean.zero_()
    critic.drift = 0.0
    loss = critic.loss(a, b)
    mean = (exp(1) + exp(2)) / 2  # 5.053669; the average moves from 1 to 3.026834
    assert loss.item() == pytest.approx(0.120115, abs=1e-5)  # the value is the batch's
    assert critic.log_mean.exp().item() == pytest.approx((1 + mean) / 2, rel=1e-5)
    (gradient,) = torch.autograd.grad(loss, critic.score[0].bias)
    assert gradient.item() == pytest.approx(mean / ((1 + mean) / 2) - 1, rel=1e-4)
    critic.reset_parameters()
    assert critic.log_mean.isinf()


def test_at_rate_1_the_gradient_is_the_printed_bounds() -> None:
    a, b = torch.randn(2, 6, 1, generator=torch.Generator().manual_seed(0))
    critic = Mine(2, 8, rate=1.0, drift=0.0)
    for _ in range(2):  # the average has a past at the second
        (found,) = torch.autograd.grad(_at(critic.loss, a, b), critic.score[0].weight)
        (printed,) = torch.autograd.grad(-_at(critic.information, a, b), critic.score[0].weight)
        torch.testing.assert_close(found, printed)


def _at(call: Callable[..., Tensor], a: Tensor, b: Tensor) -> Tensor:
    with seeded(0):
        return call(a, b)


def test_large_scores_do_not_overflow() -> None:
    assert log_mean_exp(torch.tensor([200.0, 200.0])).item() == pytest.approx(200)
    critic = Mine(2)
    critic.score = nn.Sequential(linear([[300.0, 0.0]]))
    assert critic.loss(torch.ones(4, 1), torch.ones(4, 1)).isfinite()


@pytest.mark.parametrize("n", [2, 3, 50])
def test_nobody_stays_with_its_partner(n: int) -> None:
    for _ in range(20):
        order = elsewhere(n, torch.device("cpu"))
        assert sorted(order.tolist()) == list(range(n))
        assert not (order == torch.arange(n)).any()
    assert elsewhere(1, torch.device("cpu")).tolist() == [0]


# --- networks ---


def test_inference_runs_three_parts_and_no_more() -> None:
    model = small().eval()
    called = []
    for name in PARTS:
        getattr(model, name).register_forward_hook(lambda *_, name=name: called.append(name))
    x, _ = batch()
    torch.testing.assert_close(model(x), model.c_s(model.d_s(model.encoder(x))))
    assert called[:3] == ["encoder", "d_s", "c_s"]
    assert len(called) == 6  # the second three are the line's own


def test_small_drrdn_has_the_capacity_of_small_cnn() -> None:
    def count(*modules: nn.Module) -> int:
        return sum(p.numel() for m in modules for p in m.parameters())

    for original in (False, True):
        model = SmallDRRDN(1, 10, 4, original=original)
        assert count(model.encoder, model.d_s, model.c_s) == count(SmallCNN(1, 10, 4, original=original))
    with torch.device("meta"):
        wide = WideDRRDN()
        extra = count(wide.encoder, wide.d_s, wide.c_s) - count(WideResNet())
    assert (wide.features, extra) == (640, 640 * 640 + 640)  # d_s
    preact, alone = PreActDRRDN(3, 10, 4, hidden=6, critic_width=4), PreActResNet(3, 10, 4, 1)
    assert count(preact.encoder) == count(alone) - count(alone.head)
    assert preact.encode(torch.rand(2, 3, 8, 8)).shape == (2, 32)


def test_dropout_and_standardisation_reach_their_layers() -> None:
    def dropouts(module: nn.Module) -> list[float]:
        return [m.p for m in module.modules() if isinstance(m, nn.Dropout)]

    assert dropouts(SmallCNN(1, 3, 2, dropout=0.3)) == [0.3]
    drrdn = SmallDRRDN(1, 3, 2, dropout=0.3, critic_width=4)
    assert (dropouts(drrdn.c_s), dropouts(drrdn.c_i)) == ([0.3], [0.3])
    x, mean, std = torch.rand(2, 3, 8, 8), [0.1, 0.2, 0.3], [0.5, 0.6, 0.7]
    plain = WideDRRDN(3, 4, 10, 1, critic_width=4).eval()
    standard = WideDRRDN(3, 4, 10, 1, critic_width=4, mean=mean, std=std).eval()
    held = {k: v for k, v in plain.state_dict().items() if ("mean" not in k and "std" not in k) or "running" in k}
    standard.load_state_dict(held, strict=False)
    by_hand = (x - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)
    torch.testing.assert_close(standard(x), plain(by_hand))
    assert not torch.allclose(standard(x), plain(x))


def test_headless_gives_what_the_head_got() -> None:
    network = WideResNet(3, 5, 10, 1).eval()
    x = torch.rand(2, 3, 8, 8)
    encoder = headless(network)
    assert encoder(x).shape == (2, 64)
    torch.testing.assert_close(network.head(encoder(x)), network(x))
    assert isinstance(network.head, nn.Linear)
    inner = headless(nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))), "1.1")
    assert inner(torch.rand(2, 1, 2, 2)).shape == (2, 3)
    with pytest.raises(ValueError, match=r"expected head to be one of .*head; got 'tail'"):
        headless(network, "tail")


def test_any_layer_can_be_the_representation() -> None:
    cnn = SmallCNN(1, 3, 2)
    model = DRRDN(FeatureExtractor(cnn, "features.6"), 2 * 6 * 7, 3, width=4).eval()
    x, _ = batch()
    assert model(x).shape == (6, 3)
    wrong = DRRDN(nn.Flatten(), 7, 3)
    with pytest.raises(ValueError, match="expected 7 features from the encoder, got 168"):
        wrong(x)


def test_hybrids_take_each_part_from_its_source(by_hand: DRRDN) -> None:
    found = {k: v.tolist() for k, v in by_hand.hybrids(X, X_ADV).items()}  # (z_s[0], z_i[0])
    assert found == {
        "z_s + z_i": [[1, 2]], "z_s' + z_i": [[0, 2]], "z_s + z_i'": [[1, 0]], "z_s' + z_i'": [[0, 0]]
    }  # fmt: skip


def test_diagnosis_by_hand(by_hand: DRRDN) -> None:
    by_hand.c_i[0].bias.data.fill_(1.5)  # u: z_s 2.5 and 0.5, which is wrong; z_i 3.5 and -0.5
    by_hand.train()
    x, x_adv, y = torch.cat([X] * 3), torch.cat([X_ADV] * 3), torch.tensor([0, 0, 1])
    found = diagnose(by_hand, x, x_adv, y, batch_size=2)
    assert found["c_i_on_z_s"] == pytest.approx(0.5)
    assert found["c_i_on_z_i"] == pytest.approx(1.0)
    assert found["c_s_on_z_i"] == pytest.approx(3 / 6)  # 0, 0, 0 and 1, 1, 1 for labels 0, 0, 1
    assert by_hand.training
    x[2] = X_ADV[0]  # z_i says adversarial: of three images and three adversaries five are told
    assert diagnose(by_hand, x, x_adv, y, batch_size=2)["c_i_on_z_i"] == pytest.approx(5 / 6)
    # One image a batch: T is 1 and 0 as they are, 0 when exchanged.
    assert diagnose(by_hand, X, X_ADV, Y)["mutual_information"] == pytest.approx(0.5)


def test_wrong_use_is_refused(by_hand: DRRDN) -> None:
    for options, match in (
        ({"lambda_mi": -1.0}, "the weight .* as a finite number of at least 0"),
        ({"lambda_rec": float("nan")}, "the weight .* as a finite number of at least 0"),
        ({"weights": {"other": 1.0}}, r"expected weights of domain.*got \['other'\]"),
        ({"printed": ("class",)}, r"printed out of .*got \['class'\]"),
        ({"weights": {"domain": 0.0}}, "domain term"),
    ):
        with pytest.raises(ValueError, match=match):
            DRRDNObjective(by_hand, **options)  # type: ignore[arg-type]
    for call in (by_hand_terms, by_hand_perturb):
        with pytest.raises(ValueError, match="expected labels"):
            call(DRRDNObjective(by_hand))
    with pytest.raises(ValueError, match="rate"):
        Mine(2, rate=0.0)


def by_hand_terms(objective: DRRDNObjective) -> None:
    objective.terms("classifiers", X, X_ADV, None)


def by_hand_perturb(objective: DRRDNObjective) -> None:
    objective.perturb(X, None)


def test_c_i_may_move_by_itself(by_hand: DRRDN) -> None:
    objective = DRRDNObjective(by_hand, weights=WEIGHTS)
    objective.domain_rate = 0.25
    assert list(objective.players()) == ["classifiers", "domain", *PLAYERS[1:]]
    c_i = {id(p) for p in by_hand.c_i.parameters()}
    assert {id(p) for p in objective.players()["domain"]} == c_i
    assert not c_i & {id(p) for p in objective.players()["classifiers"]}
    found = objective.terms("domain", X, X_ADV, Y)
    assert found["domain"].item() == pytest.approx(HAND["classifiers", "domain"][0], rel=1e-4)  # ahead of its weight
    moved = torch.autograd.grad(found["domain"], list(by_hand.parameters()), allow_unused=True)
    reached = {
        name.split(".")[0] for (name, _), g in zip(by_hand.named_parameters(), moved, strict=True) if g is not None
    }
    assert reached == {"c_i"}
    made = objective.optimizer("domain", objective.players()["domain"])
    assert (type(made).__name__, made.defaults["lr"]) == ("Adam", 0.25)
    off = DRRDNObjective(by_hand, weights={"domain": 0.0, "adversarial": 0.0})
    off.domain_rate = 0.25
    assert "domain" not in off.players()


def test_weights_rise_and_go_on_where_they_were(by_hand: DRRDN) -> None:
    objective = DRRDNObjective(by_hand, weights=WEIGHTS, lambda_mi=7.0, lambda_rec=11.0)
    rise = Rise(objective, 4)

    def weights() -> dict[str, float]:
        found = {}
        for player, term in HAND:
            found[term] = objective.terms(player, X, X_ADV, Y)[term].item() / HAND[player, term][0]
        return found

    for epoch, share in enumerate((0.0, 0.25, 0.5, 0.75, 1.0, 1.0)):
        expected = SCALE | {k: share * v for k, v in WEIGHTS.items()}
        assert weights() == pytest.approx(expected, rel=1e-4, abs=1e-6)
        kept = rise.state_dict()
        assert kept == {"epoch": epoch}
        rise.step()
    Rise(objective, 4).load_state_dict({"epoch": 1})
    assert objective.strength == 0.25
    with pytest.raises(ValueError, match="epochs >= 1, got 0"):
        Rise(objective, 0)


def test_optimizers_are_the_papers_but_for_the_critic() -> None:
    objective = DRRDNObjective(small())
    objective.weight_decay = 5e-4
    made = {k: objective.optimizer(k, p) for k, p in objective.players().items()}
    assert {k: type(o).__name__ for k, o in made.items()} == dict.fromkeys(PLAYERS, "SGD") | {"critic": "Adam"}
    sgd = {k: o.param_groups[0] for k, o in made.items() if k != "critic"}
    assert {g["lr"] for g in sgd.values()} == {1e-2}
    assert {k: g["weight_decay"] for k, g in sgd.items() if g["weight_decay"]} == {"classifiers": 5e-4}
