"""A job on Azure ML reads its store with the token of its managed identity."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

import pytest

from kitaru.errors import StoreDenied
from kitaru.stores import azure_ml

SECRET = "secret-of-the-job"


class Service(ThreadingHTTPServer):
    """The endpoint of an identity, and a blob service that accepts its token."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[dict[str, list[str]]] = []
        self.authorised: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Service

    def do_GET(self) -> None:
        place = urlparse(self.path)
        if place.path != "/msi/token":
            self.server.authorised.append(self.headers.get("Authorization", ""))
            self.answer(200, b"content")
        elif self.headers.get("secret") != SECRET:
            self.answer(401, b"{}")
        else:
            self.server.asked.append(parse_qs(place.query))
            self.answer(
                200, json.dumps({"access_token": "t0ken", "expires_on": "4102444800"}).encode()
            )

    def answer(self, code: int, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Last-Modified", "Mon, 30 Nov 2026 10:00:00 GMT")
        self.send_header("ETag", '"1"')
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Write nothing."""


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    for name in azure_ml._OTHERS:
        monkeypatch.delenv(name, raising=False)
    with Service() as started:
        thread = threading.Thread(target=started.serve_forever)
        thread.start()
        monkeypatch.setenv("MSI_ENDPOINT", f"{started.url}/msi/token")
        monkeypatch.setenv("MSI_SECRET", SECRET)
        monkeypatch.setenv("DEFAULT_IDENTITY_CLIENT_ID", "client")
        yield started
        started.shutdown()
        thread.join()


def test_the_store_uses_the_token_of_the_job(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    obstore = pytest.importorskip("obstore")
    from kitaru.stores.object_store import _connect

    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", service.url)
    monkeypatch.setenv("AZURE_ALLOW_HTTP", "true")
    store = _connect("az", "container", "prefix")
    assert bytes(obstore.get(store, "key").bytes()) == b"content"
    assert service.authorised == ["Bearer t0ken"]
    assert service.asked == [
        {
            "api-version": ["2017-09-01"],
            "resource": ["https://storage.azure.com/"],
            "clientid": ["client"],
        }
    ]


def test_a_refused_request_names_the_identity(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MSI_SECRET", "other")
    token = azure_ml.provider()
    assert token is not None
    with pytest.raises(StoreDenied, match="no token for the identity of this job") as raised:
        token()
    assert "other" not in str(raised.value)


@pytest.mark.parametrize("name", ["MSI_SECRET", "AZURE_STORAGE_ACCOUNT_KEY"])
def test_other_credentials_come_first(
    service: Service, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "" if name == "MSI_SECRET" else "key")
    assert azure_ml.provider() is None
