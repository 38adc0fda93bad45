"""A flow of the target `local` runs from the store alone, in a process of its own."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kitaru.client import KitaruClient
from kitaru.errors import (
    EnvironmentFailure,
    FlowError,
    InputError,
    NotFound,
    StateError,
    UsageError,
)
from kitaru.ops import advance, submit
from kitaru.runtime.executions.deployments import Deployments
from kitaru.stores import open_store
from kitaru.wire import keys
from tests import waiting

from ..cli.conftest import Kitaru

FLOW = """\
from dataclasses import dataclass
from pathlib import Path

import kitaru
from kitaru import checkpoint, flow
from beside import PREFIX

RAN = Path({ran!r})


@dataclass
class Order:
    item: str
    many: int = 1


@checkpoint(cache=False)
def draft(order: Order) -> str:
    with RAN.open("a") as file:
        file.write("draft\\n")
    return f"{{PREFIX}} {{order.many}} {{order.item}}"


@checkpoint(cache=False)
def send(text: str) -> str:
    with RAN.open("a") as file:
        file.write("send\\n")
    if RAN.with_name("broken").exists():
        raise RuntimeError("broken")
    return f"sent {{text}}"


@flow
def shop(order: Order, note: str = "") -> str:
    text = draft(order)
    if not kitaru.wait(name="fine", question="Fine?", schema=bool):
        return "rejected"
    return send(text) + note
"""


class Shop:
    """A deployed flow whose checkout is gone."""

    def __init__(self, folder: Path) -> None:
        self.ran = folder / "ran.txt"
        self.url = f"sqlite:{folder / 'store' / 'kitaru.db'}"
        self.kitaru = Kitaru(folder / "project")
        self.kitaru.environ |= {"XDG_CACHE_HOME": str(folder / "cache"), "KITARU_STORE": self.url}
        self.write("v1")
        self.deployed = self.kitaru("deploy", "shop.py:shop", "--json").document

    def write(self, prefix: str) -> None:
        self.kitaru.write("pyproject.toml", "[tool.kitaru]\n")
        self.kitaru.write("beside.py", f"PREFIX = {prefix!r}\n")
        self.kitaru.write("shop.py", FLOW.format(ran=str(self.ran)))

    def elsewhere(self) -> Kitaru:
        """Remove the checkout, and go to a folder whose modules have the flow's names."""
        shutil.rmtree(self.kitaru.folder)
        self.kitaru.write("beside.py", "raise SystemExit('the wrong module')\n")
        self.kitaru.write("kitaru.py", "raise SystemExit('the wrong kitaru')\n")
        return self.kitaru


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield Shop(tmp_path)


ORDER = ("invoke", "shop", "--input", 'order={"item": "tea", "many": 2}')


def test_from_the_store_alone(shop: Shop) -> None:
    assert shop.deployed["deployment"]["target"] == "local"
    client, kitaru = KitaruClient(shop.url), shop.kitaru
    shutil.rmtree(kitaru.folder)
    kitaru.folder.mkdir()
    begun = kitaru(*ORDER, "--json").document
    exec_id = begun["exec_id"]
    assert (begun["status"], begun["deployment"]) == ("waiting", "v1")
    assert "waits for an answer" in kitaru("executions", "resume", exec_id, code=2).err
    left = kitaru("executions", "input", exec_id, "--value", "true", "--no-submit", "--json")
    assert (left.document["status"], left.document["waits"]) == ("answered", [])
    assert f"executions resume {exec_id}" in kitaru("executions", "get", exec_id).out
    (shop.ran.with_name("broken")).touch()
    failed = kitaru("executions", "resume", exec_id, "--json", code=1).document
    assert failed["error"]["message"] == "broken"
    (shop.ran.with_name("broken")).unlink()
    done = kitaru("executions", "retry", exec_id, "--json").document
    assert (done["status"], done["result"]) == ("completed", "sent v1 2 tea")
    assert shop.ran.read_text().split() == ["draft", "send", "send"], "recorded once, run once"
    again = kitaru(
        "executions", "replay", exec_id, "--from", "fine", "--set", "wait.fine=false", "--json"
    )
    assert (again.document["result"], again.document["deployment"]) == ("rejected", "v1")
    assert client.executions.resume(exec_id).get() == "sent v1 2 tea"


