"""The plan: the compiler's output for targets and steps, as plain versioned data.

A flow's normal form is a list of blocks in program order. Control only jumps forward. A block where
a step starts is a cut: a process that reaches it writes the frame and ends. Every other block runs
in the process that reached it.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from kitaru.wire.canonical import indented
from kitaru.wire.limits import DEFAULT_PARALLEL
from kitaru.wire.structs import Struct, field, fields_of, replace

PLAN_SCHEMA = 1
# The file of a build that contains the digests of the others.
LOCK = "lock.json"
# Value of a native parameter if the flow's own default applies, which is not a literal. The empty
# string cannot mean this, because a user may pass it.
OWN_DEFAULT = "kitaru:default"
# Engines convert a number to a double: from here on, two integers may become equal.
_FIRST_ROUNDED = 2**53

BlockKind = Literal[
    "flow",
    "entry",
    "checkpoint",
    "llm",
    "wait",
    "log",
    "memory",
    "inbox",
    "region",
    "join",
    "fan",
    "gather",
    "call",
    "return",
]
ParameterType = Literal["str", "int", "float", "bool", "json"]
Granularity = Literal["checkpoint", "fused", "single"]
RetryMode = Literal["native", "shim"]


class Span(Struct):
    """A range of source: lines and columns count from 1, columns in characters, end exclusive."""

    file: str
    line: int
    column: int
    end_line: int
    end_column: int


class Parameter(Struct):
    """One input of the flow.

    `type` is its form in transit: `str`, `int`, `float` and `bool` are native parameters, all other
    types are JSON text. `default` is the literal default (a JSON value). If the default is not a
    literal, `required` and `has_literal_default` are both false, and the parameter's value
    `OWN_DEFAULT` selects the flow's own default.
    """

    name: str
    kind: Literal["positional_only", "positional_or_keyword", "keyword_only"]
    type: ParameterType
    annotation: str
    required: bool
    has_literal_default: bool
    default: Any = None


def is_rounded(value: Any) -> bool:
    """Return whether a value is an integer that an engine's parameter may round."""
    return type(value) is int and abs(value) >= _FIRST_ROUNDED


class Resources(Struct):
    """Resource requests of a step: `cpu` in cores, `memory` as `4Gi`, `gpu` a count."""

    cpu: str = ""
    memory: str = ""
    gpu: int = 0


class Activation(Struct):
    """A helper's body that is inlined at its call in the flow, or in the activation `caller`.

    `module`, `file` and `line` are the place of the definition of the helper's `function` (its
    qualified name). `call` is the place of the call in the caller's file as Python's `ast` counts:
    line, column, end line, end column. `futures` are the module's `from __future__` imports.
    """

    name: str
    function: str
    module: str
    file: str
    line: int
    caller: str
    call: tuple[int, int, int, int]
    futures: tuple[str, ...] = ()


class Block(Struct):
    """One function of `steps.py`: variables in, the next block and variables out.

    `next` contains every possible successor in program order; `None` is the end of the flow.
    `live` are the variables in its frame on entry, as far as they are bound; a variable of an
    activation is written `activation.variable`. `activation` is the activation that the block
    belongs to, with its variables and its module; it is empty for the flow's body. The block
    returns its own variables by their bare names, and variables of another activation (arguments,
    or a result) by their full names. A block of kind `flow` has no function: the flow itself is
    called. A `fan` submits calls. Control continues to its `gather`, the first place that may wait
    for them. `calls` are the durable calls in the block (callee names, in source order). `may_wait`
    is whether one of them can suspend the execution. `reason` is the code of the diagnostic that
    explains why a region was not cut further, or empty. `why` and `fix` are the texts of that
    diagnostic for this region.
    """

    index: int
    name: str
    kind: BlockKind
    next: tuple[str | None, ...]
    live: tuple[str, ...]
    span: Span
    calls: tuple[str, ...] = ()
    may_wait: bool = False
    reason: str = ""
    why: str = ""
    fix: str = ""
    activation: str = ""


