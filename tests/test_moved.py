"""Names that moved are found at their old place for one more version."""

import importlib

import pytest

from art_ext import objectives
from art_ext.attacks import until_broken

PLACES = {
    "art_ext.purifiers.atop": (objectives, ("AToPFineTuning", "AToPPretraining")),
    "art_ext.purifiers.cdvae": (objectives, ("CDVAEGame", "CDVAETraining", "Curriculum")),
    "art_ext.purifiers.dir": (objectives, ("DIRPretraining", "DIRRestoration")),
    "art_ext.purifiers.rdp": (objectives, ("RDPObjective", "Weights")),
    "art_ext.attacks.rounds": (until_broken, ("always_wrong", "pgd_until_broken")),
}


@pytest.mark.parametrize("old", PLACES)
def test_old_places(old: str) -> None:
    package, (new, names) = importlib.import_module(old), PLACES[old]
    for name in names:
        with pytest.warns(DeprecationWarning, match=f"^{old}.{name} is {new.__name__}.{name} now$"):
            assert getattr(package, name) is getattr(new, name)
    with pytest.raises(AttributeError, match=f"module '{old}' has no attribute 'nothing'"):
        getattr(package, "nothing")  # noqa: B009
