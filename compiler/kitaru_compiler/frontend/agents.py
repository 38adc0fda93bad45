"""Read agents from the source: how they are built, what they consist of, and where they run.

    bank = Agent("openai:gpt-5", name="bank", tools=[look, pay], capabilities=[KitaruDurability()])

    @flow
    def main(question: str) -> str:
        return bank.run_sync(question).output        # a run of `bank`, durable

Only what is certain counts: a variable that is bound once, to a visible call of a constructor.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from kitaru.wire.plan import PlannedAgent
from kitaru.wire.structs import Struct, replace
from kitaru_compiler.frontend.flows import checkpoint_options
from kitaru_compiler.frontend.harnesses import (
    ADK,
    ASYNC_RUN,
    CHANGED,
    COROUTINES,
    FUNCTIONS,
    LANGCHAIN,
    LAZY,
    MAKERS,
    RUNS,
    STRANDS,
    WAITING,
    Harness,
    Kind,
    Maker,
)
from kitaru_compiler.frontend.names import Names, Symbol, dotted_name
from kitaru_compiler.frontend.source import Source
from kitaru_compiler.ir.nodes import CheckpointOptions, DurableCall
from kitaru_compiler.ir.scope import argument_names, bound_names, own_nodes
from kitaru_compiler.ir.walk import walk

Function = ast.FunctionDef | ast.AsyncFunctionDef
_ADAPTERS = "adapters."
_DEEPEST = 8
_ROOTS = frozenset(
    root for one in (*(m.harness for m in MAKERS.values()), *(h for h, _ in FUNCTIONS.values()))
    for root in one.roots
)  # fmt: skip
_LANGCHAIN_MODEL = ("langchain_", ".Chat")
_AGENTS = ("agent", "graph", "runner")


class Tool(Struct):
    """A tool of an agent: a function, a checkpoint (with its options), or an unknown value."""

    name: str
    options: CheckpointOptions | None = None
    node: ast.AST | None = None


class Thing(Struct):
    """An object of a harness: the call that creates it, in `source`, if that is visible.

    `durable` is whether an adapter records what it does. `keeps` is whether a `KitaruSaver` is its
    checkpointer.
    """

    kind: Kind
    harness: Harness
    source: Source
    call: ast.Call | None = None
    maker: Maker | None = None
    durable: bool = False
    keeps: bool = False
    variable: str = ""


class Agent(Struct):
    """The visible parts of an agent, for people."""

    name: str
    harness: Harness
    models: tuple[str, ...] = ()
    tools: tuple[Tool, ...] = ()
    agents: tuple[str, ...] = ()
    is_named: bool = False
    waits: bool = False


class Run(Struct):
    """A call of a harness or a model client in a function.

    `lazy` runs make their requests while the result is read. `thing` is None for a function that
    names no object, such as `litellm.completion`.
    """

    call: ast.Call
    harness: Harness
    shown: str
    method: str
    kind: Kind
    lazy: bool = False
    durable: bool = False
    thing: Thing | None = None

    @property
    def is_agent(self) -> bool:
        """Whether it is a loop of model requests and tool calls, not a single request."""
        return self.kind in _AGENTS

    @property
    def is_coroutine(self) -> bool:
        """Whether the call returns a coroutine."""
        if self.method == "run":
            is_ours = self.harness is ADK and self.kind == "agent"
            return is_ours or self.harness.title in ASYNC_RUN
        return self.method in COROUTINES


class _Place(Struct):
    """The scope of an expression: a module, or a function of it."""

    source: Source
    function: Function | None = None

    @property
    def scope(self) -> str:
        top = self.function is not None and self.function in self.source.tree.body
        return self.function.name if self.function is not None and top else ""


@dataclass
class Agents:
    """Finds the agents of a project, and their runs in functions. `module` is the flow's module."""

    names: Names
    module: str
    _runs: dict[ast.AST, list[Run]] = field(default_factory=dict)
    _bound: dict[ast.AST, dict[str, list[ast.expr]]] = field(default_factory=dict)

    @cached_property
    def are_used(self) -> bool:
        """Whether the flow's code imports a known harness or client at all."""
        outside = self.names.project.closure(self.module).outside
        return any(name in _ROOTS or name.startswith("langchain_") for name in outside)

    def runs(self, source: Source, function: Function) -> list[Run]:
        """Return the runs in a function's own code, in the order of the source."""
        if not self.are_used:
            return []
        if function not in self._runs:
            place = _Place(source, function)
            calls = (
                node
                for stmt in function.body
                for node in own_nodes(stmt)
                if isinstance(node, ast.Call)
            )
            self._runs[function] = [run for call in calls if (run := self._run(call, place))]
        return self._runs[function]

    def marked(self, source: Source, function: Function) -> Iterator[tuple[ast.Call, DurableCall]]:
        """Yield the calls in which an agent runs from start to end, each with its parts."""
        own = {node for stmt in function.body for node in own_nodes(stmt)}
        waiting = {node.value for node in own if isinstance(node, ast.Await)}
        started = {
            argument: node
            for node in own
            if isinstance(node, ast.Call) and len(node.args) == 1
            for argument in node.args
            if dotted_name(node.func) == "asyncio.run"
        }
        for run in self.runs(source, function):
            node = started.get(run.call, run.call)
            if not run.is_agent or run.lazy or run.thing is None:
                continue
            if not dotted_name(run.call.func):
                # The agent is created in the same expression.
                continue
            if node is run.call and run.is_coroutine and run.call not in waiting:
                continue
            agent = self.agent(run.thing)
            needs = tuple(tool.options for tool in agent.tools if tool.options)
            inside = (agent.name, *(one.name for one in needs))
            waits = ("wait",) if run.durable and agent.waits else ()
            parts = PlannedAgent(
                "",
                agent.name,
                agent.harness.title,
                agent.models,
                tuple(tool.name for tool in agent.tools),
                agent.agents,
                run.durable,
            )
            inside = (*inside, *waits)
            yield node, DurableCall("agent", agent.name, inside=inside, needs=needs, agent=parts)

    def agent(self, thing: Thing) -> Agent:
        """Return the visible parts of an agent."""
        thing = self._started_by(thing)
        call, maker = thing.call, thing.maker
        if call is None or maker is None:
            return Agent(_name(thing), thing.harness)
        place = _Place(thing.source)
        model = _argument(call, maker.model, maker.model_at)
        tools = [
            tool
            for number, name in enumerate(maker.tools)
            for tool in self._tools(
                _argument(call, name, maker.tools_at if not number else -1), place
            )
        ]
        if thing.kind == "agent" and thing.variable:
            tools += self._decorated(thing)
        return Agent(
            _name(thing),
            thing.harness,
            (written,) if model is not None and (written := _model(model)) else (),
            tuple({tool.name: tool for tool in tools}.values()),
            tuple(self._parts(call, maker, place)),
            bool(_text(_argument(call, maker.name))),
            self._waits(call, tools, thing.source),
        )

    def _started_by(self, thing: Thing) -> Thing:
        """Return the agent that a runner runs, or any other thing itself."""
        for _ in range(_DEEPEST):
            if thing.kind != "runner" or thing.call is None or thing.maker is None:
                break
            inner = self._inner(thing.call, thing.maker, _Place(thing.source))
            if inner is None:
                break
            thing = replace(inner, variable=inner.variable or thing.variable)
        return thing

    def thing(self, expression: ast.expr, source: Source) -> Thing | None:
        """Return the object of a harness that an expression of a module certainly is."""
        return self._thing(expression, _Place(source))

    # Runs.

    def _run(self, call: ast.Call, place: _Place) -> Run | None:
        name = self._absolute(call.func, place)
        if name in FUNCTIONS:
            harness, lazy = FUNCTIONS[name]
            method = name.rpartition(".")[2]
            first = _argument(call, "starting_agent", 0)
            thing = self._thing(first, place) if first is not None and "Runner" in name else None
            kind: Kind = "runner" if "Runner" in name or name.endswith("query") else "client"
            durable = name.startswith(f"kitaru.{_ADAPTERS}")
            return Run(call, harness, name, method, kind, lazy, durable, thing)
        if name.startswith(f"kitaru.{_ADAPTERS}"):
            return None
        chain: list[str] = []
        receiver = call.func
        while isinstance(receiver, ast.Attribute):
            chain.insert(0, receiver.attr)
            receiver = receiver.value
            thing = self._thing(receiver, place)
            method = ".".join(chain)
            if thing is None:
                continue
            if method in RUNS.get(thing.kind, ()) or method in LAZY.get(thing.kind, ()):
                lazy = method in LAZY.get(thing.kind, ())
                shown = f"{_written(receiver)}.{method}"
                last = chain[-1]
                return Run(call, thing.harness, shown, last, thing.kind, lazy, thing.durable, thing)
        called = self._thing(call.func, place) if isinstance(call.func, ast.Name) else None
        if called is not None and called.harness is STRANDS:
            shown = _written(call.func)
            return Run(call, STRANDS, shown, "", "agent", False, called.durable, called)
        return None

    # What an expression is.

    def _thing(self, node: ast.expr, place: _Place, depth: int = 0) -> Thing | None:
        if depth > _DEEPEST:
            return None
        deeper = depth + 1
        match node:
            case ast.Await(value=value) | ast.NamedExpr(value=value):
                return self._thing(value, place, deeper)
            case ast.BinOp(left=left, op=ast.BitOr(), right=right):
                sides = [self._thing(left, place, deeper), self._thing(right, place, deeper)]
                return next((one for one in sides if one and one.kind == "model"), None)
            case ast.Call():
                return self._made(node, place, deeper)
            case ast.Name() | ast.Attribute():
                return self._named(node, place, deeper)
        return None

    def _made(self, call: ast.Call, place: _Place, depth: int) -> Thing | None:
        callee = call.func.value if isinstance(call.func, ast.Subscript) else call.func
        name = self._absolute(callee, place)
        if name.startswith(f"kitaru.{_ADAPTERS}"):
            wrapped = self._thing(call.args[0], place, depth) if call.args else None
            return replace(wrapped, durable=True) if wrapped else None
        if maker := MAKERS.get(name):
            durable = self._is_adapted(call, place)
            keeps = self._keeps(call, place)
            thing = Thing(maker.kind, maker.harness, place.source, call, maker, durable, keeps)
            if maker.kind == "runner":
                inner = self._inner(call, maker, place, depth)
                return replace(thing, durable=durable or bool(inner and inner.durable))
            return thing
        if _is_langchain_model(name):
            return Thing("model", LANGCHAIN, place.source, call)
        if isinstance(callee, ast.Attribute):
            base = self._thing(callee.value, place, depth)
            if base and callee.attr == "compile" and base.kind == "builder":
                durable = self._is_adapted(call, place)
                keeps = self._keeps(call, place)
                return replace(base, kind="graph", durable=durable, keeps=keeps, variable="")
            if base and callee.attr in CHANGED:
                return replace(base, durable=base.durable or self._is_adapted(call, place))
            if base:
                return None
        return self._returned(callee, place, depth)

    def _returned(self, callee: ast.expr, place: _Place, depth: int) -> Thing | None:
        """Return what a project function certainly returns: the value of its only `return`."""
        symbol = self._symbol(callee, place)
        if symbol is None or symbol.kind != "function" or symbol.source is None:
            return None
        definition = symbol.definition
        if not isinstance(definition, Function) or definition.decorator_list:
            return None
        found = [
            node
            for stmt in definition.body
            for node in own_nodes(stmt)
            if isinstance(node, ast.Return | ast.Yield | ast.YieldFrom)
        ]
        match found:
            case [ast.Return(value=ast.expr() as value)]:
                return self._thing(value, _Place(symbol.source, definition), depth)
        return None

    def _named(self, node: ast.Name | ast.Attribute, place: _Place, depth: int) -> Thing | None:
        function = place.function
        if isinstance(node, ast.Name) and function is not None and self._is_local(node, function):
            values = self._values(function).get(node.id, [])
            if node.id in argument_names(function.args) or len(values) != 1:
                return None
            return _called(self._thing(values[0], place, depth), node.id)
        dotted = dotted_name(node)
        variable = self.names.variable(place.source, dotted, place.scope) if dotted else ""
        module, _, name = variable.rpartition(".")
        source = self.names.project.find(module) if module else None
        if source is None or not dotted.endswith(name):
            return None
        value = self.names.assignment(source, name)
        if value is None:
            return None
        return _called(self._thing(value, _Place(source), depth), name)

    def _is_local(self, node: ast.Name, function: Function) -> bool:
        if node.id in argument_names(function.args):
            return True
        return any(node.id in bound_names(stmt) for stmt in function.body)

    def _values(self, function: Function) -> dict[str, list[ast.expr]]:
        """Return the values that a function binds to each of its variables."""
        if function not in self._bound:
            found: dict[str, list[ast.expr]] = {}
            unknown = ast.Constant(None)
            for node in (node for stmt in function.body for node in own_nodes(stmt)):
                match node:
                    case ast.Assign(targets=[ast.Name(id=name)], value=value):
                        found.setdefault(name, []).append(value)
                    case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                        found.setdefault(name, []).append(value)
                    case ast.withitem(context_expr=value, optional_vars=ast.Name(id=name)):
                        found.setdefault(name, []).append(value)
                    case ast.NamedExpr(target=ast.Name(id=name), value=value):
                        found.setdefault(name, []).append(value)
                    case ast.Assign(targets=targets):
                        for target in targets:
                            for inner in walk(target):
                                if isinstance(inner, ast.Name):
                                    found.setdefault(inner.id, []).append(unknown)
                    case ast.For(target=target) | ast.AsyncFor(target=target):
                        for inner in walk(target):
                            if isinstance(inner, ast.Name):
                                found.setdefault(inner.id, []).append(unknown)
            self._bound[function] = found
        return self._bound[function]

    def _symbol(self, node: ast.expr, place: _Place) -> Symbol | None:
        dotted = dotted_name(node)
        root = dotted.partition(".")[0]
        function = place.function
        if not dotted:
            return None
        if function is not None and not place.scope and self._is_local(ast.Name(root), function):
            return None
        return self.names.lookup(place.source, dotted, place.scope)

    def _absolute(self, node: ast.expr, place: _Place) -> str:
        """Return the absolute name of an object of another package, or of Kitaru, or empty."""
        symbol = self._symbol(node, place)
        if symbol is None:
            return ""
        if symbol.kind == "primitive":
            return f"kitaru.{symbol.name}"
        return symbol.name if symbol.kind == "module" and symbol.source is None else ""

    # The parts of an agent.

    def _is_adapted(self, call: ast.Call, place: _Place) -> bool:
        """Return whether an argument contains an object of an adapter that records calls."""
        return not self._adapters(call, place) <= _STORES

    def _keeps(self, call: ast.Call, place: _Place) -> bool:
        return "KitaruSaver" in self._adapters(call, place)

    def _adapters(self, call: ast.Call, place: _Place) -> set[str]:
        found = set()
        for argument in (*call.args, *(keyword.value for keyword in call.keywords)):
            for node in self._spread(argument, place):
                if isinstance(node, ast.Name | ast.Attribute):
                    name = self._absolute(node, place)
                    if name.startswith(f"kitaru.{_ADAPTERS}"):
                        found.add(name.rpartition(".")[2])
        return found

    def _spread(self, node: ast.expr, place: _Place) -> Iterator[ast.AST]:
        """Yield the nodes of an expression, and of the module's variables that it mentions."""
        for inner in walk(node):
            yield inner
            if isinstance(inner, ast.Name) and (place.function is None or place.scope):
                value = self.names.assignment(place.source, inner.id, place.scope)
                if value is not None:
                    yield from walk(value)
                elif place.function is not None:
                    for bound in self._values(place.function).get(inner.id, ()):
                        yield from walk(bound)

    def _inner(self, call: ast.Call, maker: Maker, place: _Place, depth: int = 0) -> Thing | None:
        for name in maker.parts:
            value = _argument(call, name, maker.parts_at)
            if (
                value is not None
                and depth <= _DEEPEST
                and (found := self._thing(value, place, depth + 1))
            ):
                return found
        return None

    def _tools(self, value: ast.expr | None, place: _Place) -> Iterator[Tool]:
        for item in _items(value, place, self.names):
            yield self._tool(item, place)

    def _tool(self, item: ast.expr, place: _Place) -> Tool:
        match item:
            case ast.Call(func=function, args=[first, *_]) if not isinstance(first, ast.Constant):
                # `Tool(look)`, `function_tool(look)`, `FunctionTool(look)`.
                tool = self._tool(first, place)
                return tool if tool.name else Tool(_written(function))
            case ast.Call(func=ast.Attribute(value=owner, attr="as_tool")):
                return Tool(_written(owner), node=item)
            case ast.Call(func=function):
                return Tool(_written(function), node=item)
        symbol = self._symbol(item, place)
        if symbol is not None and symbol.kind == "checkpoint":
            options = checkpoint_options(symbol)
            return Tool(options.name, options, item)
        return Tool(_written(item), node=item)

    def _decorated(self, thing: Thing) -> Iterator[Tool]:
        """Yield the tools that are functions below `@agent.tool`."""
        for stmt in thing.source.tree.body:
            for decorator in getattr(stmt, "decorator_list", ()):
                called = decorator.func if isinstance(decorator, ast.Call) else decorator
                name = dotted_name(called)
                if name in (f"{thing.variable}.tool", f"{thing.variable}.tool_plain"):
                    assert isinstance(stmt, Function | ast.ClassDef)
                    yield Tool(stmt.name, node=stmt)

    def _parts(self, call: ast.Call, maker: Maker, place: _Place) -> Iterator[str]:
        for name in maker.parts:
            for item in _items(_argument(call, name, maker.parts_at), place, self.names):
                inner = self._thing(item, place)
                # Only its name: agents that hand over to each other name each other.
                yield _name(self._started_by(inner)) if inner else _written(item)

    def _waits(self, call: ast.Call, tools: list[Tool], source: Source) -> bool:
        """Return whether the visible code of an agent can ask a person."""
        for node in walk(call):
            match node:
                case ast.Name(id=name) | ast.Attribute(attr=name) | ast.keyword(arg=str(name)):
                    if name in WAITING:
                        return True
        return any(self._tool_waits(tool, source) for tool in tools)

    def _tool_waits(self, tool: Tool, source: Source) -> bool:
        symbol = self.names.lookup(source, tool.name) if tool.name else None
        definition = symbol.definition if symbol is not None else None
        if not isinstance(definition, Function):
            definition = tool.node if isinstance(tool.node, Function) else None
        if definition is None:
            return False
        where = symbol.source if symbol is not None and symbol.source is not None else source
        for node in walk(definition):
            match node:
                case ast.Name(id=name) | ast.Attribute(attr=name) | ast.keyword(arg=str(name)):
                    if name in WAITING:
                        return True
            if isinstance(node, ast.Call):
                found = self._absolute(node.func, _Place(where, definition))
                if found in ("kitaru.wait", "kitaru.aio.wait", "kitaru.harness.wait"):
                    return True
        return False


