"""The cache of unpacked bundles: bounded, never taken from a process, whole after any kill."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import random
import subprocess
import sys
import zipfile
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from kitaru_targets.local import bundles

from kitaru.errors import StateError
from kitaru.stores import open_store
from kitaru.stores.base import Store
from kitaru.wire import keys
from kitaru.wire.canonical import sha256
from tests.waiting import attempts

SIZE = 1000
# The higher, the more lines are killed at, in as many more seconds.
EVERY = int(os.environ.get("KITARU_KILLS", "8"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(bundles, "MOST_BYTES", 3 * SIZE)
    return tmp_path / "kitaru/bundles"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(f"sqlite:{tmp_path}/k.db")


def bundle(store: Store, name: str) -> str:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("flow.py", name.ljust(SIZE // 2))
        archive.writestr("prompts/text.md", name.rjust(SIZE // 2))
    digest = sha256(made.getvalue())
    store.create(keys.bundle(digest), made.getvalue())
    return digest


def is_whole(folder: Path) -> bool:
    files = {path.name: path.read_text() for path in folder.rglob("*") if path.is_file()}
    texts = [*files.values()]
    return len(files) == 2 and all(len(text) == SIZE // 2 for text in texts)


def folders(cache: Path) -> set[Path]:
    return {path for path in cache.iterdir() if path.is_dir() and path.name[0] != "."}


def use(store: Store, digest: str) -> Path:
    with bundles.unpacked(store, digest) as held:
        assert is_whole(held.folder)
        return held.folder


def dated(folder: Path, second: int) -> None:
    os.utime(folder.with_name(f"{folder.name}.lock"), (second, second))


def test_the_cache_is_bounded_by_use(store: Store, cache: Path) -> None:
    made = [use(store, bundle(store, f"b{n}")) for n in range(3)]
    for n, folder in enumerate(made):
        dated(folder, 100 + n)
    use(store, bundle(store, "b0"))
    newest = use(store, bundle(store, "b3"))
    assert folders(cache) == {made[0], made[2], newest}
    assert len([*cache.glob("[!.]*.lock")]) == 3
    assert use(store, bundle(store, "b1")) == made[1]


def test_a_bundle_larger_than_the_bound_stays_for_its_process(
    store: Store, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundles, "MOST_BYTES", 1)
    for name in ("b0", "b1"):
        folder = use(store, bundle(store, name))
        assert folders(cache) == {folder}


def test_a_folder_that_a_process_runs_from_stays(store: Store, cache: Path) -> None:
    with bundles.unpacked(store, bundle(store, "running")) as held:
        process = subprocess.Popen(
            [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=held.files
        )
    dated(held.folder, 1)
    others = [use(store, bundle(store, f"b{n}")) for n in range(4)]
    assert held.folder in folders(cache) and len(folders(cache)) == 3
    process.communicate(b"\n")
    for n, folder in enumerate(others):
        if folder.exists():
            dated(folder, 100 + n)
    dated(held.folder, 1)
    use(store, bundle(store, "b4"))
    assert held.folder not in folders(cache)


def test_without_locks_nothing_is_removed(
    store: Store, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    made = {use(store, bundle(store, f"b{n}")) for n in range(5)}
    assert folders(cache) == made


def test_a_changed_folder_is_replaced(store: Store) -> None:
    digest = bundle(store, "b0")
    (use(store, digest) / "flow.py").write_text("forged")
    use(store, digest)


def test_unsafe_paths_are_refused(store: Store, cache: Path) -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("../outside.py", "")
    digest = sha256(made.getvalue())
    store.create(keys.bundle(digest), made.getvalue())
    with pytest.raises(StateError, match="unsafe path"):
        bundles.unpacked(store, digest)
    assert folders(cache) == set()


def killed_at(line: int, work: Any) -> bool:
    """Run work in a fork that dies at its nth line in `bundles`, `shutil` or `bundle`."""
    child = os.fork()
    if child == 0:
        left = line

        def trace(frame: FrameType, event: str, _: object) -> Any:
            nonlocal left
            name = Path(frame.f_code.co_filename).name
            if name not in ("bundles.py", "shutil.py", "bundle.py"):
                return None
            if event == "line":
                left -= 1
                if left == 0:
                    os._exit(9)
            return trace

        code = 1
        try:
            sys.settrace(trace)
            work()
            code = 0
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 9)
    return code == 9


def test_a_kill_at_any_line_leaves_the_cache_whole(store: Store, cache: Path) -> None:
    new, again = bundle(store, "new"), bundle(store, "again")
    old = [bundle(store, f"b{n}") for n in range(3)]
    datas = {digest: store.get(keys.bundle(digest)) for digest in [new, again, *old]}

    class Kept:
        url = "kept:"

        def get(self, key: str) -> bytes | None:
            return next(data for digest, data in datas.items() if keys.bundle(digest) == key)

    kept: Any = Kept()
    line = 1
    for _ in attempts():
        for n, digest in enumerate(old):
            dated(use(kept, digest), 100 + n)
        killed = killed_at(line, lambda: use(kept, new))
        assert all(is_whole(folder) for folder in folders(cache)), line
        use(kept, again)
        hidden = [path for path in cache.iterdir() if path.name[0] == "." and path.is_dir()]
        assert hidden == [] and len(folders(cache)) <= 3, line
        # The next round makes both again.
        for digest in (new, again):
            bundles._remove_unused(cache / digest.removeprefix("sha256:")[:32])
        if not killed:
            break
        line += 1 + line // EVERY
    assert line > 100


def test_processes_that_make_and_remove_folders_at_once(store: Store, cache: Path) -> None:
    digests = [bundle(store, f"b{n}") for n in range(6)]
    store.close()
    children = []
    for seed in range(3):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                chosen, own = random.Random(seed), open_store(store.url)
                for _ in range(25):
                    use(own, chosen.choice(digests))
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    ended = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert ended == [0, 0, 0]
    assert all(is_whole(folder) for folder in folders(cache))
