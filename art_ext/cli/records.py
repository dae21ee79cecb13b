"""What lies beside the weights of a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RECORD = "training.json"
"""What `art-ext train` writes beside a purifier; names its method, and what it was trained on and for."""
CONFIG = "config.json"


def json_object(file: Path) -> dict[str, Any]:
    """What a JSON file holds.

    Raises:
        ValueError: no JSON, or something else than an object.
    """
    try:
        found = json.loads(file.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"expected a JSON file, got {file}, which is none: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"expected a JSON object in {file}, got {type(found).__name__}")
    return found
