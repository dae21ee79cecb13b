"""Attacks that ask for images outside [0, 1] run on a purified model wherever they run on the bare one."""

import numpy as np
import pytest
import torch
from art.attacks.evasion import (
    NewtonFool,
    ShadowAttack,
    TargetedUniversalPerturbation,
    UniversalPerturbation,
    VirtualAdversarialMethod,
    ZooAttack,
)
from art.defences.trainer import AdversarialTrainerFBFPyTorch
from art.estimators.classification import PyTorchClassifier
from torch import nn

from art_ext.defences import PurifierPreprocessor
from art_ext.estimators import EOTClassifier
from art_ext.images import OutsideRangeWarning
from art_ext.purifiers import RDP

C, H, W, K = 3, 4, 4, 4
HOT = np.eye(K, dtype=np.float32)


class Net(nn.Module):
    """Convolutional, float32, and no Sequential (some of ART's trainers take its first layer for its answer)."""

    def __init__(self, last=None):
        super().__init__()
        torch.manual_seed(0)
        self.last = last or nn.Identity()
        self.conv, self.head = nn.Conv2d(C, 6, 3, padding=1), nn.Linear(6 * 4, K)

    def forward(self, x):
        return self.last(self.head(nn.functional.avg_pool2d(torch.tanh(3 * self.conv(x)), 2).flatten(1)))


def purifier():
    torch.manual_seed(1)
    return RDP(C, width=4, blocks=1, block="residual").eval().requires_grad_(False)


def images(n=3):
    return torch.rand(n, C, H, W, generator=torch.Generator().manual_seed(2))


def art(kind, last=None):
    net = Net(last)
    defences = [PurifierPreprocessor(purifier(), device_type="cpu", apply_fit=True)] if kind != "bare" else None
    made = PyTorchClassifier(
        net, nn.CrossEntropyLoss(), (C, H, W), K, optimizer=torch.optim.SGD(net.parameters(), 0.01),
        clip_values=(0, 1), preprocessing_defences=defences, device_type="cpu",
    )  # fmt: skip
    return EOTClassifier(made, 2) if kind == "eot" else made


def trained(classifier):
    AdversarialTrainerFBFPyTorch(classifier, eps=0.3).fit(X, LABELS, batch_size=3, nb_epochs=1)


X = images().numpy()
LABELS = HOT[[0, 1, 2]]
ART = {
    "NewtonFool": lambda c: NewtonFool(c, max_iter=3, eta=0.5, verbose=False).generate(X),
    "ZOO": lambda c: ZooAttack(
        c, max_iter=2, binary_search_steps=1, nb_parallel=3, use_resize=False, use_importance=False,
        variable_h=0.5, verbose=False,
    ).generate(X, LABELS),
    "UniversalPerturbation": lambda c: UniversalPerturbation(
        c, attacker="fgsm", attacker_params={"eps": 0.5}, max_iter=5, eps=0.5, norm=np.inf, verbose=False
    ).generate(X, HOT[c.predict(X).argmax(1)]),
    "TargetedUniversalPerturbation": lambda c: TargetedUniversalPerturbation(
        c, attacker="fgsm", attacker_params={"eps": 0.5, "targeted": True}, max_iter=3, eps=0.5, norm=np.inf
    ).generate(X, HOT[c.predict(X).argsort(1)[:, -2]]),
    "Shadow": lambda c: ShadowAttack(c, nb_steps=2, sigma=0.5, batch_size=4, verbose=False).generate(X[:1], LABELS[:1]),
    "VirtualAdversarial": lambda c: VirtualAdversarialMethod(
        c, max_iter=1, eps=0.5, finite_diff=0.5, verbose=False
    ).generate(X[:1]),
    "FBF": trained,
}  # fmt: skip


@pytest.mark.parametrize("kind", ["purified", "eot"])
@pytest.mark.parametrize("name", ART)
def test_art(name, kind):
    if (name, kind) == ("FBF", "eot"):
        pytest.skip("an EOTClassifier is not trained")
    last = nn.Softmax(1) if name == "VirtualAdversarial" else None  # it refuses logits
    np.random.seed(0)  # noqa: NPY002  ART draws from the legacy generator
    ART[name](art("bare", last))
    with pytest.warns(OutsideRangeWarning, match=r"expected images in \[0, 1\], got values in"):
        found = ART[name](art(kind, last))
    assert found is None or np.isfinite(found).all()


def torchattack(name):
    torchattacks = pytest.importorskip("torchattacks")
    if name == "SparseFool":
        return lambda model: torchattacks.SparseFool(model, steps=3, lam=3, overshoot=0.2)
    if name == "SPSA":
        return lambda model: torchattacks.SPSA(model, eps=0.3, delta=0.2, nb_iter=2, nb_sample=4, max_batch_size=4)
    if name.startswith("PGDRS"):
        return lambda model: getattr(torchattacks, name)(model, steps=2, noise_sd=0.5, noise_batch_size=3)
    steps = {} if name in {"NIFGSM", "SINIFGSM"} else {"N": 2}
    return lambda model: getattr(torchattacks, name)(model, eps=0.3, alpha=0.1, steps=2, **steps)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # SparseFool under numpy 2
@pytest.mark.parametrize("name", ["NIFGSM", "SINIFGSM", "VMIFGSM", "VNIFGSM", "SPSA", "PGDRS", "PGDRSL2", "SparseFool"])
def test_torchattacks_on_a_plain_sequential(name):
    make, x = torchattack(name), images()
    bare = Net().eval()
    make(bare)(x, bare(x).argmax(1))
    purified = nn.Sequential(purifier(), bare).eval()
    with pytest.warns(OutsideRangeWarning, match=r"clamped for 'rdp', said once"):
        found = make(purified)(x, purified(x).argmax(1))
    assert torch.isfinite(found).all()
    assert found.shape == x.shape
