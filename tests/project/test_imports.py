"""What the packages import: little with `import kitaru`, and nothing that runs what it reads."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

DEAR = (
    "argparse",
    "ast",
    "asyncio",
    "dataclasses",
    "inspect",
    "kitaru.client",
    "logging",
    "sqlite3",
)


def test_import_kitaru_leaves_alone_what_takes_long() -> None:
    program = f"import sys, kitaru; print([m for m in {DEAR} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0]


def test_one_module_knows_pickles() -> None:
    """Reading a store only reads data, unless a checkpoint permits loading pickles."""
    root = Path(__file__).parents[2]
    packages = ("kitaru", "compiler", "targets", "templates")
    files = [path for package in packages for path in (root / package).rglob("*.py")]
    unsafe = {"pickle", "shelve", "dill", "cloudpickle", "joblib"}
    assert len(files) > 200
    found = [path for path in files if unsafe.intersection(imported(path))]
    # `marshal.dumps` gives bytes for a digest; nothing reads such bytes.
    assert not [path for path in files if "marshal.load" in path.read_text("utf-8")]
    assert found == [root / "kitaru" / "runtime" / "codec" / "pickles.py"]
    assert not [path for path in files if "allow_pickle=True" in path.read_text("utf-8")]
