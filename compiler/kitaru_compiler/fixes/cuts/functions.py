"""Changes that cut around functions: closures, helpers, tables of tools and submitted calls."""

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
from kitaru_compiler.fixes.cuts.statements import bound
from kitaru_compiler.fixes.module import Edits, Module, Statement, dotted, statements
from kitaru_compiler.fixes.values import locals_of

_READERS = ("eval", "exec")


def function_at_module_level(spot: Spot) -> Iterator[Candidate]:
    """Move a local function out of the flow, and pass the variables that it captures.

    def main(topic):                        def ask(q, *, topic):
        def ask(q):                             return answer(q, topic)
            return answer(q, topic)
        return ask("why?")                  def main(topic):
                                                return ask("why?", topic=topic)
    """
    module = spot.module
    local = next(iter(spot.constructs(cst.FunctionDef, cst.Lambda)), None)
    if not isinstance(local, cst.FunctionDef | cst.Lambda):
        return
    owner = module.function(local)
    name, definition, made = _as_function(spot, local)
    if owner is None or not name or definition is None or made is None:
        return
    parameters = local.params
    if parameters.star_arg is not cst.MaybeSentinel.DEFAULT or parameters.star_kwarg is not None:
        return
    own = {p.name.value for p in _parameters(parameters)} | bound(spot, local.body)
    captured = sorted((module.mentioned(local.body) - own) & locals_of(module, owner))
    uses = [n for n in module.inside(cst.Name, owner) if n.value == name]
    inside = {id(n) for n in module.inside(cst.Name, definition)}
    called: list[cst.Call] = []
    for use in uses:
        if id(use) in inside:
            continue
        around = module.parent(use)
        if not isinstance(around, cst.Call) or around.func is not use:
            return
        called.append(around)
    if name in captured or any(module.inside(cst.Nonlocal, local)):
        return
    edits = Edits()
    free = module.fresh(name) if name in _top_names(module) else name
    extra = [cst.Param(cst.Name(one)) for one in captured]
    params = parameters.with_changes(kwonly_params=[*parameters.kwonly_params, *extra])
    if extra and not parameters.kwonly_params:
        params = params.with_changes(star_arg=cst.ParamStar())
    moved = made.with_changes(params=params, name=cst.Name(free), leading_lines=[])
    text = module.code(moved)
    edits.put_before(module.top(owner), *statements(f"\n\n{text}"))
    _keep_gap(module, edits, owner)
    _take_out(spot, edits, definition)
    passed = [cst.Arg(cst.Name(one), keyword=cst.Name(one), equal=_EQUAL) for one in captured]

    def call(old: cst.Call) -> cst.Call:
        comma = cst.Comma(whitespace_after=cst.SimpleWhitespace(" "))
        before = [arg.with_changes(comma=comma) for arg in old.args] if passed else old.args
        return old.with_changes(func=cst.Name(free), args=[*before, *passed])

    for one in called:
        edits.replace(one, call)
    meaning = "What it captures must have a value at each call." if captured else ""
    if not all(map(_is_constant, _parameters(parameters))):
        meaning = "Its defaults are made once, when the module is imported."
    yield Candidate(f"Move `{name}` to module level", meaning, edits)


def _is_constant(parameter: cst.Param) -> bool:
    """Return whether a parameter has no default, or one that is a constant."""
    constants = (cst.BaseString, cst.BaseNumber, cst.Name)
    return parameter.default is None or isinstance(parameter.default, constants)


def class_at_module_level(spot: Spot) -> Iterator[Candidate]:
    """Move a local class out of the flow, if it uses no variable of the flow."""
    module = spot.module
    local = next(iter(spot.constructs(cst.ClassDef)), None)
    owner = module.function(local) if local is not None else None
    if local is None or owner is None or local.name.value in _top_names(module):
        return
    if module.mentioned(local) & locals_of(module, owner) - {local.name.value} - bound(spot, local):
        return
    edits = Edits()
    text = module.code(local.with_changes(leading_lines=[]))
    edits.put_before(module.top(owner), *statements(f"\n\n{text}"))
    _keep_gap(module, edits, owner)
    _take_out(spot, edits, local)
    yield Candidate(f"Move `{local.name.value}` to module level", "", edits)


def _take_out(spot: Spot, edits: Edits, stmt: Statement) -> None:
    """Remove a statement, and the blank lines after it if it is the first of its block."""
    block = statements_of(spot.module.parent(stmt))
    if block[0] is stmt and len(block) > 1:
        edits.replace(
            block[1],
            lambda old: old.with_changes(leading_lines=comments_of(old.leading_lines)),
        )
    edits.remove(stmt)


_EQUAL = cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace(""))


def _keep_gap(module: Module, edits: Edits, function: cst.FunctionDef) -> None:
    """Leave two blank lines between inserted statements and the function below them."""
    gap = [cst.EmptyLine(indent=False)] * 2
    if not function.leading_lines:
        edits.replace(function, lambda old: old.with_changes(leading_lines=gap))


