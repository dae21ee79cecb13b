"""Trainers change the purifier and nothing else, and see the same images and labels whatever form they come in."""

import numpy as np
import pytest
import torch
from art.data_generators import NumpyDataGenerator, PyTorchDataGenerator
from art.defences.trainer.trainer import Trainer
from art.estimators.classification import BlackBoxClassifier
from torch import nn
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, TensorDataset

from art_ext.defences import PurifierPreprocessor, PurifierTrainer, RDPPreprocessor, RDPTrainer
from art_ext.nn import FeatureExtractor
from art_ext.objectives import Weights
from art_ext.training import Objective
from tests.defences.schedules import Apart

FAST = {"nb_epochs": 1, "batch_size": 4}


def defended(kit, net, seed=0, **options):
    """An ART classifier behind an RDP whose weights depend on the seed alone."""
    torch.manual_seed(seed)
    return kit.classifier(net, kit.rdp(), **options)


def trained(kit, net, *args, trainer=None, generator=None, outside=None, **fit):
    art = defended(kit, net, **(outside or {}))
    it = RDPTrainer(art, **{"steps": 2, "learning_rate": 1e-3} | (trainer or {}))
    if generator is None:
        it.fit(*args, **FAST | fit)
    else:
        it.fit_generator(generator, nb_epochs=fit.get("nb_epochs", 1))
    return weights(it.preprocessor.purifier)


