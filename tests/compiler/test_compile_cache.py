"""A build or a check that is used again is the one that a compilation would make now."""

from __future__ import annotations

import ast
import os
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kitaru_compiler.diagnostics.model import SourceError

import kitaru
from kitaru.errors import KitaruError
from kitaru.ops import build_cache
from kitaru.ops.check import check
from kitaru.ops.compile import compile, compile_all, request
from kitaru.ops.flow_ref import locate
from kitaru.wire import disk, redaction
from kitaru.wire.disk_cache import DiskCache

ROOT = Path(__file__).parents[2]
FLOW = """\
import json
from pathlib import Path

from kitaru import checkpoint, flow, memory

from app import helper, settings
from app.parts import words

HERE = Path(__file__).parent


@checkpoint
def step(text: str) -> str:
    for file in sorted((HERE / "prompts").glob("*.md")):
        text += file.read_text()
    return text + helper.SUFFIX + str(len(words.ALL)) + settings.NAME


@flow
def main(text: str = "start") -> str:
    text = step(text)
    memory.set("last", text)
    return helper.twice(step(text))
"""
FILES = {
    "agent.py": FLOW,
    "app/__init__.py": "",
    "app/helper.py": "SUFFIX = '!'\n\n\ndef twice(text: str) -> str:\n    return text + text\n",
    "app/settings.py": "NAME = 'app'\n",
    "app/parts/words.py": "ALL = ['a', 'b']\n",
    "app/data.json": "{}\n",
    "prompts/one.md": "one\n",
    "pyproject.toml": '[project]\nname = "app"\nversion = "1"\n\n[tool.kitaru]\nretries = 1\n',
    "requirements.txt": "rich==13.0\n",
    ".gitignore": "*.log\n",
}
Edit = Callable[[Path], None]


def write(name: str, text: str) -> Edit:
    def edit(folder: Path) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    return edit


def delete(name: str) -> Edit:
    return lambda folder: (folder / name).unlink(missing_ok=True)


