"""The representation between source and blocks: a few nodes over Python's own AST.

Code is represented by Python's `ast`, because Python's semantics and positions must be preserved
exactly. Every statement keeps its source position, or the position of the source that it was
created for.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from kitaru.wire.plan import PlannedAgent
from kitaru.wire.structs import Struct, replace
from kitaru_compiler.diagnostics.model import Rule
from kitaru_compiler.ir.walk import walk

if TYPE_CHECKING:
    from kitaru_compiler.frontend.source import Source

# The values of parameters, in evaluation order.
Arguments = list[tuple[str, ast.expr]]
CallKind = Literal[
    "checkpoint",
    "llm",
    "wait",
    "sleep",
    "event",
    "log",
    "memory",
    "inbox",
    "submit",
    "helper",
    "dynamic",
    "agent",
    "child",
]


class CheckpointOptions(Struct):
    """The literal arguments of `@checkpoint(...)`, `None` if absent or not a literal.

    Unset retry options are inherited from the flow. `native_retry` is true if an orchestrator can
    implement the retry options completely. An orchestrator cannot filter by exception.
    """

    name: str
    retries: int = 0
    retry_delay: float = 0
    backoff: float = 2
    native_retry: bool = True
    runtime: str | None = None
    cpu: str = ""
    memory: str = ""
    gpu: int = 0
    pickle: bool = False


class DurableCall(Struct):
    """The durable operation of one call in the source.

    `name` is the name of the callee in diagnostics. `inside` are the durable calls that a helper,
    or a called value, may make. `needs` are the options of the checkpoints among them. `callee` is
    the absolute name of a helper that this call certainly reaches, empty if that is uncertain.
    `doubt` describes the code that may replace it. `choices` are the checkpoints of which a dynamic
    call certainly calls one: the name of each in the module, and its call. For an agent, `inside`
    are its name, the checkpoints among its tools, and `wait` if it may ask a person; `agent` has
    its parts. `is_async`: the call returns a coroutine in an async function. `makes_coroutines`: it
    may make calls whose coroutines it does not await itself. `is_deferred`: its coroutine is not
    awaited where it is made, so the call runs elsewhere.
    """

    kind: CallKind
    name: str
    options: CheckpointOptions | None = None
    inside: tuple[str, ...] = ()
    needs: tuple[CheckpointOptions, ...] = ()
    callee: str = ""
    doubt: str = ""
    choices: tuple[tuple[str, DurableCall], ...] = ()
    agent: PlannedAgent | None = None
    is_async: bool = False
    makes_coroutines: bool = False
    is_deferred: bool = False

    @property
    def records(self) -> tuple[str, ...]:
        """The names of the records that the call may write."""
        return self.inside or (self.name,)

    def calling(self, calls: Iterable[DurableCall]) -> DurableCall:
        """Return the call of an agent that may also make `calls`, in a tool or a node."""
        other = reaching(self.kind, self.name, calls)
        inside = dict.fromkeys((*self.records, *other.records))
        needs = dict.fromkeys((*self.needs, *other.needs))
        return replace(self, inside=tuple(inside), needs=tuple(needs))

    @property
    def is_local(self) -> bool:
        """Whether the call certainly reaches a local function."""
        return "<locals>" in self.callee

    @property
    def may_wait(self) -> bool:
        """Whether the call can suspend the execution."""
        waits = {"wait", "sleep", "wait_event"}
        is_wait = self.kind in ("wait", "sleep", "event", "child")
        return is_wait or not waits.isdisjoint(self.inside)


def reaching(kind: CallKind, name: str, calls: Iterable[DurableCall]) -> DurableCall:
    """Return the durable call for a callee that may make `calls`."""
    distinct = tuple(dict.fromkeys(calls))
    names = tuple(dict.fromkeys(call.name for call in distinct))
    needs = tuple(call.options for call in distinct if call.options)
    coroutines = any(call.is_async or call.makes_coroutines for call in distinct)
    return DurableCall(kind, name, inside=names, needs=needs, makes_coroutines=coroutines)


def mark_durable(node: ast.Call, call: DurableCall) -> None:
    """Attach `call` to its node. Copies of the node keep it."""
    node.durable = call  # type: ignore[attr-defined]


def unmark_durable(node: ast.Call) -> None:
    """Remove the call from its node."""
    del node.durable  # type: ignore[attr-defined]


def durable_of(node: ast.AST) -> DurableCall | None:
    """Return the durable call at `node`, or None if no durable operation is known."""
    return getattr(node, "durable", None)


def is_deferred(node: ast.AST) -> bool:
    """Return whether a node is a call whose coroutine is not awaited where it is made."""
    call = durable_of(node)
    return call is not None and call.is_deferred


def durable_calls(*nodes: ast.AST) -> list[DurableCall]:
    """Return the durable calls anywhere inside `nodes`, in the order in which they complete."""
    found = [
        (child.end_lineno or 0, child.end_col_offset or 0, index, call)
        for index, node in enumerate(nodes)
        for child in walk(node)
        if isinstance(child, ast.Call) and (call := durable_of(child))
    ]
    return [call for *_, call in sorted(found, key=lambda item: item[:3])]


@dataclass(slots=True)
class Code:
    """A statement without a visible durable call."""

    stmt: ast.stmt


@dataclass(slots=True)
class Durable:
    """A statement with exactly one durable call, which no durable evaluation precedes."""

    stmt: ast.stmt
    call: DurableCall


@dataclass(slots=True)
class If:
    """A branch with durable code in an arm. Its test contains no durable call."""

    test: ast.expr
    body: list[Node]
    orelse: list[Node]
    source: ast.stmt


@dataclass(slots=True)
class Region:
    """Statements with durable calls that stay in one process, and the rule that explains it.

    `needs` are the options of the checkpoints that unknown calls in the statements may reach.
    `definitions` are those of the local functions that they call, which run first.
    """

    stmts: list[ast.stmt]
    calls: list[DurableCall]
    rule: Rule
    reason: str
    at: ast.AST
    help: str = ""
    needs: tuple[CheckpointOptions, ...] = ()
    definitions: tuple[ast.stmt, ...] = ()


@dataclass(slots=True)
class Fan:
    """Statements that submit calls and read none of their futures."""

    stmts: list[ast.stmt]
    calls: list[DurableCall]


@dataclass(slots=True)
class Return:
    """The end of the function; `stmt.value` contains no durable call."""

    stmt: ast.Return


@dataclass(slots=True)
class Scope:
    """Nodes that an exit may leave. Control then continues after the scope.

    `source` is the statement from which the nodes were created.
    """

    label: str
    body: list[Node]
    source: ast.stmt


@dataclass(slots=True)
class Exit:
    """A jump to the code after the enclosing scope called `label`."""

    label: str
    stmt: ast.stmt


@dataclass(slots=True)
class Inline:
    """An inlined call of a helper: its body runs here, as `activation`.

    `arguments` are evaluated by the caller. `defaults`, for the other parameters, are evaluated by
    the helper. The call's value is assigned to the caller's variable `target`, if there is one.
    """

    stmt: ast.stmt
    activation: Activation
    arguments: Arguments
    defaults: list[ast.stmt]
    body: list[Node]
    target: str = ""


Node = Code | Durable | Fan | If | Region | Return | Scope | Exit | Inline


@dataclass(slots=True)
class FlowIR:
    """One flow, or a helper of a flow, in structured form.

    Attributes:
        function: qualified name of the function in its module.
        locals: all names that are local to the function.
        parameters: the names in `locals` that are inputs.
        globals: the names that the module binds.
        constants: the globals that are bound once.
        literals: the values of the constants that are numbers, strings or tuples of these.
        modules: the constants that are imported modules or classes.
        replaced: the names that code of the project sets as attributes of any object.
        containers: the locals that are only ever assigned a display of this builtin type.
        mentioned: every name in the flow's source.
        inlined: the definitions of local functions, by name, which are omitted because their calls
            are inlined.
        outer: for a local function, the definition of the function around it.
        shared: for a local function, the variables of that function that it reads.
        exception_reader: the place of project code that reads the handled exception outside a
            handler.
        temporaries: the names created by passes.
        whole: why the flow must run uncut by calling its own function, if it must.
    """

    name: str
    function: str
    source: Source
    definition: ast.FunctionDef | ast.AsyncFunctionDef
    body: list[Node]
    parameters: tuple[str, ...]
    locals: frozenset[str]
    mentioned: frozenset[str]
    globals: frozenset[str] = frozenset()
    constants: frozenset[str] = frozenset()
    literals: Mapping[str, ast.expr] = field(default_factory=dict)
    modules: frozenset[str] = frozenset()
    replaced: frozenset[str] = frozenset()
    containers: dict[str, type] = field(default_factory=dict)
    inlined: Mapping[str, ast.stmt] = field(default_factory=dict)
    outer: ast.FunctionDef | ast.AsyncFunctionDef | None = None
    shared: frozenset[str] = frozenset()
    exception_reader: str = ""
    whole: Region | None = None
    temporaries: list[str] = field(default_factory=list)

    @property
    def is_async(self) -> bool:
        """Whether the function is `async def`, as its blocks are then."""
        return isinstance(self.definition, ast.AsyncFunctionDef)

    def is_builtin(self, name: str, wanted: frozenset[str]) -> bool:
        """Return whether `name` is one of the builtins `wanted` and not shadowed."""
        return name in wanted and name not in self.locals and name not in self.globals

    def literal(self, node: ast.expr) -> ast.expr:
        """Return the value of the module constant that `node` names, otherwise `node`."""
        if not isinstance(node, ast.Name) or node.id in self.locals:
            return node
        return self.literals.get(node.id, node)

    def temporary(self, hint: str) -> str:
        """Return a new variable name that does not occur in the source, readable by its `hint`."""
        base = f"{hint}_"
        taken = self.mentioned.union(self.temporaries)
        number = 1
        while f"{base}{number}" in taken:
            number += 1
        self.temporaries.append(f"{base}{number}")
        return f"{base}{number}"


@dataclass(frozen=True, slots=True, eq=False)
class Activation:
    """One activation of a function: of the flow itself, which has no caller, or of a helper.

    `call` is the caller's expression. The activation's variables are stored in the flow's frame
    under `name`, which is unique in the flow. A local function reads the variables of `outer`, the
    activation that defines it.
    """

    name: str
    ir: FlowIR
    caller: Activation | None = None
    call: ast.Call | None = None
    outer: Activation | None = None

    def qualified(self, variable: str) -> str:
        """Return the name of one of its variables in the flow's frame."""
        return f"{self.name}.{variable}" if self.name else variable

    @property
    def result(self) -> str:
        """The name under which its result is passed to the caller; not a valid variable."""
        return self.qualified("return")