def weights(module):
    return {k: v.clone() for k, v in module.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


class Counter:
    def __init__(self):
        self.steps = 0

    def step(self):
        self.steps += 1


# --- what fit does ---


def test_fit_trains_the_purifier_in_place(kit, net, x, y):
    art = defended(kit, net)
    purifier = art.preprocessing_defences[0].purifier
    before, prediction = weights(purifier), art.predict(x)
    trainer = RDPTrainer(art, steps=2)
    assert isinstance(trainer, Trainer)
    assert trainer.classifier is trainer.get_classifier() is art
    trainer.fit(x, y, **FAST)
    after = weights(purifier)
    assert all(not torch.equal(before[k], after[k]) for k in before if k.endswith("conv.weight"))
    assert not np.allclose(art.predict(x), prediction, rtol=0, atol=1e-7)
    assert not purifier.training
    assert all(not p.requires_grad and p.grad is None for p in purifier.parameters())


def test_training_brings_the_losses_down(kit, net, x):
    trainer = RDPTrainer(defended(kit, net), features="net.conv", steps=2, learning_rate=3e-3)
    trainer.fit(x, nb_epochs=25, batch_size=6)
    first, last = trainer.history[0], trainer.history[-1]
    assert last["restorers/feature"] < 0.8 * first["restorers/feature"]
    assert last["restorers/pixel"] < 0.8 * first["restorers/pixel"]


def test_a_trained_preprocessor_says_so(kit, net, x, y):
    for fit in ("fit", "fit_generator"):
        preprocessor = RDPPreprocessor(kit.C, 4, 2, "residual", device_type="cpu")
        trainer = RDPTrainer(kit.classifier(net, preprocessor), steps=1)
        assert not preprocessor.is_fitted
        if fit == "fit":
            trainer.fit(x, **FAST)
        else:
            trainer.fit_generator(NumpyDataGenerator(x, y, batch_size=3), nb_epochs=1)
        assert preprocessor.is_fitted


def test_all_forms_of_labels_give_the_same_weights(kit, net, x, y):
    expected = trained(kit, net, x, y)
    forms = [
        np.eye(kit.K, dtype=np.float32)[y], np.eye(kit.K, dtype=bool)[y], y.astype(np.uint8), y.astype(float),
        y[:, None], y.tolist(), None,
    ]  # fmt: skip
    for form in forms:
        assert same(trained(kit, net, x, form), expected)


def test_images_and_labels_stay_as_they_are(kit, net, x, y):
    hot = np.eye(kit.K, dtype=np.float32)[y]
    kept = x.copy(), hot.copy()
    for array in (x, hot):
        array.setflags(write=False)
    trained(kit, net, x, hot, validation_data=(x, hot))
    np.testing.assert_array_equal(x, kept[0])
    np.testing.assert_array_equal(hot, kept[1])


@pytest.mark.parametrize("features", [None, "net.norm", "extractor"])
@pytest.mark.parametrize("validated", [True, False])
def test_classifier_comes_back_bit_identical(kit, net, x, y, features, validated):
    art = defended(kit, net, optimizer=True)
    model = art.model
    net.train()
    net.drop.eval()
    net.norm.eval()
    net.head.weight.requires_grad_(False)
    net.conv.weight.grad = torch.full_like(net.conv.weight, 0.25)

    def state():
        return (
            weights(model),
            [(n, m.training) for n, m in art._model.named_modules()],
            [(n, p.requires_grad) for n, p in model.named_parameters()],
            [n for n, p in model.named_parameters() if p.grad is None],
        )

    before, pointers = state(), [p.data_ptr() for p in model.parameters()]
    features = FeatureExtractor(net, "conv") if features == "extractor" else features
    RDPTrainer(art, features=features, steps=2).fit(x, y, validation_data=(x, y) if validated else None, **FAST)
    after = state()
    assert same(before[0], after[0])
    assert before[1:] == after[1:]
    assert torch.equal(net.conv.weight.grad, torch.full_like(net.conv.weight, 0.25))
    assert [p.data_ptr() for p in model.parameters()] == pointers
    assert not art.optimizer.state


def test_history_has_a_row_an_epoch_with_the_mean_of_every_term(kit, net, x, y):
    trainer = RDPTrainer(defended(kit, net), steps=2, learning_rate=1e-12)
    trainer.fit(x, y, validation_data=(x, y), nb_epochs=3, batch_size=4)
    assert [row["epoch"] for row in trainer.history] == [0, 1, 2]
    terms = ("feature", "pixel", "latent", "adversarial", "reconstruction_feature", "reconstruction_pixel")
    expected = {f"restorers/{t}" for t in terms} | {"discriminator/relativistic", "epoch", "validation_accuracy"}
    assert all(set(row) == expected for row in trainer.history)
    # Nothing moves at this learning rate and the critic is nearly constant: -log sigmoid(0) on average.
    assert [row["discriminator/relativistic"] for row in trainer.history] == pytest.approx([np.log(2)] * 3, abs=1e-2)
    accuracy = (trainer.classifier.predict(x).argmax(1) == y).mean()
    assert trainer.history[-1]["validation_accuracy"] == pytest.approx(accuracy)


@pytest.mark.parametrize("hot", [True, False])
def test_validation_accuracy_is_that_of_the_defended_classifier(kit, net, x, hot):
    """On images and labels of the user's, in whatever form; without validation data there is no such column."""
    outside = {"clip_values": (0, 255), "channels_first": False}
    art = defended(kit, net, **outside)
    trainer = RDPTrainer(art, steps=1)
    user = kit.outside(x, **outside)
    right = art.predict(user).argmax(1)
    y = np.where(np.arange(kit.N) < 2, (right + 1) % kit.K, right)  # 4 of 6 are right before a tiny step
    labels = np.eye(kit.K)[y] if hot else y
    trainer.optimizers["restorers"].param_groups[0]["lr"] = 0.0
    trainer.fit(user, validation_data=(user, labels), **FAST)
    assert trainer.history[0]["validation_accuracy"] == pytest.approx(4 / 6)
    trainer.fit(user, **FAST)
    assert "validation_accuracy" not in trainer.history[0]


def test_validation_has_no_influence_on_the_weights(kit, net, x, y):
    assert same(trained(kit, net, x, nb_epochs=2), trained(kit, net, x, nb_epochs=2, validation_data=(x, y)))


def test_weights_depend_on_the_seed(kit, net, x):
    first, again = (trained(kit, net, x, trainer={"seed": 1}) for _ in range(2))
    assert same(first, again)
    assert not same(first, trained(kit, net, x, trainer={"seed": 2}))


@pytest.mark.parametrize(
    "outside",
    [
        {"clip_values": (0, 255), "channels_first": False, "preprocessing": (100.0, 50.0)},
        {"clip_values": (-1, 1), "channels_first": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("features", [None, "net.conv"])
def test_range_and_layout_make_no_difference(kit, net, x, y, outside, features):
    expected = trained(kit, net, x, y, trainer={"features": features})
    user = kit.outside(x, outside["clip_values"], outside["channels_first"])
    found = trained(kit, net, user, y, trainer={"features": features}, outside=outside)
    before = weights(defended(kit, net).preprocessing_defences[0].purifier)
    assert not same(expected, before)
    for k, v in expected.items():
        torch.testing.assert_close(found[k], v, atol=1e-4, rtol=0, msg=k)  # a tenth of a step of Adam


def test_uint8_images(kit, net, x):
    outside = {"clip_values": (0, 255), "channels_first": False}
    user = kit.outside(x, **outside).round()
    bytes_ = user.astype(np.uint8)
    assert same(trained(kit, net, bytes_, outside=outside), trained(kit, net, user, outside=outside))


# --- features, weights of the terms ---


def objective(trainer):
    return trainer.stages[0]


def test_features_by_name_as_a_module_of_the_preprocessor_or_the_logits(kit, net, x):
    unit = torch.tensor(x)
    art = defended(kit, net, clip_values=(0, 255), channels_first=False, preprocessing=(100.0, 50.0))
    by_name = objective(RDPTrainer(art, features="net.conv")).features
    torch.testing.assert_close(by_name(unit), net.conv(unit), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(objective(RDPTrainer(art)).features(unit), net(unit), atol=1e-4, rtol=1e-4)
    module = FeatureExtractor(net, "head")
    assert objective(RDPTrainer(art, features=module)).features is module
    own = RDPPreprocessor(kit.C, 4, 2, "residual", features=module, device_type="cpu")
    art = kit.classifier(net, own)
    assert objective(RDPTrainer(art)).features is module
    assert objective(RDPTrainer(art, features="net.conv")).features.layer == "model.net.conv"


def test_a_module_that_counts_as_false_is_a_module(kit, net):
    """An empty nn.Sequential is the identity, and bool() of it is False."""
    pixels = nn.Sequential()
    assert not pixels
    assert objective(RDPTrainer(defended(kit, net), features=pixels)).features is pixels


def test_unknown_layer_lists_the_layers(kit, net):
    with pytest.raises(ValueError, match=r"model\.net\.conv.*got 'model\.nothing'"):
        RDPTrainer(defended(kit, net), features="nothing")


def test_options_reach_the_objective(kit, net):
    given = Weights(latent=0.0, reconstruction=0.0)
    trainer = RDPTrainer(
        defended(kit, net), weights=given, eps=0.1, steps=3, shared_latent=True, learning_rate=0.01, seed=4
    )
    made = objective(trainer)
    assert (made.weights, made.eps, made.steps, made.shared_latent) == (given, 0.1, 3, True)
    assert {o.param_groups[0]["lr"] for o in trainer.optimizers.values()} == {0.01}
    assert list(trainer.optimizers) == ["restorers", "discriminator"]
    with pytest.raises(ValueError, match="eps"):
        RDPTrainer(defended(kit, net), eps=2.0)


# --- schedulers ---


def test_scheduler_of_torch_steps_the_optimizer_in_use(kit, net, x):
    """With gamma 0 the weights stand still from the second epoch on."""

    def after(epochs, **options):
        art = defended(kit, net)
        trainer = RDPTrainer(art, steps=2, **options)
        schedulers = [StepLR(o, step_size=1, gamma=0.0) for o in trainer.optimizers.values()]
        trainer.fit(x, nb_epochs=epochs, batch_size=4, scheduler=schedulers)
        assert all(o.param_groups[0]["lr"] == 0 for o in trainer.optimizers.values())
        return weights(trainer.preprocessor.purifier)

    assert same(after(1), after(3))


def test_single_torch_scheduler(kit, net, x):
    trainer = RDPTrainer(defended(kit, net), steps=1, learning_rate=0.1)
    scheduler = StepLR(trainer.optimizers["restorers"], step_size=1, gamma=0.5)
    trainer.fit(x, nb_epochs=2, batch_size=4, scheduler=scheduler)
    assert trainer.optimizers["restorers"].param_groups[0]["lr"] == pytest.approx(0.025)
    assert trainer.optimizers["discriminator"].param_groups[0]["lr"] == 0.1


def test_anything_with_step_is_a_scheduler(kit, net, x, y):
    one, two = Counter(), Counter()
    trainer = RDPTrainer(defended(kit, net), steps=1)
    trainer.fit(x, nb_epochs=3, batch_size=4, scheduler=one)
    assert one.steps == 3
    trainer.fit_generator(NumpyDataGenerator(x, y, batch_size=2), nb_epochs=2, scheduler=(one, two))
    assert (one.steps, two.steps) == (5, 2)


# --- generators ---


def numpy_generator(x, y):
    return NumpyDataGenerator(x, y, batch_size=4, drop_remainder=False)


def torch_generator(x, y):
    return PyTorchDataGenerator(DataLoader(TensorDataset(torch.tensor(x), torch.tensor(y)), batch_size=4), len(x), 4)


def unlabelled_generator(x, y):
    return PyTorchDataGenerator(DataLoader(TensorDataset(torch.tensor(x)), batch_size=4), len(x), 4)


@pytest.mark.parametrize("make", [torch_generator, unlabelled_generator])
def test_generators_of_numpy_and_torch_give_the_same_weights(kit, net, x, y, make):
    expected = trained(kit, net, generator=numpy_generator(x, y))
    assert same(trained(kit, net, generator=make(x, y)), expected)
    hot = np.eye(kit.K, dtype=np.float32)[y]
    assert same(trained(kit, net, generator=make(x, hot)), expected)


def test_generator_gives_the_batches_of_an_epoch(kit, net, x, y):
    """Where there is one image an epoch, arrays and generators agree bit for bit; else the order differs."""
    expected = trained(kit, net, x[:1], y[:1])
    assert same(trained(kit, net, generator=NumpyDataGenerator(x[:1], y[:1], batch_size=1)), expected)
    generator = numpy_generator(x, y)
    calls, get = [], generator.get_batch
    generator.get_batch = lambda: calls.append(1) or get()
    trainer = RDPTrainer(defended(kit, net), steps=1)
    trainer.fit_generator(generator, validation_data=(x, y), nb_epochs=3)
    assert len(calls) == 6  # ceil(6 / 4) an epoch
    assert len(trainer.history) == 3
    assert "validation_accuracy" in trainer.history[-1]


def test_generator_in_another_range_and_layout(kit, net, x, y):
    outside = {"clip_values": (0, 255), "channels_first": False}
    expected = trained(kit, net, generator=torch_generator(x, y))
    found = trained(kit, net, generator=torch_generator(kit.outside(x, **outside), y), outside=outside)
    for k, v in expected.items():
        torch.testing.assert_close(found[k], v, atol=1e-4, rtol=0, msg=k)


# --- errors ---


def black_box(kit, net):
    return BlackBoxClassifier(lambda x: np.zeros((len(x), kit.K)), (kit.C, kit.H, kit.W), kit.K, clip_values=(0, 1))


@pytest.mark.parametrize("trainer", [PurifierTrainer, RDPTrainer])
@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        pytest.param(lambda kit, net: net, TypeError, "PyTorchClassifier, got Net", id="module"),
        pytest.param(lambda kit, net: None, TypeError, "PyTorchClassifier, got NoneType", id="None"),
        pytest.param(black_box, TypeError, "got BlackBoxClassifier", id="black box"),
        pytest.param(lambda kit, net: kit.classifier(net), ValueError, r"one Purifier.*got \[\]", id="none"),
        pytest.param(
            lambda kit, net: kit.classifier(net, kit.rdp(), kit.rdp()), ValueError,
            r"\['PurifierPreprocessor', 'PurifierPreprocessor'\]", id="two",
        ),
        pytest.param(lambda kit, net: kit.classifier(net, kit.Mixing()), ValueError, "'mixing'", id="no RDP"),
    ],
)  # fmt: skip
def test_refuses_what_it_cannot_train(kit, net, trainer, make, error, message):
    with pytest.raises(error, match=message):
        trainer(make(kit, net))


def test_classifier_without_clip_values(kit, net):
    art = defended(kit, net)
    art.set_params(clip_values=None)
    with pytest.raises(ValueError, match="clip_values, got None"):
        RDPTrainer(art)


def nan_last(x):
    x = x.copy()
    x[-1, -1, -1, -1] = np.nan
    return x


BAD_IMAGES = [
    pytest.param(lambda x: x[0], ValueError, "rank 4", id="rank"),
    pytest.param(lambda x: x[:0], ValueError, "at least one image", id="empty"),
    pytest.param(lambda x: x * 255, ValueError, "divide by 255", id="range"),
    pytest.param(nan_last, ValueError, "NaN", id="NaN"),
    pytest.param(lambda x: x[:, :1], ValueError, "3 channel", id="channels"),
    pytest.param(lambda x: x.astype(object), TypeError, "numeric", id="object"),
    pytest.param(lambda x: list(x), TypeError, "numpy array, got list", id="list"),
    pytest.param(torch.tensor, TypeError, "numpy array, got Tensor", id="tensor"),
]
BAD_LABELS = [
    pytest.param(lambda y, k: y + 1, ValueError, r"whole numbers in \[0, 5\)", id="too large"),
    pytest.param(lambda y, k: y - 1, ValueError, "whole numbers", id="negative"),
    pytest.param(lambda y, k: y + 0.5, ValueError, "whole numbers", id="halves"),
    pytest.param(lambda y, k: np.where(y == 1, np.nan, y), ValueError, "finite", id="NaN"),
    pytest.param(lambda y, k: y[:-1], ValueError, "expected 6 labels", id="short"),
    pytest.param(lambda y, k: np.eye(k)[y][:-1], ValueError, "expected 6 labels", id="short one-hot"),
    pytest.param(lambda y, k: 3, ValueError, "expected 6 labels", id="scalar"),
    pytest.param(lambda y, k: np.full((len(y), k), 1 / k), ValueError, "soft", id="soft"),
    pytest.param(lambda y, k: np.zeros((len(y), k)), ValueError, "soft or multiple", id="no hot"),
    pytest.param(lambda y, k: np.ones((len(y), k)), ValueError, "soft or multiple", id="all hot"),
    pytest.param(lambda y, k: np.eye(k + 1)[y], ValueError, r"one-hot \(N, 5\)", id="wide"),
    pytest.param(lambda y, k: y.astype(str), TypeError, "numeric labels", id="str"),
    pytest.param(lambda y, k: [None] * len(y), TypeError, "numeric labels", id="None"),
]


def refused(kit, net, tmp_path, error, message, **arguments):
    art = defended(kit, net)
    purifier = art.preprocessing_defences[0].purifier
    trainer = RDPTrainer(art, steps=1, checkpoint=tmp_path / "run")
    before = weights(purifier)
    with pytest.raises(error, match=message):
        trainer.fit(**FAST | arguments)
    assert same(weights(purifier), before)
    assert not any(p.requires_grad for p in purifier.parameters())
    assert not list(tmp_path.iterdir())
    assert trainer.history == []


@pytest.mark.parametrize(("change", "error", "message"), BAD_IMAGES)
@pytest.mark.parametrize("where", ["training", "validation"])
def test_bad_images_change_nothing(kit, net, x, y, tmp_path, where, change, error, message):
    bad = change(x)
    arguments = {"x": bad, "y": None} if where == "training" else {"x": x, "validation_data": (bad, y)}
    refused(kit, net, tmp_path, error, message, **arguments)


@pytest.mark.parametrize(("change", "error", "message"), BAD_LABELS)
@pytest.mark.parametrize("where", ["training", "validation"])
def test_bad_labels_change_nothing(kit, net, x, y, tmp_path, where, change, error, message):
    bad = change(y, kit.K)
    arguments = {"x": x, "y": bad} if where == "training" else {"x": x, "validation_data": (x, bad)}
    refused(kit, net, tmp_path, error, message, **arguments)


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        ({"nb_epochs": 0}, ValueError, "epoch"),
        ({"batch_size": 0}, ValueError, "batch_size"),
        ({"scheduler": object()}, TypeError, "step"),
        ({"scheduler": [Counter(), 3]}, TypeError, "step"),
        ({"epochs": 3}, TypeError, "epochs"),
    ],
    ids=["nb_epochs", "batch_size", "no scheduler", "not every one a scheduler", "unknown"],
)
def test_bad_arguments_change_nothing(kit, net, x, tmp_path, bad, error, message):
    refused(kit, net, tmp_path, error, message, x=x, **bad)


def test_bad_generators_change_nothing(kit, net, x, y):
    art = defended(kit, net)
    purifier, trainer = art.preprocessing_defences[0].purifier, RDPTrainer(art, steps=1)
    before = weights(purifier)
    endless = numpy_generator(x, y)
    endless._size = None
    for generator, error, message in [
        (x, TypeError, "DataGenerator, got ndarray"),
        (DataLoader(TensorDataset(torch.tensor(x))), TypeError, "DataGenerator, got DataLoader"),
        (endless, ValueError, "size"),
        (numpy_generator(x * 255, y), ValueError, "divide by 255"),
        (numpy_generator(x, y + 7), ValueError, "whole numbers"),
    ]:
        with pytest.raises(error, match=message):
            trainer.fit_generator(generator, nb_epochs=1)
        assert same(weights(purifier), before)


# --- progress, checkpoints ---


@pytest.mark.parametrize("verbose", [True, False])
def test_progress_bar_goes_to_stderr_when_verbose(kit, net, x, y, capsys, verbose):
    trainer = RDPTrainer(defended(kit, net), steps=1, verbose=verbose)
    trainer.fit(x, y, validation_data=(x, y), **FAST)
    out, err = capsys.readouterr()
    assert not out
    assert ("RDPObjective 1/1, epoch 1/1: " in err) if verbose else not err


class Killed(Exception):
    pass


class KillsAt(Apart, Counter):
    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def step(self):
        super().step()
        if self.steps == self.epoch:
            raise Killed


def test_killed_training_resumes_to_the_same_weights(kit, net, x, y, tmp_path):
    options = {"nb_epochs": 4, "batch_size": 4}

    def trainer(seed=0, checkpoint=None):
        it = RDPTrainer(defended(kit, net, seed), steps=2, learning_rate=1e-3, checkpoint=checkpoint)
        return it, StepLR(it.optimizers["restorers"], step_size=2, gamma=0.5)

    whole, scheduler = trainer()
    whole.fit(x, y, scheduler=[scheduler, KillsAt(99)], **options)
    killed, scheduler = trainer(checkpoint=tmp_path / "run")
    with pytest.raises(Killed):
        killed.fit(x, y, scheduler=[scheduler, KillsAt(3)], **options)
    resumed, scheduler = trainer(seed=5, checkpoint=str(tmp_path / "run"))
    resumed.fit(x, y, scheduler=[scheduler, KillsAt(99)], **options)
    assert same(weights(resumed.preprocessor.purifier), weights(whole.preprocessor.purifier))
    assert [row["epoch"] for row in resumed.history] == [2, 3]
    for a, b in zip(resumed.history, whole.history[2:], strict=True):
        assert a == pytest.approx(b)


def test_fit_twice_goes_on(kit, net, x):
    trainer = RDPTrainer(defended(kit, net), steps=1, learning_rate=1e-3)
    trainer.fit(x, **FAST)
    first = weights(trainer.preprocessor.purifier)
    trainer.fit(x, **FAST)
    assert not same(weights(trainer.preprocessor.purifier), first)
    assert len(trainer.history) == 1


# --- methods of several stages, that need labels ---


class Shifting(Objective):
    """Moves the scale of the purifier; keeps what it was handed."""

    def __init__(self, purifier):
        super().__init__()
        self.purifier, self.labels, self.images = purifier, [], []

    def players(self):
        return {"purifier": [self.purifier.scale]}

    def terms(self, player, x, x_adv, y):
        self.labels += [] if y is None else y.tolist()
        self.images.append(x)
        return {"scale": self.purifier.scale.square().sum()}


@pytest.fixture
def two_stages(kit):
    class Learnt(kit.Mixing):
        def stages(self, classifier=None):
            self.classifier_given = [classifier]  # a list, so that it does not become a submodule
            return [Shifting(self), Shifting(self)]

    return Learnt()


@pytest.mark.parametrize("hot", [True, False])
def test_stages_run_in_order_on_index_labels_and_unit_images(kit, net, x, y, two_stages, tmp_path, hot):
    outside = {"clip_values": (0, 255), "channels_first": False}
    art = kit.classifier(net, two_stages, **outside)
    trainer = PurifierTrainer(art, checkpoint=tmp_path / "run")
    (given,) = two_stages.classifier_given
    torch.testing.assert_close(given(torch.tensor(x)), net(torch.tensor(x)), atol=1e-4, rtol=1e-4)
    before = two_stages.scale.clone()
    trainer.fit(kit.outside(x, **outside), np.eye(kit.K)[y] if hot else y, nb_epochs=2, batch_size=4)
    assert [row["epoch"] for row in trainer.history] == [0, 1, 0, 1]
    assert sorted(f.name for f in tmp_path.iterdir()) == ["run.1", "run.2"]
    torch.testing.assert_close(two_stages.scale, before - 8e-4, atol=1e-5, rtol=0)  # 8 steps of Adam at 1e-4
    unit = torch.tensor(x)
    for stage in trainer.stages:
        assert sorted(stage.labels) == sorted([*y.tolist()] * 2)
        for image, label in zip(torch.cat(stage.images), stage.labels, strict=True):
            (row,) = [i for i in range(kit.N) if torch.allclose(unit[i], image, atol=1e-5)]
            assert y[row] == label


def test_preprocessor_fits_a_purifier_of_two_stages(kit, x, two_stages):
    preprocessor = PurifierPreprocessor(two_stages, device_type="cpu")
    before = two_stages.scale.clone()
    preprocessor.fit(x, nb_epochs=1, batch_size=4)
    torch.testing.assert_close(two_stages.scale, before - 4e-4, atol=1e-5, rtol=0)
