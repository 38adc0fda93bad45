"""Stacks: settings under one name, which count where the stack was named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kitaru import config, toml_files
from kitaru.errors import UsageError

from . import flows
from .conftest import Kitaru

PROJECT = """\
[tool.kitaru]
store = "sqlite:project.db"
cache = true

[tool.kitaru.stacks.dev]
store = "sqlite:dev.db"
cache = false
retries = 7
image = "r/dev@sha256:0"

[tool.kitaru.stacks.prod]
store = "s3://prod/flows"
target = "kubeflow"
submit = {namespace = "agents"}
models = {fast = "openai/gpt-4o"}
"""
# For each setting: two different values, in Python, as TOML and as environment variables.
SETTINGS: dict[str, list[tuple[Any, str, str]]] = {
    "stack": [("dev", '"dev"', "dev"), ("prod", '"prod"', "prod")],
    "image": [("r/a", '"r/a"', "r/a"), ("r/b", '"r/b"', "r/b")],
    "cache": [(False, "false", "0"), (True, "true", "1")],
    "retries": [(3, "3", "3"), (4, "4", "4")],
    "store": [("s3://a", '"s3://a"', "s3://a"), ("s3://b", '"s3://b"', "s3://b")],
}


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in config.names():
        monkeypatch.delenv(f"KITARU_{name.upper()}", raising=False)
    monkeypatch.setattr(config, "_configured", {})
    monkeypatch.setattr(config, "_command_stack", None)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    toml_files.user_file().parent.mkdir(parents=True)
    yield


def project(name: str, value: str) -> None:
    lines = [line for line in PROJECT.splitlines() if not line.startswith(f"{name} =")]
    text = "\n".join(lines).replace("[tool.kitaru]", f"[tool.kitaru]\n{name} = {value}", 1)
    Path("pyproject.toml").write_text(text)


@pytest.mark.parametrize("name", SETTINGS)
def test_each_layer_goes_before_those_below(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (low, low_toml, low_text), (high, high_toml, _) = SETTINGS[name]

    def now(**given: Any) -> tuple[Any, str]:
        found = config.setting(name, **given)
        return found.value, found.origin

    Path("pyproject.toml").write_text(PROJECT.partition("\n\n")[2])
    assert now()[1] == "default"
    toml_files.user_file().write_text(f"{name} = {low_toml}\n")
    assert now() == (low, "user configuration")
    project(name, high_toml)
    assert now() == (high, "pyproject.toml")
    monkeypatch.setenv(f"KITARU_{name.upper()}", low_text)
    assert now() == (low, f"KITARU_{name.upper()}")
    config.configure(**{name: high})
    assert now() == (high, "kitaru.configure()")
    assert now(decorator=low) == (low, "decorator")
    assert now(decorator=low, argument=high) == (high, "argument")


def test_a_stack_counts_where_it_was_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def now() -> tuple[Any, str]:
        found = config.setting("store")
        return Path(found.value).name, found.origin

    assert now() == ("project.db", "pyproject.toml")
    assert config.use_stack("dev") == Path.cwd() / ".kitaru" / "stack"
    assert now() == ("dev.db", "stack dev")
    monkeypatch.setenv("KITARU_STACK", "prod")
    assert now() == ("flows", "stack prod")
    monkeypatch.setenv("KITARU_STORE", "sqlite:direct.db")
    assert now() == ("sqlite:direct.db", "KITARU_STORE"), "what is said there itself goes first"
    config.command_stack("dev")
    assert now() == ("dev.db", "stack dev"), "an argument goes before the environment"
    assert config.setting("retries").value == 7
    assert config.setting("retries", decorator=1).value == 7
    assert config.setting("retries", argument=0).value == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[tool.kitaru]\nstack = "gone"\n', "no stack 'gone'"),
        ("[tool.kitaru]\nstacks = 3\n", "must be tables"),
        ('[tool.kitaru.stacks.a]\nspeed = "x"\n', "there is no setting 'speed'"),
        ('[tool.kitaru.stacks.a]\nstack = "b"\n', "a stack in a stack"),
    ],
)
def test_what_is_wrong_is_said(text: str, message: str) -> None:
    Path("pyproject.toml").write_text(text)
    with pytest.raises(UsageError, match=message):
        config.setting("store")


def test_the_command_shows_where_each_value_comes_from(kitaru: Kitaru) -> None:
    kitaru.write("pyproject.toml", PROJECT)
    shown = kitaru("stack", "show", "--stack", "prod", "--json", KITARU_RETRIES="5").document
    found = {one["name"]: (one["value"], one["origin"]) for one in shown["settings"]}
    assert shown["stack"] == "prod"
    assert found["store"] == ("s3://prod/flows", "stack prod")
    assert found["retries"] == (5, "KITARU_RETRIES")
    assert found["image"] == (None, "default")
    assert kitaru("stack", "use", "dev").out.startswith("dev is in force here")
    listed = kitaru("stack", "list", "--json").document["items"]
    assert [(one["name"], one["in_force"]) for one in listed] == [("dev", True), ("prod", False)]
    assert "no stack 'gone'" in kitaru("stack", "use", "gone", "--json", code=2).error["message"]
    assert "(stack dev)" in kitaru("stack", "show").out


def test_a_flows_own_image_goes_before_the_stacks(kitaru: Kitaru) -> None:
    kitaru.write("pyproject.toml", PROJECT)
    compile = ("compile", "review.py", "-t", "kubeflow", "--stack", "dev", "--json")
    lock = kitaru.folder / "build" / "review" / "kubeflow" / "lock.json"
    for decorator, image in (("@flow", "r/dev@sha256:0"), ('@flow(image="r/own")', "r/own")):
        kitaru.write("review.py", flows.REVIEW.replace("@flow", decorator))
        kitaru(*compile)
        # The stack is named by the command here, and so goes before the decorator.
        assert '"image": "r/dev@sha256:0"' in lock.read_text()
        kitaru(*compile[:4], "--json", KITARU_STACK="dev")
        assert f'"image": "{image}"' in lock.read_text()
    kitaru.write("review.py", flows.REVIEW.replace("@flow", "@flow(image=str(1))"))
    assert "review.py:2" in kitaru(*compile, code=2).error["message"]


def test_a_command_works_with_what_the_stack_says(kitaru: Kitaru) -> None:
    kitaru.write("pyproject.toml", PROJECT)
    kitaru.write("review.py", flows.REVIEW)
    ran = kitaru("run", "review.py", "-i", "topic=tea", "--no-input", "--stack", "dev")
    assert "--stack dev" in ran.out and (kitaru.folder / "dev.db").exists()
    kitaru("compile", "review.py", "--stack", "prod")
    built = kitaru.folder / "build" / "review" / "kubeflow"
    assert '"fast": "openai/gpt-4o"' in (built / "plan.json").read_text()
    assert "s3://prod/flows" in (built / "pipeline.yaml").read_text()
    assert "--target" in kitaru("compile", "review.py", "--json", code=2).error["message"]
