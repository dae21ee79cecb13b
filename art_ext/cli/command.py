"""How arguments are read, and what is done for every command."""

from __future__ import annotations

import io
import sys
from collections import Counter
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from art_ext.cli.errors import USAGE
from art_ext.cli.terminal import say

TIMES = {2: "twice"}


class Command(TyperCommand):
    """A command whose options of one value are given once: the parser alone would keep the last in silence."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing:  # of shell completion
            _, _, order = self.make_parser(ctx).parse_args(list(args))
            counts = Counter(p for p in order if _takes_one(p))
            for option, count in counts.items():
                if count > 1:
                    times = TIMES.get(count, f"{count} times")
                    say(f"error: expected {max(option.opts, key=len)} once, got it {times}", err=True)
                    raise typer.Exit(USAGE)
        parsed: list[str] = super().parse_args(ctx, args)
        return parsed


def _takes_one(parameter: Any) -> bool:
    """Whether it is an option with a value, and a single one."""
    return parameter.param_type_name == "option" and not (parameter.multiple or parameter.is_flag or parameter.count)


class Group(TyperGroup):
    """The commands; a terminal that cannot show a character gets its number instead of an error."""

    def invoke(self, ctx: Any) -> Any:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
                stream.reconfigure(errors="backslashreplace")
        return super().invoke(ctx)
