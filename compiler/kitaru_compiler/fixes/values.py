"""Fixes of the rules about values that are read, shared, compared or passed on."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import libcst as cst

from kitaru_compiler.diagnostics.model import Diagnostic
from kitaru_compiler.fixes.module import Edits, Module, bare, dotted, statements

_RECORDED = {"KIT202": "now", "KIT203": "draw", "KIT205": "load"}
_TYPES = {
    **dict.fromkeys(("time.time", "time.monotonic", "time.perf_counter", "random.random"), "float"),
    **dict.fromkeys(("time.time_ns", "time.monotonic_ns", "random.randint"), "int"),
    **dict.fromkeys(("secrets.token_hex", "secrets.token_urlsafe"), "str"),
    "random.uniform": "float",
    "os.urandom": "bytes",
    "os.listdir": "list[str]",
}
_METHOD_TYPES = {"isoformat": "str", "strftime": "str", "timestamp": "float", "read_text": "str"}
_CONVERSIONS = {
    "str": "str",
    "int": "int",
    "float": "float",
    "sorted": "",
    "list": "",
    "len": "int",
}
# They change their argument, or return a value that cannot be recorded: an iterator.
_NOT_RECORDED = ("shuffle", "scandir", "walk", "iglob", "iterdir", "glob", "rglob", "open")
_INNER_SCOPES = (
    ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.Await,
    ast.Yield, ast.YieldFrom, ast.NamedExpr,
)  # fmt: skip
_BOUND_ONCE = ("re.compile", "logging.getLogger")
# Without `itertools.count` and `cycle`, which are infinite.
_ITERATORS = (
    "iter", "zip", "map", "filter", "enumerate", "reversed",
    "itertools.chain", "itertools.product", "itertools.islice", "itertools.groupby",
)  # fmt: skip


def record_read(module: Module, finding: Diagnostic) -> Edits | None:
    """Move a read of the clock, of chance or of a file to a checkpoint.

    return report(datetime.now().isoformat())      @checkpoint
                                                   def now():
                                                       return datetime.now().isoformat()

                                                   return report(now())
    """
    call = module.at(finding.span, cst.Call)
    if call is None or finding.related:
        return None
    whole, converted = _chain(module, call)
    name = dotted(call.func) or (
        call.func.attr.value if isinstance(call.func, cst.Attribute) else ""
    )
    if whole is call and name.rpartition(".")[2] in _NOT_RECORDED:
        return None
    function = module.function(call)
    parameters = _inputs_of(module, whole, function)
    if function is None or parameters is None:
        return None
    annotation = converted or (_TYPES.get(name, "") if whole is call else "")
    checkpoint, imported = module.spelled("checkpoint")
    label = module.fresh(_RECORDED[finding.code])
    head = f"def {label}({', '.join(_annotated(function, p) for p in parameters)})"
    returns = f" -> {annotation}" if annotation else ""
    made = statements(f"\n\n@{checkpoint}\n{head}{returns}:\n    return {module.code(whole)}\n")
    edits = Edits(imported=imported, names={label}).put_before(module.top(function), *made)
    arguments = [cst.Arg(cst.Name(parameter)) for parameter in parameters]
    return edits.replace(whole, lambda _: cst.Call(cst.Name(label), arguments))


def _chain(module: Module, call: cst.Call) -> tuple[cst.Call, str]:
    """Return the call with chained methods and conversions of its result, and their type."""
    whole, kind = call, ""
    while True:
        parent = module.parent(whole)
        if isinstance(parent, cst.Attribute) and parent.value is whole:
            outer = module.parent(parent)
            if not isinstance(outer, cst.Call) or outer.func is not parent:
                return whole, kind
            whole, kind = outer, _METHOD_TYPES.get(parent.attr.value, "")
        elif isinstance(parent, cst.Arg) and parent.keyword is None and not parent.star:
            outer = module.parent(parent)
            if not isinstance(outer, cst.Call) or len(outer.args) != 1:
                return whole, kind
            conversion = dotted(outer.func)
            if conversion not in _CONVERSIONS:
                return whole, kind
            whole, kind = outer, _CONVERSIONS[conversion]
        else:
            return whole, kind


def _inputs_of(
    module: Module, node: cst.CSTNode, function: cst.FunctionDef | None
) -> list[str] | None:
    """Return the function's variables in an expression, None if it cannot be moved."""
    if function is None:
        return None
    tree = bare(node, module.code(node))
    if any(isinstance(inner, _INNER_SCOPES) for inner in ast.walk(tree)):
        return None
    read = dict.fromkeys(n.id for n in ast.walk(tree) if isinstance(n, ast.Name))
    return [name for name in read if name in locals_of(module, function)]


