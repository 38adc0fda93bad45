"""Fixes of the rules about agents of other harnesses."""

from __future__ import annotations

from collections.abc import Sequence

import libcst as cst

from kitaru_compiler.diagnostics.model import Diagnostic
from kitaru_compiler.fixes.module import Edits, Module, dotted, expression

_KEYWORDS = {"KIT704": "name", "KIT707": "id"}
_MIDDLEWARE = "adapters.langgraph.KitaruMiddleware"
_RUNNER = "adapters.openai_agents.KitaruRunner"
# Expressions whose operands bind tighter than `await`.
_TIGHTER = (cst.Attribute, cst.Subscript, cst.Call, cst.BinaryOperation, cst.UnaryOperation)


def with_adapter(module: Module, finding: Diagnostic) -> Edits | None:
    """Run an agent with `KitaruRunner`, or add `KitaruMiddleware` to it."""
    if _RUNNER.rpartition(".")[0] in finding.help:
        return _with_runner(module, finding)
    return _with_middleware(module, finding)


def _with_runner(module: Module, finding: Diagnostic) -> Edits | None:
    """`Runner.run(agent, x)` becomes `KitaruRunner.run(agent, x)`."""
    call = module.at(finding.span, cst.Call)
    if call is None or dotted(call.func).split(".")[-2:-1] != ["Runner"]:
        return None
    runner = _RUNNER.rpartition(".")[2]

    def durable(updated: cst.Call) -> cst.Call:
        function = cst.ensure_type(updated.func, cst.Attribute)
        return updated.with_changes(func=function.with_changes(value=cst.Name(runner)))

    return Edits(imported={_RUNNER}).replace(call, durable)


def _with_middleware(module: Module, finding: Diagnostic) -> Edits | None:
    """`create_agent(m)` becomes `create_agent(m, middleware=[KitaruMiddleware()])`.

    The middleware is the innermost, behind those that the agent already has.
    """
    call = _assigned_call(module, finding.replacement)
    if call is None or dotted(call.func).rpartition(".")[2] != "create_agent":
        return None
    class_name = _MIDDLEWARE.rpartition(".")[2]
    made = cst.Element(expression(f"{class_name}()"))
    edits = Edits(imported={_MIDDLEWARE}, names={class_name})
    given = {argument.keyword.value: argument for argument in call.args if argument.keyword}
    if any(argument.star == "**" for argument in call.args):
        return None
    listed = given["middleware"].value if "middleware" in given else None
    if listed is not None and not isinstance(listed, cst.List):
        return None

    def durable(updated: cst.Call) -> cst.Call:
        if "name" not in given:
            # The ids of its records begin with its name.
            updated = _with_argument(updated, "name", _quoted(finding.replacement))
        if listed is None:
            return _with_argument(updated, "middleware", cst.List([made]))
        longer = listed.with_changes(elements=[*_open(listed.elements), made])
        return updated.with_changes(
            args=[
                argument.with_changes(value=longer)
                if _is_named(argument, "middleware")
                else argument
                for argument in updated.args
            ]
        )

    return edits.replace(call, durable)


def _is_named(argument: cst.Arg, keyword: str) -> bool:
    return argument.keyword is not None and argument.keyword.value == keyword


def _quoted(text: str) -> cst.SimpleString:
    return cst.SimpleString(f'"{text}"')


def _open(elements: Sequence[cst.BaseElement]) -> list[cst.BaseElement]:
    """Return the elements of a list, each with a comma behind it."""
    comma = cst.Comma(whitespace_after=cst.SimpleWhitespace(" "))
    found = list(elements)
    if found and not isinstance(found[-1].comma, cst.Comma):
        found[-1] = found[-1].with_changes(comma=comma)
    return found


def _assigned_call(module: Module, variable: str) -> cst.Call | None:
    """Return the call that is assigned to a variable of the module, if there is one such call."""
    calls = [
        node.value
        for node in module.every(cst.Assign)
        if len(node.targets) == 1
        and dotted(node.targets[0].target) == variable
        and isinstance(node.value, cst.Call)
    ]
    return calls[0] if len(calls) == 1 and variable else None


def named_after_variable(module: Module, finding: Diagnostic) -> Edits | None:
    """`clerk = create_agent(m)` becomes `clerk = create_agent(m, name="clerk")`."""
    # The call of the constructor is the innermost: `create_agent(m).with_config(c)`.
    call = next(reversed([*module.starting(finding.span, cst.Call)]), None)
    if call is None or not finding.replacement:
        return None
    keyword, value = _KEYWORDS[finding.code], _quoted(finding.replacement)
    return Edits().replace(call, lambda old: _with_argument(old, keyword, value))


def _with_argument(call: cst.Call, keyword: str, value: cst.BaseExpression) -> cst.Call:
    equal = cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace(""))
    added = cst.Arg(value, cst.Name(keyword), equal=equal)
    if not call.args:
        return call.with_changes(args=[added])
    *others, last = call.args
    if isinstance(last.comma, cst.Comma):
        # One argument on each line, with a comma behind the last.
        before = others[-1] if others else None
        comma = before.comma if before is not None else cst.Comma()
        if before is None or not isinstance(comma, cst.Comma):
            comma = cst.Comma(whitespace_after=cst.SimpleWhitespace(" "))
        ending = last.with_changes(comma=comma)
        return call.with_changes(args=[*others, ending, added.with_changes(comma=last.comma)])
    comma = cst.Comma(whitespace_after=cst.SimpleWhitespace(" "))
    ending = last.with_changes(comma=comma, whitespace_after_arg=cst.SimpleWhitespace(""))
    added = added.with_changes(whitespace_after_arg=last.whitespace_after_arg)
    return call.with_changes(args=[*others, ending, added])


def awaited_run(module: Module, finding: Diagnostic) -> Edits | None:
    """`graph.invoke(x)` becomes `await graph.ainvoke(x)`, and `asyncio.run(c)` `await c`."""
    call = module.at(finding.span, cst.Call)
    if call is None or not isinstance(call.func, cst.Attribute):
        return None
    parenthesised = isinstance(module.parent(call), _TIGHTER)
    other = finding.replacement
    if not other and (len(call.args) != 1 or dotted(call.func) != "asyncio.run"):
        return None

    def awaited(updated: cst.Call) -> cst.Await:
        inner: cst.BaseExpression = updated.args[0].value
        if other:
            function = cst.ensure_type(updated.func, cst.Attribute)
            inner = updated.with_changes(func=function.with_changes(attr=cst.Name(other)))
        made = cst.Await(inner.with_changes(lpar=(), rpar=()) if other else inner)
        lpar, rpar = updated.lpar, updated.rpar
        if parenthesised and not lpar:
            lpar, rpar = (cst.LeftParen(),), (cst.RightParen(),)
        return made.with_changes(lpar=lpar, rpar=rpar)

    return Edits().replace(call, awaited)
