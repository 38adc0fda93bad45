"""Import files that contain flows, without starting anything.

A script often ends with the line that starts its flow:

    @flow
    def review_flow(topic: str) -> str: ...

    handle = review_flow.run("kayaks")
    print(handle.wait())

`python script.py` starts an execution. Kitaru imports the same file as well: to answer or resume
that execution from another process, to start one with `kitaru run`, and in every container. None
of these imports may start another execution, and all need the definitions further down in the file.

So each call that starts or changes an execution first calls `refuse_while_importing`. During an
import by Kitaru, that raises `NotStarted`. The loader below then abandons the current top-level
statement and continues with the next one. Names that the abandoned statement binds stay unbound,
because no correct value exists (`handle` above). A later top-level statement that needs such a name
is abandoned as well (`print(handle.wait())`). Everything else runs as in any other import. A
`sys.exit()` at the top level ends the module, as it ends the script.

The project's own modules that a flow's file imports are treated in the same way.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import decode_source, spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType, TracebackType
from typing import TYPE_CHECKING

from kitaru.errors import FlowError
from kitaru.wire.modules import is_project, loaded
from kitaru.wire.starts import NotStarted, importing, imports

if TYPE_CHECKING:
    import ast

# Files of modules that are imported by path, regardless of `sys.path`.
_files: dict[str, Path] = {}
_exits: dict[str, str] = {}


def load(name: str) -> ModuleType:
    """Return the module recorded as `name`; import it if needed. Raises ImportError."""
    return loaded(name) or import_module(name)


def import_module(name: str) -> ModuleType:
    """Import a project's module. Its top level cannot start an execution."""
    if sys.meta_path[:1] != [_Finder]:
        # Before the finders that libraries insert at the front, because it wraps what they find.
        sys.meta_path[:] = [_Finder, *(one for one in sys.meta_path if one is not _Finder)]
    with imports():
        return importlib.import_module(name)


def import_path(file: Path, name: str) -> ModuleType:
    """Import `file` as the module `name`. Its top level cannot start an execution."""
    _files[name] = file
    try:
        return import_module(name)
    finally:
        _files.pop(name, None)


def find_after(
    finder: object, name: str, path: Sequence[str] | None, target: ModuleType | None
) -> ModuleSpec | None:
    """Return the specification of a module that the finders after `finder` find, or None.

    Finders before it may themselves ask all others, and would never end.
    """
    following = sys.meta_path[sys.meta_path.index(finder) + 1 :]  # type: ignore[arg-type]
    for one in following:
        # As Python does it: some finders of libraries have no `find_spec`.
        spec = one.find_spec(name, path, target) if hasattr(one, "find_spec") else None
        if spec is not None:
            return spec
    return None


def check_exit(module: ModuleType, wanted: str) -> None:
    """Raise if a module called `sys.exit` before it defined what is `wanted`.

    Raises:
        FlowError: the module ended early.
    """
    exit = _exits.get(module.__name__)
    if exit is not None:
        raise FlowError(
            f"{module.__file__}:{exit} ended the module before it defined {wanted}.",
            help='Put what only a script does under `if __name__ == "__main__":`.',
        )


class _Finder:
    """Finds modules as the other finders do; replaces the loaders of the project's modules.

    Does nothing outside of an import by Kitaru.
    """

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the specification of a module, or None."""
        if not importing():
            return None
        if name in _files:
            file = str(_files[name])
            by_path = _Loader(SourceFileLoader(name, file))
            return spec_from_file_location(name, file, loader=by_path)
        spec = find_after(_Finder, name, path, target)
        # Other loaders, such as those of archives, load no files of the project.
        loader = spec.loader if spec is not None else None
        if isinstance(loader, SourceFileLoader) and is_project(Path(loader.path)):
            assert spec is not None
            spec.loader = _Loader(loader)
        return spec


class _Loader(SourceFileLoader):
    """Executes a module without the top-level statements that start an execution.

    The code comes from the loader that Python would use. A library can replace that loader for all
    modules of a process, to transform their source: beartype does as soon as a package uses
    `beartype.claw`, and so do typeguard and jaxtyping.
    """

    starts_nothing = True

    def __init__(self, original: SourceFileLoader) -> None:
        super().__init__(original.name, original.path)
        self._original = original

    def get_code(self, fullname: str) -> CodeType | None:
        """Return the module's code."""
        return self._original.get_code(fullname)

    def code_of(self, source: bytes) -> CodeType:
        """Return the code of a part of the module's source."""
        # Typeshed omits the default that Python's documentation states for `_optimize`.
        return self._original.source_to_code(source, self.path)

    def exec_module(self, module: ModuleType) -> None:
        """Execute the module."""
        code = self.get_code(module.__name__)
        assert code is not None, "a source file has code"
        top = _TopLevel(module, self)
        while code is not None:
            try:
                exec(code, vars(module))
                return
            except NotStarted as stop:
                code = top.after(stop.__traceback__)
            except BaseExceptionGroup as group:
                # For example, several tasks of an event loop.
                if group.split(NotStarted)[1] is not None:
                    raise
                code = top.after(group.__traceback__)
            except SystemExit as stop:
                line, _ = top.place(stop.__traceback__)
                _exits[module.__name__] = f"{line}: SystemExit: {stop}"
                return
            except NameError as error:
                if error.name not in top.unbound:
                    raise
                code = top.after(error.__traceback__)


