"""The structural check finds errors that the vendors' own tools accept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from kitaru_targets import registry
from kitaru_targets.common import read, yaml

from kitaru.wire.plan import Parameter, Resources

from .programs import WIRING, Do, If, plan

PROGRAM = (
    Do("a", "maybe", retries=1),
    If(((Do("b", "maybe"),), (Do("c"),))),
    Do("d"),
    Do("e", resources=Resources(cpu="1")),
    Do("f", gathers=True),
)
INPUT = Parameter("topic", "positional_or_keyword", "str", "str", False, True, "owls")
TARGET = registry.get("kubeflow")
Change = Callable[[dict[str, Any]], Any]


def good() -> dict[str, Any]:
    return read.parse(TARGET.emit(plan(PROGRAM, parameters=(INPUT,)), WIRING).text)


def tasks(spec: dict[str, Any], group: str = "root") -> dict[str, Any]:
    component = spec["root"] if group == "root" else spec["components"][f"comp-{group}"]
    found: dict[str, Any] = component["dag"]["tasks"]
    return found


def container(spec: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = spec["deploymentSpec"]["executors"]["exec-kitaru-step"]["container"]
    return found


def rename(spec: dict[str, Any], old: str, new: str) -> None:
    tasks(spec)[new] = tasks(spec).pop(old)
    tasks(spec)[new]["taskInfo"]["name"] = new


def share(spec: dict[str, Any]) -> None:
    executors = spec["deploymentSpec"]["executors"]
    executors["exec-kitaru-start"] = executors["exec-kitaru-step"]


ARM, AFTER, IF = "then-after-a", "after-d", "if-after-a"
LOOP, LIST = "each-each-f", "pipelinechannel--e-Output"


def loop(spec: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = tasks(spec, AFTER)[LOOP]
    return found


def iterate(spec: dict[str, Any], **items: Any) -> None:
    loop(spec)["parameterIterator"]["items"] = items


CHANGES: dict[str, tuple[Change, str]] = {
    "order lost": (lambda s: tasks(s)[IF].pop("dependentTasks"), "does not depend on"),
    "order unknown": (lambda s: tasks(s)[IF].update(dependentTasks=["a", "zz"]), "stand before"),
    "circle": (lambda s: tasks(s)["a"].update(dependentTasks=[IF]), "stand before"),
    "input missing": (lambda s: tasks(s)["a"]["inputs"]["parameters"].pop("run"), "run is missing"),
    "input extra": (
        lambda s: tasks(s)["a"]["inputs"]["parameters"].update(
            zz={"componentInputParameter": "topic"}
        ),
        "zz is not declared",
    ),
    "parent input unknown": (
        lambda s: tasks(s)["a"]["inputs"]["parameters"].update(
            run={"componentInputParameter": "zz"}
        ),
        "no input zz",
    ),
    "producer output unknown": (
        lambda s: tasks(s)[IF]["inputs"]["parameters"]["pipelinechannel--a--next"][
            "taskOutputParameter"
        ].update(outputParameterKey="zz"),
        "no output zz",
    ),
    "wrong type": (
        lambda s: s["root"]["inputDefinitions"]["parameters"]["topic"].update(
            parameterType="BOOLEAN", defaultValue=True
        ),
        "is a STRING, and gets a BOOLEAN",
    ),
    "condition on nothing": (
        lambda s: tasks(s, IF)[ARM]["inputs"]["parameters"].pop("pipelinechannel--a--next"),
        "not among its inputs",
    ),
    "bad CEL": (
        lambda s: tasks(s, IF)[ARM]["triggerPolicy"].update(condition="size(x) > 1"),
        "disagree",
    ),
    "empty condition": (
        lambda s: tasks(s, IF)[ARM]["triggerPolicy"].update(condition=""),
        "disagree",
    ),
    "depends on what may be skipped": (
        lambda s: tasks(s, IF)["else-after-a"].update(dependentTasks=[ARM]),
        "may be skipped",
    ),
    "conditional container": (
        lambda s: tasks(s)["a"].update(
            triggerPolicy={"condition": "inputs.parameter_values['pipelinechannel--a--x'] == 'x'"}
        ),
        "only a group can be conditional",
    ),
    "retried group": (
        lambda s: tasks(s)[IF].update(retryPolicy={"maxRetryCount": 1}),
        "only a container",
    ),
    "iterated container": (
        lambda s: tasks(s)["a"].update(parameterIterator={}),
        "only an unconditional group",
    ),
    "iterated and conditional": (
        lambda s: loop(s).update(triggerPolicy={"condition": ""}),
        "only an unconditional group",
    ),
    "artifacts iterated": (lambda s: loop(s).update(artifactIterator={}), "only a list of texts"),
    "limit without a list": (
        lambda s: tasks(s)[IF].update(iteratorPolicy={"parallelismLimit": 1}),
        "only a list of texts",
    ),
    "item not an input": (
        lambda s: loop(s)["parameterIterator"].update(itemInput="zz"),
        "no text input",
    ),
    "item given twice": (
        lambda s: loop(s)["inputs"]["parameters"].update(
            {f"{LIST}-loop-item": {"runtimeValue": {"constant": "0"}}}
        ),
        "no text input",
    ),
    "no limit": (lambda s: loop(s).pop("iteratorPolicy"), "at a time"),
    "limit of none": (
        lambda s: loop(s).update(iteratorPolicy={"parallelismLimit": 0}),
        "at a time",
    ),
    "a text iterated": (lambda s: iterate(s, inputParameter="store"), "no list"),
    "a list not given": (lambda s: loop(s)["inputs"]["parameters"].pop(LIST), "no list"),
    "numbers iterated": (lambda s: iterate(s, raw="[1]"), "no list of texts"),
    "no JSON iterated": (lambda s: iterate(s, raw="['a']"), "no list of texts"),
    "nothing iterated": (lambda s: iterate(s), "iterates over"),
    "a name that kfp.local does not find": (
        lambda s: (
            loop(s)["inputs"]["parameters"].update(
                {"items": loop(s)["inputs"]["parameters"].pop(LIST)}
            )
            or s["components"][f"comp-{LOOP}"]["inputDefinitions"]["parameters"].update(
                items={"parameterType": "LIST"}
            )
            or iterate(s, inputParameter="items")
        ),
        "local runners",
    ),
    "list from nowhere": (
        lambda s: loop(s).update(dependentTasks=[]),
        "does not depend on",
    ),
    "cached": (lambda s: tasks(s)["a"].update(cachingOptions={"enableCache": True}), "cache"),
    "label differs": (lambda s: tasks(s)["a"].update(taskInfo={"name": "A"}), "label"),
    "upper case": (lambda s: rename(s, "a", "A"), "no engine takes"),
    "driver": (lambda s: rename(s, "a", "a-driver"), "no engine takes"),
    "two hyphens": (lambda s: rename(s, "a", "a--b"), "no engine takes"),
    "long": (lambda s: rename(s, "a", "a" * 121), "no engine takes"),
    "key twice": (lambda s: tasks(s, IF).update(a=tasks(s)["a"]), "of that name"),
    "component unknown": (
        lambda s: tasks(s)["a"].update(componentRef={"name": "comp-zz"}),
        "does not exist",
    ),
    "component unused": (lambda s: tasks(s).pop(IF), "no task runs it"),
    "group in two places": (
        lambda s: tasks(s)[IF].update(componentRef={"name": f"comp-{AFTER}"}),
        "more than one place",
    ),
    "output selected from nowhere": (
        lambda s: s["components"]["comp-after-a"]["dag"]["outputs"]["parameters"]["status"][
            "valueFromParameter"
        ].update(producerSubtask="zz"),
        "comes from nowhere",
    ),
    "output not declared": (
        lambda s: s["components"]["comp-after-a"].pop("outputDefinitions"),
        "declared outputs",
    ),
    "executor unknown": (
        lambda s: s["components"]["comp-kitaru-step"].update(executorLabel="exec-zz"),
        "no executor exec-zz",
    ),
    "neither dag nor executor": (
        lambda s: s["components"]["comp-kitaru-step"].pop("executorLabel"),
        "either a dag or an executor",
    ),
    "same container, other inputs": (share, "equal containers"),
    "placeholder for nothing": (
        lambda s: container(s)["args"].append("{{$.inputs.parameters['zz']}}"),
        "'zz', not declared",
    ),
    "placeholder misspelt": (
        lambda s: container(s)["args"].append("{{$.input.parameters['step']}}"),
        "would expand",
    ),
    "output not written": (
        lambda s: container(s).update(args=container(s)["args"][:-2]),
        "nobody writes",
    ),
    "expander in a default": (
        lambda s: s["root"]["inputDefinitions"]["parameters"]["topic"].update(
            defaultValue="{{workflow.name}}"
        ),
        "would expand",
    ),
    "expander in a description": (
        lambda s: s["pipelineInfo"].update(description="{{workflow.name}}"),
        "would expand",
    ),
    "expander in an environment": (
        lambda s: container(s)["env"].append({"name": "A", "value": "{{$.x}}"}),
        "would expand",
    ),
    "run id inside text": (
        lambda s: tasks(s)["a"]["inputs"]["parameters"].update(
            run={"runtimeValue": {"constant": "x-{{$.pipeline_job_uuid}}"}}
        ),
        "would expand",
    ),
    "shell": (lambda s: container(s).update(command=["/bin/sh", "-c", "x"]), "shell"),
    "no command": (lambda s: container(s).pop("command"), "lists of strings"),
    "no image": (lambda s: container(s).pop("image"), "no image"),
    "environment name": (
        lambda s: container(s)["env"].append({"name": "A=B", "value": "x"}),
        "no name of an environment",
    ),
    "environment number": (
        lambda s: container(s)["env"].append({"name": "A", "value": 1}),
        "no string",
    ),
    "default of another type": (
        lambda s: s["root"]["inputDefinitions"]["parameters"]["topic"].update(defaultValue=1),
        "is no STRING",
    ),
    "default but required": (
        lambda s: s["root"]["inputDefinitions"]["parameters"]["topic"].pop("isOptional"),
        "not optional",
    ),
    "unknown type": (
        lambda s: s["root"]["inputDefinitions"]["parameters"]["topic"].update(parameterType="TEXT"),
        "unknown type",
    ),
    "schema": (lambda s: s.update(schemaVersion="2.0.0"), "schemaVersion"),
    "pipeline name": (lambda s: s["pipelineInfo"].update(name="Some_Flow"), "pipelineInfo.name"),
    "pipeline name too long": (
        lambda s: s["pipelineInfo"].update(name="a" * 121),
        "pipelineInfo.name",
    ),
    "part missing": (lambda s: s.pop("deploymentSpec"), "missing deploymentSpec"),
    "unknown part": (lambda s: s.update(platforms={}), "unknown platforms"),
}


def test_a_good_document_has_no_problems() -> None:
    assert TARGET.validate(yaml.dump(good())) == []


@pytest.mark.parametrize("name", CHANGES)
def test_a_bad_document_is_found(name: str) -> None:
    change, expected = CHANGES[name]
    spec = good()
    change(spec)
    problems = TARGET.validate(yaml.dump(spec))
    assert any(expected in problem for problem in problems), problems


def test_groups_that_nest_too_deep_are_found() -> None:
    program: tuple[Do | If, ...] = ()
    for n in range(60):
        program = (Do(f"s{n}"), If((program, (Do(f"t{n}"),)))) if program else (Do("s"),)
    spec = TARGET.emit(plan(program), WIRING).text
    assert any("nest deeper" in problem for problem in TARGET.validate(spec))


def test_a_vertex_name_is_shorter() -> None:
    spec = good()
    spec["pipelineInfo"]["name"] = "a" * 114
    assert TARGET.validate(yaml.dump(spec)) == []
    assert registry.get("vertex").validate(yaml.dump(spec)) != []


def test_text_that_is_no_document_is_a_problem() -> None:
    assert TARGET.validate("{") != []
    assert TARGET.validate("") == ["there is no document"]
