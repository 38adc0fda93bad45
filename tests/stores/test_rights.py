"""The policies of docs/how-to/security.md, on a server that evaluates policies.

Each role does what its commands do, and is refused what the other roles may.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from kitaru.client import KitaruClient
from kitaru.errors import StoreDenied
from kitaru.ops.inbox import inbox
from kitaru.stores import open_store
from kitaru.wire import keys

from .servers.real import HOST, ask, serving

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "security.md"
URL = "s3://bucket/team/kitaru"
ROLES = ["reader", "approver", "runner", "deployer", "caretaker"]
FLOW = """
import kitaru
from kitaru import checkpoint, flow

@checkpoint(cache=True)
def draft(topic: str) -> str:
    kitaru.save("long", topic * 20_000)
    print("drafting", topic)
    return topic.upper()

@flow(concurrency=5)
def review(topic: str) -> str:
    text = draft(topic)
    kitaru.memory.set("last", topic)
    return text if kitaru.wait(name="approve", schema=bool) else "rejected"
"""


def policy(role: str) -> str:
    """Return the policy of a role as the page has it, for the bucket and prefix of the tests."""
    (text,) = re.findall(rf"```json {role}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    text = text.replace("BUCKET/PREFIX", "bucket/team/kitaru").replace("BUCKET", "bucket")
    found = json.loads(text)
    for statement in found["Statement"]:
        if "s3:DeleteObject" in statement["Action"]:
            # moto asks for the right to remove many objects at once on the bucket itself.
            statement["Resource"] = [statement["Resource"], "arn:aws:s3:::bucket"]
    return json.dumps(found)


@pytest.fixture(scope="module")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, dict[str, str]]]:
    """Return the environment of each role, on a server that lets nobody else in."""
    boto3 = pytest.importorskip("boto3")
    pytest.importorskip("obstore")
    with serving("moto", tmp_path_factory.mktemp("iam")) as server:
        iam = boto3.client(
            "iam", endpoint_url=f"http://{HOST}:{server.port}", region_name="us-east-1",
            aws_access_key_id="root", aws_secret_access_key="root",
        )  # fmt: skip
        made = {role: {**server.environment, **_user(iam, role)} for role in ROLES}
        assert (
            ask(server.port, "POST", "/moto-api/reset-auth", b"0", Content_Type="text/plain") == 200
        )
        yield made


def _user(iam: Any, role: str) -> dict[str, str]:
    iam.create_user(UserName=role)
    for name in {"reader", role}:
        iam.put_user_policy(UserName=role, PolicyName=name, PolicyDocument=policy(name))
    key = iam.create_access_key(UserName=role)["AccessKey"]
    return {
        "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
    }


@pytest.fixture
def become(
    credentials: dict[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[[str], KitaruClient]:
    """Return what makes this process one of a role, and gives it a client."""
    (tmp_path / "seed.py").write_text(FLOW, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KITARU_STORE", URL)

    def role(name: str) -> KitaruClient:
        for variable, value in credentials[name].items():
            monkeypatch.setenv(variable, value)
        return KitaruClient(URL)

    return role


def kitaru(*arguments: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "kitaru", *arguments],
        capture_output=True, text=True, timeout=240, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def test_each_role_can_do_what_it_is_for_and_nothing_else(
    become: Callable[[str], KitaruClient],
) -> None:
    become("runner")
    refused = kitaru("deploy", "seed.py:review", code=3)
    assert "bundle/" in refused and "privileges" in refused
    become("deployer")
    kitaru("deploy", "seed.py:review")
    become("reader")
    assert "review" in kitaru("executions", "list") + kitaru("flow", "list")
    assert "privileges" in kitaru("invoke", "review", "-i", "topic=tea", "--no-input", code=3)

    runner = become("runner")
    kitaru("invoke", "review", "-i", "topic=tea", "--no-input")
    (found,) = runner.executions.list()
    exec_id = found["exec_id"]
    with closing(open_store(URL)) as store:
        assert [one.exec_id for one in inbox(store).items] == [exec_id]
        assert store.get(keys.WAITS_LISTED) is not None, "or each inbox reads all executions"
    reader = become("reader")
    assert reader.executions.get(exec_id).status == "waiting"
    assert "drafting tea" in kitaru("executions", "logs", exec_id)
    with pytest.raises(StoreDenied):
        reader.executions.input(exec_id, True, submit=False)

    approver = become("approver")
    approver.executions.input(exec_id, True, submit=False)
    with pytest.raises(StoreDenied):
        approver.executions.cancel(exec_id)
    assert "privileges" in kitaru("executions", "resume", exec_id, code=3)

    become("runner")
    kitaru("executions", "resume", exec_id)
    view = reader.executions.get(exec_id)
    assert (view.status, view.result) == ("completed", "TEA")
    kitaru("executions", "replay", exec_id, "--from", "draft", "--no-input")


@pytest.mark.parametrize(
    ("role", "key"),
    [
        ("approver", keys.end("e")),
        ("approver", keys.invocation("e", "draft")),
        ("approver", keys.wait_refusal("e", "approve", 1)),
        ("approver", keys.bundle("sha256:0")),
        ("runner", keys.bundle("sha256:0")),
        ("runner", keys.deployment("review", 2)),
        ("runner", keys.tag("review", "default", 2)),
        ("deployer", keys.end("e")),
        ("deployer", keys.wait_answer("e", "approve", 1)),
        ("reader", keys.wait_answer("e", "approve", 1)),
    ],
)
def test_a_role_creates_only_its_own_objects(
    become: Callable[[str], KitaruClient], role: str, key: str
) -> None:
    become(role)
    with closing(open_store(URL)) as store, pytest.raises(StoreDenied):
        store.create(key, b"forged")


@pytest.mark.parametrize("role", [role for role in ROLES if role != "caretaker"])
def test_only_the_caretaker_removes(become: Callable[[str], KitaruClient], role: str) -> None:
    become("caretaker")
    with closing(open_store(URL)) as store:
        store.create("x/e/attempt/a", b"kept")
    become(role)
    with closing(open_store(URL)) as store, pytest.raises(StoreDenied):
        store.delete("x/e/attempt/a")
    become("caretaker")
    with closing(open_store(URL)) as store:
        assert store.get("x/e/attempt/a") == b"kept"
        store.delete("x/e/attempt/a")
        assert store.get("x/e/attempt/a") is None
