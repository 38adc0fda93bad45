"""Fixes of the rules about statements: their place, and whether they run."""

from __future__ import annotations

import ast
import re
from typing import cast

import libcst as cst

from kitaru.wire.plan import Span
from kitaru_compiler.diagnostics.model import Diagnostic
from kitaru_compiler.fixes.module import Edits, Module, Statement, bare, dotted
from kitaru_compiler.fixes.values import comments_of
from kitaru_compiler.ir.scope import bound_names

_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_IGNORE = re.compile(r"kitaru:\s*ignore\b\s*(?:\[(?P<codes>[^\]]*)\])?\s*")


def comment_without_effect(module: Module, finding: Diagnostic) -> Edits | None:
    """Remove a code from `# kitaru: ignore[…]`, and the comment with its last code."""
    span = finding.span
    for comment in comments_of(module, span.line):
        if match := _IGNORE.search(comment.value):
            return _without_code(module, comment, match, span)
    return None


def _without_code(module: Module, comment: cst.Comment, match: re.Match[str], span: Span) -> Edits:
    codes = re.findall(r"[^\s,]+", match["codes"] or "")
    wrong = module.text.split("\n")[span.line - 1][span.column - 1 : span.end_column - 1]
    left = [code for code in codes if code != wrong] if wrong in codes else []
    kept = f"kitaru: ignore[{', '.join(left)}] " if left else ""
    value = (comment.value[: match.start()] + kept + comment.value[match.end() :]).rstrip()
    if value.strip("# "):
        return Edits().replace(comment, lambda old: old.with_changes(value=value))
    line = module.parent(comment)
    if isinstance(line, cst.EmptyLine):
        return Edits().remove(line)
    nothing = cst.SimpleWhitespace("")
    return Edits().replace(line, lambda old: old.with_changes(comment=None, whitespace=nothing))


def map_of_comprehension(module: Module, finding: Diagnostic) -> Edits | None:
    """`[research(t) for t in topics]` becomes `research.map(topics).result()`."""
    node = module.at(finding.span, cst.ListComp)
    if node is None or not isinstance(node.elt, cst.Call):
        return None
    loop, call = node.for_in, node.elt
    plain = isinstance(loop.target, cst.Name) and not loop.ifs and not loop.inner_for_in
    if not plain or loop.asynchronous or len(call.args) != 1:
        return None
    only = call.args[0]
    if only.keyword or only.star or dotted(only.value) != dotted(loop.target):
        return None
    if not dotted(call.func) or dotted(call.func).partition(".")[0] == dotted(loop.target):
        return None

    def mapped(updated: cst.ListComp) -> cst.Call:
        inner = cast(cst.Call, updated.elt)
        method = cst.Attribute(inner.func, cst.Name("map"))
        futures = cst.Call(method, [cst.Arg(updated.for_in.iter)])
        result = cst.Call(cst.Attribute(futures, cst.Name("result")))
        return result.with_changes(lpar=updated.lpar, rpar=updated.rpar)

    return Edits().replace(node, mapped)


def assert_a_variable(module: Module, finding: Diagnostic) -> Edits | None:
    """`assert good(text), "bad"` becomes `passed = good(text)` and `assert passed, "bad"`."""
    node = next(module.starting(finding.span, cst.Assert), None)
    line = module.parent(node) if node else None
    if node is None or not isinstance(line, cst.SimpleStatementLine) or len(line.body) != 1:
        return None
    if not isinstance(node.test, cst.Call):
        return None
    name = module.fresh("passed")
    edits = Edits(names={name})

    def split(updated: cst.SimpleStatementLine) -> cst.FlattenSentinel[cst.SimpleStatementLine]:
        inner = cast(cst.Assert, updated.body[0])
        value = inner.test.with_changes(lpar=[], rpar=[])
        made = cst.SimpleStatementLine(
            [cst.Assign([cst.AssignTarget(cst.Name(name))], value)],
            leading_lines=updated.leading_lines,
        )
        rest = updated.with_changes(
            body=[inner.with_changes(test=cst.Name(name))], leading_lines=[]
        )
        return cst.FlattenSentinel([made, rest])

    return edits.replace(line, split)  # type: ignore[arg-type]


