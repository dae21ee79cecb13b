"""Models that are users' own code, to tell an error in one of them from an error in this package."""

from __future__ import annotations

import traceback
from pathlib import Path
from types import FrameType


class Users:
    """What a command has loaded from users' files."""

    def __init__(self) -> None:
        self.models: list[tuple[str, object]] = []
        self.files: dict[str, str] = {}

    def add(self, role: str, model: object, spec: str) -> None:
        """Notes a model.

        Args:
            role: such as "the classifier"; for the message.
            model: the module that is called.
            spec: as on the command line; of `file.py:name` the file is noted too.
        """
        self.models.append((role, model))
        file = spec.rpartition(":")[0]
        if file.endswith(".py"):
            self.files.setdefault(str(Path(file).resolve()), role)

    def role(self, error: BaseException) -> str:
        """The role of the model in which the error was raised; empty where it was raised elsewhere.

        A frame of the model's own call says so, whatever module of torch the error comes from. A backward pass has no
        such frame: there, code of the user's file does.
        """
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        for frame in reversed(frames):
            owner = frame.f_locals.get("self")
            for role, model in self.models:
                if owner is model:
                    return role
        for frame in reversed(frames):
            file = str(Path(frame.f_code.co_filename).resolve())
            if file in self.files:
                return self.files[file]
        return "a backward pass" if frames and self.models and _of_autograd(frames[-1]) else ""


def _of_autograd(frame: FrameType) -> bool:
    return frame.f_globals.get("__name__", "").startswith("torch.autograd")
