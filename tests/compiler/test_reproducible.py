"""One source is one plan: whatever the folder, the hash seed, the time zone and the locale."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.compiler.helpers import PRELUDE

SOURCE = (
    "import json\nfrom beside import f, b as other\n"
    + PRELUDE
    + '''
TOOLS = {"a": a, "b": b, "c": c}

@flow
def main(topic: str = "ü", *, depth: int = 2, q: list[str] = ["x"]) -> str:
    """Doc."""
    zeta, alpha, mid = 1, {2, 3}, {"b": 1, "a": 2}
    for i in range(2):
        topic = a(topic) + json.dumps(b(i)) + other(i)
    if n(topic) and c(topic) or d(alpha):
        return f(zeta)
    while not TOOLS[topic](mid):
        zeta, alpha, mid = mid, zeta, alpha
    x, y, z = a.submit(1), b.submit(2), kitaru.wait(name="ok")
    return f"{x.result()}{y.result()}{z}{zeta}{alpha}{mid}{e(depth)}"
'''
)
BESIDE = "from kitaru import checkpoint\ndef f(x): return x\n@checkpoint\ndef b(x): return x\n"
COMMAND = """
import sys
from pathlib import Path
from kitaru_compiler import check, compile_flow
from kitaru_compiler.diagnostics.render import render
path = Path(sys.argv[1])
compilation = compile_flow(path)
sys.stdout.buffer.write((compilation.plan.to_json() + compilation.steps_py).encode())
sys.stdout.buffer.write(render(compilation.diagnostics, compilation.sources).encode())
sys.stdout.buffer.write(render(*check(path)[:2]).encode())
"""


def compiled(folder: Path, **environment: str) -> bytes:
    folder.mkdir(parents=True)
    (folder / "program.py").write_text(SOURCE, encoding="utf-8")
    (folder / "beside.py").write_text(BESIDE, encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", COMMAND, str(folder / "program.py")],
        env={**os.environ, **environment},
        cwd=folder,
        capture_output=True,
        check=True,
    ).stdout


def test_nothing_around_the_source_shows_in_what_is_made(tmp_path: Path) -> None:
    first = compiled(tmp_path / "one", PYTHONHASHSEED="1", TZ="UTC", LC_ALL="C.UTF-8")
    second = compiled(
        tmp_path / "two" / "ümlaut and space",
        PYTHONHASHSEED="77",
        TZ="Asia/Kathmandu",
        LC_ALL="C",
        PYTHONUTF8="0",
        COLUMNS="20",
        SOURCE_DATE_EPOCH="1",
    )
    assert b"def start" in first
    assert first == second
