"""Makes the Fashion-MNIST subset that ships with the package.

python examples/make_data.py fashion_mnist.npz

The source holds `x_train` (60000, 28, 28), `y_train`, `x_test` (10000, 28, 28) and `y_test`, all uint8. The
same source gives the same bytes on every run. Images of a split are shuffled; `art_ext.data.fashion_mnist` hands those
of the test split out in balanced order.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHIPPED = Path(__file__).parents[1] / "art_ext" / "data" / "fashion_mnist_subset.npz"


def stratified_indices(y: NDArray[np.uint8], per_class: int, rng: np.random.Generator) -> NDArray[np.uint16]:
    """`per_class` indices of each class of y (N,), in random order, none twice: (classes * per_class,)."""
    chosen = [rng.choice(np.flatnonzero(y == label), per_class, replace=False) for label in np.unique(y)]
    return rng.permutation(np.concatenate(chosen)).astype(np.uint16)


def make_subset(source: Path, target: Path, *, train: int, test: int, seed: int) -> None:
    """Writes `train` and `test` images a class, their labels and their indices in the original splits."""
    rng = np.random.default_rng(seed)
    parts: dict[str, NDArray[Any]] = {}
    with np.load(source) as original:
        for split, per_class in (("train", train), ("test", test)):
            x, y = original[f"x_{split}"], original[f"y_{split}"]
            indices = stratified_indices(y, per_class, rng)
            parts |= {f"x_{split}": x[indices, None], f"y_{split}": y[indices], f"{split}_indices": indices}
    np.savez_compressed(target, **parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="an .npz file with all of Fashion-MNIST")
    parser.add_argument("--target", type=Path, default=SHIPPED, help="default: into the package")
    parser.add_argument("--train", type=int, default=800, help="training images per class (default: 800)")
    parser.add_argument("--test", type=int, default=200, help="test images per class (default: 200)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    make_subset(args.source, args.target, train=args.train, test=args.test, seed=args.seed)
    print(f"{args.target}: {args.target.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
