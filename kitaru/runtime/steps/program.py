"""The code of a step: the plan, its block functions, and the user's module."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from kitaru.errors import EnvironmentFailure
from kitaru.runtime import secrets
from kitaru.runtime.engine import inputs, recorded_inputs
from kitaru.runtime.engine.retries import Policy
from kitaru.runtime.steps import blocks
from kitaru.runtime.steps.frames import Variables
from kitaru.runtime.steps.modules import import_file, leave_checkouts
from kitaru.wire import canonical
from kitaru.wire.importing import check_exit, import_module
from kitaru.wire.modules import is_async
from kitaru.wire.plan import OWN_DEFAULT, Parameter, Plan
from kitaru.wire.structs import Struct

if TYPE_CHECKING:
    from inspect import BoundArguments


class Program(Struct):
    """A loaded compiled flow: `functions` by block, and the `flow` object created by `@flow`."""

    plan: Plan
    digest: str
    module: ModuleType
    flow: Any
    functions: dict[str, blocks.BlockFunction]

    @property
    def policy(self) -> Policy:
        """Retry policy of checkpoints that set none."""
        policy: Policy = self.flow.policy
        return policy.with_defaults(Policy(self.plan.retries))

    @property
    def is_async(self) -> bool:
        """Whether the blocks are coroutine functions, which share one event loop."""
        return is_async(self.flow.function)


def read_plan(path: Path, expected: str = "") -> tuple[Plan, str]:
    """Read the plan from a file; return it with its digest.

    Raises:
        EnvironmentFailure: this version of Kitaru cannot read it, or its digest is not `expected`.
    """
    try:
        data = path.read_bytes()
        if expected and canonical.sha256(data) != expected:
            raise EnvironmentFailure(
                f"The plan {path} of this image is not the one that the document is compiled from.",
                help="Build the image again from the build directory of this document, and name it "
                "by its digest: a tag can move.",
            )
        return Plan.from_json(data), canonical.sha256(data)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EnvironmentFailure(
            f"The plan {path} cannot be read: {error}.",
            help="The container must hold what `kitaru compile` wrote, of one version.",
        ) from error


def load_program(plan: Plan, digest: str, path: Path) -> Program:
    """Import the user's module and load the blocks; `path` is the location of the plan.

    Exceptions of the module are passed through.

    Raises:
        EnvironmentFailure: the bundle differs from the compiled project.
    """
    secrets.use_plan_references(plan.secrets)
    module = _module(plan, path.resolve())
    for name in plan.codecs:
        import_module(name)
    flow = _flow(plan, module)
    if plan.blocks[0].kind == "flow":
        return Program(plan, digest, module, flow, {plan.blocks[0].name: _whole(flow)})
    steps = path.with_name("steps.py").read_text(encoding="utf-8")
    return Program(
        plan, digest, module, flow, blocks.load(plan, blocks.located(plan, steps), module)
    )


def project_modules(program: Program) -> dict[str, dict[str, Any]]:
    """Return the globals of each loaded project module, by module name, the flow's first.

    In a bundle, the runtime is stored next to the project but does not belong to it.
    """
    own = program.module
    root = str(Path(own.__file__ or "").parents[program.plan.file.count("/")]) + os.sep
    found = {program.plan.module: vars(own)}
    outside = _outside.setdefault(root, {})
    for name, module in list(sys.modules.items()):
        if outside.get(name) is module:
            continue
        file = getattr(module, "__file__", None) or ""
        if file.startswith(root) and name.partition(".")[0] not in ("kitaru", "__main__"):
            found.setdefault(name, vars(module))
        elif file:
            outside[name] = module
    return found


# The loaded modules outside of a project, by its root. They are cached, because each cut needs them
# and a process may have loaded thousands of modules.
_outside: dict[str, dict[str, ModuleType]] = {}


def inputs_of(plan: Plan, flow: Any, texts: dict[str, str]) -> BoundArguments:
    """Parse the flow's inputs from the texts that the target passed.

    `OWN_DEFAULT` stands for an input that was not passed.

    Raises:
        InputError: an input is unknown, missing or of the wrong type.
    """
    return inputs.bind_json(plan.flow, flow.function, given_of(plan, texts))


def given_of(plan: Plan, texts: dict[str, str]) -> dict[str, Any]:
    """Return the inputs that the target passed as texts, as JSON by name."""
    parameters = {parameter.name: parameter for parameter in plan.parameters}
    given: dict[str, Any] = {}
    for name, text in texts.items():
        parameter = parameters.get(name)
        if parameter is None:
            given[name] = text  # binding rejects it and lists the valid names
        elif text != OWN_DEFAULT:
            given[name] = _value(parameter, text)
    return given


def _module(plan: Plan, path: Path) -> ModuleType:
    # The project's files are next to the folder of the compiler's files. A flow may be in a file
    # called steps.py, like one of the compiler's files, so the project's folder goes first.
    if os.environ.get("KITARU_MODE") == "dry-run":
        leave_checkouts(plan.requirements)
    for root in reversed(path.parents[:2]):
        if (root / plan.file).is_file():
            return import_file(root / plan.file, plan.module)
    return import_module(plan.module)


def _flow(plan: Plan, module: ModuleType) -> Any:
    for value in vars(module).values():
        if getattr(type(value), "__name__", "") == "Flow" and value.name == plan.flow:
            return value
    check_exit(module, f"the flow {plan.flow}")
    raise EnvironmentFailure(
        f"The module {plan.module} has no flow {plan.flow}.",
        help="Compile the flow again: its module defined another one when it ran.",
    )


def _whole(flow: Any) -> blocks.BlockFunction:
    async def run_async(variables: Variables) -> tuple[None, Any]:
        return None, await recorded_inputs.call(flow.name, flow.function, variables)

    def run(variables: Variables) -> tuple[None, Any]:
        return None, recorded_inputs.call(flow.name, flow.function, variables)

    return run_async if is_async(flow.function) else run


def _value(parameter: Parameter, text: str) -> Any:
    import json

    if parameter.type == "str":
        return text
    if parameter.type == "bool" and text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        value = json.loads(text)
    except ValueError:
        return text  # binding reports the expected type
    # Orchestrators pass numbers as doubles.
    whole = parameter.type == "int" and isinstance(value, float) and value.is_integer()
    return int(value) if whole else value
