"""Adversarial purification for the Adversarial Robustness Toolbox, and evaluations that cannot flatter."""

__version__ = "0.1.0"
