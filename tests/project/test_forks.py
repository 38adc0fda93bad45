"""A fork of `tests.forks` does what the same command does as a new process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import kitaru
from tests import forks

ENDING = """
import atexit, threading, time
atexit.register(print, "at the end")
threading.Thread(target=lambda: (time.sleep(0.1), print("from a thread"))).start()
"""
SEEN = "import os, sys; print(sys.argv, sys.path[:3], os.getcwd(), sorted(os.environ), __name__)"
MODULES = """
import sys, types
import kitaru.runtime.__main__, kitaru.stores.sqlite, kitaru.client
# `kitaru.__getattr__` imports it, before a new process finds a submodule.
import kitaru.compat.removed
for name, module in sorted(sys.modules.items()):
    if name.startswith("kitaru"):
        print(name, sorted(vars(module)))
        print(module.__file__, module.__cached__, module.__spec__.origin, module.__loader__.path)
        for key, value in sorted(vars(module).items()):
            if isinstance(value, types.FunctionType) and value.__module__ == name:
                print(key, value.__code__.co_filename)
            # Two strings are random in each process.
            if isinstance(value, (str, list)) and key not in ("_SESSION", "_MARK"):
                print(key, value)
            if isinstance(value, type) and value.__module__.startswith("kitaru"):
                print(key, value is getattr(sys.modules[value.__module__], value.__name__, value))
try:
    kitaru.stores.open_store("nothing:x")
except kitaru.errors.KitaruError:
    import traceback
    traceback.print_exc()
"""
COMMANDS = {
    "what it sees": ["-c", SEEN, "a", "-b"],
    "its input": ["-c", "print(input())"],
    "an exit code": ["-c", "import sys; sys.exit(4)"],
    "a last word": ["-c", "raise SystemExit('bye')"],
    "an error": ["-c", "def f():\n    raise ValueError(3)\nf()"],
    "an interrupt": ["-c", "raise KeyboardInterrupt"],
    "a signal": ["-c", "import os; os.kill(os.getpid(), 9)"],
    "threads and exit functions": ["-c", ENDING],
    "its umask": ["-c", "import os; print(os.umask(0))"],
    "a script": ["script.py", "x"],
    "a module": ["-m", "beside", "y"],
    "the command line": ["-m", "kitaru", "explain", "KT101"],
    "a wrong command": ["-m", "kitaru", "nothing"],
    "without its folder": ["-P", "-c", SEEN, "a"],
    "a module without its folder": ["-P", "-m", "kitaru", "explain", "KT101"],
    "a step": ["-m", "kitaru.runtime", "step"],
    "what a step has": ["-c", "import sys; print([n for n in sys.modules if 'kitaru' in n])"],
    "another Kitaru": ["-c", "import kitaru; print(kitaru.VALUE, kitaru.__file__)"],
}


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_a_fork_is_the_process(words: list[str], tmp_path: Path) -> None:
    for name in ("script.py", "beside.py"):
        (tmp_path / name).write_text(f"import sys\n{SEEN}\nprint(__file__)\n1 / 0\n")
    (tmp_path / "bundle" / "kitaru").mkdir(parents=True)
    (tmp_path / "bundle" / "kitaru" / "__init__.py").write_text("VALUE = 3\n")
    command = [sys.executable, *words]
    environment = {**os.environ, "PYTHONPATH": "first"}
    if "kitaru.VALUE" in words[-1]:
        environment["PYTHONPATH"] = str(tmp_path / "bundle")
    mask = os.umask(0o027)
    try:
        assert forks.can_fork(command, environment)
        fork = forks.run(command, cwd=tmp_path, env=environment, input="a line\n")
        new = subprocess.run(
            command, cwd=tmp_path, env=environment, input="a line\n", capture_output=True,
            text=True, check=False,
        )  # fmt: skip
    finally:
        os.umask(mask)
    assert (fork.returncode, fork.stdout, fork.stderr) == (
        new.returncode,
        new.stdout,
        new.stderr,
    )


@pytest.mark.parametrize("changed", ["", "errors.py", "wire/ids.py", "runtime/__init__.py"])
def test_a_step_runs_the_kitaru_of_its_bundle(changed: str, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(Path(str(kitaru.__file__)).parent, tmp_path / "kitaru"))
    if changed:
        with (copy / changed).open("a") as file:
            file.write("\nCHANGED = True\n")
    command = [sys.executable, "-P", "-c", MODULES]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    assert forks.can_fork(command, environment)
    fork = forks.run(command, cwd=tmp_path, env=environment)
    new = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert fork.stdout.splitlines() == new.stdout.splitlines()
    assert fork.stderr == new.stderr
    assert new.returncode == 0 and ("CHANGED" in new.stdout) == bool(changed)
    assert str(copy) in new.stderr


@pytest.mark.parametrize(
    ("words", "variables"),
    [
        (["bash", "-c", "true"], {}),
        ([sys.executable, "-I", "-c", "pass"], {}),
        ([sys.executable, "-c", "pass"], {"PYTHONHASHSEED": "7"}),
        ([sys.executable, "-c", "pass"], {"PYTHONUTF8": "0"}),
        ([sys.executable, "-c", "pass"], {"TZ": "Asia/Kabul"}),
        ([sys.executable, "-c", "pass"], {"LC_ALL": "tr_TR.UTF-8"}),
    ],
)
def test_what_a_fork_cannot_be_is_a_new_process(
    words: list[str], variables: dict[str, str]
) -> None:
    environment = {**os.environ, **variables}
    assert not forks.can_fork(words, environment)
    assert forks.run(words, env=environment).returncode == 0


def test_a_command_that_takes_too_long_is_killed() -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        forks.run([sys.executable, "-c", "import time; time.sleep(600)"], timeout=0.2)
