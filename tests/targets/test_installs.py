"""What a container installs: with hashes, by a real pip, from a folder that serves as an index."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kitaru_compiler import compile_flow
from kitaru_compiler.frontend.lock_files import Locked
from kitaru_targets import build, delivery, installs, registry
from kitaru_targets.bundle import contents
from kitaru_targets.verification import verify

from kitaru.errors import StateError, UsageError
from kitaru.stores import open_store
from kitaru.wire.keys import bundle
from tests.targets.own_installs import FILE, own_pins

FLOW = """\
import small
from kitaru import checkpoint, flow

@checkpoint
def work(x: int) -> int:
    return x

@flow
def main(x: int) -> int:
    return work(x)
"""
Wheel = Callable[..., str]


@pytest.fixture
def wheel(tmp_path: Path) -> Wheel:
    """Return a function that adds a distribution to the index and returns the hash of its file."""
    index = tmp_path / "index"
    index.mkdir()

    def add(name: str, needs: str = "") -> str:
        path = index / f"{name}-1.0-py3-none-any.whl"
        info = f"{name}-1.0.dist-info"
        needed = f"Requires-Dist: {needs}\n" if needs else ""
        with zipfile.ZipFile(path, "w") as made:
            made.writestr(f"{name}.py", "")
            made.writestr(
                f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{needed}"
            )
            tags = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            made.writestr(f"{info}/WHEEL", tags)
            made.writestr(f"{info}/RECORD", "")
        return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"

    return add


def written(
    folder: Path, requirements: str, target: str = "kubeflow", **options: Any
) -> build.Build:
    project = folder / "project"
    project.mkdir(exist_ok=True)
    (project / "flow.py").write_text(FLOW)
    (project / "requirements.txt").write_text(requirements)
    chosen = registry.get(target)
    found = compile_flow(project / "flow.py", profile=chosen.profile)
    return build.write(found, chosen, folder / "out" / target, **options)


def started(made: build.Build, folder: Path) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Start a step as a container does; return how it ended and what was installed."""
    store = open_store(f"sqlite:{folder / 'kitaru.db'}")
    store.create(bundle(made.bundle_digest), made.read("bundle.zip"))
    store.close()
    words = [made.bundle_digest, "step", "--step", "work", "--store", f"sqlite:{folder}/kitaru.db"]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", delivery.program(), *words],
        capture_output=True,
        text=True,
        check=False,
        env={
            "TMPDIR": str(folder),
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(folder / "index"),
            "PIP_TARGET": str(folder / "installed"),
        },
    )
    return done, sorted(path.name for path in (folder / "installed").glob("*.py"))


def test_a_step_installs_what_has_the_hash(wheel: Wheel, tmp_path: Path) -> None:
    inner = wheel("inner")
    lines = f"small==1.0 --hash={wheel('small', 'inner')}\ninner==1.0 --hash={inner}\n"
    done, found = started(written(tmp_path, lines), tmp_path)
    assert found == ["inner.py", "small.py"], done.stderr
    assert "cannot install" not in done.stderr


def test_a_step_refuses_another_file(wheel: Wheel, tmp_path: Path) -> None:
    wheel("small")
    done, found = started(written(tmp_path, f"small==1.0 --hash=sha256:{'0' * 64}\n"), tmp_path)
    assert (done.returncode, found) == (3, [])
    assert "DO NOT MATCH THE HASHES" in done.stderr and "0" * 64 in done.stderr
    assert "kitaru: cannot install small==1.0" in done.stderr


def test_a_step_refuses_what_nothing_lists(wheel: Wheel, tmp_path: Path) -> None:
    wheel("inner")
    lines = f"small==1.0 --hash={wheel('small', 'inner')}\n"
    done, found = started(written(tmp_path, lines), tmp_path)
    assert (done.returncode, found) == (3, [])
    assert "inner" in done.stderr and "--require-hashes" in done.stderr