class PlannedAgent(Struct):
    """The visible parts of an agent that a block runs.

    `harness` is the name of its library. `models` are as written in the source. `agents` are those
    that it hands over to or contains. `durable` is whether an adapter records its calls.
    """

    block: str
    name: str
    harness: str
    models: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()
    durable: bool = False

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts for people, one line for each kind."""
        kinds = (("model", self.models), ("tools", self.tools), ("agents", self.agents))
        return tuple(f"{kind} {', '.join(names)}" for kind, names in kinds if names)


class Step(Struct):
    """A node of the target's pipeline: it starts at block `entry` and may continue in `blocks`.

    `exits` are the steps that control may continue at through a cut; `None` is the end of the flow.
    `may_wait` means that the run may end at a pending wait. `isolated` forbids running its entry in
    another step's process.

    `retries` counts attempts after the first. The second attempt waits `retry_delay` seconds, each
    further attempt `backoff` times longer, at most an hour. `retry` is `native` if the orchestrator
    starts the container again for each attempt, and `shim` if the runtime retries in the process.

    `per_item` is the maximum number of nodes of a fan-out's own step, 0 for every other step. Such
    a step runs no blocks. Each of its nodes makes one of the calls that its single block submitted,
    or a range of them if there are more calls than nodes. Their results are gathered at `entry`.
    """

    name: str
    entry: str
    blocks: tuple[str, ...]
    exits: tuple[str | None, ...]
    span: Span
    may_wait: bool = False
    retries: int = 0
    retry_delay: float = 0
    backoff: float = 2
    retry: RetryMode = "shim"
    resources: Resources = field(default_factory=Resources)
    isolated: bool = False
    per_item: int = 0


class StepItem(Struct):
    """A step at its position in the layout."""

    step: str


class WaitItem(Struct):
    """A wait at its position in the layout; it runs at the end of the step before it."""

    block: str


class BranchItem(Struct):
    """An `if` with a step in at least one of its arms.

    `decider` is the single step that evaluates the test at its end; its native output `next` names
    the arm to run. `None` means that several steps decide, and only the guards select an arm.
    `test` is the condition as written in the source, empty if the source contains none.
    """

    decider: str | None
    arms: tuple[tuple[LayoutItem, ...], ...]
    span: Span
    test: str = ""


class FanItem(Struct):
    """A fan-out at its position in the layout: `fan` names the step with `per_item` nodes.

    Each node is started with one string of a list, at most the plan's `max_parallel` at a time, and
    the next item waits for all of them. The list is the native output `items` of the step
    `producer`, which omits it when it is empty. Without a producer, the list is `items`, which is
    known at compile time.
    """

    fan: str
    producer: str
    items: tuple[str, ...] = ()


LayoutItem = StepItem | WaitItem | BranchItem | FanItem


class PlannedSchedule(Struct):
    """When `@flow` starts the flow; `kitaru.wire.cron` describes the fields."""

    cron: str
    timezone: str
    overlap: Literal["skip", "queue", "cancel", "allow"]
    catchup: Literal["none", "last", "all"]
    by: Literal["dispatcher", "target"] = "dispatcher"


class PlannedOverride(Struct):
    """A change of an emitted document: a JSON patch (RFC 6902) of the nodes at a path.

    `at` is described in `kitaru_targets.overrides`. `file` is the name of a further document of
    the target, empty for the main one.
    """

    at: str
    patch: tuple[dict[str, Any], ...]
    file: str = ""


class Plan(Struct):
    """The input of a target's emitter and of a step.

    Attributes:
        module: dotted name of the module to import in a step.
        file: path of that module below the project's import root, with `/`.
        positions: lines of `steps.py` mapped to the user's source (see
            `kitaru.runtime.steps.blocks`).
        activations: the helpers that are inlined in `steps.py`.
        models: the model aliases of the project.
        asked: the models and aliases that the code names; the default model if a call names none.
        settings: other settings that the steps use.
        requirements: the pinned distributions that a container needs.
        environment: plain environment variables of a container.
        secrets: where the value of each secret is found, never the value.
        image: the container image that the flow's decorator names, if any.
        options: options of the target.
        residual_of: for a residual plan, the digest of the plan whose frames it reads; else empty.
        retries: default number of retries for checkpoints, if neither they nor the flow set one.
        max_parallel: maximum number of concurrent submitted calls, on threads or as nodes.
        pickles: whether the flow may call a checkpoint whose result may be pickled.
        codecs: modules to import because they register codecs, in addition to the flow's own.
        agents: the agents of other harnesses that the blocks run.
        schedule: when a deployed version starts by itself, if `@flow` declares it.
        limits: how many executions run or start, if `@flow` limits them, as JSON; see
            `kitaru.wire.flow_limits`.
        overrides: the project's own changes of the target's document.
        events: the events that start the flow and cancel its executions, as JSON; see
            `kitaru.wire.flow_events`.
    """

    flow: str
    module: str
    file: str
    line: int
    doc: str
    kitaru: str
    granularity: Granularity
    parameters: tuple[Parameter, ...]
    blocks: tuple[Block, ...]
    steps: tuple[Step, ...]
    layout: tuple[LayoutItem, ...]
    positions: tuple[Any, ...] = ()
    activations: tuple[Activation, ...] = ()
    models: dict[str, Any] = field(default_factory=dict)
    asked: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    requirements: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    image: str = ""
    options: dict[str, str] = field(default_factory=dict)
    residual_of: str = ""
    retries: int = 0
    max_parallel: int = DEFAULT_PARALLEL
    pickles: bool = False
    codecs: tuple[str, ...] = ()
    agents: tuple[PlannedAgent, ...] = ()
    schedule: PlannedSchedule | None = None
    limits: dict[str, Any] = field(default_factory=dict)
    overrides: tuple[PlannedOverride, ...] = ()
    events: dict[str, Any] = field(default_factory=dict)
    schema: int = PLAN_SCHEMA

    def block(self, name: str) -> Block:
        """Return the block called `name`. Raise KeyError if there is no such block."""
        for block in self.blocks:
            if block.name == name:
                return block
        raise KeyError(name)

    def step(self, name: str) -> Step:
        """Return the step called `name`. Raise KeyError if there is no such step."""
        for step in self.steps:
            if step.name == name:
                return step
        raise KeyError(name)

    def to_json(self) -> str:
        """Return the plan as JSON, equal for equal plans, with one trailing newline."""
        fields = fields_of(self)
        for name in ("codecs", "agents", "schedule", "limits", "overrides", "events"):
            # Omitted if empty, so that plans without it stay the same as before the field existed.
            if not fields[name]:
                del fields[name]
        return indented(fields) + "\n"

    @staticmethod
    def from_json(text: str | bytes) -> Plan:
        """Read a plan; raise ValueError if its schema is not this version's."""
        data = json.loads(text)
        if data.get("schema") != PLAN_SCHEMA:
            raise ValueError(f"plan schema {data.get('schema')!r}, this Kitaru reads {PLAN_SCHEMA}")
        return Plan(
            **{
                **data,
                "parameters": tuple(Parameter(**p) for p in data["parameters"]),
                "blocks": tuple(_block(b) for b in data["blocks"]),
                "steps": tuple(_step(s) for s in data["steps"]),
                "layout": _layout(data["layout"]),
                "positions": tuple(data["positions"]),
                "activations": tuple(_activation(a) for a in data["activations"]),
                "requirements": tuple(data["requirements"]),
                "asked": tuple(data.get("asked", ())),
                "codecs": tuple(data.get("codecs", ())),
                "agents": tuple(_agent(a) for a in data.get("agents", ())),
                "schedule": PlannedSchedule(**data["schedule"]) if data.get("schedule") else None,
                "overrides": tuple(_override(o) for o in data.get("overrides", ())),
            }
        )

    def replace(self, **changes: Any) -> Plan:
        """Return a copy with the given fields changed."""
        return replace(self, **changes)


