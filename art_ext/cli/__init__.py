"""The command line: train, purify, evaluate and report without writing Python."""

from art_ext.cli.main import app

__all__ = ["app"]
