"""Checks on a model: could an attack have worked at all? Each reads what inspection found, and measures nothing."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

from art_ext.evaluation.binarisation import LEAST
from art_ext.evaluation.inspect import Gradient, ModelInfo
from art_ext.evaluation.judge.rules import Found, too_few, too_many
from art_ext.evaluation.report import Report

FALSE_SLOPE = 0.25
"""Error of an image's slope from which its gradient is false."""
FALSE, FALSE_EXCLUDED = 0.05, 0.2
"""Share of images with a false gradient above which a model fails, and the share that a pass excludes."""
DEAD, SOME_DEAD = 0.05, 0.01
"""Share of images without a usable gradient above which a model fails, and above which there is a warning."""
FOUND = 2 / 3
"""Share of the planted examples that a pass says is surely found: all of eight are enough."""


def gives_logits(info: ModelInfo) -> Found:
    """Fails on outputs that are probabilities: they flatten the gradients of every attack."""
    if info.probabilities:
        return "fail", "outputs lie in [0, 1] and sum to 1: probabilities, expected logits"
    return "pass", f"{info.classes} logits an image"


def finite(info: ModelInfo) -> Found:
    """Fails on logits that are not finite; such an answer is wrong."""
    if info.bad_rows is None:
        return "not run", "logits were not looked at"
    text = f"{info.bad_rows} of {info.images} images have logits that are not finite"
    return ("fail" if info.bad_rows else "pass"), text


def answers_in_the_ball(info: ModelInfo) -> Found:
    """Fails where the model answers clean images and raises on others of the ball: attacks on it end in errors."""
    if info.error:
        return "fail", f"raises {info.error}"
    return "pass", "it answers at random points of the ball, too"


def input_untouched(info: ModelInfo) -> Found:
    """Fails where the model writes into the images that it is given; it was given copies."""
    if info.writes_input:
        return "fail", "the model writes into its input: elsewhere it would change its caller's images"
    return "pass", "the images that go in stay as they are"


def one_image_at_a_time(info: ModelInfo) -> Found:
    """Fails where an image's answer depends on what else is in the batch: an attacker does not choose that."""
    if info.batch is None:
        return "not run", "needs two images, and a model whose answers a seed repeats"
    text = f"{info.batch.changed} of {info.batch.images} images are answered otherwise {info.batch.how}"
    return ("fail" if info.batch.changed else "pass"), text


def answers_repeat(info: ModelInfo) -> Found:
    """Fails where a deterministic model ends with other answers to the clean images than it began with."""
    if info.answers_repeat is None:
        return "not run", "randomised" if info.random else "the clean images were answered once"
    text = f"{info.answers_repeat} clean images are answered otherwise at the end than at the start"
    return ("fail" if info.answers_repeat else "pass"), text


def zero_gradient(info: ModelInfo) -> Found:
    """Images whose gradient is zero or not finite at a random start: warns where surely above 1 %, fails above 5 %."""
    if info.gradient is Gradient.MISSING:
        return "fail", f"no gradient at all: {info.gradient_error}"
    if info.gradient is Gradient.FAILED:
        return "fail", f"the backward pass raises {info.gradient_error}"
    dead = info.zero_gradients + info.bad_gradients
    parts = [(info.zero_gradients, "zero"), (info.bad_gradients, "not finite")]
    said = ", ".join(f"{n} {what}" for n, what in parts if n)
    text = f"{dead} of {info.images} images have no usable gradient" + (f" ({said})" if said else "")
    return too_many(dead, info.images, fail=DEAD, warn=SOME_DEAD, text=text)


def gradient_through_art(info: ModelInfo) -> Found:
    """Fails when ART's `loss_gradient` of the wrapped classifier is zero, or not torch's."""
    if info.art is None:
        return "not run", info.slope_reason or "there is no gradient"
    if info.art.error:
        return "fail", f"ART raises {info.art.error}"
    if info.art.peak == 0:
        return "fail", "ART's gradient is zero"
    wrong = info.art.gap > 1e-5 + 1e-3 * info.art.direct
    return ("fail" if wrong else "pass"), f"largest difference {info.art.gap:.1e}"


def finite_differences(info: ModelInfo) -> Found:
    """Fails when the margin surely changes otherwise than the gradient on more than 5 % of the images; see `slopes`.

    False is a change that differs by a quarter.
    """
    if info.slopes is None:
        return "not run", info.slope_reason
    if not info.slopes:
        return "fail", "no image has a gradient to compare with"
    n, false = len(info.slopes), sum(error > FALSE_SLOPE for error in info.slopes)
    text = (
        f"false on {false} of {n} images; the median error of the margin's change is {100 * median(info.slopes):.1f} %"
    )
    return too_many(false, n, fail=FALSE, warn=FALSE, text=text, margin=FALSE_EXCLUDED)


def saturated_pixels(info: ModelInfo) -> Found | None:
    """Share of pixels that the purifier's final clamp holds, with no gradient: warn above 5 %, fail from 90 %."""
    held = info.held_pixels
    if held is None:
        return None
    return ("pass" if held <= 0.05 else "warn" if held < 0.9 else "fail"), (
        f"the final clamp holds {100 * held:.1f} % of the pixels"
    )


def attack_unit_test(info: ModelInfo) -> Found | None:
    """Whether attacks find 95 % of examples that are known to be there (`binarisation_test`).

    Fails where PGD and APGD of real effort together surely find fewer: gradients then do not lead to what is there.
    Warns where the probes' PGD alone surely does.
    """
    test = info.unit_test
    if test is None:
        return None
    if test.reason:
        return "not run", test.reason
    alone = test.found if test.by_pgd is None else test.by_pgd
    by_pgd = "" if test.by_pgd is None else f"{alone}, and with APGD "
    text = f"of {test.usable} planted examples the probes' PGD finds {by_pgd}{test.found}, random search {test.random}"
    found = too_few(test.found, test.usable, LEAST, enough=FOUND, text=text)
    weak = too_few(alone, test.usable, LEAST, enough=FOUND, text=text)
    return ("warn", text) if found[0] != "fail" and weak[0] in ("fail", "warn") else found


MODEL_CHECKS: dict[str, Callable[[ModelInfo], Found | None]] = {
    "gives logits": gives_logits,
    "finite": finite,
    "answers in the ball": answers_in_the_ball,
    "input untouched": input_untouched,
    "one image at a time": one_image_at_a_time,
    "answers repeat": answers_repeat,
    "zero gradient": zero_gradient,
    "gradient through ART": gradient_through_art,
    "finite differences": finite_differences,
    "saturated pixels": saturated_pixels,
    "attack unit test": attack_unit_test,
}


def on_model(report: Report, model: str) -> dict[str, Found]:
    """The verdicts on a model by name of the check; none for a report before schema 3."""
    info = report.info(model)
    if info.fingerprint is None:
        return {}
    found = {name: check(info) for name, check in MODEL_CHECKS.items()}
    return {name: said for name, said in found.items() if said is not None}
