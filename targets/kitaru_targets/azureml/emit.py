"""Write the document for Azure ML: a chain of commands that check their guards.

Azure ML has no conditions, and only data dependencies order the steps: each step reads the end that
the previous step wrote. The service inserts texts into a shell line unchanged. Every word of the
line is therefore in single quotes, and a flow's inputs are percent-encoded (`common.shell`).
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from functools import partial
from importlib import resources
from typing import Any

from kitaru.errors import UsageError
from kitaru.wire.plan import OWN_DEFAULT, Plan, Resources, Step
from kitaru_targets.azureml.profile import (
    COMPUTE,
    DOCUMENT,
    ENVIRONMENT,
    IDENTITY,
    LIMITS,
    MACHINE,
    OPTIONS,
    SCHEDULE,
    SECONDS,
    TAGS,
    TRANSPORT,
)
from kitaru_targets.base import ContainerSpec, Emission, Form
from kitaru_targets.common import (
    chain,
    limits,
    options,
    parameters,
    schedules,
    shell,
    variables,
    yaml,
)
from kitaru_targets.common.node_names import Keys

SCHEMA = "https://azuremlschemas.azureedge.net/latest/pipelineJob.schema.json"
SCHEDULE_SCHEMA = "https://azuremlschemas.azureedge.net/latest/schedule.schema.json"
# The service sets this variable for every job of a pipeline. Without it the shell stops.
RUN = '"${AZUREML_ROOT_RUN_ID:?}"'
OUTCOME = "outcome"
AFTER = "after"
CODE = "."
_DAY_SECONDS = 86_400


def emit(plan: Plan, wiring: ContainerSpec) -> Emission:
    """Return `pipeline.yaml` for a plan.

    Raises:
        SourceError: a part exceeds a limit of the service.
        UsageError: a name is not valid in the document.
    """
    options.check("azureml", plan.options, OPTIONS)
    limits.check(plan, wiring, declared(plan, wiring), LIMITS)
    keys = Keys()
    names = {s.name: keys.take(s.name, fallback="step").replace("-", "_") for s in plan.steps}
    form = Form(_document(plan, wiring, names), partial(yaml.dump, header=wiring.about.header))
    text = form.text()
    limits.check_size(plan, text, LIMITS)
    files = {TRANSPORT.beside: program()} if TRANSPORT.beside in wiring.command else {}
    files |= _schedule(plan, wiring)
    return Emission(text, {key: name for name, key in names.items()}, {}, files=files, form=form)


def _schedule(plan: Plan, wiring: ContainerSpec) -> dict[str, str]:
    """Return the schedule that starts the job, by the name of its file.

    The service has the zones of Windows, of which only UTC has the name and the rules of IANA.
    """
    planned = schedules.native(plan, wiring)
    if planned is None:
        return {}
    if planned.timezone != "UTC":
        raise UsageError(
            f"{plan.file}:{plan.line}: {plan.flow} has timezone={planned.timezone!r}, and "
            "schedules of Azure ML have the zones of Windows.",
            help="Set timezone='UTC', or remove schedule_by: a dispatcher knows the zone.",
        )
    made = {
        "$schema": SCHEDULE_SCHEMA,
        "name": schedules.schedule_id(plan),
        "trigger": {"type": "cron", "expression": planned.cron, "time_zone": "UTC"},
        "create_job": f"./{DOCUMENT}",
    }
    return {SCHEDULE: yaml.dump(made, wiring.about.header)}


def starts(plan: Plan) -> tuple[int, int]:
    """Return how many jobs start in a row, and how many of them find nothing to do at most."""
    found = chain.Chain(plan)
    return found.started(None), found.idle(None)


def program() -> str:
    """Return the program in the folder of the code, which starts a step."""
    return (resources.files(__package__) / TRANSPORT.beside).read_text(encoding="utf-8")


def _document(plan: Plan, wiring: ContainerSpec, names: Mapping[str, str]) -> dict[str, Any]:
    order = chain.steps_in(plan.layout)
    return {
        "$schema": SCHEMA,
        "type": "pipeline",
        "display_name": plan.flow,
        "description": shell.plain(f"{plan.flow} at {plan.file}:{plan.line}, compiled by Kitaru."),
        **({"tags": options.pairs(tags)} if (tags := plan.options.get(TAGS)) else {}),
        "settings": {
            "default_compute": _compute(plan),
            "continue_on_step_failure": False,
            "force_rerun": True,
        },
        "inputs": {p.name: _literal(p) for p in declared(plan, wiring)},
        "jobs": {
            names[step]: _job(plan, wiring, plan.step(step), names[before] if before else "")
            for before, step in zip(("", *order), order, strict=False)
        },
    }


def declared(plan: Plan, wiring: ContainerSpec) -> tuple[parameters.Declared, ...]:
    """Return the inputs of the pipeline."""
    return parameters.declared(plan, wiring.store, wiring.execution)


def _literal(declared: parameters.Declared) -> str | int | float | bool:
    """Return an input's value: the inputs of a job have no types, and all need a value."""
    if declared.default is None or declared.default == "":
        return OWN_DEFAULT
    own = declared.name in (parameters.STORE, parameters.EXECUTION)
    text = isinstance(declared.default, str) and declared.default != OWN_DEFAULT and not own
    return shell.encoded(str(declared.default)) if text else declared.default


