"""What the packages import: little with `import kitaru`, and nothing that runs what it reads."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

import kitaru

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


def loaded(statement: str, names: Sequence[str]) -> str:
    """Return which of `names` a new process has imported after a statement."""
    program = f"import sys; {statement}; print([m for m in {names} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_a_flow_and_checkpoints_leave_alone_what_takes_long() -> None:
    assert loaded("import kitaru; kitaru.flow, kitaru.checkpoint, kitaru.memory", DEAR) == "[]"


def test_import_kitaru_imports_no_runtime() -> None:
    assert loaded("import kitaru", ("kitaru.errors", "kitaru.config", "kitaru.runtime")) == "[]"


def test_public_names_are_in_the_modules_that_type_checkers_read() -> None:
    (block,) = (n for n in ast.parse(inspect.getsource(kitaru)).body if isinstance(n, ast.If))
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            if node.module == "kitaru":
                assert isinstance(getattr(kitaru, alias.name), ModuleType)
            else:
                assert kitaru._module_of(alias.name) == node.module
    named = {alias.name for n in block.body if isinstance(n, ast.ImportFrom) for alias in n.names}
    assert named == {*kitaru.__all__} - {"__version__"}


def test_no_module_hides_a_public_name() -> None:
    modules = {path.stem for path in Path(kitaru.__path__[0]).iterdir()}
    assert modules & {*kitaru.__all__} == {"aio", "errors", "memory"}


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
