"""The OpenAPI document, and requests that are generated from it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kitaru import KitaruClient
from kitaru.server.app import make_app
from kitaru.stores import open_store

from .conftest import begin, serving
from .test_changes import SOURCE

HERE = Path(__file__).parent
PROGRAM = HERE.parents[1] / ".envs" / "schemathesis" / "bin" / "schemathesis"
EXAMPLES = int(os.environ.get("KITARU_API_EXAMPLES", "6"))


def document() -> dict[str, Any]:
    app: Any = make_app(open_store("memory:openapi"))
    found: dict[str, Any] = app._app.openapi()
    return found


OPENAPI = document()
OPERATIONS = [
    (path, method, operation)
    for path, methods in OPENAPI["paths"].items()
    for method, operation in methods.items()
]
IDS = [f"{method} {path}" for path, method, _ in OPERATIONS]


def test_the_document_is_openapi_3_1() -> None:
    assert OPENAPI["openapi"].startswith("3.1")
    names = [operation["operationId"] for _, _, operation in OPERATIONS]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS, ids=IDS)
def test_each_path_is_described(path: str, method: str, operation: dict[str, Any]) -> None:
    assert operation["description"].endswith(".")
    for parameter in operation.get("parameters", ()):
        assert parameter.get("description"), (path, parameter["name"])
    for status, response in operation["responses"].items():
        if int(status) >= 400:
            assert [*response["content"]] == ["application/problem+json"], (path, status)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("api")
    store = open_store(f"sqlite:{folder / 'kitaru.db'}")
    begin(store, "review", "waits-1", "cats")
    begin(store, "plain", "done-1", "owls")
    begin(store, "failing", "failed-1", "dogs")
    client = KitaruClient(store)
    client.memory.set("tone", "formal", scope="namespace:sales")
    (folder / "review.py").write_text(SOURCE)
    client.deployments.deploy(str(folder / "review.py"), "local")
    with serving(store) as running:
        yield running.url


CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance",
    "response_schema_conformance",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(not PROGRAM.exists(), reason="python3 dev.py test creates .envs/schemathesis")
def test_generated_requests_get_what_the_document_describes(url: str, tmp_path: Path) -> None:
    (tmp_path / "openapi.json").write_text(json.dumps(OPENAPI))
    command = [
        str(PROGRAM), "run", "openapi.json", "--url", url, "--checks", ",".join(CHECKS),
        "--max-examples", str(EXAMPLES), "--phases", "examples,coverage,fuzzing", "--no-color",
        "--generation-deterministic", "--suppress-health-check", "all", "--continue-on-failure",
        "--exclude-path-regex", "/(events|follow|invoke)$",
    ]  # fmt: skip
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "known_values", "PYTHONPATH": str(HERE)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
