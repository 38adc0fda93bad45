"""`memory.configure` and `memory.get(strict=True)`: recorded, and the same wherever it was cut."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kitaru import KitaruClient, config, errors, flow, memory

KITARU = str(Path(sys.executable).parent / "kitaru")
FLOW = """\
import kitaru
from kitaru import checkpoint, flow, memory

@checkpoint
def count(before: int) -> int: return before + 1

def switch(kind: str) -> None:
    memory.configure(scope_type=kind)

@flow
def main(space: str) -> list[object]:
    memory.configure(scope=space, scope_type="namespace")
    memory.set("n", count(memory.get("n", 0)))
    if kitaru.wait(name="go"):
        memory.set("n", count(memory.get("n")))
    switch("execution")
    memory.set("phase", "one")
    switch("flow")
    memory.set("last", count(7))
    shared = f"namespace:{space}"
    values = [memory.get("n", scope=shared), memory.get("phase", scope="execution")]
    return [*memory.list(), *memory.list(scope=shared), *values, memory.get("last")]
"""


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def shell(*words: str) -> str:
    done = subprocess.run(
        [KITARU, *words], capture_output=True, text=True, env={**os.environ, "NO_COLOR": "1"}
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.mark.parametrize("start", [["run", "f.py"], ["dry-run", "f.py", "-t", "kubeflow"]])
def test_the_scope_is_that_which_was_configured_last(start: list[str], tmp_path: Path) -> None:
    (tmp_path / "f.py").write_text(FLOW)
    shell(*start, "--input", "space=repo", "--no-input")
    (found,) = KitaruClient().executions.list()
    shell("executions", "input", found["exec_id"], "--value", "true")
    client = KitaruClient()
    execution = client.executions.get(found["exec_id"])
    assert (execution.status, execution.result) == (
        "completed",
        ["last", "n", 2, "one", 8],
    )
    # A dry run changes no memory that other executions read.
    seen = [2, "one", 8] if start[0] == "run" else [None, "one", None]
    own = f"execution:{execution.exec_id}"
    scopes = {"n": "namespace:repo", "phase": own, "last": "flow:main"}
    assert [client.memory.get(key, scope=scope) for key, scope in scopes.items()] == seen


def test_a_replay_uses_its_own_execution(tmp_path: Path) -> None:
    @flow
    def main(value: int) -> int:
        memory.configure(scope_type="execution")
        memory.set("value", value)
        return memory.get("value")  # type: ignore[no-any-return]

    handle = main.run(1)
    handle.wait()
    replayed = main.replay(handle.exec_id, start="memory_set", inputs={"value": 2})
    assert replayed.wait() == 2
    client = KitaruClient()
    assert client.memory.get("value", scope=f"execution:{handle.exec_id}") == 1
    assert client.memory.get("value", scope=f"execution:{replayed.exec_id}") == 2


def test_outside_flows_it_counts_for_the_process() -> None:
    try:
        memory.configure(scope="repo", scope_type="namespace")
        memory.set("key", 1)
        assert memory.get("key") == KitaruClient().memory.get("key", scope="namespace:repo") == 1
        memory.configure(scope="namespace:other")
        assert memory.get("key") is None
        memory.configure(scope="plain")
        assert config.setting("memory_scope").value == "namespace:plain"
    finally:
        config.configure(memory_scope=None)


def test_what_is_no_scope_is_refused() -> None:
    for scope, kind in ((None, None), ("a", "planet"), (None, "flow")):
        with pytest.raises(errors.UsageError):
            memory.configure(scope=scope, scope_type=kind)
    assert config.setting("memory_scope").value is None


def test_a_strict_read_of_nothing_is_an_error() -> None:
    memory.set("here", None, scope="namespace:n")
    assert memory.get("here", "default", strict=True, scope="namespace:n") is None
    with pytest.raises(errors.NotFound, match="The memory gone has no value"):
        memory.get("gone", strict=True, scope="namespace:n")
    with pytest.raises(errors.NotFound, match="in version 7"):
        memory.get("here", version=7, strict=True, scope="namespace:n")

    @flow
    def main() -> str:
        try:
            return str(memory.get("gone", strict=True))
        except errors.NotFound:
            return "none"

    assert main.run().wait() == "none"
