"""Read documents with the strict schemas of Kubernetes."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import yaml

VERSION = "1.37"
SETUP = "setup.yaml"


def problems(path: Path) -> Iterator[str]:
    """Yield what the schemas say of a Job, and of the objects in the file beside it."""
    for file in (path, path.with_name(SETUP)):
        if file.exists():
            yield from of_text(file.read_text(encoding="utf-8"))


def of_text(text: str) -> Iterator[str]:
    """Yield what the schemas say of the objects in a text."""
    validate = import_module("kubernetes_validate").validate
    for document in yaml.safe_load_all(text):
        try:
            validate(document, VERSION, strict=True)
        except Exception as error:
            yield f"{type(error).__name__}: {error}"[:500]
