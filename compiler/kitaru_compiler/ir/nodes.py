"""The representation between source and blocks: a few nodes over Python's own AST.

Code is Python's `ast` because what must be exact is Python's meaning and its positions; every
statement keeps the positions of the source it came from, or of the source it was made for.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from kitaru_compiler.diagnostics.model import Rule
from kitaru_compiler.ir.walk import walk

if TYPE_CHECKING:
    from kitaru_compiler.frontend.source import Source

# The values of parameters, in the order in which they are evaluated.
Arguments = list[tuple[str, ast.expr]]
CallKind = Literal["checkpoint", "llm", "wait", "log", "memory", "submit", "helper", "dynamic"]


@dataclass(frozen=True, slots=True)
class CheckpointOptions:
    """The literal arguments of `@checkpoint(...)`, `None` where absent or not a literal.

    What it leaves open of retries is the flow's. `native_retry` means that an orchestrator can do
    all of what is said of them; of exceptions it knows nothing.
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


@dataclass(frozen=True, slots=True)
class DurableCall:
    """What one call in the source records when it runs.

    `name` is the callee as diagnostics say it; `inside` are the durable calls that a helper, or a
    value that is called, may make in its turn, and `needs` the options of the checkpoints among
    them. `callee` is the absolute name of a helper that this call certainly reaches, empty when
    that is not certain; `doubt` says which code may replace it.
    """

    kind: CallKind
    name: str
    options: CheckpointOptions | None = None
    inside: tuple[str, ...] = ()
    needs: tuple[CheckpointOptions, ...] = ()
    callee: str = ""
    doubt: str = ""

    @property
    def records(self) -> tuple[str, ...]:
        """The names of what may be recorded."""
        return self.inside or (self.name,)

    @property
    def may_wait(self) -> bool:
        """Whether the call can suspend the execution."""
        return self.kind == "wait" or "wait" in self.inside


def reaching(kind: CallKind, name: str, calls: Iterable[DurableCall]) -> DurableCall:
    """Return the call of something that may make `calls` in its turn."""
    distinct = tuple(dict.fromkeys(calls))
    names = tuple(dict.fromkeys(call.name for call in distinct))
    needs = tuple(call.options for call in distinct if call.options)
    return DurableCall(kind, name, inside=names, needs=needs)


def mark_durable(node: ast.Call, call: DurableCall) -> None:
    """Attach `call` to its node; copies of the node keep it."""
    node.durable = call  # type: ignore[attr-defined]


def durable_of(node: ast.AST) -> DurableCall | None:
    """Return what the call at `node` records, or None when nothing is known to be recorded."""
    return getattr(node, "durable", None)


def durable_calls(*nodes: ast.AST) -> list[DurableCall]:
    """Return the durable calls anywhere inside `nodes`, in the order in which they end."""
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
    """A statement that makes exactly one durable call, and evaluates nothing durable before it."""

    stmt: ast.stmt
    call: DurableCall


@dataclass(slots=True)
class If:
    """A branch with something durable in an arm; its test holds nothing durable."""

    test: ast.expr
    body: list[Node]
    orelse: list[Node]
    source: ast.stmt


@dataclass(slots=True)
class Region:
    """Statements that stay in one process, durable inside, and the rule that says why.

    `needs` are the options of checkpoints that they may reach by calls that are not known.
    """

    stmts: list[ast.stmt]
    calls: list[DurableCall]
    rule: Rule
    reason: str
    at: ast.AST
    help: str = ""
    needs: tuple[CheckpointOptions, ...] = ()


@dataclass(slots=True)
class Fan:
    """Statements that submit calls and look at none of their futures."""

    stmts: list[ast.stmt]
    calls: list[DurableCall]


@dataclass(slots=True)
class Return:
    """The end of the function; `stmt.value` holds nothing durable."""

    stmt: ast.Return


@dataclass(slots=True)
class Scope:
    """Nodes that an exit may leave. Control then continues after the scope.

    `source` is the statement that they were made from.
    """

    label: str
    body: list[Node]
    source: ast.stmt


@dataclass(slots=True)
class Exit:
    """A jump to what follows the scope called `label`, which holds it."""

    label: str
    stmt: ast.stmt


@dataclass(slots=True)
class Inline:
    """A call of a helper, written out: its body runs here, as `activation`.

    `arguments` are evaluated by the caller, `defaults`, for the other parameters, by the helper.
    The call's value goes to the caller's variable `target`, if there is one.
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
    """One flow, or a helper of one, in structured form.

    `function` is its qualified name in its module. `locals` are all names that are local to it;
    `parameters` those of them that are its inputs. `globals` are the names its module binds,
    `constants` those of them bound once, `literals` what those of them are that are numbers, texts
    or tuples of such, `modules` those that are imported modules or classes,
    `replaced` the names that code of the project sets on some object,
    `containers` the locals that are only ever a display of that builtin type, `mentioned` every
    name in the flow's source, `exception_reader` the place of code in the project that reads the
    exception being handled outside a handler, `temporaries` the names the passes made up. `whole`
    is set when the flow must run as it is, its own function called, and says why.
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
    exception_reader: str = ""
    whole: Region | None = None
    temporaries: list[str] = field(default_factory=list)

    def is_builtin(self, name: str, wanted: frozenset[str]) -> bool:
        """Return whether `name` is one of the builtins `wanted`, shadowed by nothing."""
        return name in wanted and name not in self.locals and name not in self.globals

    def literal(self, node: ast.expr) -> ast.expr:
        """Return what a constant of the module is where `node` names one, else `node`."""
        if not isinstance(node, ast.Name) or node.id in self.locals:
            return node
        return self.literals.get(node.id, node)

    def temporary(self, hint: str) -> str:
        """Return a new variable name that no source mentions, readable by its `hint`."""
        base = f"{hint}_"
        taken = self.mentioned.union(self.temporaries)
        number = 1
        while f"{base}{number}" in taken:
            number += 1
        self.temporaries.append(f"{base}{number}")
        return f"{base}{number}"


@dataclass(frozen=True, slots=True, eq=False)
class Activation:
    """One run of a function's body: the flow's own, called by nobody, or that of a helper.

    `call` is the caller's expression. Its variables stand in the flow's frame under `name`, which
    is unique in the flow.
    """

    name: str
    ir: FlowIR
    caller: Activation | None = None
    call: ast.Call | None = None

    def qualified(self, variable: str) -> str:
        """Return the name of one of its variables in the flow's frame."""
        return f"{self.name}.{variable}" if self.name else variable

    @property
    def result(self) -> str:
        """The name under which its result is handed to the caller, which no variable can have."""
        return self.qualified("return")
