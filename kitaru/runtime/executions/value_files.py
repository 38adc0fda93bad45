"""A recorded value as a file that people can open: an image, a text or JSON.

It is made from the value's document alone. No code of the project is imported.
"""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from io import BytesIO
from typing import Any

from kitaru.errors import RecordCorrupt
from kitaru.runtime import codec
from kitaru.runtime.codec.builtin_types import load_bytes
from kitaru.runtime.journal.to_json import as_json
from kitaru.wire.redaction import redacted_json
from kitaru.wire.structs import Struct

_BYTES = ("bytes", "bytearray")
_PILLOW = "PIL.Image.Image"
# Other images, such as SVG, can contain scripts.
_IMAGES = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "png", "image/png"),
    (re.compile(rb"\xff\xd8\xff"), "jpg", "image/jpeg"),
    (re.compile(rb"GIF8[79]a"), "gif", "image/gif"),
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), "webp", "image/webp"),
)
_PDF = b"%PDF-"
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")
_MOST_NAME = 80


class ValueFile(Struct):
    """A value as a file. `media_type` is that of an image, a text, JSON, or unknown bytes."""

    name: str
    data: bytes
    media_type: str

    @property
    def is_image(self) -> bool:
        """Whether browsers show it as an image, which cannot contain a script."""
        return self.media_type.startswith("image/")


def file_of(name: str, document: Any) -> ValueFile:
    """Return the file of a recorded value, by its document.

    Bytes stay as they are, images of Pillow become PNG if Pillow is installed, strings become
    text, and everything else becomes JSON. Secrets in texts and JSON are hidden. `name` is that of
    the artifact, from which the name of the file is made.

    Raises:
        RecordCorrupt: the document is damaged.

    Example:
        file_of("draft", "Dear all").name  # draft.txt
    """
    tag, data = root_of(document)
    drawn = _png(document) if tag == _PILLOW else None
    if tag in _BYTES:
        content = _content(data)
        kind, media_type = _kind(content)
    elif drawn is not None:
        content, kind, media_type = drawn, "png", "image/png"
    else:
        value = redacted_json(as_json(document))
        if isinstance(value, str):
            content, kind = value.encode("utf-8", "backslashreplace"), "txt"
            media_type = "text/plain; charset=utf-8"
        else:
            text = json.dumps(value, indent=2)
            content, kind, media_type = text.encode("ascii"), "json", "application/json"
    stem = _UNSAFE.sub("-", name).strip("-")[:_MOST_NAME] or "value"
    return ValueFile(f"{stem}.{kind}", content, media_type)


def image_type(document: Any) -> str:
    """Return the media type of a recorded image, by its document; empty for another value."""
    tag, data = root_of(document)
    if tag == _PILLOW and find_spec("PIL") is not None:
        return "image/png"
    media_type = _kind(_content(data))[1] if tag in _BYTES else ""
    return media_type if media_type.startswith("image/") else ""


def root_of(document: Any) -> tuple[str, Any]:
    """Return tag and data of the root of a document; an empty tag for plain JSON."""
    if not isinstance(document, dict) or "nodes" not in document:
        return "", None
    try:
        root = document["root"]
        tag, data, *_ = document["nodes"][root[0]] if isinstance(root, list) else ("", None)
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise RecordCorrupt(f"A recorded value is damaged: {error}") from error
    return tag, data


def _content(data: Any) -> bytes:
    try:
        return load_bytes(data)
    except (IndexError, TypeError, ValueError) as error:
        raise RecordCorrupt(f"A recorded value is damaged: {error}") from error


def _kind(content: bytes) -> tuple[str, str]:
    for pattern, kind, media_type in _IMAGES:
        if pattern.match(content):
            return kind, media_type
    if content.startswith(_PDF):
        return "pdf", "application/pdf"
    return "bin", "application/octet-stream"


def _png(document: Any) -> bytes | None:
    """Return a recorded image as PNG; None without Pillow, and if it is empty."""
    if find_spec("PIL") is None:
        return None
    image, made = codec.decode(document), BytesIO()
    try:
        image.convert("RGBA" if "A" in image.getbands() else "RGB").save(made, "PNG")
    except (OSError, ValueError):
        return None
    return made.getvalue()
