"""Old names of keywords work for one more version, and say so."""

from __future__ import annotations

import pytest
import torch

from art_ext.attacks import Averaged, Linf, always_wrong, apgd, eot, pgd_until_broken

X, Y = torch.full((1, 1, 1, 2), 0.5), torch.tensor([0])


def test_draws_are_eot_samples() -> None:
    model = torch.nn.Flatten()
    calls = {
        "eot": lambda: eot(torch.ones_like, draws=3)(X),
        "Averaged": lambda: Averaged(model, draws=3)(X),
        "apgd": lambda: apgd(lambda v: v.mean((1, 2, 3)), X, norm=Linf(), eps=0.1, steps=1, draws=3),
        "always_wrong": lambda: always_wrong(model, X, Y, draws=3),
        "pgd_until_broken": lambda: pgd_until_broken(
            model, X, Y, norm=Linf(), eps=0.1, steps=1, check_every=1, draws=10
        ),
    }
    for name, call in calls.items():
        with pytest.warns(DeprecationWarning, match=rf"draws of {name}\(\) is called eot_samples now") as seen:
            call()
        assert [w.filename for w in seen] == [__file__]


def test_the_old_keyword_is_worth_the_new_one() -> None:
    with pytest.warns(DeprecationWarning, match="eot_samples"):
        made = Averaged(torch.nn.Flatten(), draws=5)
    assert (made.eot_samples, made.draws) == (5, 5)
    with pytest.raises(TypeError, match="expected eot_samples once"):
        Averaged(torch.nn.Flatten(), 5, draws=5)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="expected eot_samples once"):
        eot(torch.ones_like, eot_samples=2, draws=2)  # type: ignore[call-arg]