def test_what_has_no_hash_is_a_list_of_its_own(wheel: Wheel, tmp_path: Path) -> None:
    wheel("inner")
    lines = f"small==1.0 --hash={wheel('small', 'inner')}\ninner==1.0\n"
    made = written(tmp_path, lines)
    assert made.read(installs.UNHASHED) == b"inner==1.0\n"
    assert b"--require-hashes --no-deps" in made.read("Dockerfile")
    assert [w for w in verify(made.directory).warnings if "hash" in w] == [
        "no hash is known of inner: see requirements-unhashed.txt"
    ]
    done, found = started(made, tmp_path)
    assert found == ["inner.py", "small.py"], done.stderr


@pytest.mark.parametrize("target", registry.names())
@pytest.mark.parametrize("how", ["store", "image", "inline"])
def test_every_build_has_the_list(target: str, how: str, tmp_path: Path) -> None:
    chosen = registry.get(target)
    if (how == "inline" and not chosen.transport.inline) or (target == "local" and how != "store"):
        return
    lines = f"small==1.0 --hash=sha256:{'1' * 64}\n"
    made = written(tmp_path, lines, target, delivery=how, image="i:1")
    listed = installs.parse(made.read(installs.HASHED), "list")
    assert {"small", "obstore", "typing-extensions"} == {one.name for one in listed}
    assert installs.UNHASHED not in made.files
    # How the containers start may be in a file beside the document.
    documents = [chosen.document, *chosen.further]
    document, hashed = "".join(made.read(name).decode() for name in documents), "1" * 64
    inside = contents(made.read("bundle.zip"))
    lists = {name for name in inside if "requirements" in name}
    # A document lists only what fetches the bundle.
    assert hashed not in document
    brought = chosen.transport.folder or chosen.transport.beside
    fetches = how == "store" and not brought and target != "local"
    assert ("--hash=sha256:" in document) == fetches
    assert bool(lists) == (how != "inline")


def test_hashes_and_digests_can_be_required(tmp_path: Path) -> None:
    base = f"python:3.12-slim@sha256:{'0' * 64}"
    hashed = f"small==1.0 --hash=sha256:{'1' * 64}\n"
    with pytest.raises(UsageError, match=r"No hash is known of small==1\.0"):
        written(tmp_path, "small==1.0\n", require_hashes=True, base_image=base)
    with pytest.raises(UsageError, match=r"image python:3\.11-slim is named by a tag"):
        written(tmp_path, hashed, require_hashes=True)
    with pytest.raises(UsageError, match=r"image i:1 is named by a tag") as raised:
        written(tmp_path, hashed, require_hashes=True, base_image=base, image="i:1")
    assert 'image = "i:1@sha256:…"' in (raised.value.help or "")
    made = written(tmp_path, hashed, require_hashes=True, base_image=base)
    assert f"ARG BASE={base}\n".encode() in made.read("Dockerfile")
    assert base in made.document.read_text()
    assert verify(made.directory).warnings == ()


def test_what_kitaru_adds_is_locked() -> None:
    """After a change of a pin: `.venv/bin/python -m tests.targets.own_installs`."""
    assert sorted(json.loads(FILE.read_text())["roots"]) == own_pins()
    for pin in own_pins():
        closure = installs.own_closure(pin)
        assert all(one.hashes for one in closure)
        assert pin in [f"{one.name}=={one.version}" for one in closure]


def test_the_version_of_the_project_comes_first() -> None:
    own = Locked("typing-extensions", "4.0", "", (f"sha256:{'2' * 64}",))
    found = installs.installs(["obstore==0.12.1"], [own], "obstore==0.12.1")
    assert own in found.all and own in found.store
    assert [one.name for one in found.all] == ["obstore", "typing-extensions"]
    other = installs.installs(["obstore==0.1"], (), "obstore==0.1")
    assert [(one.name, one.hashes) for one in other.unhashed] == [("obstore", ())]


def test_a_list_is_read_as_it_was_written() -> None:
    found = [
        Locked(
            "a", "1.0", 'python_version == "3.11"', (f"sha256:{'3' * 64}", f"sha256:{'4' * 64}")
        ),
        Locked("b", "2.0", "", ()),
    ]
    files = installs.files(found)
    assert [one for data in files.values() for one in installs.parse(data, "list")] == found
    for text in (b"a\n", b"a==1 --hash=md5:1\n", b"-r other\n", b"\xff"):
        with pytest.raises(StateError, match="list is not a list that Kitaru wrote"):
            installs.parse(text, "list")
