"""DEPLOY.md can be followed to the end, and its policies grant what Kitaru calls and no more."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import pytest
import yaml
from kitaru_targets import registry

from .conftest import REVIEW, Make

TARGETS = [name for name in registry.names() if name != "local"]
ROW = """
    from kitaru import checkpoint, flow

    @checkpoint
    def draft(topic: str) -> str:
        return topic

    @flow
    def row(topic: str) -> str:
        return draft(topic)
"""
# Calls of boto3 that are not named after one operation.
PAGINATED = re.compile(r'get_paginator\("(\w+)"\)')
CALLED = re.compile(r"client\.(?!exceptions|get_paginator)(\w+)\(")


def guide(make: Make, source: str, target: str) -> str:
    return (make(source, target).directory / "DEPLOY.md").read_text(encoding="utf-8")


def blocks(text: str, kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("source", [REVIEW, ROW], ids=["with a wait", "without a wait"])
@pytest.mark.parametrize("target", TARGETS)
def test_a_guide_leads_from_the_code_to_the_clean_up(make: Make, target: str, source: str) -> None:
    text = guide(make, source, target)
    numbers = [int(number) for number in re.findall(r"^## (\d)\. ", text, re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))
    titles = "\n".join(re.findall(r"^##+ .*", text, re.MULTILINE)).lower()
    for part in ("code", "start a run", "clean up"):
        assert part in titles, part
    for word in ("runner", "approver", "reader") if target not in ("argo", "kubernetes") else ():
        assert f"**{word}**" in text, word
    assert "roll back" in text.lower()


@pytest.mark.parametrize("target", TARGETS)
def test_documents_in_a_guide_are_valid(make: Make, target: str) -> None:
    text = guide(make, REVIEW, target)
    for block in blocks(text, "json"):
        json.loads(block)
    for block in blocks(text, "yaml"):
        assert list(yaml.safe_load_all(block))
    for block in blocks(text, "python"):
        compile(block.replace("…", "0"), "DEPLOY.md", "exec")


@pytest.mark.parametrize(
    ("target", "services", "own", "tagging"),
    [
        ("sagemaker", {"sagemaker": "sagemaker"}, 1, {"AddTags"}),
        ("stepfunctions", {"states": "stepfunctions", "ecs": "ecs"}, 2, {"TagResource"}),
    ],
)
def test_the_policies_of_aws_grant_what_is_called(
    make: Make, target: str, services: dict[str, str], own: int, tagging: set[str]
) -> None:
    """The first `own` policies are those of the pipeline, the others those of people."""
    boto3 = pytest.importorskip("boto3")
    found = [json.loads(block) for block in blocks(guide(make, REVIEW, target), "json")]
    keys = {"aws_access_key_id": "x", "aws_secret_access_key": "x"}
    granted: set[str] = set()
    for prefix, name in services.items():
        client = boto3.client(name, region_name="us-east-1", **keys)
        known = set(client.meta.service_model.operation_names)
        assert actions(found, prefix) <= known
        granted |= actions(found[own:], prefix)
    source = inspect.getsource(import_module(f"kitaru_targets.{target}.submit"))
    called = {
        "".join(part.title() for part in name.split("_"))
        for name in (*CALLED.findall(source), *PAGINATED.findall(source))
    }
    # What is created has tags.
    assert granted == called | tagging


def actions(policies: Sequence[Any], service: str) -> set[str]:
    found: list[str] = []
    for statement in (one for policy in policies for one in policy["Statement"]):
        named = statement["Action"]
        found += [named] if isinstance(named, str) else named
    prefix = f"{service}:"
    return {one.removeprefix(prefix) for one in found if one.startswith(prefix)}
