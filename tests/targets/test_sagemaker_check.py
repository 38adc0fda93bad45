"""The structural check finds errors in a SageMaker definition that the service accepts."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from kitaru.wire.plan import Parameter

from .programs import Do, If, plan
from .test_sagemaker import TARGET, WIRING

INPUT = Parameter("topic", "positional_or_keyword", "str", "str", True, False)
Change = Callable[[dict[str, Any]], Any]
PROGRAM = (Do("a", wait=True), If(((Do("b"),), (Do("c"),))), Do("d"))


def good() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(TARGET.emit(plan(PROGRAM, parameters=(INPUT,)), WIRING).text)
    return found


def first(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["Steps"][0]
    return found


def job(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = first(document)["Arguments"]
    return found


def branch(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["Steps"][1]["Arguments"]
    return found


def application(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = job(document)["AppSpecification"]
    return found


def read(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = branch(document)["Conditions"][0]["LeftValue"]["Std:JsonGet"]
    return found


NESTED = {"Name": "x", "Type": "Condition", "Arguments": {}}
CHANGES: dict[str, tuple[Change, str]] = {
    "order lost": (lambda d: branch(d)["IfSteps"][1].pop("DependsOn"), "exactly the step before"),
    "order wrong": (lambda d: branch(d)["IfSteps"][1].update(DependsOn=["a"]), "exactly the step"),
    "waits for another branch": (
        lambda d: branch(d)["IfSteps"][0].update(DependsOn=["a"]),
        "exactly the step before",
    ),
    "something behind a condition": (lambda d: d["Steps"].append(first(d)), "behind a condition"),
    "a condition in a branch": (lambda d: branch(d)["IfSteps"].append(NESTED), "can stand around"),
    "name twice": (lambda d: branch(d)["IfSteps"][0].update(Name="a"), "there twice"),
    "name with underscore": (lambda d: first(d).update(Name="a_b"), "no engine takes"),
    "long name": (lambda d: first(d).update(Name="a" * 65), "no engine takes"),
    "long with hyphens": (lambda d: first(d).update(Name="a-b" * 22), "no engine takes"),
    "unknown type": (lambda d: first(d).update(Type="Lambda"), "unknown type"),
    "cached": (lambda d: first(d).update(CacheConfig={"Enabled": True}), "unknown fields"),
    "reads what nobody wrote": (
        lambda d: read(d)["PropertyFile"].update(Get="Steps.b.PropertyFiles.outcome"),
        "no step that always runs",
    ),
    "outcome not kept": (lambda d: first(d).pop("PropertyFiles"), "no step that always runs"),
    "outcome of nothing": (
        lambda d: first(d)["PropertyFiles"][0].update(OutputName="zz"),
        "which it does not write",
    ),
    "other path": (lambda d: read(d).update(Path="$.x"), "something else than an outcome"),
    "other test": (
        lambda d: branch(d)["Conditions"][0].update(Type="GreaterThan"),
        "of an unknown form",
    ),
    "compares with a number": (
        lambda d: branch(d)["Conditions"][0].update(RightValue={"Get": "Parameters.topic"}),
        "unknown form",
    ),
    "no branch": (lambda d: branch(d).update(IfSteps=[]), "has no branch"),
    "unknown parameter": (
        lambda d: job(d).update(RoleArn={"Get": "Parameters.zz"}),
        "'Parameters.zz', which is not there",
    ),
    "a step's property": (
        lambda d: job(d).update(RoleArn={"Get": "Steps.a.RoleArn"}),
        "which is not there",
    ),
    "another function": (
        lambda d: job(d).update(RoleArn={"Std:JsonGet": {}}),
        "uses Std:JsonGet",
    ),
    "no role": (lambda d: job(d).pop("RoleArn"), "no role"),
    "machine": (
        lambda d: job(d)["ProcessingResources"]["ClusterConfig"].update(InstanceType="ml.zz"),
        "runs on 'ml.zz'",
    ),
    "two machines": (
        lambda d: job(d)["ProcessingResources"]["ClusterConfig"].update(InstanceCount=2),
        "not one machine",
    ),
    "shell": (lambda d: application(d).update(ContainerEntrypoint=["/bin/sh"]), "shell"),
    "no command": (lambda d: application(d).update(ContainerEntrypoint=[]), "no command"),
    "no image": (lambda d: application(d).pop("ImageUri"), "no image"),
    "long argument": (
        lambda d: application(d)["ContainerArguments"].append("x" * 257),
        "does not take the argument",
    ),
    "line in an argument": (
        lambda d: application(d)["ContainerArguments"].append("a\nb"),
        "does not take the argument",
    ),
    "many arguments": (
        lambda d: application(d).update(ContainerArguments=["x"] * 101),
        "more than 100 arguments",
    ),
    "variable": (lambda d: job(d)["Environment"].update({"A=B": "x"}), "no name of an environment"),
    "number as variable": (lambda d: job(d)["Environment"].update(A=1), "no text"),
    "long variable": (lambda d: job(d)["Environment"].update(A="x" * 257), "too long"),
    "variable of a number": (
        lambda d: job(d)["Environment"].update(A={"Get": "Parameters.topic"}),
        "may be no text",
    ),
    "many variables": (
        lambda d: job(d)["Environment"].update({f"V{n}": "x" for n in range(100)}),
        "more than 100 variables",
    ),
    "place": (
        lambda d: job(d)["ProcessingInputs"][0]["S3Input"].update(LocalPath="/etc"),
        "to or from '/etc'",
    ),
    "default of another type": (
        lambda d: d["Parameters"][0].update(DefaultValue=1),
        "is no String",
    ),
    "empty default": (lambda d: d["Parameters"][0].update(DefaultValue=""), "does not fit"),
    "empty argument": (
        lambda d: application(d)["ContainerArguments"].append(""),
        "does not take the argument",
    ),
    "long default": (lambda d: d["Parameters"][0].update(DefaultValue="x" * 257), "does not fit"),
    "parameter of unknown type": (lambda d: d["Parameters"][0].update(Type="Text"), "unknown type"),
    "parameter twice": (lambda d: d["Parameters"].append(d["Parameters"][0]), "there twice"),
    "version": (lambda d: d.update(Version="2021"), "Version"),
    "part missing": (lambda d: d.pop("Metadata"), "does not have exactly"),
}  # fmt: skip


def test_a_good_document_has_no_problems() -> None:
    assert TARGET.validate(json.dumps(good())) == []


@pytest.mark.parametrize("name", CHANGES)
def test_a_bad_document_is_found(name: str) -> None:
    change, expected = CHANGES[name]
    spec = good()
    change(spec)
    problems = TARGET.validate(json.dumps(spec))
    assert any(expected in problem for problem in problems), problems


@pytest.mark.parametrize("text", ["{", "[]", '{"Steps": [], "Steps": []}', " " * 1_048_577])
def test_text_that_is_no_document_is_a_problem(text: str) -> None:
    assert TARGET.validate(text) != []
