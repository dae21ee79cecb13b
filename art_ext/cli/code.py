"""Users' Python files and importable modules."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from art_ext.cli.errors import machine_failed, suggestion


def code(spec: str) -> Any:
    """The object that `package.module:name` or `path/to/file.py:name` names; runs that code.

    Raises:
        ValueError: no such file, module or name, or an error while it is imported.
    """
    where, _, name = spec.rpartition(":")
    try:
        module = _file(Path(where)) if where.endswith(".py") else _module(where)
    except (Exception, SystemExit) as error:  # whatever a user's code raises
        if machine_failed(error):
            raise
        raise ValueError(f"expected {where} to be importable, got {type(error).__name__}: {error}") from error
    if not hasattr(module, name):
        names = [n for n in vars(module) if not n.startswith("_")]
        raise ValueError(f"expected a name in {where}, got {name!r}{suggestion(name, names)}")
    return getattr(module, name)


def check_named(spec: str) -> None:
    """Refuses a file of Python without the name of what is meant in it; says which there are.

    Raises:
        ValueError: such a file.
    """
    file = Path(spec)
    if file.suffix != ".py" or not file.is_file():
        return
    try:
        body = ast.parse(file.read_bytes()).body
    except (SyntaxError, ValueError):
        body = []
    names = [node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    names += [t.id for node in body if isinstance(node, ast.Assign) for t in node.targets if isinstance(t, ast.Name)]
    there = ", ".join(name for name in names if not name.startswith("_")) or "none"
    raise ValueError(f"expected a name in {spec} too, as {spec}:NAME, got the file alone; names there: {there}")


def _module(name: str) -> ModuleType:
    if str(Path.cwd()) not in sys.path:  # as `python -m` does, and a console script does not
        sys.path.insert(0, str(Path.cwd()))
    return importlib.import_module(name)


def _file(path: Path) -> ModuleType:
    if not path.is_file():
        raise FileNotFoundError("no such file")
    if str(path.resolve().parent) not in sys.path:  # as `python file.py` does
        sys.path.insert(0, str(path.resolve().parent))
    spec = importlib.util.spec_from_file_location(f"art_ext_user_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickle look there
    spec.loader.exec_module(module)
    return module


def called(factory: Callable[[], Any], spec: str) -> Any:
    """What a factory gives.

    Raises:
        ValueError: the factory raises, or ends the process.
    """
    try:
        return factory()
    except (Exception, SystemExit) as error:  # whatever a user's code raises
        if machine_failed(error):
            raise
        raise ValueError(f"expected {spec}() to build a model, got {type(error).__name__}: {error}") from error
