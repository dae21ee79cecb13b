"""An evaluation as a TOML file: read in place of options, and written from those of a call."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import typer

from art_ext.cli.errors import USAGE, suggestion
from art_ext.cli.terminal import say
from art_ext.files import replacing

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

NOT_KEPT = ("config", "save_config", "debug", "help")


def config_file(ctx: typer.Context, file: Path | None) -> Path | None:
    """Takes the values of a TOML file as those of the options that a call does not give; ends the command if it cannot.

    Keys are the options' long names, with - or _. A list is an option that may be repeated.
    """
    if file is None or ctx.resilient_parsing:
        return file
    try:
        ctx.default_map = _values(ctx, file)
    except ValueError as error:
        say(f"error: {error}", err=True)
        raise typer.Exit(USAGE) from error
    return file


def save(ctx: Any, file: Path | None) -> None:
    """Writes the options that differ from their defaults to a TOML file; does nothing without one."""
    if file is None:
        return
    lines = []
    for parameter in _options(ctx).values():
        value = ctx.params.get(parameter.name)
        if value in (None, (), []) or value == parameter.get_default(ctx, call=True):
            continue
        key = max(parameter.opts, key=len).lstrip("-")
        lines.append(f"{key} = {json.dumps([*map(_plain, value)] if parameter.multiple else _plain(value))}\n")
    with replacing(file) as temporary:
        temporary.write_text("".join(lines), "utf-8")


def _values(ctx: typer.Context, file: Path) -> dict[str, Any]:
    """Values by name of the parameter.

    Raises:
        ValueError: no such file, no TOML, an unknown option, or several values for one that takes one.
    """
    try:
        found = tomllib.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"expected a TOML file of options, got {file}: {error}") from error
    known = _options(ctx)
    values = {}
    for key, value in found.items():
        name = key.replace("_", "-")
        if name not in known:
            raise ValueError(f"expected options in {file}, got {key!r}{suggestion(name, known)}")
        several = isinstance(value, list)
        if isinstance(value, dict) or several != bool(known[name].multiple):
            what = "a list" if known[name].multiple else "a single value"
            raise ValueError(f"expected {what} for {key!r} in {file}, got {value!r}")
        values[known[name].name] = [*map(str, value)] if several else value if isinstance(value, bool) else str(value)
    return values


def _options(ctx: Any) -> dict[str, Any]:
    """The command's options by long name."""
    found = {}
    for parameter in ctx.command.params:
        if parameter.param_type_name == "option" and parameter.name not in NOT_KEPT and not parameter.hidden:
            found[max(parameter.opts, key=len).lstrip("-")] = parameter
    return found


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value
