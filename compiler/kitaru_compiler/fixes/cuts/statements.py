"""Changes that cut loops, `try`, `with`, `match` and expressions."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from kitaru_compiler.fixes.cuts.spot import (
    Candidate,
    Spot,
    comments_of,
    compound,
    exchanged,
    line,
    only,
    replaced,
    statements_of,
)
from kitaru_compiler.fixes.module import Edits, Statement, unused

# Stands for the bound that only the author knows. Each round becomes a step.
ROUNDS = 3
_BOUNDED = f"At most {ROUNDS} rounds run; {ROUNDS} stands for your own bound."
_CONCURRENT = "The calls run side by side instead of one after the other."
_SIMPLE = cst.Name | cst.Attribute | cst.Call | cst.Subscript | cst.SimpleString | cst.Integer


def bounded_while(spot: Spot) -> Iterator[Candidate]:
    """Count the rounds of a `while`.

    while not good(text):                   for _ in range(3):
        text = revise(text)                     if good(text):
                                                    break
                                                text = revise(text)
    """
    loop = spot.statement()
    if not isinstance(loop, cst.While) or loop.orelse:
        return
    body = statements_of(loop.body)
    test = spot.module.code(loop.test).strip()
    if test not in ("True", "1"):
        body = [compound(f"if {_negated(spot, loop.test)}", [line("break")]), *body]
    made = compound(f"for _ in range({ROUNDS})", body, loop.leading_lines)
    yield Candidate("Bound the number of rounds", _BOUNDED, replaced(loop, made))


def _negated(spot: Spot, test: cst.BaseExpression) -> str:
    match test:
        case cst.UnaryOperation(operator=cst.Not(), expression=inner):
            return spot.module.code(inner)
        case cst.Name() | cst.Attribute() | cst.Call() | cst.Subscript():
            return f"not {spot.module.code(test)}"
    return f"not ({spot.module.code(test.with_changes(lpar=[], rpar=[]))})"


def loop_over_a_result(spot: Spot) -> Iterator[Candidate]:
    """Submit the call of each round, or bound the number of rounds."""
    loop = spot.statement()
    if not isinstance(loop, cst.For) or loop.orelse or loop.asynchronous:
        return
    yield from _submitted(spot, loop)
    yield from _bounded_for(spot, loop)


def _submitted(spot: Spot, loop: cst.For) -> Iterator[Candidate]:
    """Call `.submit` for all items first.

    for topic in topics:                    calls = [(topic, ask.submit(topic)) for topic in topics]
        notes[topic] = ask(topic)           for topic, call in calls:
                                                notes[topic] = call.result()

    No round may need what an earlier round has made.
    """
    body, module = statements_of(loop.body), spot.module
    calls = spot.durable(loop)
    if len(body) != 1 or len(calls) != 1 or spot.durable(loop.iter):
        return
    (call,), (stmt,) = calls, body
    if only(stmt) is None or spot.is_submit(call) or _is_conditional(spot, call, stmt):
        return
    target = module.mentioned(loop.target)
    read = module.mentioned(*call.args) - target
    changed = read & (module.mentioned(stmt) - module.mentioned(call) | bound(spot, stmt))
    if changed or _starred(call) or not isinstance(call.func, cst.Name | cst.Attribute):
        return
    item, one = module.code(loop.target), module.fresh("call")
    calls_name = module.fresh("calls")
    paired = f"({item})" if isinstance(loop.target, cst.Tuple) and not loop.target.lpar else item
    submit = module.code(call.with_changes(func=cst.Attribute(call.func, cst.Name("submit"))))
    over = module.code(loop.iter)
    mapped = f"{module.code(call.func)}.map({over}).result()"
    if (
        len(call.args) == 1
        and _is_item(call.args[0], item)
        and (text := _mapped(stmt, call, mapped))
    ):
        what = f"Call `{module.code(call.func)}` for all items at once"
        yield Candidate(what, _CONCURRENT, replaced(loop, line(text, loop.leading_lines)))
        return
    first = line(f"{calls_name} = [({paired}, {submit}) for {item} in {over}]", loop.leading_lines)
    inner = exchanged(stmt, call, cst.parse_expression(f"{one}.result()"))
    second = compound(f"for {paired}, {one} in {calls_name}", [inner])
    what = "Submit the calls of all rounds first"
    yield Candidate(what, _CONCURRENT, replaced(loop, first, second))


def _mapped(stmt: Statement, call: cst.Call, mapped: str) -> str:
    """Return the line for a statement that only calls, or appends the result to a list."""
    match only(stmt):
        case cst.Expr(value=value) if value is call:
            return mapped
        case cst.Expr(
            value=cst.Call(
                func=cst.Attribute(value=cst.Name(value=name), attr=cst.Name(value="append")),
                args=[cst.Arg(value=value, keyword=None)],
            )
        ) if value is call:
            return f"{name}.extend({mapped})"
    return ""


def _is_item(argument: cst.Arg, item: str) -> bool:
    value = argument.value
    named = isinstance(value, cst.Name) and value.value == item
    return named and not argument.keyword and not argument.star


def _starred(call: cst.Call) -> bool:
    return any(argument.star for argument in call.args)


def _is_conditional(spot: Spot, call: cst.Call, stmt: cst.CSTNode) -> bool:
    """Return whether a statement may skip or repeat a call."""
    kinds = (cst.Lambda, cst.BaseComp, cst.IfExp, cst.BooleanOperation, cst.Comparison, cst.Assert)
    for node in spot.module.around(call):
        if isinstance(node, kinds):
            return True
        if node is stmt:
            break
    return False


def bound(spot: Spot, *nodes: cst.CSTNode) -> set[str]:
    """Return the variables that statements assign."""
    targets: list[cst.CSTNode] = []
    for node in nodes:
        targets += [t.target for t in spot.module.inside(cst.AssignTarget, node)]
        targets += [a.target for a in spot.module.inside(cst.AugAssign, node)]
        targets += [a.target for a in spot.module.inside(cst.AnnAssign, node)]
        targets += [n.target for n in spot.module.inside(cst.NamedExpr, node)]
        targets += [f.target for f in spot.module.inside(cst.For, node)]
        targets += [i.asname for i in spot.module.inside(cst.WithItem, node) if i.asname]
    return spot.module.mentioned(*targets)


def _bounded_for(spot: Spot, loop: cst.For) -> Iterator[Candidate]:
    """Count the rounds of a `for` over a value of run time.

    for topic in topics:                    items = list(topics)
        notes += research(topic)            for number in range(3):
                                                if number >= len(items):
                                                    break
                                                topic = items[number]
                                                notes += research(topic)
    """
    module = spot.module
    body = statements_of(loop.body)
    match loop.iter:
        case cst.Call(
            func=cst.Name(value="range"), args=[cst.Arg(value=end, keyword=None, star="")]
        ) if isinstance(loop.target, cst.Name) and not spot.durable(end):
            number = loop.target.value
            if module.mentioned(end) & bound(spot, *body):
                return
            test = compound(f"if {number} >= {_operand(spot, end)}", [line("break")])
            made = compound(f"for {number} in range({ROUNDS})", [test, *body], loop.leading_lines)
            yield Candidate("Bound the number of rounds", _BOUNDED, replaced(loop, made))
            return
    items, number = module.fresh("items"), module.fresh("number")
    first = line(f"{items} = list({module.code(loop.iter)})", loop.leading_lines)
    test = compound(f"if {number} >= len({items})", [line("break")])
    item = line(f"{module.code(loop.target)} = {items}[{number}]")
    made = compound(f"for {number} in range({ROUNDS})", [test, item, *body])
    yield Candidate("Bound the number of rounds", _BOUNDED, replaced(loop, first, made))


def _operand(spot: Spot, node: cst.BaseExpression) -> str:
    text = spot.module.code(node)
    return text if isinstance(node, _SIMPLE) or node.lpar else f"({text})"


def try_of_several_calls(spot: Spot) -> Iterator[Candidate]:
    """Write the calls of a `try` so that a cut between them is possible.

    try:                                    try:
        text = polish(draft(text))              value = draft(text)
    except ValueError:                          text = polish(value)
        text = "failed"                     except ValueError:
                                                text = "failed"
    """
    whole = spot.statement()
    if not isinstance(whole, cst.Try):
        return
    if whole.finalbody:
        yield from _without_finally(spot, whole)
        return
    yield from _a_line_for_each_call(spot, whole)
    yield from _call_last(spot, whole)


def _a_line_for_each_call(spot: Spot, whole: cst.Try) -> Iterator[Candidate]:
    """Assign what one call passes to another to a variable."""
    edits = Edits()
    other = False
    taken = set(spot.module.names)
    for stmt in statements_of(whole.body):
        calls = spot.durable(stmt)
        inner = [call for call in calls if any(call in _below(outer) for outer in calls)]
        if len(calls) != 2 or len(inner) != 1 or only(stmt) is None:
            continue
        (call,) = inner
        if _is_conditional_for_value(spot, call, stmt):
            continue
        name = unused("value", taken)
        taken.add(name)
        first = line(f"{name} = {spot.module.code(call)}", stmt.leading_lines)
        second = exchanged(stmt, call, cst.Name(name)).with_changes(leading_lines=[])
        edits.put(stmt, first, second)
        other |= len(list(spot.module.inside(cst.Call, stmt))) > len(calls)
    if edits.replaced:
        meaning = "The inner call runs before everything else in its statement." if other else ""
        yield Candidate("Give each call of the `try` a line of its own", meaning, edits)


def _without_finally(spot: Spot, whole: cst.Try) -> Iterator[Candidate]:
    """Move the statements of `finally` behind the `try`."""
    assert whole.finalbody is not None
    cleanup = statements_of(whole.finalbody.body)
    if spot.durable(*cleanup):
        return
    if whole.handlers:
        before: list[Statement] = [whole.with_changes(finalbody=None)]
    else:
        first, *others = statements_of(whole.body)
        leading = [*whole.leading_lines, *comments_of(first.leading_lines)]
        before = [first.with_changes(leading_lines=leading), *others]
    meaning = "The cleanup no longer runs if an exception leaves the `try`, or after a `return`."
    what = "Move the statements of `finally` behind the `try`"
    yield Candidate(what, meaning, replaced(whole, *before, *cleanup))


def _call_last(spot: Spot, whole: cst.Try) -> Iterator[Candidate]:
    """Move what a handler does after its call before the call."""
    edits = Edits()
    for handler in whole.handlers:
        body = statements_of(handler.body)
        durable = [number for number, stmt in enumerate(body) if spot.durable(stmt)]
        if len(durable) != 1 or only(body[durable[0]]) is None:
            continue
        (number,) = durable
        call, after = body[number], body[number + 1 :]
        free = not spot.module.mentioned(*after) & bound(spot, call)
        leaves = (cst.Return, cst.Raise, cst.Break, cst.Continue)
        if after and free and not any(True for k in leaves for _ in spot.module.inside(k, *after)):
            block = cst.IndentedBlock([*body[:number], *after, call])
            edits.put(handler, handler.with_changes(body=block))
    if edits.replaced:
        meaning = "The moved statements run before the call."
        yield Candidate("Let the handler call the checkpoint last", meaning, edits)


def calls_after_with(spot: Spot) -> Iterator[Candidate]:
    """Call the checkpoints after the `with`.

    with open(path) as file:                with open(path) as file:
        text = draft(file.read())               value = file.read()
                                            text = draft(value)
    """
    whole = spot.statement()
    if not isinstance(whole, cst.With) or whole.asynchronous:
        return
    if spot.durable(*(item.item for item in whole.items)):
        return
    module, body = spot.module, statements_of(whole.body)
    first = next((n for n, stmt in enumerate(body) if spot.durable(stmt)), len(body))
    opened = module.mentioned(*(item.asname for item in whole.items if item.asname))
    kept, moved = body[:first], body[first:]
    if not moved:
        return
    call = spot.durable(moved[0])[0]
    changed: Statement = moved[0]
    taken: set[str] = set()
    for argument in call.args:
        if module.mentioned(argument.value) & opened:
            name = module.fresh("value")
            while name in taken:
                name += "_"
            taken.add(name)
            kept.append(line(f"{name} = {module.code(argument.value)}"))
            changed = exchanged(changed, argument.value, cst.Name(name))
    if module.mentioned(changed, *moved[1:]) & opened:
        return
    after = [changed.with_changes(leading_lines=comments_of(changed.leading_lines)), *moved[1:]]
    kept = kept or [line("pass")]
    made = whole.with_changes(body=cst.IndentedBlock(kept))
    meaning = "What `with` opens is closed before the call."
    yield Candidate("Call the checkpoint after the `with`", meaning, replaced(whole, made, *after))


def submitted_comprehension(spot: Spot) -> Iterator[Candidate]:
    """Submit the calls of a comprehension, then read their results.

    [ask(t, n) for t in topics if t]
    [call.result() for call in [ask.submit(t, n) for t in topics if t]]
    """
    module = spot.module
    kinds = (cst.ListComp, cst.SetComp, cst.GeneratorExp)
    node = next(iter(spot.constructs(*kinds)), None)
    if node is None or not isinstance(node.elt, cst.Call) or len(spot.durable(node)) != 1:
        return
    call = node.elt
    if not spot.is_durable(call) or not isinstance(call.func, cst.Name | cst.Attribute):
        return
    loop, item = node.for_in, module.code(node.for_in.target)
    plain = not loop.ifs and not loop.inner_for_in and not loop.asynchronous
    what = f"Call `{module.code(call.func)}` for all items at once"
    if plain and len(call.args) == 1 and _is_item(call.args[0], item):
        text = f"{module.code(call.func)}.map({module.code(loop.iter)}).result()"
    else:
        submit = call.with_changes(func=cst.Attribute(call.func, cst.Name("submit")))
        one = module.fresh("call")
        inner = module.code(cst.ListComp(submit, loop))
        text = f"[{one}.result() for {one} in {inner}]"
    if isinstance(node, cst.SetComp):
        text = f"set({text})"
    made = cst.parse_expression(text)
    meaning = _CONCURRENT
    if isinstance(node, cst.GeneratorExp):
        meaning += " All of them run, even if the reader would stop early."
    yield Candidate(what, meaning, Edits().put(node, made))


def guard_in_the_body(spot: Spot) -> Iterator[Candidate]:
    """Call the checkpoint of a guard in the body of its case, or before the `match`."""
    whole = spot.statement()
    if not isinstance(whole, cst.Match):
        return
    module = spot.module
    guarded = [c for c in whole.cases if c.guard is not None and spot.durable(c.guard)]
    if len(guarded) != 1:
        return
    (case,) = guarded
    guard = case.guard
    assert guard is not None
    rest = list(whole.cases[whole.cases.index(case) + 1 :])
    otherwise = statements_of(rest[0].body) if rest and _matches_all(rest[0]) else []
    if not rest or otherwise:
        test = compound(f"if {module.code(guard)}", statements_of(case.body))
        if otherwise:
            orelse = cst.Else(cst.IndentedBlock(otherwise))
            test = test.with_changes(orelse=orelse)
        body = cst.IndentedBlock([test])
        plain = cst.MatchCase(case.pattern, body, leading_lines=case.leading_lines)
        edits = Edits().put(case, plain)
        yield Candidate("Test the guard in the body of the case", "", edits)
    name = module.fresh("holds")
    if not module.mentioned(guard) & _captured(spot, case.pattern):
        first = line(f"{name} = {module.code(guard)}", whole.leading_lines)
        made = whole.with_deep_changes(case, guard=cst.Name(name)).with_changes(leading_lines=[])
        meaning = "The checkpoint runs in every execution, even if another case matches."
        yield Candidate(
            "Call the checkpoint before the `match`", meaning, replaced(whole, first, made)
        )


def _matches_all(case: cst.MatchCase) -> bool:
    match case:
        case cst.MatchCase(pattern=cst.MatchAs(pattern=None, name=None), guard=None):
            return True
    return False


def _captured(spot: Spot, pattern: cst.CSTNode) -> set[str]:
    return {name.value for name in spot.module.inside(cst.Name, pattern)}


def value_first(spot: Spot) -> Iterator[Candidate]:
    """Assign the result of a call to a variable before its statement.

    assert good(text), "bad"                passed = good(text)
                                            assert passed, "bad"
    """
    stmt = spot.statement()
    calls = spot.durable(stmt) if stmt is not None else []
    # Calls that contain another call are moved with it.
    outer = [c for c in calls if not any(c is not o and c in _below(o) for o in calls)]
    if stmt is None or len(outer) != 1 or _is_conditional_for_value(spot, outer[0], stmt):
        return
    (call,) = outer
    name = spot.module.fresh("value")
    first = line(f"{name} = {spot.module.code(call)}", stmt.leading_lines)
    changed = exchanged(stmt, call, cst.Name(name)).with_changes(leading_lines=[])
    meaning = "The call runs before everything else in its statement."
    what = "Assign the result to a variable first"
    yield Candidate(what, meaning, replaced(stmt, first, changed))


def _below(node: cst.CSTNode) -> list[cst.CSTNode]:
    found: list[cst.CSTNode] = []
    pending = list(node.children)
    while pending:
        one = pending.pop()
        found.append(one)
        pending += one.children
    return found


def _is_conditional_for_value(spot: Spot, call: cst.Call, stmt: Statement) -> bool:
    """Return whether a call may not move before its statement."""
    definitions = (cst.Lambda, cst.FunctionDef, cst.ClassDef)
    sometimes = (cst.BaseComp, cst.IfExp, cst.BooleanOperation)
    for node in spot.module.around(call):
        if node is stmt:
            return isinstance(stmt, cst.FunctionDef | cst.ClassDef)
        if isinstance(node, (*definitions, *sometimes)):
            return True
    return False


def settled_test(spot: Spot) -> Iterator[Candidate]:
    """Decide a condition in one step that every run reaches.

    if x:                                   decided = settled(bool(x))
        third(x)                            if decided:
                                                third(x)
    """
    whole = spot.statement()
    function = spot.module.function(whole) if whole is not None else None
    if not isinstance(whole, cst.If) or function is None:
        return
    module = spot.module
    name, checkpoint = module.fresh("decided"), module.fresh("settled")
    decorator, imported = module.spelled("checkpoint")
    test = module.code(whole.test)
    first = line(f"{name} = {checkpoint}(bool({test}))", whole.leading_lines)
    made = whole.with_changes(
        test=cst.Name(name), whitespace_before_test=cst.SimpleWhitespace(" "), leading_lines=[]
    )
    edits = replaced(whole, first, made)
    text = f"@{decorator}\ndef {checkpoint}(value: bool) -> bool:\n    return value\n\n\n"
    from kitaru_compiler.fixes.module import statements

    edits.put_before(module.top(function), *statements(f"\n\n{text}"))
    edits.imported |= imported
    what = "Let one more checkpoint decide"
    yield Candidate(what, "One more call is recorded.", edits)