def _as_function(
    spot: Spot, local: cst.FunctionDef | cst.Lambda
) -> tuple[str, Statement | None, cst.FunctionDef | None]:
    """Return the name of a local function, its statement, and the function as a definition."""
    module = spot.module
    if isinstance(local, cst.FunctionDef):
        usable = not local.decorators and local.asynchronous is None
        return local.name.value, local, local if usable else None
    around = module.parent(local)
    stmt = module.whole(around)
    match around:
        case cst.Assign(targets=[cst.AssignTarget(target=cst.Name(value=name))]) if stmt:
            body = cst.IndentedBlock([cst.SimpleStatementLine([cst.Return(local.body)])])
            return name, stmt, cst.FunctionDef(cst.Name(name), local.params, body)
    return "", None, None


def _parameters(parameters: cst.Parameters) -> list[cst.Param]:
    return [*parameters.posonly_params, *parameters.params, *parameters.kwonly_params]


def _top_names(module: Module) -> set[str]:
    """Return the names that the module itself binds by definitions and assignments."""
    found: set[str] = set()
    for stmt in module.tree.body:
        match stmt:
            case cst.FunctionDef(name=name) | cst.ClassDef(name=name):
                found.add(name.value)
            case cst.SimpleStatementLine(body=small):
                for one in small:
                    found |= module.mentioned(one)
    return found


def value_captured_now(spot: Spot) -> Iterator[Candidate]:
    """Capture the value that a variable has now, as the default of a parameter.

    f = lambda: x                           f = lambda x=x: x
    """
    module = spot.module
    kinds = (cst.Lambda, cst.FunctionDef, cst.GeneratorExp)
    closure = next(iter(spot.constructs(*kinds)), None)
    if isinstance(closure, cst.GeneratorExp):
        listed = cst.ListComp(closure.elt, closure.for_in)
        meaning = "The values are computed now, not when they are read."
        edits = Edits().put(closure, listed)
        yield Candidate("Write a list instead of a generator", meaning, edits)
        return
    if not isinstance(closure, cst.Lambda | cst.FunctionDef):
        return
    owner = module.function(closure)
    if owner is None or any(module.inside(cst.Nonlocal, closure)):
        return
    own = {p.name.value for p in _parameters(closure.params)} | bound(spot, closure.body)
    captured = sorted((module.mentioned(closure.body) - own) & locals_of(module, owner))
    if isinstance(closure, cst.FunctionDef):
        captured = [name for name in captured if name != closure.name.value]
    params = closure.params
    if not captured or params.star_kwarg is not None:
        return
    extra = [cst.Param(cst.Name(name), default=cst.Name(name), equal=_EQUAL) for name in captured]
    if params.star_arg is cst.MaybeSentinel.DEFAULT and not params.kwonly_params:
        params = params.with_changes(params=[*params.params, *extra])
    else:
        params = params.with_changes(kwonly_params=[*params.kwonly_params, *extra])
    made = closure.with_changes(params=params)
    if isinstance(made, cst.Lambda):
        made = made.with_changes(whitespace_after_lambda=cst.SimpleWhitespace(" "))
    names = " and ".join(f"`{name}`" for name in captured)
    what = f"Capture the value of {names} when the function is made"
    edits = Edits().put(closure, made)
    yield Candidate(what, "Later values of the variable are not seen.", edits)


def helper_that_is_known(spot: Spot) -> Iterator[Candidate]:
    """Let the compiler know which function is called: no decorator, imported at the top."""
    module = spot.module
    call = next((c for c in module.starting(spot.at, cst.Call) if spot.is_durable(c)), None)
    if call is None or not isinstance(call.func, cst.Name):
        return
    name = call.func.value
    owner = module.function(call)
    for stmt in module.inside(cst.ImportFrom, owner) if owner is not None else ():
        whole = module.whole(stmt)
        names = () if isinstance(stmt.names, cst.ImportStar) else stmt.names
        if whole is not None and any((n.evaluated_alias or dotted(n.name)) == name for n in names):
            edits = replaced(whole)
            edits.put_before(module.tree.body[0], line(module.code(stmt)))
            meaning = "The module is imported when the flow's module is."
            yield Candidate("Import it at the top level", meaning, edits)
    for function in module.tree.body:
        named = isinstance(function, cst.FunctionDef) and function.name.value == name
        if isinstance(function, cst.FunctionDef) and named and function.decorators:
            edits = Edits().remove(*function.decorators)
            what = f"Remove the decorator of `{name}`"
            yield Candidate(what, "What the decorator does no longer happens.", edits)


