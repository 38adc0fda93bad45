"""Large byte strings, stored in chunks by digest outside of the document that refers to them.

Writers and readers need memory for only a few chunks. A store needs no special support, because
each chunk is an ordinary object.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from kitaru.wire.limits import CHUNK_BYTES

MARK = "$kitaru"
_FORM = "part/1"

Chunk = bytes | memoryview
Chunks = Callable[[], Iterable[Chunk]]


class Part:
    """Bytes, or the UTF-8 of a string, as one leaf of a document.

    Each call of `chunks` yields them from the start. `hashes` are the chunks' hexadecimal digests
    and `size` is the number of bytes. Both are computed when first read unless they are passed.
    """

    __slots__ = ("_hashes", "_size", "chunks")

    def __init__(self, chunks: Chunks, hashes: tuple[str, ...] = (), size: int = -1) -> None:
        self.chunks = chunks
        self._hashes = hashes
        self._size = size

    @property
    def size(self) -> int:
        self._measure()
        return self._size

    @property
    def hashes(self) -> tuple[str, ...]:
        self._measure()
        return self._hashes

    def reference(self) -> dict[str, Any]:
        """Return the reference to the part in the JSON of its document."""
        return {MARK: _FORM, "chunks": list(self.hashes), "size": self.size}

    def join(self) -> bytes:
        """Return all bytes in one object."""
        return b"".join(self.chunks())

    def text(self) -> str:
        """Return the string; no chunk ends within a character."""
        return "".join(str(chunk, "utf-8", "surrogatepass") for chunk in self.chunks())

    def fill(self, target: memoryview) -> None:
        """Write the bytes into memory of exactly their size; else raise ValueError."""
        at = 0
        for chunk in self.chunks():
            target[at : at + len(chunk)] = chunk
            at += len(chunk)
        if at != len(target):
            raise ValueError(f"{at} bytes were recorded where {len(target)} belong")

    def _measure(self) -> None:
        if self._size >= 0:
            return
        sizes, hashes = [], []
        for chunk in self.chunks():
            sizes.append(len(chunk))
            hashes.append(hashlib.sha256(chunk).hexdigest())
        self._size, self._hashes = sum(sizes), tuple(hashes)


def of_bytes(data: Any) -> Part:
    """Return the part for any contiguous bytes. The part refers to them without a copy."""
    view = memoryview(data).cast("B")

    def chunks() -> Iterator[Chunk]:
        return (view[at : at + CHUNK_BYTES] for at in range(0, len(view), CHUNK_BYTES))

    return Part(chunks)


def of_text(text: str) -> Part:
    """Return the part for a string, lone surrogates included."""
    # A character takes at most four bytes.
    step = CHUNK_BYTES // 4

    def chunks() -> Iterator[Chunk]:
        for at in range(0, len(text), step):
            yield text[at : at + step].encode("utf-8", "surrogatepass")

    return Part(chunks)


def reference(part: Any) -> dict[str, Any]:
    """Return the JSON reference to a part; raise TypeError for anything else."""
    if isinstance(part, Part):
        return part.reference()
    raise TypeError(f"JSON has no word for a {type(part).__qualname__}")


def referred(document: dict[str, Any], chunks: Callable[[tuple[str, ...]], Iterable[Chunk]]) -> Any:
    """Return the part that a JSON object represents, or the object itself.

    `chunks` reads the chunks with these hashes.
    """
    if document.get(MARK) != _FORM:
        return document
    hashes = tuple(document["chunks"])
    return Part(lambda: chunks(hashes), hashes, document["size"])
