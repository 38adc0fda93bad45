"""Names, parameters and options of Kitaru 0.21 and earlier: each one accepted, each used once."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from kitaru_compiler import check, compile_flow

import kitaru
from kitaru import KitaruClient, checkpoint, errors, flow
from kitaru.compat.removed import COMMANDS, REMOVED
from kitaru.status import ExecutionStatus

ERRORS = {
    "KitaruUsageError": errors.UsageError,
    "KitaruContextError": errors.ContextError,
    "KitaruStateError": errors.StateError,
    "KitaruTimeoutError": errors.WaitTimeout,
    "KitaruExecutionError": errors.FlowError,
    "KitaruUserCodeError": errors.FlowError,
    "KitaruDivergenceError": errors.Diverged,
    "KitaruWaitValidationError": errors.AnswerInvalid,
    "KitaruBackendError": errors.EnvironmentFailure,
}


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@checkpoint(type="llm_call", retries=1, runtime="inline", cache=None)
def draft(topic: str) -> str:
    kitaru.save("context", {"topic": topic}, type="context", tags=["a"])
    return f"draft of {topic} in {kitaru.current_execution_id()}"


@flow(stack="local", cache=False, retries=1, image=None)
def writes(topic: str) -> str:
    return draft(topic)


@pytest.mark.parametrize("name", ERRORS)
def test_the_names_of_errors(name: str) -> None:
    assert getattr(kitaru, name) is ERRORS[name] is getattr(errors, name)


def test_options_of_decorators_and_of_save() -> None:
    handle = writes.run("owls")
    assert handle.wait() == f"draft of owls in {handle.exec_id}"
    assert draft.type == "llm_call"
    (invocation,) = KitaruClient().executions.get(handle.exec_id).invocations
    assert [(a["name"], a["type"], a["tags"]) for a in invocation.artifacts] == [
        ("context", "context", ["a"])
    ]


def test_options_of_a_run() -> None:
    handle = writes.run("owls", cache=True, retries=3, stack="default", image="python:3.12")
    handle.wait()
    execution = KitaruClient().executions.get(handle.exec_id).journal.execution
    assert (execution.cache, execution.retries) == (True, 3)


def test_an_input_of_that_name_is_an_input() -> None:
    @flow
    def takes(cache: str, stack: str = "") -> list[str]:
        return [cache, stack]

    assert takes.run(cache="a", stack="b", retries=2).wait() == ["a", "b"]


def test_a_stack_names_the_store_and_no_other_target(tmp_path: Path) -> None:
    kitaru.create_stack("other", store=f"sqlite:{tmp_path}/other.db")
    kitaru.create_stack("cloud", target="vertex")
    handle = writes.run("owls", stack="other")
    handle.wait()
    assert KitaruClient(f"sqlite:{tmp_path}/other.db").executions.get(handle.exec_id)
    with pytest.raises(errors.UsageError, match="runs on vertex"):
        writes.run("owls", stack="cloud")
    with pytest.raises(errors.UsageError, match="no stack 'nowhere'"):
        writes.run("owls", stack="nowhere")


def test_stacks_are_created_used_listed_and_deleted() -> None:
    kitaru.create_stack("prod", target="vertex", store="gs://bucket/flows")
    assert [(one.name, one.is_active) for one in kitaru.list_stacks()] == [("prod", False)]
    with pytest.raises(errors.NotFound):
        kitaru.current_stack()
    assert kitaru.use_stack("prod").is_active
    assert kitaru.current_stack().name == "prod"
    with pytest.raises(errors.UsageError, match="exists already"):
        kitaru.create_stack("prod")
    with pytest.raises(errors.UsageError, match="no setting 'colour'"):
        kitaru.create_stack("more", colour="red")
    kitaru.configure(stack=None)
    Path(".kitaru/stack").unlink()
    kitaru.delete_stack("prod")
    assert kitaru.list_stacks() == []


def test_a_written_configuration_keeps_its_comments(tmp_path: Path) -> None:
    file = tmp_path / "config/kitaru/config.toml"
    file.parent.mkdir(parents=True)
    file.write_text("# mine\nretries = 2  # twice\n\n[stacks.a]\ncache = true\n")
    kitaru.create_stack("b", cache=False)
    assert file.read_text().startswith("# mine\nretries = 2  # twice\n")
    assert [one.name for one in kitaru.list_stacks()] == ["a", "b"]


def test_secrets() -> None:
    kitaru.create_secret("SERVICE_KEY", "correct-horse-battery")
    assert kitaru.get_secret("SERVICE_KEY") == "correct-horse-battery"
    kitaru.delete_secret("SERVICE_KEY")
    with pytest.raises(errors.NotFound):
        kitaru.delete_secret("SERVICE_KEY")
    with pytest.raises(errors.UsageError, match="one string"):
        kitaru.create_secret("SERVICE_KEY", {"a": "b"})  # type: ignore[arg-type]


def test_image_settings() -> None:
    image = kitaru.ImageSettings(base_image="python:3.12-slim", environment={"LOG": "debug"})
    kitaru.configure(image=image)
    try:
        assert kitaru.config.setting("image").value == "python:3.12-slim"
        assert kitaru.config.setting("environment").value == {"LOG": "debug"}
    finally:
        kitaru.configure(image=None, environment=None)
    with pytest.raises(errors.UsageError, match="apt_packages") as refused:
        kitaru.configure(image=kitaru.ImageSettings(apt_packages=["git"]))
    assert "Dockerfile" in refused.value.help


STARTED: dict[str, threading.Event] = {}


@checkpoint
def first() -> str:
    STARTED["second"].wait(0.2)
    return "unset" if STARTED["second"].is_set() else "alone"


@checkpoint
def second(name: str) -> str:
    STARTED["second"].set()
    return name


@flow(cache=False)
def ordered(way: str) -> list[Any]:
    before = first.submit()
    match way:
        case "call":
            after: Any = second("a", after=before)
        case "submit":
            after = second.submit("a", after=[before], id="mine").result()
        case "map":
            after = second.map(["a", "b"], after=before).result()
        case _:
            after = second.product(["a"], after=[before]).result()
    return [before.result(), after]


@pytest.mark.parametrize("way", ["call", "submit", "map", "product"])
def test_after_orders_calls(way: str) -> None:
    STARTED["second"] = threading.Event()
    alone, after = ordered.run(way).wait()
    assert alone == "alone"
    assert after in ("a", ["a"], ["a", "b"])


@checkpoint
def takes_after(after: str) -> str:
    return after


def test_a_parameter_called_after_is_a_parameter() -> None:
    @flow
    def main() -> str:
        return takes_after(after="x")

    assert main.run().wait() == "x"


def test_statuses_are_strings_with_properties() -> None:
    handle = writes.run("owls")
    handle.wait()
    assert handle.status == "completed"
    assert (handle.status.value, f"{handle.status}") == ("completed", "completed")
    assert handle.status.is_finished and handle.status.is_successful
    assert KitaruClient().executions.get(handle.exec_id).status is ExecutionStatus.COMPLETED
    assert not ExecutionStatus.WAITING.is_finished
    assert ExecutionStatus.FAILED.is_finished and not ExecutionStatus.FAILED.is_successful


@pytest.mark.parametrize("name", REMOVED)
def test_what_has_no_equivalent_states_what_to_write(name: str, tmp_path: Path) -> None:
    with pytest.raises(AttributeError, match="no attribute") as missing:
        getattr(kitaru, name)
    assert REMOVED[name] in str(missing.value)
    path = tmp_path / "program.py"
    path.write_text(
        f"import kitaru\nfrom kitaru import flow\n\n@flow\ndef main():\n    kitaru.{name}\n"
    )
    (found,) = [d for d in check(path)[0] if d.severity == "error"]
    assert (found.code, found.help) == ("KIT412", REMOVED[name])


def test_importing_kitaru_reads_none_of_it() -> None:
    code = (
        "import sys; from kitaru import checkpoint, flow, memory;"
        "names = sorted(m for m in sys.modules if 'kitaru.compat.' in m);"
        "assert names == ['kitaru.compat.explaining', 'kitaru.compat.removed'], names;"
        "assert 'tomlkit' not in sys.modules; import kitaru; kitaru.current_execution_id"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_flows_with_these_options_compile(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[tool.kitaru.stacks.prod]\nenvironment = { LOG = "debug" }\n'
    )
    path = tmp_path / "program.py"
    path.write_text(
        "from kitaru import ImageSettings, checkpoint, flow\n\n"
        "@checkpoint(type='llm_call')\ndef a(x: int) -> int: return x\n\n"
        "@flow(stack='prod', image=ImageSettings(base_image='python:3.12'))\n"
        "def main(x: int = 1) -> int:\n"
        "    f = a.submit(x)\n    return a(x, after=f, id='last')\n"
    )
    plan = compile_flow(path).plan
    assert plan.image == "python:3.12"
    assert plan.environment == {"LOG": "debug"}


def test_commands_without_an_equivalent_are_listed() -> None:
    assert {"login", "logout", "status"} <= COMMANDS.keys()
