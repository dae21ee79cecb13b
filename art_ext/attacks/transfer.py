"""Attacks that transfer to other networks, as parts: scaled copies, a smoothed gradient, diverse inputs.

Each part gives a gradient or a model, so that they also work alone. Nesterov's look-ahead and the momentum are
options of `pgd`. With model, y and g = ascent(cross_entropy(model, y)):

- MI-FGSM: `pgd(g, x, momentum=1)` [Dong et al. 2018, arXiv:1710.06081]
- SI-NI: `pgd(scaled_copies(g, 5), x, momentum=1, nesterov=True)` [Lin et al. 2020, arXiv:1908.06281]
- TI: `pgd(smoothed(g, 15, 3), x, momentum=1)` [Dong et al. 2019, arXiv:1904.02884]
- DIM: `pgd(ascent(cross_entropy(diverse(model, 0.7), y)), x, momentum=1)` [Xie et al. 2019, arXiv:1803.06978]
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from art_ext.attacks.gradient import Gradient, ascent
from art_ext.attacks.losses import Model, cross_entropy
from art_ext.attacks.norms import Norm, finite
from art_ext.attacks.pgd import pgd


def si_ni_ti_dim(  # noqa: PLR0913  the parameters of four papers, and every one has its default
    model: Model,
    x: Tensor,
    y: Tensor,
    *,
    norm: Norm,
    eps: float,
    steps: int = 10,
    step_size: float | None = None,
    momentum: float = 1.0,
    copies: int = 5,
    kernel: int = 15,
    sigma: float = 3.0,
    probability: float = 0.7,
) -> Tensor:
    """SI-NI-TI-DIM: images (N, C, H, W) in [0, 1] within eps of x that are meant to fool other networks too.

    All four parts of this module on the cross-entropy, from x itself; RDP's table 1 has it with eps 16/255 and the
    defaults [arXiv:2110.07801; Lin et al. 2020, arXiv:1908.06281].

    Args:
        model: the surrogate, images in [0, 1] to logits (N, K).
        x: clean images in [0, 1].
        y: labels (N,).
        norm: one of `Linf()`, `L2()`, `L1()`.
        eps: radius of the ball, in the units of x.
        steps: moves; each takes `copies` gradients.
        step_size: length of a move in the norm; eps / steps unless given.
        momentum: share of the accumulated gradient that is kept, which also scales Nesterov's look-ahead.
        copies: see `scaled_copies`.
        kernel: side of the kernel in pixels, see `smoothed`.
        sigma: see `smoothed`.
        probability: see `diverse`.

    Raises:
        ValueError: negative eps or steps, momentum not positive, or what the parts refuse.
    """
    copied = scaled_copies(ascent(cross_entropy(diverse(model, probability), y)), copies)
    gradient = smoothed(copied, kernel, sigma)
    step_size = eps / max(1, steps) if step_size is None else step_size
    options = {"momentum": momentum, "random_start": False, "nesterov": True}
    return pgd(gradient, x, norm=norm, eps=eps, steps=steps, step_size=step_size, **options)  # type: ignore[arg-type]


def scaled_copies(gradient: Gradient, m: int) -> Gradient:
    """The gradient of the mean loss over x, x / 2, ..., x / 2^(m - 1), with respect to x [arXiv:1908.06281, eq. 7].

    By the chain rule the gradient at x / 2^i enters with the factor 1 / 2^i. The copies run one after the other.

    Raises:
        ValueError: if m is not positive.
    """
    if m < 1:
        raise ValueError(f"expected m >= 1 copies, got {m}")

    def mean(x: Tensor) -> Tensor:
        total = torch.zeros_like(x)
        for i in range(m):
            total += finite(gradient(x / 2**i)) / 2**i
        return total / m

    return mean


def smoothed(gradient: Gradient, kernel_size: int, sigma: float) -> Gradient:
    """The gradient convolved with a Gaussian kernel, each channel by itself [Dong et al. 2019, arXiv:1904.02884].

    Beyond the border the gradient counts as zero; the size stays.

    Args:
        gradient: ascent direction of images (N, C, H, W).
        kernel_size: side of the kernel in pixels, odd; 1 changes nothing.
        sigma: where the kernel ends, in its standard deviations, as `nsig` in the authors' code: at size 15, 3 means
            that 7 pixels are 3 standard deviations. The paper's text has sqrt(3).

    Raises:
        ValueError: an even or negative kernel_size, or a sigma that is not positive.
    """
    if kernel_size < 1 or kernel_size % 2 == 0 or not sigma > 0:
        raise ValueError(f"expected an odd kernel_size >= 1 and sigma > 0, got {kernel_size} and {sigma}")
    line = gaussian_line(kernel_size, sigma)

    def blurred(x: Tensor) -> Tensor:
        found = finite(gradient(x))  # or the kernel would spread a NaN
        channels, half = found.shape[1], kernel_size // 2
        weight = line.to(found, non_blocking=True).expand(channels, 1, 1, -1)
        found = F.conv2d(found, weight, padding=(0, half), groups=channels)
        return F.conv2d(found, weight.transpose(2, 3), padding=(half, 0), groups=channels)

    return blurred


def gaussian_line(size: int, sigma: float) -> Tensor:
    """A Gaussian density at `size` points from -sigma to sigma standard deviations, scaled to sum 1: (size,)."""
    places = torch.linspace(-sigma, sigma, size, dtype=torch.float64) if size > 1 else torch.zeros(1)
    density = (-places.square() / 2).exp()
    return (density / density.sum()).float()


def diverse(model: Model, probability: float, *, smallest: float = 0.9) -> Model:
    """The model behind a random resize and padding [Xie et al. 2019, arXiv:1803.06978].

    With the probability, images (N, C, H, W) shrink to a random side (bilinear) and are put at a random place of a
    black image of the size that they had; otherwise they pass as they are. Each call draws once for its whole batch,
    from torch's ambient CPU generator. Differs from the paper: there images of 299 pixels grow to between 299 and 330
    and are padded to 330. Here no network sees another size, and the range of sides, 0.9 to 1, is the same.

    Args:
        model: anything on images.
        probability: of a change, in [0, 1].
        smallest: least height and width, as a share of the image's, in (0, 1].

    Raises:
        ValueError: probability or smallest out of range.
    """
    if not (0 <= probability <= 1 and 0 < smallest <= 1):
        raise ValueError(
            f"expected probability in [0, 1] and smallest in (0, 1], got {probability} and smallest={smallest}"
        )

    def changed(x: Tensor) -> Tensor:
        if float(torch.rand(())) >= probability:
            return model(x)
        share = smallest + (1 - smallest) * float(torch.rand(()))
        height, width = x.shape[2:]
        rows, columns = max(1, round(share * height)), max(1, round(share * width))
        small = F.interpolate(x, (rows, columns), mode="bilinear", align_corners=False)
        top = int(torch.randint(height - rows + 1, ()))
        left = int(torch.randint(width - columns + 1, ()))
        return model(F.pad(small, (left, width - columns - left, top, height - rows - top)))

    return changed