class _TopLevel:
    """The remaining statements of a module; `unbound` are the names that it lacks."""

    def __init__(self, module: ModuleType, loader: _Loader) -> None:
        self.unbound: set[str] = set()
        self._module = module
        self._loader = loader
        self._source = b""
        self._features: list[str] = []
        self._statements: list[ast.stmt] | None = None

    def after(self, traceback: TracebackType | None) -> CodeType | None:
        """Return the code after the statement that raised; None after the last statement."""
        import ast

        if self._statements is None:
            text = decode_source(self._loader.get_data(self._loader.path))
            self._source = text.encode("utf-8")
            self._statements = ast.parse(text).body
            self._features = [
                alias.name
                for one in self._statements
                if isinstance(one, ast.ImportFrom) and one.module == "__future__"
                for alias in one.names
            ]
        place = self.place(traceback)
        at = max(n for n, one in enumerate(self._statements) if n == 0 or _start(one) <= place)
        for name in _bound(self._statements[at]):
            self.unbound.add(name)
            vars(self._module).pop(name, None)
        self._statements = self._statements[at + 1 :]
        if not self._statements:
            return None
        return self._loader.code_of(self._from(*_start(self._statements[0])))

    def _from(self, line: int, column: int) -> bytes:
        """Return the source from a place on; every statement keeps its line and column."""
        # The first statement is not a string, which would become the docstring. The future
        # statements bind another name, because the module may have assigned to theirs.
        future = "".join(f"from __future__ import {f} as __future__;" for f in self._features)
        before = f"{future}0".encode()
        lines = self._source.split(b"\n")[line - 1 :]
        if line > 1:
            lines[0] = (b"0;".ljust(column) if column else b"") + lines[0][column:]
            return b"\n".join([before, *[b""] * (line - 2), *lines])
        lines[0] = (before + b";").ljust(column) + lines[0][column:]
        return b"\n".join(lines)

    def place(self, traceback: TracebackType | None) -> tuple[int, int]:
        """Return the line and column at which control left the module's own code."""
        while traceback is not None:
            frame = traceback.tb_frame
            if frame.f_globals is vars(self._module) and frame.f_code.co_name == "<module>":
                positions = list(frame.f_code.co_positions())
                line, _, column, _ = positions[traceback.tb_lasti // 2]
                return line or traceback.tb_lineno, column or 0
            traceback = traceback.tb_next
        raise AssertionError("what a module raises passes through its own code")


def _start(statement: ast.stmt) -> tuple[int, int]:
    decorators: list[ast.expr] = getattr(statement, "decorator_list", [])
    # The place of a decorator is that of its expression, after the "@".
    return (decorators[0].lineno, 0) if decorators else (statement.lineno, statement.col_offset)


def _bound(statement: ast.stmt) -> Iterator[str]:
    """Yield the names that a top-level statement binds in its module."""
    import ast

    scopes = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda
    pending: list[ast.AST] = [statement]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, ast.alias):
            yield node.asname or node.name.partition(".")[0]
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar | scopes):
            name = getattr(node, "name", None)
            yield from [name] if name else []
        if isinstance(node, ast.comprehension):
            pending += [node.iter, *node.ifs]
        elif not isinstance(node, scopes):
            pending += ast.iter_child_nodes(node)
