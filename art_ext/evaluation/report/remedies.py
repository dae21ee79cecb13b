"""What to do where a check fails, warns or could not tell, in a sentence each."""

from __future__ import annotations

from collections.abc import Mapping

from art_ext.evaluation.report.data import Verdict

NEXT: Mapping[str, str] = {
    "gives logits": "Give the model without its softmax: attacks need logits.",
    "finite": "Look for overflow, a division by zero or a logarithm of 0 in the model; float32 often helps.",
    "answers in the ball": "Let the model answer every image in [0, 1], not the clean ones alone.",
    "input untouched": "Replace in-place operations on the input (relu_, clamp_, x += ...) by ones that copy.",
    "one image at a time": "Put batch normalisation into eval mode, and take out what mixes images of a batch.",
    "answers repeat": "Take out state that changes between calls: counters, caches, running statistics.",
    "zero gradient": "Attack what hides the gradient with BPDA, a margin loss or Square, and report that row.",
    "gradient through ART": "Let ART's classifier see the whole pipeline: no preprocessing outside the graph.",
    "finite differences": "Look for a custom backward pass, rounding or a detached part; attack through BPDA as well.",
    "saturated pixels": "Ask for BPDA, or go by the check of the attack that passes the clamp, where the probes ran.",
    "attack unit test": "Use stronger attacks (suite full): those of the probe miss examples that are there.",
    "clean accuracy": "Compare labels, order of channels, --mean and --std, and weights with those of the training.",
    "clean accuracy cost": "Weigh what the defence costs without any attack, or ask for more images.",
    "attacks ran": "Mend what raised, or lower the batch size, and run the same command again.",
    "inside the threat": "Check the attack's eps and norm, and that it clips to [0, 1].",
    "attack moves": "Check the attack's step size and its units: images lie in [0, 1], not in [0, 255].",
    "asked attacks": "Ask for stronger attacks: the report's own probe broke images that they left.",
    "attack effort": "Ask for attacks of 100 steps with two losses (20 EOT samples if randomised): suite full.",
    "a stronger attack was there": "Go by the worst case, not by the PGD that the sweeps vary.",
    "knowledge as labelled": "Check which module was given as purifier, and which to the attack.",
    "randomness": "Average attacks over the randomness (eot_samples), and answer repeatedly (repeats).",
    "silent success": "Keep the best iterate of the attack instead of the last one.",
    "crafting not weaker": "Craft in float32.",
    "undefended breaks": "Either the attack is too weak, or eps is too small for this classifier: where more steps and "
    "restarts break no more and a larger eps does, raise --eps. Of a network that was trained against attacks, say so: "
    "--robust with the same words, Defended(robust=True).",
    "static baseline": "Compare with an adversarially trained network before the defence is believed to help.",
    "black-box not stronger": "The gradient is masked: go by the black-box row, and look for what hides it.",
    "iterative not weaker": "The gradient is masked, or the step size wrong: try others, and more restarts.",
    "budget monotone": "Look for an attack that fails at large budgets: step size, clipping, masked gradient.",
    "reaches chance": "At this radius every image can become grey: an attack that leaves more is not working.",
    "converged": "Double the steps, EOT samples or restarts until nothing changes.",
    "frozen randomness": "Part of the accuracy is luck of the draw: report the worst case over repeats.",
    "clamp hides nothing": "Go by the attack that passes the clamp.",
    "seeds": "Report the union of several seeds.",
}
"""By name of the check."""


def remedy(verdict: Verdict) -> str:
    """What to do about a failure or a warning; empty for others: what is undetermined needs more images."""
    return NEXT.get(verdict.check, "") if verdict.verdict in ("fail", "warn") else ""
