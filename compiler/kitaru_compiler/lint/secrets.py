"""Find secrets in the source, and mask them wherever the source is shown."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress

from kitaru.wire import redaction
from kitaru.wire.plan import Span
from kitaru_compiler.diagnostics.model import Diagnostic, SourceError
from kitaru_compiler.diagnostics.rules.source import SECRET_LITERAL
from kitaru_compiler.frontend.node_index import NodeIndex
from kitaru_compiler.frontend.project import Project
from kitaru_compiler.frontend.source import Source

# Addresses, paths, templates, sentences and compound words are not secrets: such a string is more
# likely the name of a secret.
_OPAQUE = re.compile(r"[A-Za-z0-9+=_.~!@#%^&*-]{16,}")
_MASK = "*"
# A name and its value in the syntax of JSON, YAML, TOML, INI or .env files.
_PAIR = re.compile(r"""([A-Za-z0-9_-]+)["']?[ \t]*[:=][ \t]*["']?([^\s"',}]{16,})""")


def secrets(project: Project, module: str) -> list[Diagnostic]:
    """Return the literal secrets in `module` and the project files that it imports."""
    # A file that is not valid Python is reported elsewhere. Files read so far are still checked.
    with suppress(SourceError):
        project.closure(module)
    read = sorted({s.file: s for s in project.sources.values() if s}.items())
    return [diagnostic for _, source in read for diagnostic in _in_source(source)]


def masked(texts: dict[str, str], found: Iterable[Diagnostic]) -> dict[str, str]:
    """Return the sources with each secret of `found` replaced by asterisks."""
    shown = dict(texts)
    for diagnostic in found:
        if diagnostic.rule is SECRET_LITERAL and diagnostic.span.file in shown:
            shown[diagnostic.span.file] = _mask(shown[diagnostic.span.file], diagnostic.span)
    return shown


def _mask(text: str, span: Span) -> str:
    lines = text.split("\n")
    for number in range(span.line, min(span.end_line, len(lines)) + 1):
        line = lines[number - 1]
        start = span.column - 1 if number == span.line else 0
        end = span.end_column - 1 if number == span.end_line else len(line)
        lines[number - 1] = line[:start] + _MASK * len(line[start:end]) + line[end:]
    return "\n".join(lines)


def _in_source(source: Source) -> Iterator[Diagnostic]:
    named = {id(value): name for name, value in _named_values(source.nodes)}
    docstrings = {id(node.value) for node in source.nodes.of(ast.Expr)}
    seen: set[Span] = set()
    for node in source.nodes.of(ast.Constant):
        if id(node) in docstrings:
            continue
        kind = _kind(node.value, named.get(id(node), ""))
        if kind and (span := source.span(node)) not in seen:
            seen.add(span)
            fix = (
                'read it where it is used, `os.environ["API_KEY"]` in a checkpoint, and replace '
                "it: who has the source has it"
            )
            message = f"{kind} is written out in the source"
            yield Diagnostic(SECRET_LITERAL, span, message, "a secret", fix)


def _kind(value: object, name: str) -> str:
    """Return the kind of secret that `value` is, or an empty string."""
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    if not isinstance(text, str):
        return ""
    if found := redaction.kind_of(text):
        return found
    if redaction.is_secret_name(name) and _OPAQUE.fullmatch(text) and redaction.is_random(text):
        return f"the value of `{name}`"
    return ""


def kind_in_text(text: str) -> str:
    """Return the kind of secret that a file's text contains, or an empty string."""
    if found := redaction.kind_of(text.replace("\\n", "\n")):
        return found
    pairs = ((match[1], match[2]) for match in _PAIR.finditer(text))
    return next((kind for name, value in pairs if (kind := _kind(value, name))), "")


def _named_values(nodes: NodeIndex) -> Iterator[tuple[str, ast.expr]]:
    """Yield values with the variable, key, attribute or argument to which they are assigned."""
    for assign in nodes.of(ast.Assign):
        yield from ((_target_name(target), assign.value) for target in assign.targets)
    for annotated in nodes.of(ast.AnnAssign):
        if annotated.value is not None:
            yield _target_name(annotated.target), annotated.value
    for keyword in nodes.of(ast.keyword):
        if keyword.arg is not None:
            yield keyword.arg, keyword.value
    for display in nodes.of(ast.Dict):
        pairs = zip(display.keys, display.values, strict=True)
        yield from ((_text(key), value) for key, value in pairs)
    for arguments in nodes.of(ast.arguments):
        yield from _defaults(arguments)


def _target_name(target: ast.expr) -> str:
    match target:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Subscript(slice=key):
            return _text(key)
    return ""


def _text(node: ast.expr | None) -> str:
    value = node.value if isinstance(node, ast.Constant) else ""
    return value if isinstance(value, str) else ""


def _defaults(arguments: ast.arguments) -> Iterator[tuple[str, ast.expr]]:
    positional = [*arguments.posonlyargs, *arguments.args]
    named = positional[len(positional) - len(arguments.defaults) :]
    for argument, default in zip(named, arguments.defaults, strict=True):
        yield argument.arg, default
    for argument, value in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        if value is not None:
            yield argument.arg, value
