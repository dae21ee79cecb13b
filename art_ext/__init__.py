"""Adversarial purification for the Adversarial Robustness Toolbox, and evaluations that test their own attacks."""

from typing import TYPE_CHECKING

__version__ = "0.2.0"
__all__ = [
    "attacks",
    "classifiers",
    "data",
    "defences",
    "detectors",
    "estimators",
    "evaluation",
    "nn",
    "objectives",
    "plots",
    "presets",
    "purifiers",
    "training",
]

if not TYPE_CHECKING:  # type checkers find the modules by themselves, and misspelt ones

    def __getattr__(name: str) -> object:
        """A public module, imported when it is first asked for: `import art_ext` alone loads nothing."""
        if name not in __all__:
            raise AttributeError(f"expected one of {', '.join(__all__)}; got art_ext.{name}")
        from importlib import import_module

        return import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__} - {"TYPE_CHECKING"})
