"""Import the file of a flow once, under its recorded module name.

The import root comes after the standard library and before everything else on `sys.path`, in every
process that Kitaru starts. A project module may therefore have the name of an installed package, as
in plain Python. A `random.py` next to a flow does not replace the `random` that the standard
library itself imports.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

from kitaru.errors import UsageError
from kitaru.wire.importing import import_path
from kitaru.wire.modules import is_project, loaded, place_of, root_of


def import_file(file: Path, module: str | None = None) -> ModuleType:
    """Import `file` as `module`; by default under the name that the compiler would use.

    A script that is this process's `__main__` is not imported again. Executions that the module's
    top level would start are not started (see `kitaru.wire.importing`). Exceptions of the module
    are passed through.

    Raises:
        UsageError: the file does not exist, or another module of that name is already imported.
    """
    file = file.resolve()
    if not file.is_file():
        raise UsageError(f"There is no file {file}.", help="Name the file that holds the flow.")
    root, name = place_of(file) if module is None else (root_of(file, module), module)
    present = loaded(name)
    if present is None:
        add_root(root)
        importlib.invalidate_caches()
        _check_names(root, [file])
        present = import_path(file, name)
        _check_names(root, _files_below(root))
    found = getattr(present, "__file__", None)
    if found is None or Path(found).resolve() != file:
        raise UsageError(
            f"{file} cannot be imported as {name}: that is {found or 'a built-in module'}.",
            help="Rename the file, so that no other module has its name.",
        )
    return present


def add_root(root: Path) -> None:
    """Order `sys.path`: the standard library, the import root, then everything else."""
    library = Path(functools.__file__).resolve().parent
    standard = [
        entry
        for entry in sys.path
        if entry
        and Path(entry).resolve().is_relative_to(library)
        and not entry.endswith(("site-packages", "dist-packages"))
    ]
    first = [*standard, str(root)]
    sys.path[:] = [*first, *(entry for entry in sys.path if entry not in first)]


def leave_checkouts(requirements: Iterable[str]) -> None:
    """Remove packages installed in editable mode from the import paths.

    In a dry run their folders contain project modules that are missing from the bundle, and so from
    every container. The step's requirements stay importable, however they are installed.
    """
    import importlib.metadata
    import json
    import re

    kept = [Path(sys.modules["kitaru"].__file__ or "").resolve().parents[1]]
    names = {re.split(r"[\[=<>!~;\s]", pin, maxsplit=1)[0] for pin in requirements}
    for name in names:
        try:
            text = importlib.metadata.distribution(name).read_text("direct_url.json") or "{}"
        except importlib.metadata.PackageNotFoundError:
            continue
        url = json.loads(text).get("url", "")
        if url.startswith("file://"):
            kept.append(Path(url.removeprefix("file://")))
    sys.path[:] = [entry for entry in sys.path if not _is_checkout(entry, kept)]
    required = {re.sub(r"[-.]", "_", name).lower() for name in names}
    sys.meta_path[:] = [f for f in sys.meta_path if not _finds_checkout(f, required)]


def _is_checkout(entry: str, kept: Iterable[Path]) -> bool:
    if entry in ("", str(Path.cwd())):
        return False
    path = Path(entry).resolve()
    installed = {"site-packages", "dist-packages", "lib-dynload"} & {*path.parts}
    library = Path(functools.__file__).resolve().parent
    return (
        path.is_dir()
        and not installed
        and not path.is_relative_to(library)
        and not any(path.is_relative_to(folder) for folder in kept)
    )


def _finds_checkout(finder: object, required: Iterable[str]) -> bool:
    """Return whether setuptools added a finder for a package installed in editable mode."""
    module = getattr(finder, "__module__", "")
    of_required = any(f"__editable___{name}_" in module.lower() for name in required)
    return module.startswith("__editable__") and not of_required


def _check_names(root: Path, files: Iterable[Path]) -> None:
    """Raise UsageError if a file imports a project module that another module's name hides.

    The compiler rejects such a project (KIT505). Here the flow would import another module than
    under `python flow.py`, and a result might be wrong without an error.
    """
    hidden = {name for name in _top_level(root) if _is_hidden(name, root)}
    if not hidden:
        return
    # Few projects need the parser in a process that only runs a flow.
    import ast

    for file in files:
        for node in ast.walk(ast.parse(file.read_bytes(), str(file))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            elif isinstance(node, ast.Call) and "import_module" in ast.unparse(node.func):
                names = [str(a.value) for a in node.args[:1] if isinstance(a, ast.Constant)]
            for name in sorted(hidden & {name.partition(".")[0] for name in names}):
                raise UsageError(
                    f"{file} imports {name} of {root}, but this process has another module {name}.",
                    help=f"Rename the project's {name}, so that no other module has its name.",
                )


def _top_level(root: Path) -> Iterator[str]:
    for entry in root.iterdir():
        if entry.suffix == ".py" or (entry / "__init__.py").is_file():
            yield entry.stem


def _is_hidden(name: str, root: Path) -> bool:
    if name not in sys.modules:
        return name in sys.stdlib_module_names
    file = getattr(sys.modules[name], "__file__", None)
    return file is None or not Path(file).resolve().is_relative_to(root)


def _files_below(root: Path) -> Iterator[Path]:
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None) or ""
        if file.endswith(".py") and file.startswith(str(root)) and is_project(Path(file)):
            yield Path(file)
