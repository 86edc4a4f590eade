"""Files of results: written into a folder that need not be there yet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def ready(path: Path) -> Path:
    """Return ``path``, whose folder is there from now on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def known(path: Path) -> dict[str, Any]:
    """Return what the JSON file ``path`` says, nothing where there is none."""
    said: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return said


def write_json(path: Path, report: dict[str, Any]) -> None:
    """Write what was measured to ``path``."""
    ready(path).write_text(json.dumps(report, indent=1) + "\n")
