"""Fixes of the rules about calls of Kitaru, names and ids."""

from __future__ import annotations

import re
import unicodedata

import libcst as cst

from kitaru_compiler.diagnostics.model import Diagnostic
from kitaru_compiler.fixes.module import Edits, Module, dotted, expression, unused

_LONGEST_NAME = 100
# Expressions whose operands bind tighter than `await`.
_TIGHTER = (cst.Attribute, cst.Subscript, cst.Call, cst.BinaryOperation, cst.UnaryOperation)
# Letters that Unicode does not decompose.
_LETTERS = str.maketrans({"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "đ": "d", "ł": "l"})


def call_without_loop(module: Module, finding: Diagnostic) -> Edits | None:
    """`await draft(x)` and `asyncio.run(draft(x))` become `draft(x)`."""
    call = module.at(finding.span, cst.Call)
    if call is None:
        return None
    outer = module.parent(call)
    if isinstance(outer, cst.Arg):
        outer = module.parent(outer)
        if not isinstance(outer, cst.Call) or len(outer.args) != 1:
            return None
        if dotted(outer.func).rpartition(".")[2] != "run":
            return None
    elif not isinstance(outer, cst.Await):
        return None
    submits = finding.replacement == "result"

    def inner(updated: cst.Await | cst.Call) -> cst.BaseExpression:
        value = updated.expression if isinstance(updated, cst.Await) else updated.args[0].value
        made = _result(value) if submits else value
        return made.with_changes(lpar=updated.lpar, rpar=updated.rpar)

    return Edits().replace(outer, inner)


def _result(call: cst.BaseExpression) -> cst.Call:
    return cst.Call(cst.Attribute(call, cst.Name("result")))


def await_instead(module: Module, finding: Diagnostic) -> Edits | None:
    """`kitaru.wait(name="ok")` becomes `await kitaru.aio.wait(name="ok")`."""
    call = module.at(finding.span, cst.Call)
    if call is None:
        return None
    aio, imported = module.spelled("aio")
    function = expression(f"{aio}.{finding.replacement}")
    is_operand = isinstance(module.parent(call), _TIGHTER)

    def awaited(updated: cst.Call) -> cst.Await:
        made = cst.Await(updated.with_changes(func=function, lpar=(), rpar=()))
        lpar, rpar = updated.lpar, updated.rpar
        if is_operand and not lpar:
            lpar, rpar = (cst.LeftParen(),), (cst.RightParen(),)
        return made.with_changes(lpar=lpar, rpar=rpar)

    return Edits(imported=imported, names={"aio"}).replace(call, awaited)


def read_future(module: Module, finding: Diagnostic) -> Edits | None:
    """`publish.submit(text)` as a statement becomes `publish.submit(text).result()`."""
    call = module.at(finding.span, cst.Call)
    if call is None or not isinstance(module.parent(call), cst.Expr):
        return None
    return Edits().replace(call, _result)


def literal_of_the_type(module: Module, finding: Diagnostic) -> Edits | None:
    """`retries="3"` becomes `retries=3`, and a `timedelta(…)` gets `.total_seconds()`."""
    value = module.at(finding.span, cst.SimpleString, cst.Call)
    if isinstance(value, cst.SimpleString) and finding.replacement:
        return Edits().replace(value, lambda _: expression(finding.replacement))
    if isinstance(value, cst.Call) and dotted(value.func).rpartition(".")[2] == "timedelta":
        return Edits().replace(value, _seconds)
    return None


def _seconds(value: cst.Call) -> cst.Call:
    return cst.Call(cst.Attribute(value, cst.Name("total_seconds")))


def name_that_was_meant(module: Module, finding: Diagnostic) -> Edits | None:
    """`@checkpoint(retrys=3)` becomes `@checkpoint(retries=3)`; so do attributes and imports."""
    meant = finding.replacement
    name = _misspelt(module, finding)
    if not meant or name is None or _is_given(module, name, meant):
        return None
    return Edits().replace(name, lambda old: old.with_changes(value=meant))


def _misspelt(module: Module, finding: Diagnostic) -> cst.Name | None:
    """Return the keyword, attribute or imported name of a finding."""
    if attribute := module.at(finding.span, cst.Attribute):
        return attribute.attr
    for alias in module.starting(finding.span, cst.ImportAlias):
        return alias.name if isinstance(alias.name, cst.Name) else None
    for name in module.starting(finding.span, cst.Name):
        argument = module.parent(name)
        if isinstance(argument, cst.Arg) and argument.keyword is name:
            return name
    return None


def _is_given(module: Module, keyword: cst.Name, name: str) -> bool:
    """Return whether a call already has the argument that a renamed keyword would duplicate."""
    argument = module.parent(keyword)
    call = module.parent(argument)
    if not isinstance(argument, cst.Arg) or not isinstance(call, cst.Call):
        return False
    return any(one.keyword and one.keyword.value == name for one in call.args)


def no_polling(module: Module, finding: Diagnostic) -> Edits | None:
    """`kitaru.wait(name="ok", timeout=172800)` becomes `kitaru.wait(name="ok")`."""
    for argument in module.every(cst.Arg):
        named = argument.keyword is not None and argument.keyword.value == "timeout"
        if named and argument.value in module.starting(finding.span, type(argument.value)):
            return _without_argument(module, argument)
    return None


def _without_argument(module: Module, argument: cst.Arg) -> Edits | None:
    call = module.parent(argument)
    if not isinstance(call, cst.Call):
        return None
    at = call.args.index(argument)

    def without(updated: cst.Call) -> cst.Call:
        kept = [*updated.args[:at], *updated.args[at + 1 :]]
        if kept and at == len(kept):
            # The text after the last argument moves behind the new last argument.
            kept[-1] = kept[-1].with_changes(
                comma=updated.args[at].comma,
                whitespace_after_arg=updated.args[at].whitespace_after_arg,
            )
        return updated.with_changes(args=kept)

    return Edits().replace(call, without)


def another_id(module: Module, finding: Diagnostic) -> Edits | None:
    """The second `id="draft"` becomes `id="draft_2"`."""
    value = module.at(finding.span, cst.SimpleString)
    if value is None or not isinstance(value.evaluated_value, str):
        return None
    name = unused(value.evaluated_value, module.texts)
    return _text(value, name) if len(name) <= _LONGEST_NAME else None


def _text(value: cst.SimpleString, text: str) -> Edits:
    made = cst.SimpleString(f"{value.quote}{text}{value.quote}")
    return Edits(names={text}).replace(value, lambda _: made)


def name_that_fits(module: Module, finding: Diagnostic) -> Edits | None:
    """`name="approve draft?"` becomes `name="approve_draft"`; a wait keeps the text as a question.

    A function whose own name does not fit gets a `name=` in its decorator.
    """
    value = module.at(finding.span, cst.SimpleString)
    if value is not None and isinstance(value.evaluated_value, str):
        name = _fitting(value.evaluated_value)
        if not name or name in module.texts:
            return None
        edits = _text(value, name)
        call = module.parent(module.parent(value))
        if isinstance(call, cst.Call) and dotted(call.func).rpartition(".")[2] == "wait":
            _with_question(edits, call, value)
        return edits
    function = next((module.parent(n) for n in module.starting(finding.span, cst.Name)), None)
    if not isinstance(function, cst.FunctionDef) or len(function.decorators) != 1:
        return None
    name = _fitting(function.name.value)
    if not name or name in module.texts | module.names:
        return None
    return Edits(names={name}).replace(function.decorators[0], lambda old: _named(old, name))


def _with_question(edits: Edits, call: cst.Call, value: cst.SimpleString) -> None:
    if any(argument.keyword and argument.keyword.value == "question" for argument in call.args):
        return
    equal = cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace(""))
    comma = cst.Comma(whitespace_after=cst.SimpleWhitespace(" "))
    question = cst.Arg(value.deep_clone(), cst.Name("question"), equal=equal)

    def asking(updated: cst.Call) -> cst.Call:
        *others, last = updated.args
        added = question.with_changes(
            comma=last.comma, whitespace_after_arg=last.whitespace_after_arg
        )
        first = last.with_changes(comma=comma, whitespace_after_arg=cst.SimpleWhitespace(""))
        return updated.with_changes(args=[*others, first, added])

    edits.replace(call, asking)


def _named(decorator: cst.Decorator, name: str) -> cst.Decorator:
    equal = cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace(""))
    given = cst.Arg(cst.SimpleString(f'"{name}"'), cst.Name("name"), equal=equal)
    if not isinstance(decorator.decorator, cst.Call):
        return decorator.with_changes(decorator=cst.Call(decorator.decorator, [given]))
    call = decorator.decorator
    comma = cst.Comma(whitespace_after=cst.SimpleWhitespace(" "))
    first = given.with_changes(comma=comma) if call.args else given
    return decorator.with_changes(decorator=call.with_changes(args=[first, *call.args]))


def _fitting(text: str) -> str:
    """Convert a text to a name: ASCII letters, digits, underscores and dashes."""
    plain = (
        unicodedata.normalize("NFKD", text.translate(_LETTERS)).encode("ascii", "ignore").decode()
    )
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", plain).strip("_-")[:_LONGEST_NAME]
    return f"_{name}" if name[:1].isdigit() else name