def same_size_and_time(folder: Path) -> None:
    path = folder / "app/helper.py"
    before = path.stat()
    path.write_text(path.read_text().replace("'!'", "'?'"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def touch(folder: Path) -> None:
    for path in folder.rglob("*.py"):
        path.touch()


def link(folder: Path) -> None:
    """Let a package be a link to one of two folders, in turn."""
    target = folder / "app/parts"
    if not target.is_symlink():
        shutil.move(target, folder / "parts_a")
        shutil.copytree(folder / "parts_a", folder / "parts_b", dirs_exist_ok=True)
        (folder / "parts_b/words.py").write_text("ALL = ['linked']\n")
        target.symlink_to(folder / "parts_b")
    else:
        other = "parts_a" if target.resolve().name == "parts_b" else "parts_b"
        target.unlink()
        target.symlink_to(folder / other)


TOML = FILES["pyproject.toml"]
EDITS: dict[str, Edit] = {
    "the flow": write("agent.py", FLOW.replace('"start"', '"begin"')),
    "the flow has another checkpoint": write(
        "agent.py", FLOW.replace("memory.set", "step(text)\n    memory.set")
    ),
    "the flow has a finding": write(
        "agent.py", FLOW.replace("text = step(text)\n    m", "text = step(open('x').read())\n    m")
    ),
    "the flow is no Python": write("agent.py", FLOW + "\ndef broken(:\n"),
    "a helper": write("app/helper.py", FILES["app/helper.py"].replace("text + text", "text * 2")),
    "the same size and time": same_size_and_time,
    "only times": touch,
    "a module becomes a package": write("app/settings/__init__.py", "NAME = 'package'\n"),
    "a module that was the library's": write("json.py", "loads = None\n"),
    "a module is gone": delete("app/settings.py"),
    "a namespace package becomes a package": write("app/parts/__init__.py", "ALL = 1\n"),
    "a package becomes a namespace": delete("app/__init__.py"),
    "another data file": write("prompts/two.md", "two\n"),
    "a data file": write("prompts/one.md", "changed\n"),
    "a data file is gone": delete("prompts/one.md"),
    "package data": write("app/more.json", "[1]\n"),
    "an ignored file": write("prompts/.gitignore", "two.md\n"),
    "a setting": write("pyproject.toml", TOML.replace("retries = 1", "retries = 2")),
    "an excluded file": write("pyproject.toml", TOML + 'exclude = ["prompts/one.md"]\n'),
    "an included file": write("pyproject.toml", TOML + 'include = ["extra/*.txt"]\n'),
    "a file to include": write("extra/a.txt", "extra\n"),
    "no pyproject.toml": delete("pyproject.toml"),
    "a requirement": write("requirements.txt", "rich==14.0\n"),
    "an unpinned requirement": write("requirements.txt", "rich>=14.0\n"),
    "no requirements": delete("requirements.txt"),
    "a lock": write("uv.lock", 'version = 1\n\n[[package]]\nname = "rich"\nversion = "14.1"\n'),
    "a module that writes memories": write(
        "writer.py", "from kitaru import memory\n\n\ndef save(x):\n    memory.set('last', x)\n"
    ),
    "a module that registers codecs": write(
        "codecs_of_app.py",
        "import kitaru\nfrom app import helper\n\n"
        "kitaru.register_codec(helper.Thing, name='t', encode=str, decode=str)\n",
    ),
    "the stack": write(".kitaru/stack", "prod\n"),
    "a stack": write(
        "pyproject.toml", TOML + '\n[tool.kitaru.stacks.prod]\nimage = "example.com/a:1"\n'
    ),
    "a linked package": link,
    "a repository begins here": write(".git/HEAD", "ref: refs/heads/main\n"),
    "a credential": write("prompts/secrets.json", '{"a": 1}\n'),
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "project"
    for name, text in FILES.items():
        write(name, text)(folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("KITARU_COMPILE_CACHE", str(tmp_path / "cache"))
    yield folder


def outcome(target: str, directory: Path) -> dict[str, Any]:
    """Compile; return the files and everything that is reported."""
    told: list[Any] = []
    try:
        asked = request("agent.py", target, directory)
        done = compile(asked, lambda found, texts: told.append(found))
    except SourceError as error:
        return {"error": error.diagnostics}
    except KitaruError as error:
        return {"error": str(error)}
    return {
        "files": {path.name: path.read_bytes() for path in done.directory.iterdir()},
        "told": told,
        "plan": done.plan,
        "data": dict(done.data),
        "starts": done.starts,
        "document": done.document.relative_to(directory),
        "lock": done.build.lock,
    }


def found() -> Any:
    try:
        done = check(locate("agent.py"))
    except KitaruError as error:
        return str(error)
    return done.findings, dict(done.data)


def agree(monkeypatch: pytest.MonkeyPatch, out: Path) -> None:
    """Compile and check twice with the cache, and once without: all have the same result."""
    cached = [(outcome("kubeflow", out / name), found()) for name in ("a", "b")]
    with monkeypatch.context() as patch:
        patch.setenv("KITARU_COMPILE_CACHE", "off")
        plain = outcome("kubeflow", out / "c"), found()
    assert cached == [plain, plain]


@pytest.mark.parametrize("seed", range(2))
def test_no_edit_leaves_a_stale_result(
    seed: int, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each edit in an order of its own, upon what the others left; now and then all undone."""
    chosen = random.Random(seed)
    agree(monkeypatch, tmp_path)
    for name in chosen.sample(sorted(EDITS), k=len(EDITS)):
        if chosen.random() < 0.3:
            for file, text in FILES.items():
                if not (project / "app/parts").is_symlink() or "parts" not in file:
                    write(file, text)(project)
        EDITS[name](project)
        agree(monkeypatch, tmp_path)


VARIABLES = {"KITARU_IMAGE": "example.com/b:2", "KITARU_RETRIES": "4", "KITARU_STACK": "other"}


@pytest.mark.parametrize("name", VARIABLES)
def test_a_variable_that_is_a_setting_counts(
    name: str, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("pyproject.toml", TOML + '\n[tool.kitaru.stacks.other]\nimage = "c:3"\n')(project)
    agree(monkeypatch, tmp_path)
    monkeypatch.setenv(name, VARIABLES[name])
    agree(monkeypatch, tmp_path)


def test_the_user_s_configuration_counts(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agree(monkeypatch, tmp_path)
    write("config/kitaru/config.toml", 'image = "example.com/user:1"\n')(tmp_path)
    agree(monkeypatch, tmp_path)


def test_a_secret_that_this_machine_has_learned_since_refuses_the_build(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = "aB3" + "x9Kq7Lm2Zp8Rt5Vw1Ys4"
    write("prompts/one.md", f"use {value}\n")(project)
    assert "files" in outcome("kubeflow", tmp_path / "out")
    assert is_used(project, tmp_path / "out")
    monkeypatch.setenv("SOME_API_KEY", value)
    monkeypatch.setattr(redaction, "_known", type(redaction._known)())
    assert "SOME_API_KEY" in outcome("kubeflow", tmp_path / "out")["error"]
    agree(monkeypatch, tmp_path)


def test_what_is_configured_in_the_process_is_never_stored(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agree(monkeypatch, tmp_path)
    try:
        kitaru.configure(image="example.com/here:1")
        assert build_cache.key("compile") == ""
        agree(monkeypatch, tmp_path)
    finally:
        kitaru.configure(image=None)


def is_used(project: Path, out: Path) -> bool:
    """Whether a compilation now would use what is stored."""
    asked = request("agent.py", "kubeflow", out)
    return build_cache.load(build_cache.key("compile", repr(asked))) is not None


def test_an_unchanged_source_is_not_compiled_again(project: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert not is_used(project, out)
    outcome("kubeflow", out)
    assert is_used(project, out)
    touch(project)
    assert is_used(project, out)
    write("elsewhere/notes.txt", "not read\n")(tmp_path)
    assert is_used(project, out)
    write("app/helper.py", "SUFFIX = ''\n")(project)
    assert not is_used(project, out)


def test_a_change_of_kitaru_s_own_code_or_of_a_library_counts(
    project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    keys = [build_cache.key("compile")]
    with monkeypatch.context() as patch:
        patch.setattr(build_cache, "_own_code", lambda: iter(["kitaru/flows.py 1 2"]))
        keys.append(build_cache.key("compile"))
    write("site/jinja2-9.dist-info/METADATA", "")(tmp_path)
    monkeypatch.syspath_prepend(tmp_path / "site")
    keys.append(build_cache.key("compile"))
    assert len(set(keys)) == 3
    assert any(
        one.split()[0].endswith("kitaru_compiler/compile.py") for one in build_cache._own_code()
    )


@pytest.mark.parametrize("damage", [b"", b"x", b"\n", b"\0" * 100, None])
def test_a_damaged_entry_is_made_again(
    damage: bytes | None, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agree(monkeypatch, tmp_path)
    entries = sorted((tmp_path / "cache/builds").glob("*.entry"))
    assert entries
    for entry in entries:
        data = entry.read_bytes()
        entry.write_bytes(data[: len(data) // 2] if damage is None else damage)
    agree(monkeypatch, tmp_path)


def test_an_entry_under_another_name_is_not_used(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path / "cache")
    cache.put("a", b"of a")
    shutil.copy(tmp_path / "cache/a.entry", tmp_path / "cache/b.entry")
    assert (cache.get("a"), cache.get("b")) == (b"of a", None)


def test_entries_that_were_not_used_for_long_are_deleted(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path / "cache", most=1200)
    for number in range(3):
        cache.put(str(number), b"x" * 300)
        os.utime(tmp_path / f"cache/{number}.entry", (number, number))
    cache.get("0")
    cache.put("3", b"x" * 300)
    cache.evict()
    assert [cache.get(str(n)) is not None for n in range(4)] == [True, False, True, True]
    cache.put("large", b"x" * 2000)
    assert cache.get("large") is None
    assert sorted(p.name for p in (tmp_path / "cache").iterdir()) == [
        "0.entry",
        "2.entry",
        "3.entry",
    ]


def test_a_folder_that_cannot_be_written_is_an_empty_cache(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = DiskCache(tmp_path / "file" / "cache")
    cache.put("a", b"x")
    assert cache.get("a") is None


def test_every_target_is_stored(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = request("agent.py", "all", tmp_path / "out")
    first, refused = compile_all(asked)
    files = {p: p.read_bytes() for one in first for p in one.directory.iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr("kitaru.ops.compile.compile_draft", lambda request: 1 / 0)
        again, refused_again = compile_all(asked)
    assert files == {p: p.read_bytes() for one in again for p in one.directory.iterdir()}
    assert (refused, refused_again) == ({}, {})


def test_every_file_that_is_opened_is_among_the_answers(project: Path, tmp_path: Path) -> None:
    """A file or folder that the compiler looks into behind the recorder's back is found here."""
    opened: set[str] = set()
    watching = [True]

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if watching and event in ("open", "os.listdir", "os.scandir"):
            opened.add(os.path.abspath(str(arguments[0])))  # noqa: PTH100

    sys.addaudithook(watch)
    try:
        with disk.recorded() as answers:
            check(locate("agent.py"))
    finally:
        watching.clear()
    asked = {str(arguments[0]) for _, arguments, _ in answers.lines()}
    inside = {path for path in opened if path.startswith(str(project))}
    assert str(project / "agent.py") in inside
    below = {path for path in inside if any(Path(path).is_relative_to(one) for one in asked)}
    assert inside - asked <= below


READS = frozenset({
    "is_file", "is_dir", "exists", "read_text", "read_bytes", "open", "glob", "rglob", "iterdir",
    "stat", "lstat", "is_symlink", "readlink", "scandir", "listdir",
})  # fmt: skip
# Kitaru's own files, which the key covers.
OWN = {"compiler/kitaru_compiler/frontend/api.py": {"is_file", "read_text"}}


def test_the_compiler_reads_through_the_recorder_alone() -> None:
    files = [*(ROOT / "compiler").rglob("*.py"), ROOT / "kitaru/toml_files.py"]
    # A fix is made of a fresh check.
    files = [path for path in files if path.parent.name != "fixes"]
    assert len(files) > 50
    for path in files:
        calls = [n.func for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
        used = {
            call.attr
            for call in calls
            if isinstance(call, ast.Attribute)
            and call.attr in READS
            and not (isinstance(call.value, ast.Name) and call.value.id in ("disk", "self"))
        }
        used |= {call.id for call in calls if isinstance(call, ast.Name) and call.id == "open"}
        name = path.relative_to(ROOT).as_posix()
        assert used <= OWN.get(name, set()), name
