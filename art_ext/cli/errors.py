"""What a user sees when something is wrong: one line and an exit code, or the traceback with --debug."""

from __future__ import annotations

import errno
import signal
import threading
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from types import FrameType
from typing import Annotated, NamedTuple

import typer

from art_ext.cli.terminal import say
from art_ext.cli.users import Users

FAILED, USAGE, CHECK_FAILED, NOT_MET, INTERRUPTED, TERMINATED = 1, 2, 3, 4, 130, 143
"""Exit codes: not done, a wrong call, a failed check, a criterion that is not met, Ctrl-C, SIGTERM."""
SCRIPTED = "The following operation failed in the TorchScript interpreter"
"""A trace of TorchScript follows; its last line says what is wrong."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
DAMAGED = ("SafetensorError", "BadZipFile", "UnpicklingError")
"""Classes without a common base, by name: their libraries are not loaded for an error message."""

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


class Terminated(KeyboardInterrupt):
    """SIGTERM: ends a command just as Ctrl-C does, with an exit code of its own."""


class _Ending(NamedTuple):
    code: int
    line: str


@contextmanager
def explained(debug: bool, *, resumes: bool = False) -> Iterator[Users]:
    """Ends the command with one line on stderr for what a user can cause; gives what users' models are noted in.

    SIGTERM raises inside as Ctrl-C does, so that both clean up alike.

    Args:
        debug: let the traceback through.
        resumes: whether the same command goes on after an interruption.
    """
    users = Users()
    with _terminable():
        try:
            yield users
        except BrokenPipeError:  # the reader has gone: typer ends quietly
            raise
        except BaseException as error:
            ending = _interrupted(error, resumes) or _failed(error, users)
            if ending is None or (debug and not isinstance(error, KeyboardInterrupt)):
                raise
            if debug:
                traceback.print_exception(error)
            say(f"error: {ending.line}", err=True)
            raise typer.Exit(ending.code) from error


def suggestion(wrong: str, names: Iterable[str]) -> str:
    """A question whether the closest name was meant, empty where none is close."""
    close = get_close_matches(wrong, list(names), 1)
    return f"; did you mean {close[0]!r}?" if close else ""


def out_of_memory(error: BaseException) -> bool:
    """Whether a smaller batch may help, on whatever device."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error))
    )


def machine_failed(error: BaseException) -> bool:
    """Whether memory or the accelerator gave out: no fault of the file, image or model at hand."""
    return (
        out_of_memory(error)
        or type(error).__name__ == "AcceleratorError"
        or (isinstance(error, RuntimeError) and str(error).startswith(("CUDA", "cuDNN", "CUBLAS")))
    )


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM raises `Terminated` inside; where it is ignored, or outside the main thread, nothing changes."""

    def end(number: int, frame: FrameType | None) -> None:
        raise Terminated

    before = signal.getsignal(signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread() or before in (signal.SIG_IGN, None):
        yield
        return
    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupted(error: BaseException, resumes: bool) -> _Ending | None:
    """The ending of an interruption, also of one that the import of a library has turned into an error of its own."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, KeyboardInterrupt):
            code = TERMINATED if isinstance(cause, Terminated) else INTERRUPTED
            return _Ending(code, "interrupted: the same command goes on from here" if resumes else "interrupted")
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return None


def _failed(error: BaseException, users: Users) -> _Ending | None:
    """None for what nobody but this package can have caused."""
    line, role, kind = _line(error), users.role(error), type(error).__name__
    cases = (
        (out_of_memory(error), FAILED, f"{line}: out of memory, lower --batch-size"),
        (_disk_full(error), FAILED, f"{line}: make room, then run the same command again"),
        (isinstance(error, FloatingPointError) or machine_failed(error), FAILED, line),
        (bool(role), FAILED, f"{kind} in {role}: {line} (--debug shows where)"),
        (isinstance(error, (ValueError, TypeError, ImportError, OSError)), USAGE, line),
        (kind in DAMAGED, FAILED, f"a file is damaged or could not be written: {line}"),
    )
    return next((_Ending(code, said) for holds, code, said in cases if holds), None)


def _disk_full(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno in FULL
    text = str(error)
    of_torch = isinstance(error, RuntimeError) and "inline_container" in text and "Reader" not in text
    return of_torch or (type(error).__name__ == "SafetensorError" and any(f"(os error {n})" in text for n in FULL))


def _line(error: BaseException) -> str:
    text = str(error) or type(error).__name__
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        text = f"{error.strerror}: {error.filename}"
    text = text.partition("\nException raised from")[0]  # what follows is a trace of C++
    before, found, _ = text.partition(SCRIPTED)
    text = before + text.strip().splitlines()[-1] if found else text
    return " ".join(text.split())
