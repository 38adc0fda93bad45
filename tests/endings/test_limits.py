"""A process that really has no memory, no threads or no disk left ends, and can be resumed."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from kitaru import KitaruClient

SCRIPT = """
import resource, sys, threading
from pathlib import Path
import kitaru
from kitaru import checkpoint, flow

def limit(kind, more):
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(kind, (used + more, resource.RLIM_INFINITY))

@checkpoint
def first() -> int:
    with open("ran", "a") as file:
        file.write("first ")
    return 1

@checkpoint
def last(n: int) -> int:
    return n + 1

@flow
def work() -> int:
    n = first()
    print("a line of output")
    BREAK
    return last(n)

if __name__ == "__main__":
    work.run()
"""
BREAKS = {
    "memory": """if Path("broken").exists():
        limit(resource.RLIMIT_AS, 40_000_000)
        held = []
        while True:
            print("more")
            held.append(bytearray(100_000))""",
    # No thread can have a stack so large.
    "threads": """if Path("broken").exists():
        threading.stack_size(1 << 30)
        limit(resource.RLIMIT_AS, 200_000_000)
        sum(future.result() for future in last.map(range(4)))""",
    # Writing past this size fails, as on a full disk.
    "disk": """if Path("broken").exists():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))""",
}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and sets limits of Linux")
@pytest.mark.parametrize("what", BREAKS)
def test_a_process_without(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KITARU_STORE", f"sqlite:{tmp_path / 'kitaru.db'}")
    monkeypatch.chdir(tmp_path)
    Path("work.py").write_text(SCRIPT.replace("BREAK", BREAKS[what]))
    Path("broken").touch()
    run = [sys.executable, "work.py"]
    done = subprocess.run(run, capture_output=True, text=True, timeout=240, check=False)
    (item,) = KitaruClient().executions.list()
    exec_id = item["exec_id"]
    if what == "threads":
        # Nothing failed: the calls ran one after the other.
        assert done.returncode == 0, done.stderr
        return
    assert done.returncode == 1, done.stderr
    assert exec_id in done.stderr
    Path("broken").unlink()
    verb = "retry" if what == "memory" else "resume"
    assert f"kitaru executions {verb} {exec_id}" in done.stderr
    again = subprocess.run(
        [sys.executable, "-m", "kitaru", "executions", verb, exec_id],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert (again.returncode, again.stdout.split()[-1]) == (0, "2"), again.stderr
    assert Path("ran").read_text() == "first "


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc loads it so late")
def test_what_ends_threads_is_loaded_while_there_is_memory(tmp_path: Path) -> None:
    """glibc aborts a process that cannot load libgcc_s when its first daemon thread ends."""
    (tmp_path / "work.py").write_text(
        "from pathlib import Path\n"
        "from kitaru import flow\n\n"
        "@flow\n"
        "def work() -> bool:\n"
        '    return "libgcc_s.so.1" in Path("/proc/self/maps").read_text()\n\n'
        'if __name__ == "__main__":\n'
        '    print(work.options(store="memory:endings").run().wait())\n'
    )
    run = [sys.executable, "work.py"]
    done = subprocess.run(run, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.stdout == "True\n", done.stderr
