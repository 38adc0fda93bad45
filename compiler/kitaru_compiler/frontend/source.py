"""Read source text: encoding, limits, syntax, and positions of nodes."""

from __future__ import annotations

import ast
import io
import tokenize
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from kitaru.errors import UsageError
from kitaru.wire import disk
from kitaru.wire.plan import Span
from kitaru_compiler.diagnostics.model import Diagnostic, Rule, SourceError
from kitaru_compiler.diagnostics.rules.source import SOURCE_TOO_LARGE, SYNTAX_ERROR
from kitaru_compiler.frontend.node_index import NodeIndex

MAX_SOURCE_BYTES = 1024 * 1024
MAX_DEPTH = 200
# Python's default limit for the digits of decimal integers.
MAX_DIGITS = 4300
_TOO_LARGE = 10**MAX_DIGITS


@dataclass(frozen=True)
class Source:
    """One file of the project: `file` relative to the import root, its text and its tree."""

    module: str
    file: str
    text: str
    tree: ast.Module

    @cached_property
    def lines(self) -> list[str]:
        """The physical lines as Python counts them, with their line ends."""
        return io.StringIO(self.text, newline=None).readlines()

    @cached_property
    def nodes(self) -> NodeIndex:
        """The nodes of the tree by kind."""
        return NodeIndex(self.tree, MAX_DEPTH)

    @cached_property
    def futures(self) -> tuple[str, ...]:
        """The names imported from `__future__`, which change the meaning of the module's code."""
        return tuple(
            alias.name
            for stmt in self.tree.body
            if isinstance(stmt, ast.ImportFrom) and stmt.module == "__future__"
            for alias in stmt.names
        )

    @property
    def is_package(self) -> bool:
        """Whether the file is the `__init__.py` of a package."""
        return self.file.endswith("__init__.py")

    def absolute(self, level: int, name: str) -> str:
        """Return the absolute name of an import of `name` with `level` dots."""
        if not level:
            return name
        base = self.module.split(".")
        base = base[: len(base) - level + self.is_package]
        return ".".join([*base, name] if name else base)

    def span(self, node: ast.AST) -> Span:
        """Return the span of `node`; a node without a position is at the start of the file."""
        line = getattr(node, "lineno", 1)
        end_line = getattr(node, "end_lineno", None) or line
        column = self._characters(line, getattr(node, "col_offset", 0))
        end = self._characters(end_line, getattr(node, "end_col_offset", None) or 0)
        return Span(self.file, line, column, end_line, max(end, column + (line == end_line)))

    def written(self, node: ast.expr) -> str:
        """Return an expression as written, on one line; empty if it is not in the source."""
        span = self.span(node)
        lines = self.lines[span.line - 1 : span.end_line]
        if not lines:
            return ""
        lines[-1] = lines[-1][: span.end_column - 1]
        lines[0] = lines[0][span.column - 1 :]
        text = " ".join("".join(lines).split())
        try:
            ast.parse(text, mode="eval")
        except SyntaxError:
            return ""  # a generated expression has the position of a statement
        return text

    def name_span(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> Span:
        """Return the span of a function's name in its definition."""
        line = self.lines[node.lineno - 1] if node.lineno <= len(self.lines) else ""
        start = line.find(node.name, self._characters(node.lineno, node.col_offset) + 3) + 1
        if not start:
            return self.span(node)
        return Span(self.file, node.lineno, start, node.lineno, start + len(node.name))

    def _characters(self, line: int, offset: int) -> int:
        if not 0 < line <= len(self.lines):
            return offset + 1
        text = self.lines[line - 1]
        if text.isascii():
            return offset + 1
        return len(text.encode()[:offset].decode(errors="ignore")) + 1


def read(path: Path, module: str, file: str, unsaved: Mapping[Path, str] | None = None) -> Source:
    """Read and parse one file, or the text that `unsaved` contains for its path.

    Raises UsageError if it cannot be read, and SourceError if it is not valid Python.
    """
    text = (unsaved or {}).get(path)
    return parse(read_text(path, file) if text is None else text, module, file)


def read_text(path: Path, file: str) -> str:
    """Return the decoded text of a source file, within the size limit."""
    try:
        data = disk.read_bytes(path, MAX_SOURCE_BYTES + 1)
    except OSError as error:
        raise UsageError(
            f"Cannot read {path}: {error.strerror}", help="name a Python file that holds a @flow"
        ) from error
    if len(data) > MAX_SOURCE_BYTES:
        limit = MAX_SOURCE_BYTES // 1024 // 1024
        raise refused(SOURCE_TOO_LARGE, file, 1, 1, f"the file has more than {limit} MB")
    if b"\0" in data:
        line = data[: data.index(b"\0")].count(b"\n") + 1
        raise refused(SYNTAX_ERROR, file, line, 1, "source code cannot contain null bytes")
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        return io.TextIOWrapper(io.BytesIO(data), encoding, newline=None).read()
    except (SyntaxError, UnicodeError, LookupError) as error:
        raise refused(SYNTAX_ERROR, file, 1, 1, f"the file cannot be decoded: {error}") from error


def parse(text: str, module: str, file: str) -> Source:
    """Parse `text`; raise SourceError on a syntax error or on excessive nesting."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text, filename=file)
            compile(tree, file, "exec", dont_inherit=True)
    except SyntaxError as error:
        message = error.msg or "invalid syntax"
        raise refused(
            SYNTAX_ERROR, file, error.lineno or 1, error.offset or 1, message, text
        ) from error
    except (RecursionError, MemoryError, ValueError) as error:
        raise refused(
            SOURCE_TOO_LARGE, file, 1, 1, f"Python cannot parse it: {error}", text
        ) from error
    source = Source(module, file, text, tree)
    for node, message in (
        (source.nodes.too_deep, f"the code is nested more than {MAX_DEPTH} levels deep"),
        (_too_long(source.nodes), f"this number has more than {MAX_DIGITS:,} digits"),
    ):
        if node is not None:
            place = source.span(node)
            raise refused(SOURCE_TOO_LARGE, file, place.line, place.column, message, text)
    return source


def _too_long(nodes: NodeIndex) -> ast.AST | None:
    """Return a number that Python can read in hexadecimal but refuses to print."""
    for node in nodes.of(ast.Constant):
        if type(node.value) is int and node.value >= _TOO_LARGE:
            return node
    return None


def refused(
    rule: Rule, file: str, line: int, column: int, message: str, text: str = ""
) -> SourceError:
    """Return the error for a file that cannot be compiled at all."""
    span = Span(file, line, max(column, 1), line, max(column, 1) + 1)
    diagnostic = Diagnostic(rule, span, message)
    return SourceError((diagnostic,), {file: text})
