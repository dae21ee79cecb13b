"""How arguments are read: no option of one value twice, and no message that carries escape sequences on."""

from __future__ import annotations

import io
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from art_ext.cli.errors import USAGE
from art_ext.cli.terminal import say, shown

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
    """The commands; what is wrong with a call is said without the escape sequences that it may hold."""

    def make_context(self, *args: Any, **more: Any) -> Any:
        with _printable():
            return super().make_context(*args, **more)

    def invoke(self, ctx: Any) -> Any:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
                stream.reconfigure(errors="backslashreplace")  # a terminal without UTF-8 gets all the same a table
        with _printable():
            return super().invoke(ctx)


@contextmanager
def _printable() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        message = getattr(error, "message", None)
        if hasattr(error, "format_message") and isinstance(message, str):  # one of the parser's
            error.message = "\n".join(map(shown, message.split("\n")))  # type: ignore[attr-defined]
        raise
