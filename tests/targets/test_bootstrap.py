"""A container without Kitaru starts safely: it checks the digest before it unpacks anything."""

from __future__ import annotations

import base64
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from kitaru_targets import delivery

from kitaru.stores import open_store
from kitaru.wire.canonical import sha256
from kitaru.wire.keys import bundle

MAIN = b"import sys\nprint(sys.argv[1:], __name__)\n"


def archive(files: dict[str, bytes], *, mode: int = 0o100644) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as made:
        for name, data in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            made.writestr(info, data)
    return target.getvalue()


def start(
    source: str, store: Path, *, pins: list[str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the program in isolation from this environment's packages."""
    url = f"sqlite:{store}"
    program = delivery.INLINE if source.startswith("inline:") else delivery.program()
    command = [sys.executable, "-I", "-S", "-c", program, source]
    arguments = [*(pins or []), "step", "--step", "a", "--store", url]
    environment = {"TMPDIR": str(store.parent), "PIP_NO_INDEX": "1"}
    return subprocess.run(
        [*command, *arguments], capture_output=True, text=True, env=environment, check=False
    )


def inline(files: dict[str, bytes], *, mode: int = 0o100644) -> str:
    return f"inline:{base64.b64encode(archive(files, mode=mode)).decode()}"


RUNTIME = {
    "kitaru/__init__.py": b"",
    "kitaru/runtime/__init__.py": b"",
    "kitaru_build/bootstrap.py": delivery.unpacking().encode(),
}
GOOD = {**RUNTIME, "kitaru/runtime/__main__.py": MAIN}


def stored(path: Path, data: bytes, key: str | None = None) -> str:
    store = open_store(f"sqlite:{path}")
    store.create(key or bundle(sha256(data)), data)
    store.close()
    return key.replace("bundle/", "sha256:") if key else sha256(data)


def test_a_bundle_is_fetched_by_its_digest_and_run(tmp_path: Path) -> None:
    store = tmp_path / "kitaru.db"
    done = start(stored(store, archive(GOOD)), store, pins=["obstore==0.0.1"])
    assert done.returncode == 0, done.stderr
    assert "['step', '--plan'" in done.stdout and "kitaru_build/plan.json" in done.stdout
    assert done.stdout.rstrip().endswith("__main__")


def test_a_folder_as_store_means_its_file(tmp_path: Path) -> None:
    digest = stored(tmp_path / "kitaru.db", archive(GOOD))
    assert start(digest, tmp_path).returncode == 0


def test_a_step_leaves_no_files_on_a_worker(tmp_path: Path) -> None:
    store = tmp_path / "kitaru.db"
    forks = b"""
import os, pathlib, sys
here = pathlib.Path.cwd()
assert (here / "kitaru").is_dir()
if (child := os.fork()) == 0:
    sys.exit(0)
os.waitpid(child, 0)
print("kept", (here / "kitaru").is_dir())
"""
    made = archive({**GOOD, "kitaru/runtime/__main__.py": forks})
    done = start(stored(store, made), store)
    assert "kept True" in done.stdout, done.stderr
    assert not list(tmp_path.glob("kitaru-*"))


def test_an_inline_bundle_is_run(tmp_path: Path) -> None:
    assert start(inline(GOOD), tmp_path / "kitaru.db").returncode == 0


def test_a_swapped_bundle_is_refused(tmp_path: Path) -> None:
    store = tmp_path / "kitaru.db"
    done = start(stored(store, archive(GOOD), key=f"bundle/{'0' * 64}"), store)
    assert done.returncode == 3
    assert "is not what was compiled" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("there", [True, False])
def test_a_missing_bundle_is_an_environment_error(tmp_path: Path, there: bool) -> None:
    store = tmp_path / "kitaru.db"
    if there:
        open_store(f"sqlite:{store}").close()
    done = start(f"sha256:{'0' * 64}", store)
    assert done.returncode == 3
    assert "cannot fetch bundle" in done.stderr and "Traceback" not in done.stderr
    assert there or not store.exists()


@pytest.mark.parametrize("name", ["../evil.py", "/evil.py", "a/../../evil.py", "..\\evil.py"])
def test_an_unsafe_path_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    done = start(inline({name: b"x", **GOOD}), tmp_path / "in" / "kitaru.db")
    assert done.returncode == 3
    assert "unsafe path" in done.stderr
    assert not list(tmp_path.rglob("evil*"))


def test_a_link_is_refused(tmp_path: Path) -> None:
    done = start(inline(GOOD, mode=0o120777), tmp_path / "kitaru.db")
    assert done.returncode == 3
    assert "unsafe path" in done.stderr


def test_a_bomb_is_refused(tmp_path: Path) -> None:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("zeros", bytes(65 * 1024 * 1024))
        made.writestr("kitaru_build/bootstrap.py", delivery.unpacking())
    store = tmp_path / "kitaru.db"
    done = start(stored(store, target.getvalue()), store)
    assert done.returncode == 3
    assert "too large" in done.stderr


def test_the_program_says_what_it_cannot_install(tmp_path: Path) -> None:
    files = {**GOOD, "kitaru_build/requirements-unhashed.txt": b"no-such-thing==1.0\n"}
    store = tmp_path / "kitaru.db"
    done = start(stored(store, archive(files)), store)
    assert done.returncode == 3
    assert "cannot install no-such-thing==1.0" in done.stderr


def test_the_image_of_an_inline_flow_has_what_it_needs(tmp_path: Path) -> None:
    done = start(inline(GOOD), tmp_path / "kitaru.db", pins=["no-such-thing==1.0"])
    assert done.returncode == 3
    assert "the image lacks no-such-thing==1.0: build it again" in done.stderr


def test_the_program_can_stand_in_a_document() -> None:
    assert "{{" not in delivery.program() and "}}" not in delivery.program()
    assert len(delivery.program()) < 2_500