def _job(plan: Plan, wiring: ContainerSpec, step: Step, before: str) -> dict[str, Any]:
    first = step.entry == plan.blocks[0].name
    inputs = [
        parameter
        for parameter in declared(plan, wiring)
        if first or parameter.name in (parameters.STORE, parameters.EXECUTION)
    ]
    bound = {p.name: f"${{{{parent.inputs.{p.name}}}}}" for p in inputs}
    after = {AFTER: f"${{{{parent.jobs.{before}.outputs.{OUTCOME}}}}}"} if before else {}
    machine = limits.machine(step.resources, LIMITS)
    assert machine is not None, "the limits are checked first"
    chosen = plan.options.get(MACHINE) if step.resources == Resources() else machine.name
    asks = {"resources": {"instance_type": chosen, "instance_count": 1}} if chosen else {}
    return {
        "type": "command",
        "display_name": step.name,
        "component": {
            "type": "command",
            "display_name": step.name,
            "description": shell.plain(wiring.about.step(step)),
            "is_deterministic": False,
            # The folder of this document. The service stores it once for each content.
            **({"code": CODE} if TRANSPORT.beside in wiring.command else {}),
            "command": _command(wiring, step, [p.name for p in plan.parameters] if first else []),
            "environment": plan.options.get(ENVIRONMENT, {"image": wiring.image}),
            "inputs": {
                **{p.name: {"type": _type(p)} for p in inputs},
                **({AFTER: {"type": "uri_file"}} if before else {}),
            },
            "outputs": {OUTCOME: {"type": "uri_file"}},
        },
        "inputs": {**bound, **after},
        "environment_variables": variables.environment(wiring.environment),
        "identity": {"type": plan.options.get(IDENTITY, "managed")},
        "limits": {"timeout": int(plan.options.get(SECONDS, _DAY_SECONDS))},
        # A compute of the workspace has its own machines.
        **(asks if COMPUTE not in plan.options else {}),
    }


def _compute(plan: Plan) -> str:
    return f"azureml:{plan.options[COMPUTE]}" if COMPUTE in plan.options else "serverless"


def _type(declared: parameters.Declared) -> str:
    # A required input contains a placeholder until it gets a value.
    return "string" if declared.default is None else declared.type


def _command(wiring: ContainerSpec, step: Step, names: list[str]) -> str:
    """Return the shell line; everything but the run's id is in single quotes, or plain."""
    words = [*wiring.command, *wiring.leading, "--step", step.name]
    words += ["--store", _input(parameters.STORE), "--execution", _input(parameters.EXECUTION)]
    words += ["--outcome-file", f"${{{{outputs.{OUTCOME}}}}}"]
    if names:
        words += ["--inputs-encoded", "--inputs-key", _input(parameters.INPUTS)]
    for name in names:
        words += ["--input", f"{name}={_input(name)}"]
    return f"{shlex.join(words)} --run {RUN}"


def _input(name: str) -> str:
    return f"${{{{inputs.{name}}}}}"
