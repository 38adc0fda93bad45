"""Find faults of whole modules: names, late registrations of codecs, reordered characters.

A module's name is a fault if the standard library or Kitaru needs it for its own module. A process
has one module per name. In a step, as under `kitaru run`, the import root is searched after the
standard library. Therefore `from email import send` never finds an `email.py` of the project.
"""

from __future__ import annotations

import ast
import re
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from kitaru.wire import disk
from kitaru.wire.plan import Span
from kitaru_compiler.diagnostics.model import Diagnostic
from kitaru_compiler.diagnostics.rules.primitives import CODEC_REGISTERED_LATE
from kitaru_compiler.diagnostics.rules.source import TEXT_IN_ANOTHER_ORDER
from kitaru_compiler.diagnostics.rules.targets import MODULE_NAME_TAKEN
from kitaru_compiler.frontend.codecs import registrations
from kitaru_compiler.frontend.project import RESERVED, Closure, Project, imports
from kitaru_compiler.frontend.source import Source

# Embeddings, overrides and isolates, of which a compiler should warn according to Unicode (UTS 55).
_BIDI = re.compile("[\u202a-\u202e\u2066-\u2069]")
# Modules that the command line has imported, or may import later, when it imports a flow.
COMMAND_LINE = frozenset({
    "annotated_types", "click", "cronsim", "jinja2", "jsonschema_rs", "libcst", "markdown_it",
    "markupsafe", "mdurl", "networkx", "obstore", "packaging", "pathspec", "pydantic",
    "pydantic_core", "pygments", "rich", "tomlkit", "typing_extensions", "typing_inspection",
    "tzdata", "yaml",
})  # fmt: skip


def taken_names(project: Project, module: str) -> Iterator[Diagnostic]:
    """Yield one finding for each project module whose name is already taken."""
    closure = project.closure(module)
    for found in closure.sources.values():
        if owner := _owner(found.module) or _namesake(project, found):
            own = found.module == module
            source, node = (found, found.tree) if own else _place(project, closure, found)
            yield _finding(source, node, found, owner)


def _place(project: Project, closure: Closure, found: Source) -> tuple[Source, ast.AST]:
    """Return the location of a module's import: a statement, or a call of `import_module`."""
    for source in closure.sources.values():
        for name, node in imports(source, project):
            if name == found.module:
                return source, node
    for each in closure.references:
        if each.module == found.module:
            return each.source, each.node
    return found, found.tree


def _owner(name: str) -> str:
    if name in RESERVED or name == "kitaru_build":
        return "Kitaru"
    if name in COMMAND_LINE:
        return "Kitaru's command line"
    return "the standard library" if name in sys.stdlib_module_names else ""


def _namesake(project: Project, found: Source) -> str:
    """Return the file with the import name of a file such as my.flow.v2.py."""
    parts = found.module.split(".")
    other = project.root.joinpath(*parts[:-1], f"{parts[-1]}.py")
    renamed = Path(found.file).stem not in (parts[-1], "__init__")
    return f"`{other.name}`" if renamed and disk.is_file(other) else ""


def _finding(source: Source, node: ast.AST, found: Source, owner: str) -> Diagnostic:
    name = found.module
    message = f"`{found.file}` cannot be imported: {owner} has a module `{name}` of its own"
    fix = f"rename it and its imports, for example to my_{name}"
    return Diagnostic(MODULE_NAME_TAKEN, source.span(node), message, help=fix)


def late_codecs(project: Project, module: str) -> Iterator[Diagnostic]:
    """Yield one finding for each call of `register_codec` in a function or in a branch."""
    for source in project.closure(module).sources.values():
        for one in registrations(source):
            if one.inside:
                message = (
                    f"this codec is registered in {one.inside}, so a step that imports "
                    f"`{source.module}` does not have it"
                )
                help = "register it at the top level of the module"
                yield Diagnostic(CODEC_REGISTERED_LATE, source.span(one.call), message, help=help)


def hidden_order(project: Project) -> Iterator[Diagnostic]:
    """Find characters that reverse the order of surrounding text, once per line."""
    for source in project.sources.values():
        if source is None or not _BIDI.search(source.text):
            continue
        for number, line in enumerate(source.lines, 1):
            if match := _BIDI.search(line):
                column = match.start() + 1
                span = Span(source.file, number, column, number, column + 1)
                name = f"U+{ord(match.group()):04X} {unicodedata.name(match.group()).lower()}"
                message = f"{name}: this line reads in another order than Python reads it"
                fix = f"remove it, or write `\\u{ord(match.group()):04x}` in a string that needs it"
                yield Diagnostic(TEXT_IN_ANOTHER_ORDER, span, message, "turns the text here", fix)
