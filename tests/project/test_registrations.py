"""Registrations at import: none is lost because nothing imports the module that makes it.

`import kitaru` imports a module when one of its names is used. A statement such as
`secrets.use_configuration(…)` at the end of another module therefore may never run.
"""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("kitaru", "compiler/kitaru_compiler", "targets/kitaru_targets")
# Each of these registers coroutines of its own, which exist only where it is imported.
OF_ITS_OWN = {
    ("kitaru.runtime.engine.awaited_calls", "kitaru.runtime.engine.tasks"),
    ("kitaru.runtime.engine.body_loop", "kitaru.runtime.engine.tasks"),
}


def test_whoever_imports_a_registry_imports_what_registers_there() -> None:
    found = {pair for path in modules() for pair in registrations(path)}
    assert found >= OF_ITS_OWN
    lost = [
        f"{module} registers in {registry}, which does not import it"
        for module, registry in sorted(found - OF_ITS_OWN)
        if not imports(registry, module)
    ]
    assert not lost


@pytest.mark.parametrize(
    "source",
    [
        "from kitaru.runtime import secrets\nsecrets.use_configuration(read)",
        "from kitaru.runtime.secrets import use_configuration\nuse_configuration(read)",
        "from kitaru.runtime import secrets\nsecrets.sources[:] = [read]",
        "from kitaru.runtime import secrets\nsecrets.sources |= {read}",
        "import kitaru.runtime.secrets\nkitaru.runtime.secrets.source = read",
        "from kitaru.runtime import secrets\nfor one in all: secrets.sources.append(one)",
    ],
)
def test_registrations_are_found(source: str) -> None:
    assert list(registries(ast.parse(source))) == ["kitaru.runtime.secrets"]


def test_uses_inside_functions_and_own_names_are_no_registrations() -> None:
    source = "from kitaru.runtime import secrets\nfound = {}\nfound['a'] = secrets.find\n"
    assert not list(registries(ast.parse(source + "def f():\n    secrets.use(1)\nf()\n")))


def modules() -> Iterator[Path]:
    found = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    assert len(found) > 200
    # These only run, and nothing imports them.
    programs = ("__main__.py", "bootstrap.py", "start.py", "kitaru_start.py")
    return (path for path in found if path.name not in programs)


def registrations(path: Path) -> Iterator[tuple[str, str]]:
    """Yield this module with each module in which it registers something at import."""
    package = next(ROOT / one for one in PACKAGES if path.is_relative_to(ROOT / one))
    parts = path.relative_to(package.parent).with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    return ((name, registry) for registry in registries(ast.parse(path.read_text("utf-8"))))


def registries(tree: ast.Module) -> Iterator[str]:
    """Yield the modules of the project whose state the statements of a module change."""
    imported = {
        alias.asname or (alias.name.partition(".")[0]): f"{node.module}.{alias.name}"
        if isinstance(node, ast.ImportFrom)
        else alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom | ast.Import)
        for alias in node.names
    }
    for target in chain.from_iterable(map(changed, tree.body)):
        root = target
        while isinstance(root, ast.Attribute | ast.Subscript):
            root = root.value
        if isinstance(root, ast.Name) and root.id in imported:
            yield from module_of(imported[root.id])


def changed(statement: ast.stmt) -> Iterator[ast.expr]:
    """Yield what a statement calls for its effect, or assigns to."""
    match statement:
        case ast.Expr(value=ast.Call(func=called)):
            yield called
        case ast.Assign(targets=targets):
            yield from (one for one in targets if not isinstance(one, ast.Name))
        case ast.AugAssign(target=target):
            yield target
        case ast.For(body=body) | ast.With(body=body) | ast.If(body=body) | ast.Try(body=body):
            yield from chain.from_iterable(map(changed, body))


def module_of(name: str) -> Iterator[str]:
    """Yield the module of the project that a dotted name is or belongs to."""
    if name.partition(".")[0] not in {Path(package).name for package in PACKAGES}:
        return
    try:
        found = importlib.import_module(name)
    except ModuleNotFoundError:
        name = name.rpartition(".")[0]
        found = importlib.import_module(name)
    assert isinstance(found, ModuleType)
    yield name


def imports(module: str, other: str) -> bool:
    """Return whether a new process that imports `module` has imported `other`."""
    program = f"import sys, {module}; sys.exit({other!r} not in sys.modules)"
    return subprocess.run([sys.executable, "-c", program], env=os.environ).returncode == 0
