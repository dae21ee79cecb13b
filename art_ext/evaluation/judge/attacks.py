"""Checks on what was seen while the attacks ran: did they attack what their rows name, and keep what they found?"""

from __future__ import annotations

from art_ext.evaluation.judge.rules import Found, too_many
from art_ext.evaluation.judge.strength import BLIND, BPDA, FULL, TRANSFER, WHITE
from art_ext.evaluation.report import Cell, Report

UNMOVED = 0.5
"""Share of the still-right images from which an attack that does not move fails."""
FEW = 3
"""Images that say too little about whether an attack moves."""
DROPPED, SOME_DROPPED = 0.05, 0.01
"""Share of images whose adversarial iterate may be dropped without a fail, and without a warning."""


def knowledge_as_labelled(report: Report, model: str) -> Found | None:
    """Fails when an attack passed through less, or more, of the purifier than its row's knowledge means.

    A full attacker sends gradients through the purifier (unless the attack uses none), a bpda attacker images, a blind
    one nothing.
    """
    if not report.info(model).defended:
        return None
    wrong = []
    cells = [c for c in report.attacked(model) if c.observed.get("forward") and not c.source]
    for c in cells:
        seen, back = c.observed.get("purifier_forward", 0), c.observed.get("purifier_backward", 0)
        if c.knowledge in (BLIND, TRANSFER) and seen:
            wrong.append(f"{c.attack} is labelled {c.knowledge}, and {seen} images went through the purifier")
        elif c.knowledge in (FULL, BPDA) and not seen:
            wrong.append(f"{c.attack} is labelled {c.knowledge}, and no image went through the purifier")
        elif c.knowledge in (FULL, BPDA) and not back and not c.black_box and _right(report, c):
            wrong.append(f"{c.attack} is labelled {c.knowledge}, and no gradient went through the purifier")
    if wrong:
        return "fail", "; ".join(wrong)
    if cells:
        return "pass", f"{len(cells)} attacks saw what their rows say"
    return ("not run", "no pass of the model was seen") if report.attacked(model) else None


def randomness(report: Report, model: str) -> Found | None:
    """Fails when a randomised model was attacked through a single draw only, or was found to be one too late."""
    info, attacked = report.info(model), report.attacked(model)
    if not info.random:
        late = [c for c in attacked if c.observed.get("varied")]
        if late:
            return "fail", (
                f"deterministic at first, and two answers to {late[0].observed['varied']} examples of "
                f"{late[0].attack} ({late[0].knowledge}) differ: EOT was not used"
            )
        return "pass", "deterministic: five passes agree on clean images, in the ball, and after an attack"
    seen = [c for c in attacked if c.knowledge in WHITE]
    if not seen:
        return "not run", "randomised, and no attack that knows the defence was asked for"
    samples = max(int(c.parameters.get("eot_samples", 1)) for c in seen)
    text = f"randomised on {info.randomised.value}: the attack that averages most takes {samples} EOT sample(s)"
    return ("pass" if samples > 1 else "fail"), text


def silent_success(report: Report, model: str) -> Found | None:
    """An iterate was adversarial, the returned example is not: over all attacks, warns above 1 %, fails above 5 %."""
    attacked = report.attacked(model)
    cells = [c for c in attacked if c.observed.get("watched")]
    if not cells:
        return ("not run", "no pass of a deterministic model was watched") if attacked else None
    silent, watched = (sum(c.observed[what] for c in cells) for what in ("silent", "watched"))
    worst = max(cells, key=lambda c: c.observed["silent"] / c.observed["watched"])
    text = f"{silent} of {watched} times an adversarial iterate was dropped"
    if silent:
        text += f", most often by {worst.attack} ({worst.knowledge}): {worst.observed['silent']} of "
        text += f"{worst.observed['watched']}"
    return too_many(silent, watched, fail=DROPPED, warn=SOME_DROPPED, text=text)


def attack_moves(report: Report, model: str) -> Found | None:
    """Fails where an attack was never seen on another point of the ball for half of the images that it left right.

    The returned example counts as seen. Where the model's passes were not seen, it was not run.
    """
    cells = [c for c in report.attacked(model) if not c.source]
    if not cells:
        return None
    seen = [c for c in cells if "still" in c.observed]
    if not seen:
        return "not run", "no pass of the model was seen"

    def unmoved(cell: Cell) -> float:
        return cell.observed["unmoved"] / max(1, cell.observed["still"])

    worst = max(seen, key=unmoved)
    still, count = worst.observed["still"], worst.observed["unmoved"]
    text = (
        f"{worst.attack} ({worst.knowledge}) never left the clean image for {count} of the {still} images still right"
    )
    blind = len(cells) - len(seen)
    text += f"; {blind} attacks were not seen" if blind else ""
    return ("fail" if count >= FEW and unmoved(worst) >= UNMOVED else "pass"), text


def _right(report: Report, cell: Cell) -> bool:
    """Whether any image of the cell was right before the attack: else there was nothing to attack."""
    clean = report.clean(cell.model).survived
    return any(clean[: cell.images])
