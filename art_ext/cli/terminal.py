"""Lines in the terminal; names that come from outside cannot move its cursor, colour it or hide in it."""

from __future__ import annotations

import typer


def shown(text: object) -> str:
    r"""The text on one line; what a terminal would obey or hide (escape sequences, say) stands as \x1b and the like."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def say(text: object, *, err: bool = False) -> None:
    """Prints one line on standard output, or on standard error."""
    typer.echo(shown(text), err=err)


def warn(text: object) -> None:
    """Prints a warning on standard error."""
    say(f"warning: {text}", err=True)
