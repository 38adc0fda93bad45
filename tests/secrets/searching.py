"""Secrets of all alphabets, and the search for them in every byte of something."""

from __future__ import annotations

import base64
import binascii
import gzip
import io
import json
import os
import shlex
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import yaml
from hypothesis import strategies as st

from kitaru.stores import open_store

RUNS = int(os.environ.get("KITARU_SECRETS_RUNS", "25"))
# No control characters, which a store may hold by chance.
LETTERS = st.characters(exclude_categories=["Cs", "Cc"])
SECRETS = st.one_of(
    st.text(LETTERS, min_size=8, max_size=30).filter(lambda s: len(set(s)) > 4 and s == s.strip()),
    st.text("\"\\'/é漢🙂 {}[]:,%+=", min_size=8, max_size=24).map(lambda s: f"q{s}Z7"),
    st.from_regex(r"[A-Za-z0-9+/]{20,40}={0,2}", fullmatch=True).filter(lambda s: len(set(s)) > 8),
)


def holders(secret: str, contents: Mapping[str, bytes]) -> list[str]:
    """Return the names of the contents that contain a secret in any form."""
    written = {secret, repr(secret)[1:-1], ascii(secret)[1:-1], json.dumps(secret)[1:-1]}
    written |= {secret.encode().hex(), quote(secret, safe=""), quote_plus(secret)}
    written |= {shlex.quote(secret), yaml.safe_dump(secret).removesuffix("\n...\n").strip()}
    sought = {text.encode() for text in written} | {secret.encode("utf-32-le")}
    return [
        name
        for name, data in contents.items()
        if any(one in form for form in _forms(data) for one in sought)
    ]


def contents(url: str) -> dict[str, bytes]:
    """Return the objects of a store with their keys, and every byte of the files of one."""
    store = open_store(url)
    found = {key: f"{key}\n".encode() + (store.get(key) or b"") for key in store.list("")}
    if url.startswith("sqlite:"):
        # The log is there as long as the store is open. Free pages and old frames are in it.
        folder = Path(url.removeprefix("sqlite:")).parent
        found |= {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    store.close()
    return found


def _forms(data: bytes) -> Iterator[bytes]:
    """Yield bytes, and what they contain in base64, in JSON inside of texts, and compressed."""
    yield from _unpacked(data)
    for row in {data, *data.split(b"\n")}:
        try:
            document = json.loads(row)
        except ValueError:
            continue
        for text in _leaves(document):
            yield text.encode("utf-8", "surrogatepass")
            try:
                yield from _unpacked(base64.b64decode(text, validate=True))
            except (binascii.Error, ValueError):
                continue


def _unpacked(data: bytes) -> Iterator[bytes]:
    """Yield bytes, and what is compressed in them."""
    yield data
    for unpack in (zlib.decompress, gzip.decompress):
        with suppress(Exception):
            yield unpack(data)
    with suppress(zipfile.BadZipFile), zipfile.ZipFile(io.BytesIO(data)) as archive:
        for name in archive.namelist():
            yield name.encode()
            yield from _forms(archive.read(name))


def _leaves(value: Any) -> Iterator[str]:
    """Yield each text of JSON, also of JSON inside of a text."""
    if isinstance(value, str):
        yield value
        try:
            inner = json.loads(value)
        except ValueError:
            return
        if not isinstance(inner, int | float):
            yield from _leaves(inner)
    elif isinstance(value, dict):
        for key, one in value.items():
            yield key
            yield from _leaves(one)
    elif isinstance(value, list):
        for one in value:
            yield from _leaves(one)
