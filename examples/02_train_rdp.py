"""Train RDP for your own ART classifier, from your own images, without labels.

    python examples/02_train_rdp.py                                   # the Fashion-MNIST subset of the package
    python examples/02_train_rdp.py --data mine.npz --model resnet    # arrays x, y; uint8 or [0, 1]

A killed run goes on from its checkpoint. The trained purifier is written as config.json and model.safetensors, for
`RDPPreprocessor.from_pretrained(folder)`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from art.attacks.evasion import ProjectedGradientDescent
from art.estimators.classification import PyTorchClassifier

from art_ext.classifiers import VGG, ResNet18, SmallCNN
from art_ext.data import Images, fashion_mnist, from_npz
from art_ext.defences import RDPPreprocessor, RDPTrainer
from art_ext.evaluation import mean_interval
from art_ext.nn import seeded

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data", type=Path, help="npz file with arrays x and y")
parser.add_argument("--model", choices=["cnn", "resnet", "vgg"], default="cnn")
parser.add_argument("--images", type=int, default=2000, help="training images")
parser.add_argument("--epochs", type=int, default=5, help="of the classifier and of RDP")
parser.add_argument("--width", type=int, default=16)
parser.add_argument("--blocks", type=int, default=4)
parser.add_argument("--eps", type=float, default=0.1)
parser.add_argument("--test", type=int, default=256)
parser.add_argument("--out", type=Path, default=Path("out/rdp"))


def accuracy(classifier: PyTorchClassifier, x: np.ndarray, y: np.ndarray) -> str:
    return str(mean_interval(classifier.predict(x).argmax(1) == y))


def main() -> None:
    args = parser.parse_args()
    data = from_npz(args.data) if args.data else fashion_mnist("train")
    train = Images(data.x[: args.images], data.y[: args.images])
    test = Images(data.x[args.images :][: args.test], data.y[args.images :][: args.test])
    channels, classes = train.x.shape[1], int(data.y.max()) + 1
    x, y = train.x.numpy(), train.y.numpy()

    with seeded(0):
        model = {"cnn": SmallCNN, "resnet": ResNet18, "vgg": VGG}[args.model](channels, classes, 16)
    rdp = RDPPreprocessor(channels, args.width, args.blocks, "residual", fold=2, verbose=True)
    classifier = PyTorchClassifier(
        model, torch.nn.CrossEntropyLoss(), x.shape[1:], classes, torch.optim.Adam(model.parameters(), 2e-3),
        clip_values=(0.0, 1.0),
    )  # fmt: skip
    torch.manual_seed(0)
    classifier.fit(x, y, batch_size=64, nb_epochs=args.epochs)

    # The same network with a purifier before it: what the trainer trains, what users get.
    defended = PyTorchClassifier(
        model, torch.nn.CrossEntropyLoss(), x.shape[1:], classes, clip_values=(0.0, 1.0), preprocessing_defences=rdp
    )
    trainer = RDPTrainer(
        defended, eps=args.eps, steps=5, learning_rate=1e-3, checkpoint=args.out / "training.pt", verbose=True
    )
    cosine = [torch.optim.lr_scheduler.CosineAnnealingLR(o, args.epochs) for o in trainer.optimizers.values()]
    trainer.fit(
        x, nb_epochs=args.epochs, batch_size=32, scheduler=cosine, validation_data=(test.x.numpy(), test.y.numpy())
    )
    rdp.save_pretrained(args.out)

    x, y = test.x.numpy(), test.y.numpy()
    print(f"clean           bare {accuracy(classifier, x, y)}, with RDP {accuracy(defended, x, y)}")
    for name, target in {"blind": classifier, "full": defended}.items():
        attack = ProjectedGradientDescent(target, eps=args.eps, eps_step=args.eps / 8, max_iter=20, verbose=False)
        x_adv = attack.generate(x, y)
        print(f"PGD-20 {name:<8} bare {accuracy(classifier, x_adv, y)}, with RDP {accuracy(defended, x_adv, y)}")
    print(f"written to {args.out}")


if __name__ == "__main__":
    main()