def without_unreachable_code(module: Module, finding: Diagnostic) -> Edits | None:
    """Remove the statements after one that always leaves."""
    found = module.statement(finding.span)
    if found is None:
        return None
    first = module.parent(found) if isinstance(found, cst.BaseSmallStatement) else found
    block, function = module.parent(first), module.function(found)
    if not isinstance(block, cst.IndentedBlock) or function is None:
        return None
    if isinstance(first, cst.SimpleStatementLine) and first.body[0] is not found:
        return None
    dead = [*block.body[block.body.index(first) :]]
    trees = [bare(one, module.code(one.with_changes(leading_lines=[]))) for one in dead]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    # These determine the kind of a function and its local names, even if they never run.
    if any(isinstance(n, ast.Yield | ast.YieldFrom | ast.Global | ast.Nonlocal) for n in nodes):
        return None
    bound = {name for tree in trees for name in _bound(tree)}
    alive = [name.value for name in _names(function)]
    inside = [name.value for one in dead for name in _names(one)]
    if any(alive.count(name) > inside.count(name) for name in bound):
        return None
    return Edits().remove(*dead)


def _bound(tree: ast.AST) -> set[str]:
    body = tree.body if isinstance(tree, ast.Module) else []
    return {name for stmt in body for name in bound_names(stmt)}


def _names(node: cst.CSTNode) -> list[cst.Name]:
    found: list[cst.Name] = []
    pending = [node]
    while pending:
        one = pending.pop()
        if isinstance(one, cst.Name):
            found.append(one)
        pending += one.children
    return found


def start_under_main(module: Module, finding: Diagnostic) -> Edits | None:
    """Move a start of an execution, and the use of its result, below a test of `__name__`."""
    call = next(module.starting(finding.span, cst.Call), None)
    if call is None:
        return None
    first = module.top(call)
    body = cast("list[Statement]", list(module.tree.body))
    chosen: list[int] = []
    bound: set[str] = set()
    for number in range(body.index(first), len(body)):
        statement = body[number]
        tree = bare(statement, module.code(statement.with_changes(leading_lines=[])))
        if number > body.index(first) and not bound & _read(tree):
            continue
        if isinstance(statement, cst.FunctionDef | cst.ClassDef) or _is_guard(statement):
            # Its name, or the guard, must stay at this place.
            if _is_guard(statement):
                continue
            return None
        chosen.append(number)
        bound |= _bound(tree)
    groups: list[list[int]] = []
    for number in chosen:
        if groups and groups[-1][-1] == number - 1:
            groups[-1].append(number)
        else:
            groups.append([number])

    def guarded(updated: cst.Module) -> cst.Module:
        statements = cast("list[Statement]", list(updated.body))
        for group in reversed(groups):
            inner = statements[group[0] : group[-1] + 1]
            statements[group[0] : group[-1] + 1] = [_under_main(inner)]
        return updated.with_changes(body=statements)

    return Edits().replace(module.tree, guarded)


def _under_main(inner: list[Statement]) -> cst.If:
    test = cst.parse_expression('__name__ == "__main__"')
    first = inner[0].with_changes(leading_lines=[])
    leading = inner[0].leading_lines
    comments = [line for line in leading if line.comment]
    # Comments directly above the statement belong to it and move with it.
    blank = (
        leading[: len(leading) - len(comments)]
        if leading[-len(comments) :] == comments
        else leading
    )
    if comments and len(blank) < len(leading):
        first = first.with_changes(leading_lines=comments)
    block = cst.IndentedBlock([first, *map(_without_spaces, inner[1:])])
    return cst.If(test, block, leading_lines=blank)


def _without_spaces(statement: Statement) -> Statement:
    """Return a statement of an indented block with its blank lines emptied."""
    lines = [
        line if line.comment else line.with_changes(indent=False)
        for line in statement.leading_lines
    ]
    return statement.with_changes(leading_lines=lines)


def _read(tree: ast.AST) -> set[str]:
    """Return the names that a statement itself reads, without the functions that it defines."""
    found: set[str] = set()
    pending = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            found.add(node.id)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            pending += [*node.decorator_list, *node.args.defaults]
        elif not isinstance(node, _SCOPES):
            pending += ast.iter_child_nodes(node)
    return found


def _is_guard(statement: Statement) -> bool:
    return isinstance(statement, cst.If) and "__name__" in {
        name.value for name in _names(statement.test)
    }