def test_an_execution_keeps_its_version(shop: Shop) -> None:
    client = KitaruClient(shop.url)
    first = client.deployments.invoke(flow="shop", inputs={"order": {"item": "tea"}})
    shop.write("v2")
    second = shop.kitaru("deploy", "shop.py:shop", "--json").document["deployment"]
    assert (second["version"], second["tags"]) == ("v2", []), "default moves where it is named"
    newer = client.deployments.invoke(flow="shop", inputs={"order": {"item": "tea"}}, version=2)
    for handle in first, newer:
        assert handle.settle() == "waiting"
        assert client.executions.get(handle.exec_id).waits[0].name == "fine"
    assert client.executions.input(newer.exec_id, True).wait() == "sent v2 1 tea"
    assert client.executions.input(first.exec_id, False).wait() == "rejected"
    assert first.wait() == "rejected", "the handle that began it sees the end"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"flow": "none"}, NotFound, "not deployed"),
        ({"flow": "shop", "tag": "beta"}, NotFound, "no tag beta"),
        ({"flow": "shop", "version": "v9"}, NotFound, "no version v9"),
        ({"flow": "shop", "version": "beta"}, UsageError, "not a version|cannot"),
        ({"flow": "shop@v1", "tag": "default"}, UsageError, "More than one version"),
        ({"flow": "shop"}, InputError, "missing input 'order'"),
        ({"flow": "shop", "inputs": {"order": {}, "x": 1}}, InputError, "unknown input 'x'"),
        ({"flow": "shop", "inputs": {"order": object()}}, InputError, "cannot be sent"),
        ({"flow": "shop", "inputs": {"order": {"many": 1}}}, UsageError, "item"),
    ],
)
def test_what_cannot_be_invoked(
    shop: Shop, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    client = KitaruClient(shop.url)
    with pytest.raises(error, match=message):
        client.deployments.invoke(**arguments)
    assert client.executions.list() == [], "nothing was started"


def test_a_module_that_does_not_import(shop: Shop) -> None:
    shop.kitaru.write("beside.py", "PREFIX = ''\nraise ValueError('no luck')\n")
    shop.kitaru("deploy", "shop.py:shop", "--tag", "bad")
    with pytest.raises(FlowError, match="no luck"):
        KitaruClient(shop.url).deployments.invoke("shop", {"order": {"item": "tea"}}, tag="bad")


def test_a_package_that_is_missing_is_named(shop: Shop) -> None:
    shop.kitaru.write("requirements.txt", "nowhere-to-be-found==1.2.3\n")
    shop.kitaru.write("pyproject.toml", "[tool.kitaru]\nrequirements = 'requirements.txt'\n")
    shop.kitaru("deploy", "shop.py:shop", "--tag", "default")
    failed = shop.kitaru(*ORDER, "--json", code=3).error
    assert "nowhere-to-be-found==1.2.3" in failed["message"] and "pip install" in failed["help"]


def test_a_replay_that_lacks_a_package_is_not_begun(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = KitaruClient(shop.url)
    shop.kitaru.write("requirements.txt", "click==8.0.0\n")
    shop.kitaru.write("pyproject.toml", "[tool.kitaru]\nrequirements = 'requirements.txt'\n")
    shop.kitaru("deploy", "shop.py:shop", "--tag", "pinned")
    handle = client.deployments.invoke("shop", {"order": {"item": "tea"}}, tag="pinned")
    assert handle.settle() == "waiting"

    def without(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", without)
    with pytest.raises(EnvironmentFailure, match=r"needs .*click==8\.0\.0") as raised:
        client.executions.replay(handle.exec_id)
    assert "pip install" in raised.value.help
    assert [one["exec_id"] for one in client.executions.list()] == [handle.exec_id]


def test_a_bundle_of_the_cache_that_was_changed_is_replaced(shop: Shop, tmp_path: Path) -> None:
    inputs = {"order": {"item": "tea"}}
    client = KitaruClient(shop.url)
    client.deployments.invoke("shop", inputs).settle()
    (beside,) = (tmp_path / "cache").rglob("beside.py")
    beside.write_text("PREFIX = 'forged'\n")
    handle = client.deployments.invoke("shop", inputs)
    handle.settle()
    assert client.executions.input(handle.exec_id, True).wait() == "sent v1 1 tea"


def test_a_bundle_that_is_gone_is_put_back_by_the_next_invocation(shop: Shop) -> None:
    store, client = open_store(shop.url), KitaruClient(shop.url)
    handle = client.deployments.invoke("shop", {"order": {"item": "tea"}})
    handle.settle()
    version = Deployments(store).get("shop")
    store.delete(keys.bundle(version.files["bundle.zip"]))
    with pytest.raises(EnvironmentFailure, match=r"bundle .* is missing"):
        client.executions.input(handle.exec_id, True)
    client.deployments.invoke("shop", {"order": {"item": "tea"}}).settle()
    assert client.executions.resume(handle.exec_id).wait() == "sent v1 1 tea"


def test_answers_and_resumes_at_once_start_one_run(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = KitaruClient(shop.url)
    handle = client.deployments.invoke("shop", {"order": {"item": "tea"}})
    handle.settle()
    client.executions.input(handle.exec_id, True, submit=False)
    # A caller that waits for too long starts a run, and the first may take long on a busy machine.
    monkeypatch.setattr(advance, "_CLAIM_SECONDS", waiting.SECONDS)
    begin, started = threading.Barrier(4), []
    start = submit.start_run

    def counted(*arguments: Any, **named: Any) -> Any:
        started.append(arguments)
        return start(*arguments, **named)

    monkeypatch.setattr(submit, "start_run", counted)

    def resume(place: int) -> None:
        begin.wait()
        try:
            if place % 2:
                client.executions.resume(handle.exec_id)
            else:
                client.executions.input(handle.exec_id, True)
        except StateError:
            pass  # it was submitted already

    threads = [threading.Thread(target=resume, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert handle.wait() == "sent v1 1 tea"
    assert len(started) == 1
    assert shop.ran.read_text().split() == ["draft", "send"]


def test_a_claim_whose_holder_was_killed_holds_nobody_up_for_ever(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(advance, "_CLAIM_SECONDS", 0.3)
    client = KitaruClient(shop.url)
    handle = client.deployments.invoke("shop", {"order": {"item": "tea"}})
    handle.settle()

    def killed(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(submit, "start_run", killed)
        with pytest.raises(KeyboardInterrupt):
            client.executions.input(handle.exec_id, True)
    assert client.executions.get(handle.exec_id).status == "resuming"
    assert client.executions.resume(handle.exec_id).wait() == "sent v1 1 tea"


def test_a_submission_that_fails_can_be_made_again_at_once(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = KitaruClient(shop.url)
    handle = client.deployments.invoke("shop", {"order": {"item": "tea"}})
    handle.settle()

    def refused(*_: Any, **__: Any) -> Any:
        raise EnvironmentFailure("no credentials", help="log in")

    with monkeypatch.context() as patch:
        patch.setattr(submit, "start_run", refused)
        with pytest.raises(
            EnvironmentFailure, match=r"answer is recorded.*no credentials"
        ) as raised:
            client.executions.input(handle.exec_id, True)
    assert f"log in\nThen: kitaru executions resume {handle.exec_id}" in raised.value.help
    assert client.executions.resume(handle.exec_id).wait() == "sent v1 1 tea"


SCRIPT = """\
from kitaru import KitaruClient
from shop import Order, shop

deployed = shop.deploy(tag="stable")
handle = shop.invoke(Order("tea", 3), note="?")
assert handle.settle() == "waiting"
other = shop.deployment(tag="stable").invoke(order=Order("tea"))
assert [one.version for one in shop.deployments()] == ["v1"], shop.deployments()
client = KitaruClient()
print(client.executions.input(handle.exec_id, True).wait())
client.executions.cancel(other.exec_id)
print(other.status)
"""


def test_from_a_program(shop: Shop) -> None:
    shop.kitaru.write("main.py", SCRIPT)
    ran = subprocess.run(
        [sys.executable, "main.py"], cwd=shop.kitaru.folder, env=shop.kitaru.environ,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.stdout.split("\n")[:2] == ["sent v1 3 tea?", "cancelled"], ran.stderr
