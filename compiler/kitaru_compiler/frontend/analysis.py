"""The analysis of a module: the bindings of its scopes, cached by the content of the module.

libcst reads the scopes (`frontend.reader`). It is imported only if an analysis is missing, because
the import alone takes as long as a small compilation. An analysis is a pure function of the text:
its key contains neither path nor time, so checkouts and machines may share the cache folder.

Text that libcst must not or cannot read is read with `ast`. Both return the same results.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Callable
from hashlib import sha256
from typing import Any

from kitaru.wire.disk_cache import DiskCache
from kitaru_compiler.frontend.source import MAX_DEPTH, Source
from kitaru_compiler.ir.scope import Bound

# Increased when an analysis of the same text changes its content.
_VERSION = "scopes/1"


class Analysis:
    """The analysis of the scopes of one module; a scope is read when it is first needed."""

    def __init__(self, source: Source, cache: DiskCache | None) -> None:
        self._source = source
        self._cache = cache
        self._key = _key(source.text) if cache else ""
        data = cache.get(self._key) if cache else None
        self._known: dict[str, Any] = json.loads(data) if data else {}
        self._has_more = False
        self._is_readable = is_readable(source)

    def module(self, by_ast: Callable[[], Bound]) -> Bound:
        """Return the module scope's bindings; `by_ast` is called if libcst cannot be used."""
        source = self._source
        return self._scope("", lambda reader: reader.read_module(source.tree, source.lines), by_ast)

    def function(
        self, definition: ast.FunctionDef | ast.AsyncFunctionDef, by_ast: Callable[[], Bound]
    ) -> Bound:
        """Return the bindings of the scope of a top-level function."""
        place = f"{definition.name}:{definition.lineno}"
        lines = self._source.lines
        return self._scope(place, lambda reader: reader.read_function(definition, lines), by_ast)

    def store(self) -> None:
        """Store the scopes that were read since the analysis was loaded."""
        if self._cache is not None and self._has_more:
            self._has_more = False
            self._cache.put(self._key, json.dumps(self._known, separators=(",", ":")).encode())

    def _scope(
        self, place: str, from_text: Callable[[Any], Bound], by_ast: Callable[[], Bound]
    ) -> Bound:
        if place not in self._known:
            self._known[place] = self._read(from_text) or by_ast()
            self._has_more = True
        return Bound(*self._known[place])

    def _read(self, from_text: Callable[[Any], Bound]) -> Bound | None:
        if not self._is_readable:
            return None
        from kitaru_compiler.frontend import reader

        try:
            return from_text(reader)
        except Exception:  # such as a ParserSyntaxError for 5,000 adjacent strings
            return None


def _key(text: str) -> str:
    version = f"{_VERSION} {sys.implementation.name} {sys.version_info[:2]}\n"
    return sha256(version.encode() + text.encode("utf-8", "surrogatepass")).hexdigest()


def is_readable(source: Source) -> bool:
    """Return whether libcst may read the texts of a module.

    libcst nests operands and the parts of a dotted name, which Python lists. Thousands of them
    crash the process. `frontend.source` limits the depth of all other syntax.
    """
    nodes = source.nodes
    lengths = [len(node.values) for node in nodes.of(ast.BoolOp)]
    for node in nodes.imports:
        names = [alias.name for alias in node.names]
        lengths += [name.count(".") for name in [*names, getattr(node, "module", None) or ""]]
    return max(lengths, default=0) <= MAX_DEPTH
