"""The top-level definitions of a module, and the names that each mentions."""

from __future__ import annotations

import ast
import symtable
import threading
from collections.abc import Iterable, Iterator
from functools import lru_cache

from kitaru.wire.structs import Struct

Chain = tuple[str, ...]
# A name may be imported in several alternative ways, for example in a try statement.
Imports = dict[str, tuple[Chain, ...]]
_FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
_SCOPE = (*_FUNCTION, ast.ClassDef)


class Definition(Struct):
    """The structure of a definition without layout and docstrings, and the names that it mentions.

    `mentions` are dotted chains of names that are not its own variables; `imports` maps the names
    that it imports inside to their module and name.
    """

    text: str
    mentions: tuple[Chain, ...]
    imports: Imports


class Definitions:
    """The top level of a module: statements per name, imports per name, star imports."""

    def __init__(self) -> None:
        self.statements: dict[str, list[ast.stmt]] = {}
        self.imports: Imports = {}
        self.stars: list[str] = []
        self.tables: dict[tuple[str, int], symtable.SymbolTable] = {}
        self._read: dict[str, Definition] = {}

    def names(self) -> list[str]:
        """Return the names that the module defines."""
        return list(self.statements)

    def read(self, name: str) -> Definition:
        """Return the definition called `name`."""
        if name not in self._read:
            self._read[name] = self._make(self.statements[name])
        return self._read[name]

    def _make(self, statements: list[ast.stmt]) -> Definition:
        imports, _ = _imports_of(node for s in statements for node in ast.walk(s))
        chains = {c for s in statements for c in _chains(s, self._free_names(s), imports)}
        text = "\n".join(_text(statement) for statement in statements)
        return Definition(text, tuple(sorted(chains)), imports)

    def _free_names(self, statement: ast.stmt) -> set[str] | None:
        """Return the names that a definition takes from its module; None means any name."""
        if not isinstance(statement, _SCOPE):
            return None
        table = self.tables.get((statement.name, statement.lineno))
        if table is None:
            return None
        outside = [*statement.decorator_list]
        if isinstance(statement, ast.ClassDef):
            outside += [*statement.bases, *statement.keywords]  # type: ignore[list-item]
        else:
            outside += [statement.args, statement.returns or ast.Pass()]  # type: ignore[list-item]
        names = {
            node.id for part in outside for node in ast.walk(part) if isinstance(node, ast.Name)
        }
        return names | _globals_of(table)


# CPython counts the depth of a parsed tree per interpreter, not per thread: two threads that parse
# concurrently make each other fail with SystemError.
_parsing = threading.Lock()


def read_definitions(source: str) -> Definitions:
    """Return the definitions of a module's source; raises SyntaxError for invalid Python."""
    with _parsing:
        return _read(source)


@lru_cache(maxsize=256)
def _read(source: str) -> Definitions:
    tree = ast.parse(source)
    _strip_docstrings(tree)
    found = Definitions()
    for child in symtable.symtable(source, "module", "exec").get_children():
        found.tables[(child.get_name(), child.get_lineno())] = child
    for statement in tree.body:
        if _is_main_guard(statement):
            continue
        nodes = list(_own_nodes(statement))
        imports, stars = _imports_of(nodes)
        for name, chains in imports.items():
            found.imports[name] = (*found.imports.get(name, ()), *chains)
        found.stars += stars
        for name in {n for node in nodes for n in _bound(node)} - set(imports):
            found.statements.setdefault(name, []).append(statement)
    # An imported object is changed by its own module.
    for name in set(found.imports) & set(found.statements):
        if not any(_binds(s, name) for s in found.statements[name]):
            del found.statements[name]
    return found


def _own_nodes(statement: ast.stmt) -> Iterator[ast.AST]:
    """Yield the nodes that run with the module, not inside a function or class."""
    pending: list[ast.AST] = [statement]
    while pending:
        node = pending.pop()
        yield node
        if not isinstance(node, (*_SCOPE, ast.Lambda)):
            pending += list(ast.iter_child_nodes(node))