def call_in_branches(spot: Spot) -> Iterator[Candidate]:
    """Call each checkpoint of a table by its name.

    result = TOOLS[name](query)             if name == "search":
                                                result = search(query)
                                            else:
                                                result = calc(query)
    """
    module = spot.module
    stmt = spot.statement()
    small = only(stmt)
    if stmt is None or not isinstance(small, cst.Assign | cst.Expr | cst.Return | cst.AnnAssign):
        return
    call = small.value
    match call:
        case cst.Call(
            func=cst.Subscript(
                value=cst.Name(value=table),
                slice=[cst.SubscriptElement(slice=cst.Index(value=key))],
            )
        ):
            entries = _entries(module, table)
        case _:
            return
    if not entries or not isinstance(key, cst.Name):
        return
    made = compound("if _", [line(f"raise KeyError({key.value})")])
    orelse: cst.CSTNode = cst.Else(made.body)
    for text, function in reversed(entries):
        called = exchanged(stmt, call.func, cst.Name(function)).with_changes(leading_lines=[])
        made = compound(f"if {key.value} == {text}", [called]).with_changes(orelse=orelse)
        orelse = made
    whole = made.with_changes(leading_lines=stmt.leading_lines)
    what = f"Call each entry of `{table}` by its name"
    meaning = "Entries that other code adds or replaces are not called."
    yield Candidate(what, meaning, replaced(stmt, whole))


def _entries(module: Module, table: str) -> list[tuple[str, str]]:
    """Return the keys and functions of a dictionary that the module writes out."""
    for stmt in module.tree.body:
        match only(stmt):
            case (
                cst.Assign(
                    targets=[cst.AssignTarget(target=cst.Name(value=name))],
                    value=cst.Dict(elements=elements),
                )
                | cst.AnnAssign(target=cst.Name(value=name), value=cst.Dict(elements=elements))
            ) if name == table:
                found = [_entry(element) for element in elements]
                return [one for one in found if one] if all(found) else []
    return []


def _entry(element: cst.BaseDictElement) -> tuple[str, str] | None:
    match element:
        case cst.DictElement(
            key=cst.SimpleString(value=text) | cst.Integer(value=text),
            value=cst.Name(value=function),
        ):
            return text, function
    return None


def frame_unseen(spot: Spot) -> Iterator[Candidate]:
    """Remove `global` where nothing is assigned; move `eval` to a function at module level."""
    module = spot.module
    owner = next(
        (f for f in module.every(cst.FunctionDef) if module.line(f) == spot.span.line
         or module.is_on(f, spot.at.line)), None,
    )  # fmt: skip
    if owner is None:
        return
    shared = list(module.inside(cst.Global, owner))
    if shared:
        named = {item.name.value for stmt in shared for item in stmt.names}
        lines = [module.whole(stmt) for stmt in shared]
        if not named & bound(spot, owner.body) and all(lines):
            edits = Edits().remove(*filter(None, lines))
            yield Candidate("Remove `global`: the flow only reads the variable", "", edits)
        return
    name = module.fresh("evaluated")
    calls = [
        call for call in module.inside(cst.Call, owner)
        if isinstance(call.func, cst.Name) and call.func.value in _READERS and len(call.args) == 1
    ]  # fmt: skip
    if len(calls) == 1:
        (call,) = calls
        assert isinstance(call.func, cst.Name)
        reader = call.func.value
        edits = Edits().put(call.func, cst.Name(name))
        text = f"def {name}(text):\n    return {reader}(text)\n"
        edits.put_before(module.top(owner), *statements(f"\n\n{text}"))
        _keep_gap(module, edits, owner)
        what = f"Call `{reader}` in a function at module level"
        yield Candidate(what, "The text no longer sees the variables of the flow.", edits)


def submitted_together(spot: Spot) -> Iterator[Candidate]:
    """Call what needs no future before the submits.

    words = count.submit(text)              parts = split(text)
    parts = split(text)                     words = count.submit(text)
    return [words.result(), parts]          return [words.result(), parts]
    """
    module, stmts = spot.module, spot.region()
    first = next((n for n, stmt in enumerate(stmts) if spot.is_submit(stmt)), None)
    if first is None:
        return
    early: list[Statement] = []
    late: list[Statement] = []
    for stmt in stmts[first:]:
        touched = bound(spot, *late) | ({"*"} if _leaves(module, *late) else set())
        needs = module.mentioned(stmt) & touched
        moves = bool(spot.durable(stmt)) and not spot.is_submit(stmt)
        writes = bound(spot, stmt) & module.mentioned(*late)
        if moves and not needs and not writes and "*" not in touched and not _leaves(module, stmt):
            early.append(stmt)
        else:
            late.append(stmt)
    if not early:
        return
    ordered = [*stmts[:first], *early, *late]
    edits = Edits()
    for old, new in zip(stmts, ordered, strict=True):
        if old is not new:
            edits.put(old, new)
    meaning = "These calls run before the submitted ones instead of beside them."
    yield Candidate("Make the other calls before the submits", meaning, edits)


def _leaves(module: Module, *nodes: Statement) -> bool:
    kinds = (cst.Return, cst.Raise, cst.Break, cst.Continue)
    return any(True for kind in kinds for _ in module.inside(kind, *nodes))