_STORES = frozenset({"KitaruSaver", "KitaruStore", "KitaruSession", "KitaruSessionService"})
"""Objects of adapters that store conversations, and record no calls."""


def _called(thing: Thing | None, variable: str) -> Thing | None:
    return replace(thing, variable=thing.variable or variable) if thing else None


def _name(thing: Thing) -> str:
    named = "" if thing.call is None or thing.maker is None else thing.maker.name
    written = _text(_argument(thing.call, named)) if thing.call is not None and named else ""
    return written or thing.variable or "agent"


def _is_langchain_model(name: str) -> bool:
    prefix, part = _LANGCHAIN_MODEL
    return name == "langchain.chat_models.init_chat_model" or (
        name.startswith(prefix) and part in name
    )


def _argument(call: ast.Call, name: str, position: int = -1) -> ast.expr | None:
    for keyword in call.keywords:
        if keyword.arg == name:
            return keyword.value
    if 0 <= position < len(call.args):
        return call.args[position]
    return None


def _items(
    value: ast.expr | None, place: _Place, names: Names, seen: set[str] | None = None
) -> list[ast.expr]:
    """Return the elements of a list that is written out, here or in a variable of the module.

    Each variable counts once. `seen` are those found so far.
    """
    seen = set() if seen is None else seen
    if isinstance(value, ast.Name):
        if value.id in seen:
            return []
        seen.add(value.id)
        value = names.assignment(place.source, value.id) or value
    match value:
        case None | ast.Constant(value=None):
            return []
        case ast.List(elts=elts) | ast.Tuple(elts=elts):
            return elts
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return [*_items(left, place, names, seen), *_items(right, place, names, seen)]
    return [value]


def _text(value: ast.expr | None) -> str:
    return value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else ""


def _model(value: ast.expr) -> str:
    """Return a model as it is written: its name, or the name inside `OpenAIModel("…")`."""
    match value:
        case ast.Constant(value=str(text)):
            return text
        case ast.Call(func=function, args=[ast.Constant(value=str(text)), *_]):
            return f"{_written(function)} {text}"
        case ast.Call(func=function, keywords=keywords):
            named = [_text(k.value) for k in keywords if k.arg in ("model", "model_name")]
            return " ".join([_written(function), *filter(None, named)])
        case ast.Constant(value=None):
            return ""
    return _written(value)


def _written(node: ast.expr) -> str:
    text = dotted_name(node)
    if not text and isinstance(node, ast.Call):
        return _written(node.func)
    return text or ast.unparse(node).split("\n")[0][:40]
