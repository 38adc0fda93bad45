"""What commands do, a program does with `KitaruClient`, with the same result."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

import pytest
from kitaru_targets import lock

import kitaru
from kitaru.errors import InputError, NotFound, StateError, UsageError
from kitaru.ops.dry_run import begin_version

FLOW = """\
import kitaru
from kitaru import checkpoint, flow


@checkpoint
def research(topic: str) -> str:
    return f"brief on {topic}"


@checkpoint
def draft(brief: str) -> str:
    kitaru.save("words", len(brief.split()))
    return f"draft of {brief}"


@flow
def review(topic: str) -> str:
    text = draft(research(topic))
    return text if kitaru.wait(name="approve", schema=bool) else "rejected"
"""


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> kitaru.KitaruClient:
    monkeypatch.chdir(tmp_path)
    # Each test has a module of that name.
    monkeypatch.delitem(sys.modules, "review", raising=False)
    Path("review.py").write_text(FLOW)
    return kitaru.KitaruClient(f"sqlite:{tmp_path}/store.db")


def test_check_graph_and_fingerprint(client: kitaru.KitaruClient) -> None:
    checked = client.check("review.py")
    assert not checked.findings and not checked.is_fatal(strict=True)
    assert client.graph("review.py").text().startswith("flowchart")
    assert client.graph("review.py", "vertex").text("svg").startswith("<svg")
    found = client.fingerprint("review.py:draft")
    assert [one.name for one in found.parts.definitions] == ["draft"]
    with pytest.raises(UsageError):
        client.check("reviews.py")


def test_compile_verify_diff_and_upload(client: kitaru.KitaruClient) -> None:
    made = client.compile("review.py", "vertex")
    directory = made.build.directory
    assert directory == Path("build/review/vertex")
    assert client.verify(directory).problems == ()
    assert client.diff(str(directory), "review.py").changes == ()
    Path("review.py").write_text(FLOW.replace("brief on", "notes on"))
    changed = {change.name for change in client.diff(str(directory), "review.py").changes}
    assert "research" in changed and "draft" not in changed
    digest = client.upload(directory)
    assert digest == made.build.bundle_digest
    (directory / "DEPLOY.md").write_text("other")
    assert client.verify(directory).problems


def test_compile_needs_a_target_and_reports_what_every_target_refuses(
    client: kitaru.KitaruClient,
) -> None:
    with pytest.raises(UsageError, match=r"No target is named\."):
        client.compile("review.py")
    written, refused = client.compile_all("review.py")
    assert {one.target.name for one in written} | refused.keys() >= {"airflow", "vertex"}


def test_run_lineage_calls_and_replays_of_many(client: kitaru.KitaruClient) -> None:
    with pytest.raises(InputError):
        client.run("review.py", {"subject": "tea"})
    handle = client.run("review.py", {"topic": "tea"})
    assert handle.settle(60) == "waiting"
    exec_id = handle.exec_id
    assert client.executions.input(exec_id, True).wait(60) == "draft of brief on tea"
    assert client.executions.lineage(exec_id, "research")["draft"] == ("research",)
    with pytest.raises(NotFound):
        client.executions.lineage(exec_id, "summary")
    assert client.executions.calls(exec_id) == []
    with pytest.raises(NotFound):
        client.executions.calls(exec_id, "draft")
    (one,) = client.executions.replay_many(flow="review", results={"approve": False})
    assert one.source == exec_id and not one.is_same and not one.is_failed
    assert one.comparison is not None and one.comparison.b.result == "rejected"
    with pytest.raises(UsageError):
        client.executions.write_residual(exec_id, "vertex")


def test_a_store_is_checked_verified_backed_up_and_restored(
    client: kitaru.KitaruClient, tmp_path: Path
) -> None:
    client.run("review.py", {"topic": "tea"}).settle(60)
    assert len(client.check_store()) == 6
    assert client.verify_store().findings == ()
    copied = client.backup(f"sqlite:{tmp_path}/backup.db")
    restored = kitaru.KitaruClient.restore(copied.url, f"sqlite:{tmp_path}/again.db")
    assert restored.objects == copied.objects
    again = kitaru.KitaruClient(restored.url)
    assert [one["flow"] for one in again.executions.list()] == ["review"]
    assert list(again.executions.collect(timedelta(days=1))) == []


def test_deploy_and_dry_run_a_version(client: kitaru.KitaruClient) -> None:
    rehearsed = client.deployments.deploy("review.py", "airflow", dry_run=True)
    assert rehearsed.deployment is None and client.deployments.flows() == []
    made = client.deployments.deploy("review.py", "airflow", tag="stable")
    assert made.deployment is not None and made.deployment.tags == ("default", "stable")
    waiting = client.deployments.dry_run("review@stable", {"topic": "tea"})
    assert waiting.status == "waiting"
    with pytest.raises(StateError, match=r"waits for approve, not for publish\."):
        client.executions.dry_run(waiting.exec_id, answers={"publish": True})
    done = client.executions.dry_run(waiting.exec_id, answers={"approve": True})
    assert done.result == "draft of brief on tea"
    assert client.diff_deployed(done.exec_id, "review.py").changes == ()


def test_a_dispatcher_never_starts_a_dry_run(client: kitaru.KitaruClient) -> None:
    version = client.deployments.deploy("review.py", "local").deployment
    assert version is not None
    # The process that begins the dry run dies before the first step starts.
    exec_id = begin_version(client.store, version, {"topic": "tea"})
    assert client.dispatch() == [] and client.due().hints == 0
    assert client.executions.dry_run(exec_id).status == "waiting"


def images(directory: Path) -> tuple[str, str]:
    found = lock.read(directory)
    return found.image, found.base_image


def test_remaining_steps_run_on_the_images_of_the_version(client: kitaru.KitaruClient) -> None:
    Path("pyproject.toml").write_text('[tool.kitaru]\nbase_image = "r/base:1"\n')
    client.deployments.deploy("review.py", "kubeflow", image="r/own:1")
    exec_id = client.deployments.dry_run("review", {"topic": "tea"}).exec_id
    Path("pyproject.toml").write_text('[tool.kitaru]\nimage = "r/x:1"\nbase_image = "r/x:1"\n')
    write = client.executions.write_residual
    assert images(write(exec_id, "kubeflow").directory) == ("r/own:1", "r/base:1")
    assert images(write(exec_id, "vertex", image="r/new:1").directory) == ("r/new:1", "r/base:1")


def test_remaining_steps_run_on_the_image_of_the_decorator(client: kitaru.KitaruClient) -> None:
    text = Path("review.py").read_text()
    Path("review.py").write_text(text.replace("@flow\n", '@flow(image="r/own:1")\n'))
    exec_id = client.dry_run("review.py", {"topic": "tea"}, "vertex").exec_id
    Path("pyproject.toml").write_text('[tool.kitaru]\nimage = "r/x:1"\nbase_image = "r/y:1"\n')
    assert images(client.executions.write_residual(exec_id, "vertex").directory) == (
        "r/own:1",
        "r/y:1",
    )


def test_dry_run_of_a_file(client: kitaru.KitaruClient) -> None:
    view = client.dry_run("review.py", {"topic": "tea"}, "vertex", answers={"approve": False})
    assert (view.status, view.result) == ("completed", "rejected")
    assert Path(".kitaru/dry-run/review/vertex/lock.json").is_file()


def test_a_text_of_a_model_call_is_loaded_as_itself(client: kitaru.KitaruClient) -> None:
    Path("ask.py").write_text(
        "import kitaru\nfrom kitaru import checkpoint, flow\n\n\n"
        "@checkpoint\ndef asks(topic: str) -> int:\n"
        "    kitaru.llm(f'About {topic}')\n    return 7\n\n\n"
        "@flow\ndef asking(topic: str) -> int:\n    return asks(topic)\n"
    )
    handle = client.run("ask.py", {"topic": "tea"})
    assert handle.wait(60) == 7
    found = client.artifacts.list(handle.exec_id, kind="call", name="asks/call-1/prompt")
    (prompt,) = found
    assert prompt.load() == "About tea"
    again = client.artifacts.get(prompt.id)
    assert again.load() == "About tea"
