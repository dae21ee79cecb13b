"""What the paper measures of a CD-VAE: where perturbations go, and which part tells the class [section 3.2, Fig. 4]."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from art_ext.attacks import NORMS

if TYPE_CHECKING:
    from art_ext.purifiers.cdvae.purifier import CDVAE

Model = Callable[[Tensor], Tensor]
IMAGES = ("x", "G(x)", "R(x)", "x'", "G(x')", "R(x')")
DELTAS = ("delta", "delta_G", "delta_R")


def decompose(purifier: CDVAE, x: Tensor, x_adv: Tensor) -> dict[str, Tensor]:
    """Nine parts (N, C, H, W) by name, in the units of x: both images, their G and R, and the differences of Eq. 6.

    "delta" is x - x', "delta_G" is G(x) - G(x'), "delta_R" is R(x) - R(x'); the first is the sum of the others. Nothing
    is clamped. Without gradients.

    Args:
        purifier: a CDVAE.
        x: clean images (N, C, H, W) in [0, 1].
        x_adv: x', attacked ones.

    Raises:
        ValueError: of different shapes, or no images as the purifier takes them.
    """
    if x.shape != x_adv.shape:
        raise ValueError(f"expected attacked images of shape {tuple(x.shape)}, got {tuple(x_adv.shape)}")
    with torch.no_grad():
        redundant, redundant_adv = purifier.redundant(x), purifier.redundant(x_adv)
    clean, attacked = (x, redundant, x - redundant), (x_adv, redundant_adv, x_adv - redundant_adv)
    deltas = [a - b for a, b in zip(clean, attacked, strict=True)]
    return dict(zip((*IMAGES, *DELTAS), (*clean, *attacked, *deltas), strict=True))


def part_norms(parts: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Table 2: the L1, L2 and Linf norm of each image of each part, (N,), in the units of x.

    The paper's are of standardised pixels, and of 224 x 224 of them.
    """
    return {name: {k: NORMS[k].size(images) for k in ("L1", "L2", "Linf")} for name, images in parts.items()}


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Table 1: cosine similarity of each pair of images (N, C, H, W), (N,); 0 where one of them is black.

    The paper's is of standardised pixels.
    """
    return F.cosine_similarity(a.flatten(1), b.flatten(1), dim=1)


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Table 1: squared Frechet distance of two sets of features as if each were Gaussian [Heusel et al. 2017, FID].

    |mean(a) - mean(b)|^2 + tr(A + B - 2 (A B)^(1/2)) with the covariances A and B. The paper's features are those of an
    Inception network. A few images overestimate it: compare only what is of equally many.

    Args:
        a: features (N, F) of one set.
        b: features (M, F) of the other.

    Raises:
        ValueError: fewer than two images in a set, or other shapes.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(
            f"expected features (N, F) and (M, F) of at least 2 images each, got {tuple(a.shape)} and {tuple(b.shape)}"
        )
    means = [v.double().mean(0) for v in (a, b)]
    # The trace of (A B)^(1/2) is the sum of the singular values of a product of roots of A and B.
    left, right = ((v.double() - m) / (len(v) - 1) ** 0.5 for v, m in zip((a, b), means, strict=True))
    spread = left.square().sum() + right.square().sum() - 2 * torch.linalg.matrix_norm(left @ right.T, "nuc")
    return float((means[0] - means[1]).square().sum() + spread.clamp_min(0))


def latent_correlation(z: Tensor, z_adv: Tensor) -> Tensor:
    """Fig. 3: Pearson's correlation of z and z' over the images, for each latent, (Z,); 0 where one never changes.

    Args:
        z: latents of clean images (N, Z), see `CDVAE.latents`.
        z_adv: those of the attacked ones.

    Raises:
        ValueError: fewer than two images, or other shapes.
    """
    if z.ndim != 2 or z.shape != z_adv.shape or len(z) < 2:
        raise ValueError(f"expected latents (N, Z) of at least 2 images, got {tuple(z.shape)} and {tuple(z_adv.shape)}")
    return F.cosine_similarity(z - z.mean(0), z_adv - z_adv.mean(0), dim=0)


def cross_classification(
    classifiers: Mapping[str, Model], parts: Mapping[str, Tensor], y: Tensor, *, top: int = 1, batch_size: int = 256
) -> dict[str, dict[str, float]]:
    """Table 3: accuracy in [0, 1] of each classifier (outer key) on each part of the images (inner key).

    Args:
        classifiers: by what they were trained on; parts to logits (N, K).
        parts: (N, C, H, W) by name.
        y: labels (N,).
        top: how many of the likeliest classes may be y (the paper: 1 and 5).
        batch_size: the most images that a classifier is handed.
    """

    def accuracy(classifier: Model, images: Tensor) -> float:
        logits = torch.cat([classifier(piece) for piece in images.split(batch_size)])
        return float((logits.topk(top, 1).indices == y[:, None]).any(1).float().mean())

    with torch.no_grad():
        return {
            trained: {tested: accuracy(classifier, images) for tested, images in parts.items()}
            for trained, classifier in classifiers.items()
        }


def reconstruction_accuracy(x: Tensor, redundant: Tensor, *, squared: bool = False) -> Tensor:
    """Fig. 4: 1 - |x - G(x)| / |x| in the L2 norm of each image, (N,); NaN where |x| is 0.

    The paper prints a norm that may be read either way: the released code takes its square, of standardised pixels.

    Args:
        x: (N, C, H, W).
        redundant: G(x), likewise.
        squared: take the squares of both norms.
    """
    power = 2 if squared else 1
    return 1 - ((x - redundant).flatten(1).norm(dim=1) / x.flatten(1).norm(dim=1)) ** power


def trade_off(
    purifiers: Mapping[float, CDVAE],
    x: Tensor,
    y: Tensor,
    *,
    x_adv: Tensor | None = None,
    classifiers: Mapping[float, Model] | None = None,
    detection: Callable[[CDVAE], float] | None = None,
) -> list[dict[str, Any]]:
    """Fig. 4: a row for each gamma, rising, of accuracies in [0, 1].

    "classification" is that of D on R(x), "reconstruction" the mean of `reconstruction_accuracy` of pixels in [0, 1],
    "reconstruction, released" that of the squared norms of standardised pixels, as the released code has it; "clean"
    and "defence" are those of the classifier on G(x) and on G(x'), clamped as at inference; "detection" what that says.

    Args:
        purifiers: trained ones by gamma, each with its own classifier of residuals.
        x: clean images (N, C, H, W) in [0, 1].
        y: labels (N,).
        x_adv: attacked images, in the paper those of PGD on a classifier of x; no "defence" without.
        classifiers: of G(x), by gamma; neither "clean" nor "defence" without.
        detection: accuracy of a detector built on a purifier; no "detection" without.

    Raises:
        ValueError: a purifier without a classifier of residuals, or without the classifier of its G(x).
    """
    missing = sorted(set(purifiers) - set(purifiers if classifiers is None else classifiers))
    if missing or any(p.residual_classifier is None for p in purifiers.values()):
        raise ValueError(
            f"expected classifiers of residuals and, if any, of G(x) for each gamma, got none for {missing}"
        )
    rows = []
    for gamma, purifier in sorted(purifiers.items()):
        assert purifier.residual_classifier is not None
        with torch.no_grad():
            redundant = purifier.redundant(x)
        row: dict[str, Any] = {"gamma": gamma}
        row["classification"] = _accuracy(purifier.residual_classifier, x - redundant, y)
        row["reconstruction"] = float(reconstruction_accuracy(x, redundant).mean())
        standard = [purifier.network.standardise(images) for images in (x, redundant)]
        row["reconstruction, released"] = float(reconstruction_accuracy(*standard, squared=True).mean())
        if classifiers is not None:
            row["clean"] = _accuracy(classifiers[gamma], redundant.clamp(0, 1), y)
            if x_adv is not None:
                with torch.no_grad():
                    row["defence"] = _accuracy(classifiers[gamma], purifier(x_adv), y)
        if detection is not None:
            row["detection"] = detection(purifier)
        rows.append(row)
    return rows


def _accuracy(classifier: Model, images: Tensor, y: Tensor) -> float:
    return cross_classification({"": classifier}, {"": images}, y)[""][""]
