"""A secret of any alphabet, put into every place of an execution, is nowhere in the store.

More of it:

    KITARU_SECRETS_RUNS=2000 pytest tests/secrets/test_everywhere.py
"""

from __future__ import annotations

import base64
import binascii
import gzip
import io
import json
import os
import shlex
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import quote, quote_plus

import numpy
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import kitaru
from kitaru import KitaruClient, checkpoint, flow
from kitaru.runtime import secrets
from kitaru.stores import open_store
from kitaru.wire import redaction

NAME = "PLACED_KEY"
_RUNS = int(os.environ.get("KITARU_SECRETS_RUNS", "25"))


def raised(secret: str) -> Any:
    raise ValueError(secret, {"b": secret})


def printed(secret: str) -> None:
    sys.stdout.write("x" * 8190 + secret + "y" * 9000 + "\n" + secret)


def chained(secret: str) -> Any:
    cause = RuntimeError(secret)
    cause.add_note(f"a note: {secret}")
    raise ValueError("no secret") from cause


def zipped(secret: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("member.txt", f"{'x' * 99}{secret}")
    return data.getvalue()


RESULTS: dict[str, Callable[[str], Any]] = {
    "text": lambda s: f"before {s} after",
    "unsorted dict": lambda s: {"z": 1, "a": [s]},
    "key": lambda s: {"z": 1, s: 2},
    "JSON": lambda s: json.dumps({"k": f"x{s}"}),
    "JSON without escapes": lambda s: json.dumps({"k": s}, ensure_ascii=False),
    "bytes": lambda s: f"[{s}]".encode(),
    "large bytes": lambda s: b"x" * 300_000 + s.encode(),
    "large text": lambda s: "x" * 300_000 + s,
    "base64": lambda s: base64.b64encode(f"user:{s}".encode()).decode(),
    "numpy": lambda s: numpy.array(["short", f"x{s}"]),
    "set": lambda s: {s, "b"},
    "raised": raised,
    "printed": printed,
    "hex": lambda s: s.encode().hex(),
    "URL": lambda s: f"https://host/?key={quote_plus(s)}",
    "shell": lambda s: f"curl -H {shlex.quote(s)}",
    "YAML": lambda s: yaml.safe_dump({"k": s, "l": [f"x {s}"]}),
    "repr": lambda s: repr({"k": [s]}),
    "zlib": lambda s: zlib.compress(f"a: {s}".encode()),
    "gzip": lambda s: gzip.compress(f"a: {s}".encode()),
    "zip": zipped,
    "zlib as text": lambda s: base64.b64encode(zlib.compress(f"a: {s}".encode())).decode(),
    "chained": chained,
    "prompt": lambda s: kitaru.llm(f"Say {s}.", model="offline"),
    "artifact name": lambda s: kitaru.save(s, 1),
    "metadata": lambda s: kitaru.log(remark={"z": 1, "a": s}),
    "artifact": lambda s: kitaru.save("file", {"z": 1, "a": s}),
}
BODIES: dict[str, Callable[[str], Any]] = {
    "memory": lambda s: kitaru.memory.set("k", {"z": 1, "a": s}),
    "memory key": lambda s: kitaru.memory.set(s, 1),
    "question": lambda s: kitaru.wait(name="w", question=s, schema=str),
    "schema": lambda s: kitaru.wait(name="w", schema={"type": "string", "enum": [s]}),
    "wait metadata": lambda s: kitaru.wait(name="w", metadata={"z": 1, "a": [s]}),
    "id": lambda s: made("nothing", id=s),
    "result": lambda s: {"z": 1, "a": s},
    "answer": lambda s: kitaru.wait(name="w", schema=str),
    "body prompt": lambda s: kitaru.llm(f"Say {s}.", model="offline"),
    "body raises": raised,
    "body chained": chained,
    "body prints": printed,
}


@checkpoint
def made(place: str) -> Any:
    return RESULTS[place](kitaru.secret(NAME)) if place in RESULTS else None


@flow
def places(place: str) -> Any:
    if place in RESULTS:
        try:
            made(place)
        finally:
            made("nothing")
        return None
    return BODIES[place](kitaru.secret(NAME))


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(redaction, "_known", redaction.Known())
    for name in ("_values", "_plan_references"):
        monkeypatch.setattr(secrets, name, {})
    yield


def leaves(value: Any) -> Iterator[str]:
    """Yield each text of JSON, also of JSON inside of a text."""
    if isinstance(value, str):
        yield value
        try:
            inner = json.loads(value)
        except ValueError:
            return
        if not isinstance(inner, int | float):
            yield from leaves(inner)
    elif isinstance(value, dict):
        for key, one in value.items():
            yield key
            yield from leaves(one)
    elif isinstance(value, list):
        for one in value:
            yield from leaves(one)


def forms(data: bytes) -> Iterator[bytes]:
    """Yield everything that an object of the store says, decoded."""
    yield from plain(data)
    for row in data.split(b"\n"):
        try:
            document = json.loads(row)
        except ValueError:
            continue
        for text in leaves(document):
            yield text.encode("utf-8", "surrogatepass")
            try:
                yield from plain(base64.b64decode(text, validate=True))
            except (binascii.Error, ValueError):
                continue


def plain(data: bytes) -> Iterator[bytes]:
    """Yield bytes, and what is compressed in them."""
    yield data
    for unpack in (zlib.decompress, gzip.decompress):
        with suppress(Exception):
            yield unpack(data)
    with suppress(zipfile.BadZipFile), zipfile.ZipFile(io.BytesIO(data)) as archive:
        yield from map(archive.read, archive.namelist())


# No control characters, which a store may hold by chance.
LETTERS = st.characters(exclude_categories=["Cs", "Cc"])
SECRETS = st.one_of(
    st.text(LETTERS, min_size=8, max_size=30).filter(lambda s: len(set(s)) > 4 and s == s.strip()),
    st.text("\"\\'/é漢🙂 {}[]:,%+=", min_size=8, max_size=24).map(lambda s: f"q{s}Z7"),
    st.from_regex(r"[A-Za-z0-9+/]{20,40}={0,2}", fullmatch=True).filter(lambda s: len(set(s)) > 8),
)


@settings(
    max_examples=_RUNS, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(secret=SECRETS, place=st.sampled_from([*RESULTS, *BODIES]))
def test_no_object_of_the_store_holds_it(secret: str, place: str) -> None:
    written = {secret, repr(secret)[1:-1], ascii(secret)[1:-1], json.dumps(secret)[1:-1]}
    written |= {secret.encode().hex(), quote(secret, safe=""), quote_plus(secret)}
    written |= {shlex.quote(secret), yaml.safe_dump(secret).removesuffix("\n...\n").strip()}
    encoded = {text.encode() for text in written} | {secret.encode("utf-32-le")}
    url = f"memory:s{os.urandom(6).hex()}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            secrets, "find", lambda name: redaction.register_value(name, secret) or secret
        )
        try:
            if places.options(store=url).run(place).settle(60) == "waiting" and place == "answer":
                client = KitaruClient(url)
                (waiting,) = client.executions.list()
                client.executions.input(waiting["exec_id"], f"it is {secret}").settle(60)
        except kitaru.errors.KitaruError as error:
            assert secret not in str(error)
    store = open_store(url)
    found = [
        key
        for key in store.list("")
        for form in forms(store.get(key) or b"")
        if any(one in form for one in encoded)
    ]
    assert not found, place