def locals_of(module: Module, function: cst.FunctionDef) -> frozenset[str]:
    """Return all names that a function binds, including those of its comprehensions."""
    tree = ast.parse(module.code(function.with_changes(decorators=[])).strip("\n")).body[0]
    assert isinstance(tree, ast.FunctionDef | ast.AsyncFunctionDef)
    inside = [*ast.walk(tree.args), *(node for stmt in tree.body for node in ast.walk(stmt))]
    return frozenset(name for node in inside for name in bound_at(node))


def _annotated(function: cst.FunctionDef, name: str) -> str:
    parameters = function.params
    for one in (*parameters.posonly_params, *parameters.params, *parameters.kwonly_params):
        if one.name.value == name and one.annotation:
            return f"{name}: {cst.Module([]).code_for_node(one.annotation.annotation)}"
    return name


def default_made_in_the_body(module: Module, finding: Diagnostic) -> Edits | None:
    """Create the default of an input in the body.

    `def collect(seen: list[str] = [])` becomes `def collect(seen: list[str] | None = None)`, and
    the body begins with a test for None.
    """
    for parameter in module.every(cst.Param):
        default = parameter.default
        if default is not None and default in module.starting(finding.span, type(default)):
            return _made_in_the_body(module, parameter, default)
    return None


def _made_in_the_body(
    module: Module, parameter: cst.Param, default: cst.BaseExpression
) -> Edits | None:
    function = module.function(parameter)
    if function is None:
        return None
    name = parameter.name.value
    is_none = cst.Comparison(cst.Name(name), [cst.ComparisonTarget(cst.Is(), cst.Name("None"))])
    made = [cst.If(is_none, cst.IndentedBlock(statements(f"{name} = {module.code(default)}\n")))]
    at = 0 if function.get_docstring(clean=False) is None else 1

    def with_check(block: cst.BaseSuite) -> cst.BaseSuite:
        if isinstance(block, cst.SimpleStatementSuite):
            return cst.IndentedBlock([*made, cst.SimpleStatementLine(block.body)])
        return block.with_changes(body=[*block.body[:at], *made, *block.body[at:]])

    def without_default(updated: cst.Param) -> cst.Param:
        changed = updated.with_changes(default=cst.Name("None"))
        if updated.annotation is None:
            return changed
        kind = _or_none(updated.annotation.annotation)
        return changed.with_changes(annotation=updated.annotation.with_changes(annotation=kind))

    return Edits().replace(function.body, with_check).replace(parameter, without_default)


def _or_none(kind: cst.BaseExpression) -> cst.BaseExpression:
    if isinstance(kind, cst.SimpleString):
        inner = kind.raw_value
        return (
            kind if "None" in inner else cst.SimpleString(f"{kind.quote}{inner} | None{kind.quote}")
        )
    if any(word in cst.Module([]).code_for_node(kind) for word in ("None", "Optional")):
        return kind
    return cst.BinaryOperation(kind, cst.BitOr(), cst.Name("None"))


def sort_set(module: Module, finding: Diagnostic) -> Edits | None:
    """`for name in set(names)` becomes `for name in sorted(set(names))`."""
    node = module.at(finding.span, cst.Set, cst.SetComp, cst.Call)
    return None if node is None else _wrapped(module, node, "sorted")


def _wrapped(module: Module, node: cst.BaseExpression, name: str) -> Edits:
    def wrap(updated: cst.BaseExpression) -> cst.Call:
        return cst.Call(cst.Name(name), [cst.Arg(updated)])

    return Edits().replace(node, wrap)


def compare_values(module: Module, finding: Diagnostic) -> Edits | None:
    """`kind is "spam"` becomes `kind == "spam"`."""
    node = module.at(finding.span, cst.Comparison)
    if node is None:
        return None
    operands = [node.left, *(target.comparator for target in node.comparisons)]
    literal = (cst.SimpleString, cst.ConcatenatedString, cst.BaseNumber)

    def is_literal(operand: cst.BaseExpression) -> bool:
        inner = operand.expression if isinstance(operand, cst.UnaryOperation) else operand
        return isinstance(inner, literal)

    edits = Edits()
    for number, target in enumerate(node.comparisons):
        operator = target.operator
        if not isinstance(operator, cst.Is | cst.IsNot):
            continue
        if any(map(is_literal, operands[number : number + 2])):
            kind = cst.Equal if isinstance(operator, cst.Is) else cst.NotEqual
            made = kind(
                whitespace_before=operator.whitespace_before,
                whitespace_after=operator.whitespace_after,
            )
            edits.replace(operator, lambda _, made=made: made)  # type: ignore[misc]
    return edits


