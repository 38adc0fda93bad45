"""SageMaker's own SDK and API model accept our definitions, and run them alike.

The SDK builds the same pipeline and the two definitions are compared; each request that the service
would make is held against its API model; and the SDK's local mode runs the definition, a process in
place of each container, with a real S3 server as the store.
"""

from __future__ import annotations

import os
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from kitaru_compiler import compile_flow
from kitaru_targets import build, registry
from kitaru_targets.upload import carry, upload

from kitaru.client import KitaruClient
from kitaru.stores import open_store
from kitaru.view import ExecutionView
from tests import forks
from tests.oracles.ask import ask, python
from tests.oracles.test_flows import CASES, Case, builds, locally, meaning
from tests.oracles.test_shapes import PARAMETERS, PROGRAMS
from tests.targets.programs import Do, plan
from tests.targets.test_sagemaker import WIRING
from tests.targets.test_sagemaker_callbacks import QUEUE, TEAM
from tests.waiting import attempts, wait_until

pytestmark = pytest.mark.slow

TARGET = registry.get("sagemaker")
SUBMITTED = {"kitaru_role": "arn:aws:iam::123456789012:role/kitaru", "kitaru_image": "image"}
# One of each way through a document: the SDK takes seconds for each step. Its local mode runs no
# fan-outs, and no callbacks.
RUN = (
    "review", "rejected", "bug", "refund", "agent", "middle", "told", "not approved",
)  # fmt: skip
# What the container of a step has that a test has, too.
CARRIED = ("AWS_", "PATH", "LANG", "TMPDIR")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """Serve S3 on a free port, for obstore and boto3 alike; yield the name of a bucket."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    for name, value in {
        "AWS_ENDPOINT_URL": address, "AWS_ALLOW_HTTP": "true", "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    command = [python("sagemaker"), "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with (tmp_path / "s3.log").open("w") as log, subprocess.Popen(
        command, stdout=log, stderr=subprocess.STDOUT
    ) as server:  # fmt: skip
        try:
            made = urllib.request.Request(f"{address}/bucket", method="PUT")
            answer(server, made)
            yield "bucket"
        finally:
            server.kill()


def answer(server: subprocess.Popen[bytes], request: urllib.request.Request) -> None:
    """Ask until the server answers; it may take a while to begin."""

    def answers() -> bool:
        assert server.poll() is None, "the S3 server ended before it began"
        with suppress(urllib.error.URLError, ConnectionError):
            urllib.request.urlopen(request, timeout=240).close()
            return True
        return False

    wait_until(answers)


def test_the_sdk_builds_the_same_pipeline_and_every_request_fits(tmp_path: Path) -> None:
    written = [built.document for built, _ in builds("sagemaker", tmp_path)]
    paths = list({path.read_bytes(): path for path in written}.values())
    asked = []
    for name, program in PROGRAMS.items():
        for kind, options in (("ends", TEAM), ("waits", {"queue": QUEUE})):
            text = TARGET.emit(plan(program, parameters=PARAMETERS, options=options), WIRING).text
            assert TARGET.validate(text) == []
            paths.append(tmp_path / f"{name}-{kind}.json")
            paths[-1].write_text(text)
            asked += [name] if '"Callback"' in text else []
    assert asked == ["waits"]
    assert any('"ForEach"' in path.read_text() for path in paths)
    jobs = [{"path": str(path), "parameters": None, "environment": None} for path in paths]
    for path, found in zip(paths, ask("sagemaker", jobs), strict=True):
        # The SDK leaves the object for metadata empty. The header of a document is there.
        problems = [one for one in found["problems"] if one != "/Metadata/Origin: only ours"]
        assert problems == [], path.name


def test_the_sdk_finds_what_is_wrong(tmp_path: Path) -> None:
    program = (Do("a"), Do("b", wait=True), Do("c"))
    made = plan(program, parameters=PARAMETERS, options={"queue": QUEUE})
    text = TARGET.emit(made, WIRING).text
    wrong = {
        "machine": text.replace("ml.t3.medium", "ml.t9.medium"),
        "long": text.replace('"KITARU_INPUT_"', f'"{"x" * 257}"'),
        "field": text.replace('"InstanceCount"', '"InstanceNumber": 1, "InstanceCount"'),
        "order": text.replace('"EndOfJob"', '"EndOfTheJob"'),
        "queue": text.replace(QUEUE, f"{QUEUE}{'x' * 256}"),
    }
    jobs = []
    for name, changed in wrong.items():
        assert changed != text, name
        (tmp_path / f"{name}.json").write_text(changed)
        jobs.append({"path": str(tmp_path / f"{name}.json"), "parameters": None})
    answers = ask("sagemaker", jobs)
    assert [bool(found["problems"]) for found in answers] == [True] * len(wrong)


class Ran:
    """A case on its way through the SDK's local mode."""

    def __init__(self, case: Case, folder: Path, url: str) -> None:
        compilation = compile_flow(case.file, profile=TARGET.profile)
        self.case, self.url, self.left = case, url, list(case.answers)
        self.built = build.write(compilation, TARGET, folder / "out")
        store = open_store(url)
        upload(self.built, store)
        self.parameters = carry(self.built, case.inputs, store) | SUBMITTED
        store.close()
        self.parameters["kitaru_store"] = url

    def job(self) -> dict[str, Any]:
        environment = {k: v for k, v in os.environ.items() if k.startswith(CARRIED)}
        environment["PATH"] = forks.with_forks(environment["PATH"])
        return {
            "path": str(self.built.document),
            "parameters": self.parameters,
            "environment": environment | {"PIP_NO_INDEX": "1"},
        }

    def view(self) -> ExecutionView:
        executions = KitaruClient(self.url).executions
        (item,) = executions.list()
        return executions.get(item["exec_id"])

    def go_on(self) -> None:
        """Answer the pending wait, so that the next run continues."""
        view = self.view()
        assert view.status == "waiting"
        KitaruClient(self.url).executions.input(view.exec_id, self.left.pop(0), submit=False)
        self.parameters["kitaru_execution"] = view.exec_id


def test_the_sdks_local_mode_gives_what_a_local_run_gives(tmp_path: Path, bucket: str) -> None:
    started = {
        name: Ran(case, tmp_path / name, f"s3://{bucket}/{name.replace(' ', '-')}")
        for name, case in CASES.items()
        if name in RUN
    }
    running = list(started.values())
    for _ in attempts():
        for found in ask("sagemaker", [ran.job() for ran in running]):
            assert (found["problems"], found["status"]) == ([], "Succeeded")
        running = [ran for ran in running if ran.left]
        if not running:
            break
        for ran in running:
            ran.go_on()
    for name, ran in started.items():
        assert meaning(ran.view()) == meaning(locally(ran.case, tmp_path / name)), name
