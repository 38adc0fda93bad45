"""Values as files at signed URLs of a bucket, with real servers: S3, Azure and Google."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from kitaru import KitaruClient, checkpoint, flow, save
from kitaru.errors import NotFound, StateError, UsageError
from kitaru.ops.export import export, import_execution
from kitaru.runtime import codec
from kitaru.runtime.executions.value_files import file_of
from kitaru.stores import open_store
from kitaru.stores.base import Sharing, Store
from kitaru.stores.memory import MemoryStore
from kitaru.wire import keys
from tests.server.conftest import API, problem, serving

from .servers.proxy import Proxy

httpx = pytest.importorskip("httpx")

PAGE = b"<script>alert(document.domain)</script>"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
KEY = f"sk-{secrets.token_hex(20)}"
MINUTE = timedelta(minutes=1)


@checkpoint
def made(topic: str) -> dict[str, Any]:
    save("page", PAGE)
    save("chart", PNG)
    return {"topic": topic, "key": KEY}


@flow
def report(topic: str) -> str:
    return f"about {made(topic)['topic']}"


@pytest.fixture
def bucket(behind: Callable[[str], Proxy]) -> Callable[[str], Store]:
    def opened(kind: str) -> Store:
        return open_store(f"{behind(kind).url}/{secrets.token_hex(4)}/prefix")

    return opened


def share(store: Store, key: str, value: bytes, name: str = "page.bin") -> str | None:
    assert isinstance(store, Sharing)
    return store.share(key, value, name, MINUTE)


@pytest.mark.parametrize("kind", ["moto", "azurite"])
def test_anybody_can_save_the_file(bucket: Callable[[str], Store], kind: str) -> None:
    with closing(bucket(kind)) as store:
        url = share(store, "x/e/download/a", PAGE)
        assert url is not None
        for _ in range(2):
            found = httpx.get(url)
            assert found.content == PAGE
            # A browser saves it, and never runs it as a page of the bucket.
            assert found.headers["content-disposition"] == 'attachment; filename="page.bin"'
            assert found.headers["content-type"] == "application/octet-stream"
            assert share(store, "x/e/download/a", PAGE) is not None
        if kind == "azurite":
            # The signature is that of one object, for reading.
            assert httpx.get(url.replace("download/a", "execution")).status_code == 403
            assert httpx.delete(url).status_code == 403
        else:
            query = parse_qs(urlsplit(url).query)
            assert query["X-Amz-Expires"] == ["60"]
        # A copy without the headers could be shown as a page.
        store.create("x/e/download/b", PAGE)
        assert share(store, "x/e/download/b", PAGE) is None


def test_credentials_without_a_key_cannot_sign(bucket: Callable[[str], Store]) -> None:
    with closing(bucket("fake-gcs")) as store:
        assert share(store, "x/e/download/a", PAGE) is None


def test_artifacts_of_an_execution(
    bucket: Callable[[str], Store], capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with closing(bucket("moto")) as store:
        handle = report.options(store=store).run("tea")
        assert handle.wait() == "about tea"
        client, id = KitaruClient(store), handle.exec_id
        before = datetime.now(UTC) + MINUTE
        signed = client.artifacts.url(id[:12], "page", lifetime=MINUTE)
        assert (signed.name, signed.size) == ("page.bin", len(PAGE))
        assert before <= datetime.fromisoformat(signed.expires_at) <= before + MINUTE
        assert httpx.get(signed.url).content == PAGE
        assert client.artifacts.url(id, "chart").name == "chart.png"
        shown = httpx.get(client.artifacts.url(id, "made").url).json()
        assert shown == {"topic": "tea", "key": "***"}
        with pytest.raises(NotFound):
            client.artifacts.url(id, "absent")
        for wrong in (timedelta(hours=2), timedelta(), timedelta(seconds=-1)):
            with pytest.raises(UsageError):
                client.artifacts.url(id, "page", lifetime=wrong)

        copies = store.list(keys.downloads(id))
        assert len(copies) == 3
        exported = export(store, id)
        assert not [key for key in exported["objects"] if "/download/" in key]
        # An imported copy would have no headers.
        with pytest.raises(UsageError, match="copy"):
            exported["objects"][copies[0]] = "text"
            import_execution(MemoryStore(), exported)
        client.backup(f"sqlite:{tmp_path}/copy.db")
        with closing(open_store(f"sqlite:{tmp_path}/copy.db")) as copied:
            assert copied.list(keys.execution(id)) and not copied.list(keys.downloads(id))
        assert client.verify_store().findings == ()

        with serving(store) as running:
            path = f"{API}/executions/{id}/files/page"
            moved = running.http.get(path)
            assert moved.status_code == 307
            assert moved.headers["referrer-policy"] == "no-referrer"
            assert moved.headers["cache-control"] == "no-store"
            # The client follows without its token.
            assert httpx.get(moved.headers["location"]).content == PAGE
            remote = KitaruClient(running.url)
            again = remote.artifacts.url(id, "page", lifetime=MINUTE)
            assert httpx.get(again.url).content == PAGE
            for wrong in ("seconds=3601", "seconds=0"):
                path = f"{API}/executions/{id}/signed-urls/page?{wrong}"
                problem(running.http.get(path), 422, "RequestInvalid")
        with serving(store, signed_urls=False) as running:
            streamed = running.http.get(f"{API}/executions/{id}/files/page")
            assert (streamed.status_code, streamed.content) == (200, PAGE)
        signature = parse_qs(urlsplit(again.url).query)["X-Amz-Signature"][0]
        assert signature not in "".join(capfd.readouterr())
        # This file is the source of the flow.
        found = [key for key, data in store.scan("") if b"X-Amz-Signature" in data]
        assert not [key for key in found if not key.startswith("source/")]

        list(client.executions.collect(timedelta()))
        assert store.list(keys.downloads(id)) == []


def test_a_limited_role_signs_only_its_flows(bucket: Callable[[str], Store]) -> None:
    with closing(bucket("moto")) as store:
        handle = report.options(store=store).run("tea")
        handle.wait()
        path = f"{API}/executions/{handle.exec_id}/signed-urls/page"
        tokens = KitaruClient(store).tokens
        with serving(store, accounts=True) as running:
            for flows, status in ((("report",), 200), (("other",), 404)):
                secret = tokens.create(flows[0], "viewer", flows=flows).secret
                headers = {"authorization": f"Bearer {secret}"}
                assert running.http.get(path, headers=headers).status_code == status
            assert running.http.get(path).status_code == 401


def test_a_store_without_a_bucket(tmp_path: Path) -> None:
    store = open_store(f"sqlite:{tmp_path}/kitaru.db")
    handle = report.options(store=store).run("tea")
    handle.wait()
    with pytest.raises(StateError, match="cannot sign"):
        KitaruClient(store).artifacts.url(handle.exec_id, "page")
    with serving(store) as running:
        streamed = running.http.get(f"{API}/executions/{handle.exec_id}/files/page")
        assert (streamed.status_code, streamed.content) == (200, PAGE)
        assert streamed.headers["content-disposition"] == 'attachment; filename="page.bin"'
        assert streamed.headers["content-type"] == "application/octet-stream"
        assert streamed.headers["content-security-policy"].startswith("sandbox")
        path = f"{API}/executions/{handle.exec_id}/signed-urls/page"
        problem(running.http.get(path), 409, "StateError")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("draft", "Dear all", ("draft.txt", b"Dear all", "text/plain; charset=utf-8")),
        ("draft/call-1/prompt", "\ud800", ("draft-call-1-prompt.txt", b"\\ud800", None)),
        ('"; x=\r\n', {"a": (1, 2)}, ("x.json", None, "application/json")),
        ("…", b"%PDF-1.7", ("value.pdf", b"%PDF-1.7", "application/pdf")),
        ("svg", b"<svg/>", ("svg.bin", b"<svg/>", "application/octet-stream")),
        ("jpeg", bytearray(b"\xff\xd8\xff\xe0"), ("jpeg.jpg", None, "image/jpeg")),
        ("large", b"x" * 3_000_000, ("large.bin", b"x" * 3_000_000, None)),
    ],
)
def test_files_of_values(name: str, value: Any, expected: tuple[str, Any, Any]) -> None:
    found = file_of(name, json.loads(json.dumps(codec.encode(value), default=_inline)))
    for seen, wanted in zip((found.name, found.data, found.media_type), expected, strict=True):
        assert wanted is None or seen == wanted


def _inline(part: Any) -> Any:
    from kitaru.runtime.codec.builtin_types import inlined

    return inlined(part)


def test_an_image_of_pillow_becomes_png() -> None:
    image = pytest.importorskip("PIL.Image")
    for mode in ("RGBA", "1", "CMYK", "I;16"):
        found = file_of("chart", codec.encode(image.new(mode, (3, 2))))
        assert (found.name, found.is_image) == ("chart.png", True)
    # PNG has no images without pixels.
    assert file_of("chart", codec.encode(image.new("RGB", (0, 2)))).name == "chart.json"
