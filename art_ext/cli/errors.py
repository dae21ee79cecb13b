"""What a user sees when something is wrong: one line and an exit code, or the traceback with --debug."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Annotated

import typer

FAILED, USAGE, CHECK_FAILED, INTERRUPTED = 1, 2, 3, 130
"""Exit codes: something could not be done, a wrong call, a failed check with --strict, Ctrl-C."""

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


@contextmanager
def explained(debug: bool, *, resumes: bool = False) -> Iterator[None]:
    """Ends the command with one line on stderr for what a user can cause.

    Args:
        debug: let the traceback through.
        resumes: whether the same command goes on after an interruption.
    """
    try:
        yield
    except KeyboardInterrupt:
        if debug:
            raise
        _say("interrupted: the same command goes on from here" if resumes else "interrupted")
        raise typer.Exit(INTERRUPTED) from None
    except (ValueError, TypeError, ImportError, OSError) as error:
        if debug:
            raise
        _say(_line(error))
        raise typer.Exit(USAGE) from error
    except (FloatingPointError, RuntimeError) as error:
        out_of_memory = type(error).__name__ == "OutOfMemoryError"
        if debug or not (out_of_memory or isinstance(error, FloatingPointError)):
            raise
        _say(_line(error) + (": lower --batch-size" if out_of_memory else ""))
        raise typer.Exit(FAILED) from error


def suggestion(wrong: str, names: Iterable[str]) -> str:
    """A question whether the closest name was meant, empty where none is close."""
    close = get_close_matches(wrong, list(names), 1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _say(line: str) -> None:
    typer.echo(f"error: {line}", err=True)


def _line(error: BaseException) -> str:
    text = str(error) or type(error).__name__
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        text = f"{error.strerror}: {error.filename}"
    return " ".join(text.split())