def value_that_crosses(module: Module, finding: Diagnostic) -> Edits | None:
    """Make a list of an iterator, or bind a pattern or a logger at the top level."""
    node = module.at(finding.span, cst.Call)
    if node is None:
        return None
    name = dotted(node.func)
    if name in _BOUND_ONCE:
        return _moved_up(module, node)
    return _wrapped(module, node, "list") if name in _ITERATORS else None


def process_state_at_import(module: Module, finding: Diagnostic) -> Edits | None:
    """Move a statement that changes the process from the flow to the top level."""
    found = module.statement(finding.span)
    return None if found is None else _moved_up(module, found)


def _moved_up(module: Module, node: cst.CSTNode) -> Edits | None:
    """Move a statement of a flow's body before the flow, if it reads no variable of the flow."""
    line = next(
        (n for n in (node, *module.around(node)) if isinstance(n, cst.SimpleStatementLine)), None
    )
    function = module.function(node)
    if line is None or function is None or module.top(function) is not function:
        return None
    if module.parent(line) is not function.body or len(line.body) != 1:
        return None
    if len(function.body.body) == 1:
        return None
    tree = bare(line, module.code(line.with_changes(leading_lines=[])))
    stored = {
        n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
    }
    read = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)} - stored
    if read & locals_of(module, function) or any(_bindings(module, name) != 1 for name in stored):
        return None
    blank = cst.EmptyLine(indent=False)
    moved = line.with_changes(leading_lines=[blank, blank, *line.leading_lines])
    return Edits(names=stored).remove(line).put_before(function, moved)


def _bindings(module: Module, name: str) -> int:
    """Return how many places of the file may bind a name, including parameters and imports."""
    return sum(name in bound_at(node) for node in ast.walk(ast.parse(module.text)))


def bound_at(node: ast.AST) -> list[str]:
    """Return the names that a single node, without its children, may bind or delete."""
    match node:
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()) | ast.arg(arg=name):
            return [name]
        case ast.alias(name=imported, asname=name):
            return [name or imported.partition(".")[0]]
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return [node.name]
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)):
            return [name]
        case ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
            return [name]
        case ast.Global(names=names) | ast.Nonlocal(names=names):
            return names
    return []


def copy_returned(module: Module, finding: Diagnostic) -> Edits | None:
    """`return rows` becomes `return list(rows)`, where `rows` is an argument."""
    node = module.at(finding.span, cst.Name)
    return _wrapped(module, node, finding.replacement) if node else None


def hidden_characters(module: Module, finding: Diagnostic) -> Edits | None:
    """Remove reordering characters from comments, and escape them in strings."""
    edits, line = Edits(), finding.span.line
    for comment in module.every(cst.Comment):
        if _BIDI.search(comment.value) and module.is_on(comment, line):
            _set_value(edits, comment, _BIDI.sub("", comment.value).rstrip())
    plain, formatted = module.every(cst.SimpleString), module.every(cst.FormattedString)
    strings: list[cst.SimpleString | cst.FormattedString] = [*plain, *formatted]
    for string in strings:
        if not module.is_on(string, line) or not _BIDI.search(module.code(string)):
            continue
        # After a backslash, the escape would be plain text.
        if "r" in string.prefix.lower() or _BACKSLASHED.search(module.code(string)):
            return None
        if isinstance(string, cst.SimpleString):
            _set_value(edits, string, _BIDI.sub(_escape, string.value))
        else:
            for part in string.parts:
                if isinstance(part, cst.FormattedStringText):
                    _set_value(edits, part, _BIDI.sub(_escape, part.value))
    return edits if edits.replaced else None


def _set_value(
    edits: Edits, node: cst.Comment | cst.SimpleString | cst.FormattedStringText, value: str
) -> None:
    edits.replace(node, lambda old: old.with_changes(value=value))


def _escape(found: re.Match[str]) -> str:
    return f"\\u{ord(found.group()):04x}"


_BIDI = re.compile("[\u202a-\u202e\u2066-\u2069]")
_BACKSLASHED = re.compile(r"(?<!\\)\\(?:\\\\)*[\u202a-\u202e\u2066-\u2069]")


def comments_of(module: Module, line: int) -> Iterator[cst.Comment]:
    """Yield the comments on a line."""
    yield from (node for node in module.every(cst.Comment) if module.line(node) == line)