def _span(data: dict[str, Any]) -> Span:
    return Span(**data)


def _activation(data: dict[str, Any]) -> Activation:
    tuples = {key: tuple(data[key]) for key in ("call", "futures")}
    return Activation(**{**data, **tuples})


def _agent(data: dict[str, Any]) -> PlannedAgent:
    tuples = {key: tuple(data[key]) for key in ("models", "tools", "agents")}
    return PlannedAgent(**{**data, **tuples})


def _block(data: dict[str, Any]) -> Block:
    tuples = {key: tuple(data[key]) for key in ("next", "live", "calls")}
    return Block(**{**data, **tuples, "span": _span(data["span"])})


def _step(data: dict[str, Any]) -> Step:
    tuples = {key: tuple(data[key]) for key in ("blocks", "exits")}
    resources = Resources(**data["resources"])
    return Step(**{**data, **tuples, "span": _span(data["span"]), "resources": resources})


def _override(data: dict[str, Any]) -> PlannedOverride:
    return PlannedOverride(**{**data, "patch": tuple(data["patch"])})


def _layout(items: list[dict[str, Any]]) -> tuple[LayoutItem, ...]:
    return tuple(_layout_item(item) for item in items)


def _layout_item(item: dict[str, Any]) -> LayoutItem:
    if "step" in item:
        return StepItem(item["step"])
    if "block" in item:
        return WaitItem(item["block"])
    if "fan" in item:
        return FanItem(**{**item, "items": tuple(item["items"])})
    arms = tuple(_layout(arm) for arm in item["arms"])
    return BranchItem(item["decider"], arms, _span(item["span"]), item.get("test", ""))
