"""Find inputs of a flow that JSON, and therefore a pipeline parameter, cannot represent."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from kitaru_compiler.diagnostics.model import Diagnostic
from kitaru_compiler.diagnostics.rules.targets import INPUT_WITHOUT_JSON
from kitaru_compiler.frontend.codecs import registrations
from kitaru_compiler.lint.body import Body

_OUTSIDE = frozenset({
    "pandas.DataFrame", "pandas.Series", "pandas.Index", "polars.DataFrame", "polars.LazyFrame",
    "polars.Series", "numpy.ndarray", "torch.Tensor", "PIL.Image.Image", "pyarrow.Table",
    "typing.Callable", "typing.Iterator", "typing.Generator", "typing.Coroutine",
    "collections.abc.Callable", "collections.abc.Iterator", "collections.abc.Generator",
    "collections.abc.Coroutine", "threading.Lock", "threading.Event", "queue.Queue",
    "sqlite3.Connection", "socket.socket", "logging.Logger", "io.BytesIO", "io.StringIO",
    "typing.IO", "typing.TextIO", "typing.BinaryIO", "concurrent.futures.Executor",
})  # fmt: skip
# Hooks with which a class defines its own JSON form.
_HOOKS = frozenset(["__get_pydantic_core_schema__", "__get_validators__"])
_UNIONS = ("typing.Union", "typing.Optional")
_LISTS = frozenset(["list", "tuple", "set", "frozenset"])


def inputs_without_json(body: Body) -> Iterator[Diagnostic]:
    """Find inputs whose annotation has no JSON form."""
    arguments = body.definition.args
    for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]:
        if argument.annotation is None:
            continue
        culprit = _no_json(body, argument.annotation)
        if culprit and not _has_codec(body, argument.annotation):
            message = (
                f"input `{argument.arg}` takes a `{culprit}`, and no JSON value is one: only "
                "Python can start this flow"
            )
            fix = (
                f"take what `{culprit}` is made of, such as a path or a list of rows, and make it "
                "in a checkpoint; or use a dataclass or a pydantic model"
            )
            yield body.find(INPUT_WITHOUT_JSON, argument.annotation, message, help=fix)


def _has_codec(body: Body, annotation: ast.expr) -> bool:
    """Return whether a class has a registered codec, whose encoded form is then the JSON."""
    symbol = body.symbol(annotation)
    sources = body.names.project.closure(body.source.module).sources.values()
    classes = ((source, one.cls) for source in sources for one in registrations(source))
    found = (body.names.resolve(source, cls) for source, cls in classes if cls is not None)
    return symbol is not None and symbol.name in [one.name for one in found if one]


def _no_json(body: Body, annotation: ast.expr) -> str:
    """Return the type in `annotation` without a JSON form, or an empty string."""
    match annotation:
        case ast.Constant(value=str(text)):
            return _no_json(body, parsed) if (parsed := _parsed(text)) else ""
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _one_of(body, [left, right])
        case ast.Subscript(value=ast.expr() as generic, slice=inside):
            return _generic(body, generic, inside)
        case ast.Name() | ast.Attribute():
            return ast.unparse(annotation) if _is_opaque(body, annotation) else ""
    return ""


def _generic(body: Body, generic: ast.expr, inside: ast.expr) -> str:
    if _is_opaque(body, generic):
        return ast.unparse(generic)
    parts = inside.elts if isinstance(inside, ast.Tuple) else [inside]
    if body.outside(generic) in _UNIONS:
        return _one_of(body, parts)
    if body.is_builtin(generic, *_LISTS):
        return next(filter(None, (_no_json(body, part) for part in parts)), "")
    if body.is_builtin(generic, "dict") and len(parts) == 2:
        return _no_json(body, parts[1])
    return ""


def _one_of(body: Body, parts: list[ast.expr]) -> str:
    """Return a type without a JSON form if all members except None have none."""
    members = [p for p in parts if not (isinstance(p, ast.Constant) and p.value is None)]
    found = [_no_json(body, part) for part in members]
    return found[0] if found and all(found) else ""


def _is_opaque(body: Body, annotation: ast.expr) -> bool:
    symbol = body.symbol(annotation)
    if symbol is None:
        return False
    if symbol.kind == "module":
        return not symbol.source and symbol.name in _OUTSIDE
    definition = symbol.definition
    # A base class or a decorator may turn it into a model, an enum or a dataclass.
    return (
        isinstance(definition, ast.ClassDef)
        and not definition.bases
        and not definition.keywords
        and not definition.decorator_list
        and not any(getattr(stmt, "name", "") in _HOOKS for stmt in definition.body)
    )


def _parsed(text: str) -> ast.expr | None:
    try:
        return ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
