"""A secret of any alphabet, put into every place of a project, is in no build, or stops it.

More of it:

    KITARU_SECRETS_RUNS=500 pytest tests/secrets/test_builds.py
"""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from kitaru_targets import registry

from kitaru.cli import app
from kitaru.runtime import secrets
from kitaru.wire import redaction

from .searching import RUNS, SECRETS, contents, holders

NAME = "PLACED_KEY"
FLOW = """\
import kitaru
from kitaru import checkpoint, flow
import helping

PROMPT = open("prompts/first.md").read()

@checkpoint
def draft(topic: str) -> str:
    return helping.text(topic)[:0] + str(len(kitaru.secret("PLACED_KEY")))

@flow
def small(topic: str = "x") -> str:
    return draft(topic)
"""
IMAGE = "registry.example/flows@sha256:" + "0" * 64
Project = dict[str, bytes]
Place = Callable[[Project, str, dict[str, Any]], None]


def in_file(name: str, content: Callable[[str], bytes]) -> Place:
    def place(project: Project, secret: str, _: dict[str, Any]) -> None:
        project[name] = project.get(name, b"") + content(secret)

    return place


def in_settings(*path: str, text: str = "x{}") -> Place:
    def place(_: Project, secret: str, config: dict[str, Any]) -> None:
        table = config
        for name in path[:-1]:
            table = table.setdefault(name, {})
        table[path[-1]] = text.replace("{}", secret)

    return place


def zipped(secret: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("member.txt", f"{'x' * 99}{secret}")
    return data.getvalue()


PLACES: dict[str, Place] = {
    "nowhere": lambda *_: None,
    "prompt": in_file("prompts/first.md", lambda s: f"Use {s}.".encode()),
    "included": in_file("data/more.bin", lambda s: b"\0" * 4096 + s.encode("utf-16-le")),
    "included zip": in_file("data/more.zip", zipped),
    "name of a file": lambda project, s, _: project.update(
        {f"data/{s.replace('/', '')[:40]}": s.encode()}
    ),
    "comment": in_file("flow.py", lambda s: f"# {s}\n".encode()),
    "constant": in_file("flow.py", lambda s: f"KEY = {s!r}\n".encode()),
    "escaped constant": in_file("flow.py", lambda s: f"KEY = {s!a}\n".encode()),
    "module": in_file("helping.py", lambda s: f"KEY = {s!r}\n".encode()),
    "variable": in_settings("environment", "NOTE"),
    "address of a model": in_settings("models", "fast", "api_base", text="https://h/?k={}"),
    "model": in_settings("models", "fast", "model", text="vendor/{}"),
    "default model": in_settings("default_model", text="vendor/{}"),
    "reference": in_settings("secrets", NAME, text="aws:{}"),
    "reference of another": in_settings("secrets", "OTHER_KEY", text="aws:{}"),
    "hook": in_settings("redact", text="module:{}"),
    "store": in_settings("store", text="s3://bucket/{}"),
    "image": in_settings("image", text="registry.example/{}"),
}


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(redaction, "_known", redaction.Known())
    for name in ("_values", "_plan_references"):
        monkeypatch.setattr(secrets, name, {})
    yield


def write_project(folder: Path, secret: str, place: str) -> None:
    files: Project = {
        "flow.py": FLOW.encode(),
        "helping.py": b"def text(topic: str) -> str:\n    return topic\n\n",
        "prompts/first.md": b"A prompt.\n",
    }
    config: dict[str, Any] = {"include": ["data/**"], "secrets": {NAME: "aws:prod/key"}}
    PLACES[place](files, secret, config)
    for name, data in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    plain = {name: value for name, value in config.items() if not isinstance(value, dict)}
    lines = ["[tool.kitaru]", *(f"{name} = {_toml(value)}" for name, value in plain.items())]
    for name in config.keys() - plain.keys():
        lines += [f"[tool.kitaru.{name}]"]
        lines += [f"{key} = {_toml(value)}" for key, value in config[name].items()]
    (folder / "pyproject.toml").write_text("\n".join(lines) + "\n")


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        pairs = {"model": "vendor/m"} | value
        return f"{{ {', '.join(f'{name} = {_toml(each)}' for name, each in pairs.items())} }}"
    return json.dumps(value, ensure_ascii=False)


@settings(
    max_examples=RUNS, deadline=None,
    # A compilation takes too long for a failure to be made smaller.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(
    secret=SECRETS,
    place=st.sampled_from([*PLACES]),
    target=st.sampled_from(registry.names()),
    delivery=st.sampled_from(["store", "image", "inline"]),
)
def test_no_build_and_no_deployment_holds_it(
    capfd: pytest.CaptureFixture[str], secret: str, place: str, target: str, delivery: str
) -> None:
    with (
        tempfile.TemporaryDirectory() as temporary,
        pytest.MonkeyPatch.context() as patch,
    ):
        folder = Path(temporary) / "project"
        folder.mkdir()
        write_project(folder, secret, place)
        patch.chdir(folder)
        patch.setenv(NAME, secret)
        store = f"sqlite:{temporary}/k.db"
        compiling = ["flow.py", "--target", target, "--delivery", delivery]
        compiling += ["--image", IMAGE] if delivery != "store" and place != "image" else []
        codes = [
            app.run(["compile", *compiling, "--output", f"{temporary}/build"]),
            app.run(["deploy", *compiling, "--store", store]),
        ]
        assert set(codes) <= ({0, 2} if place == "nowhere" else {0, 1, 2})
        if place == "nowhere" and delivery != "inline":
            assert codes == [0, 0]
        made = [path for path in Path(temporary, "build").rglob("*") if path.is_file()]
        found = {str(path): f"{path}\n".encode() + path.read_bytes() for path in made}
        if codes[1] == 0:
            found |= contents(store)
        found["terminal"] = "\n".join(capfd.readouterr()).encode()
        assert not holders(secret, found)
