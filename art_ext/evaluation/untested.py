"""What an evaluation did not test, in words for its report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from art_ext.evaluation.backends import BACKENDS, Attack
from art_ext.evaluation.settings import Settings
from art_ext.evaluation.targets import Defended
from art_ext.evaluation.threat import Knowledge, Threat


def not_tested(
    models: Sequence[Defended], attacks: Sequence[Attack], threat: Threat, settings: Settings
) -> tuple[str, ...]:
    """A line for each kind of attack, image or check that the evaluation does without, and why."""
    return (
        *_knowledge(models, settings),
        *_libraries(attacks),
        *_kinds(attacks),
        f"perturbations of another norm than {threat.norm}, or larger than {threat.plain()['given']} but for the sweep",
        *_checks(models, settings),
        *(f"{a.title}: only the first {a.images} images" for a in attacks if a.images is not None),
        *(f"{a.title}: only {' and '.join(k.value for k in a.knowledge)}" for a in attacks if a.knowledge),
    )


def _knowledge(models: Sequence[Defended], settings: Settings) -> Iterator[str]:
    asked = (*settings.knowledge, Knowledge.UNDEFENDED)
    yield from (f"{k.value} attacks: not asked for" for k in Knowledge if k not in asked)
    if Knowledge.TRANSFER in settings.knowledge:
        without = [m.name for m in models if m.purifier is not None and m.surrogate is None]
        yield from (f"transfer attacks on {name}: no surrogate" for name in without)


def _libraries(attacks: Sequence[Attack]) -> Iterator[str]:
    asked = {a.backend for a in attacks}
    for name, backend in BACKENDS.items():
        if name in asked:
            continue
        try:
            backend.versions()
        except ImportError:
            yield f"attacks of {name}: the library is not installed"
        else:
            yield f"attacks of {name}: none asked for"


def _kinds(attacks: Sequence[Attack]) -> Iterator[str]:
    if not any(a.black_box for a in attacks) and not any(a.name in ("standard", "plus") for a in attacks):
        yield "attacks that need no gradient (Square, decision-based): none asked for"
    if not any(a.bound for a in attacks):
        yield "spatial, colour and JPEG attacks: none asked for"
    if not any(a.targeted for a in attacks):
        yield "targeted attacks: none asked for, beyond those inside AutoAttack"


def _checks(models: Sequence[Defended], settings: Settings) -> Iterator[str]:
    probe = settings.probe
    if probe is None:
        yield "whether more budget, steps, starts or EOT samples would lower the numbers: the sweeps were left out"
    else:
        if probe.seeds < 3:
            yield "the spread over seeds: fewer than three"
        if not probe.unit_tests:
            yield "whether the attack finds examples that are known to be there"
    if not any(m.robust for m in models):
        yield "an adversarially trained network of the same size: none given"