def _bound(node: ast.AST) -> Iterator[str]:
    """Yield the names that a node binds or modifies.

    `NAME[k] = v`, `NAME.add(v)` and `kitaru.register_codec(NAME, …)` modify it.
    """
    if isinstance(node, _SCOPE):
        yield node.name
    elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
        yield node.id
    elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
        yield node.name
    elif isinstance(node, ast.Attribute | ast.Subscript) and not isinstance(node.ctx, ast.Load):
        yield from _base(node)
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        call = node.value
        yield from _base(call.func) if isinstance(call.func, ast.Attribute) else ()
        # The codec of a class is part of the class.
        yield from _base(call.args[0]) if _registers(call.func) and call.args else ()


def _registers(callee: ast.expr) -> bool:
    name = callee.attr if isinstance(callee, ast.Attribute) else getattr(callee, "id", "")
    return name == "register_codec"


def _base(node: ast.expr) -> Iterator[str]:
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    if isinstance(node, ast.Name):
        yield node.id


def _binds(statement: ast.stmt, name: str) -> bool:
    return any(
        (isinstance(node, _SCOPE) and node.name == name)
        or (isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Store))
        for node in _own_nodes(statement)
    )


def _imports_of(nodes: Iterable[ast.AST]) -> tuple[Imports, list[str]]:
    imports: Imports = {}
    stars: list[str] = []
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                whole = alias.name if alias.asname else alias.name.partition(".")[0]
                name = alias.asname or whole
                imports[name] = (*imports.get(name, ()), (whole,))
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            for alias in node.names:
                if alias.name == "*":
                    stars.append(module)
                    continue
                name = alias.asname or alias.name
                imports[name] = (*imports.get(name, ()), (module, alias.name))
    return imports, stars


def _chains(statement: ast.stmt, free: set[str] | None, imports: Imports) -> Iterator[Chain]:
    """Yield the longest dotted chains that start at a free name."""
    inner: set[int] = set()
    for node in ast.walk(statement):
        if id(node) in inner or not isinstance(node, ast.Attribute | ast.Name):
            continue
        chain: list[str] = []
        part: ast.expr = node
        while isinstance(part, ast.Attribute):
            inner.add(id(part.value))
            chain.append(part.attr)
            part = part.value
        if isinstance(part, ast.Name) and (free is None or part.id in free or part.id in imports):
            yield (part.id, *reversed(chain))


def _globals_of(table: symtable.SymbolTable) -> set[str]:
    # A class body reads a name from the module until the body binds that name.
    loose = table.get_type() == "class"
    names = {s.get_name() for s in table.get_symbols() if s.is_global() or loose}
    return names.union(*(_globals_of(child) for child in table.get_children()))


def _strip_docstrings(tree: ast.Module) -> None:
    for node in ast.walk(tree):
        if isinstance(node, _SCOPE) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]


def _text(statement: ast.stmt) -> str:
    """Return the statement's structure as text; `ast.dump` recurses, and varies by version."""
    words: list[str] = []
    pending: list[object] = [statement]
    while pending:
        item = pending.pop()
        if isinstance(item, ast.AST):
            parts = [(name, value) for name, value in ast.iter_fields(item) if _says(name, value)]
            words.append(f"{type(item).__name__}/{len(parts)}")
            pending += [part for pair in reversed(parts) for part in (pair[1], pair[0])]
        elif isinstance(item, list):
            words.append(f"[{len(item)}]")
            pending += reversed(item)
        else:
            # Python refuses to print integers of thousands of digits.
            words.append(hex(item) if type(item) is int else repr(item))
    return " ".join(words)


def _says(name: str, value: object) -> bool:
    return name not in ("ctx", "kind", "type_comment") and value is not None and value != []


def _is_main_guard(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.If)
        and isinstance(statement.test, ast.Compare)
        and isinstance(statement.test.left, ast.Name)
        and statement.test.left.id == "__name__"
    )
