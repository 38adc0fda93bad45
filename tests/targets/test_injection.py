"""Decides that no text of a user's changes a document: it stands there as a literal or not at all.

Attacks on every emitter: texts that an engine expands, that a reader takes for something else than
a string, that close a quote or a block, as defaults of inputs, variables, and names of files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from typing import Any

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from kitaru_targets import registry
from kitaru_targets.common import dag_file, parameters, shell

from kitaru.wire.plan import Parameter, Plan

from .programs import WIRING, Do, If, plan

PROGRAM = (Do("a", "maybe"), If(((Do("b", wait=True),), (Do("c"),))), Do("d"))
HOSTILE = [
    "{{workflow.name}}", "{{$.inputs.parameters['x']}}", "$(params.x)", "${{parent.inputs.x}}",
    "{{ ds }}", "'); import os #", '"""', "$(id)", "`id`", "; rm -rf /", "a\nb: c", "no", "1e3",
    "0o17", "2026-11-22", "<<", "*x", "&x", "!!python/object:os.system", "{0.__class__}",
    '{"Get": "Parameters.x"}', '{"Std:Join": {}}', "\u202e", "\\", "'", '"', "--store=x", "-",
]  # fmt: skip
PRINTABLE = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=9)
TEXT = st.one_of(st.sampled_from(HOSTILE), PRINTABLE)
READ: dict[str, Callable[[str], Any]] = {
    "dag.py": lambda text: vars_of(dag_file.read(text)),
    "pipeline.json": json.loads,
    "pipeline.yaml": yaml.safe_load,
}
# Nobody can mean this by accident: where it stands, the other text has to stand.
BENIGN = "benign"


def written(name: str, text: str) -> Any:
    """Return the document of a flow that has a user's text wherever one can be."""
    target = registry.get(name)
    default = Parameter("topic", "keyword_only", "str", "str", False, True, text)
    boxed = Parameter("limits", "keyword_only", "json", "dict", False, True, {text: [text]})
    made = plan(PROGRAM, parameters=(default, boxed))
    portable = parameters.portable(made, target.transport.longest_input)
    emission = target.emit(portable, replace(WIRING, environment={"LABEL": text}))
    assert target.validate(emission.text) == []
    return READ[target.document](emission.text)


def vars_of(document: dag_file.DagFile) -> dict[str, Any]:
    """Return all that a DAG file holds as literals."""
    tasks = [asdict(task) for task in document.tasks]
    return {"dag": document.dag, "params": document.params, "tasks": tasks, **document.constants}


def leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, f"{place}/{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from leaves(item, f"{place}/{index}")
    else:
        yield place, value


@pytest.mark.parametrize("name", registry.names())
@settings(deadline=None, max_examples=60)
@given(text=TEXT)
def test_a_text_of_the_users_is_a_literal_and_changes_nothing_else(name: str, text: str) -> None:
    assume("{{" not in text)
    benign, hostile = dict(leaves(written(name, BENIGN))), dict(leaves(written(name, text)))
    assert list(benign) == list(hostile)
    for place, value in hostile.items():
        if isinstance(benign[place], str) and BENIGN in benign[place]:
            texts = (text, _boxed(text))
            encoded = name == "azureml" and place.startswith("/inputs/")
            assert value in (map(shell.encoded, texts) if encoded else texts), place
        else:
            assert value == benign[place], place


@pytest.mark.parametrize("name", registry.names())
@pytest.mark.parametrize("text", [text for text in HOSTILE if "{{" in text])
def test_a_default_that_an_engine_could_expand_is_left_to_the_flow(name: str, text: str) -> None:
    attacked = Parameter("attacked", "keyword_only", "str", "", False, True, text)
    made = plan(PROGRAM, parameters=(attacked,))
    document = registry.get(name).emit(parameters.portable(made), WIRING).text
    assert text not in document


def _boxed(text: str) -> str:
    portable: Plan = plan(
        (Do("a"),),
        parameters=(Parameter("x", "keyword_only", "json", "dict", False, True, {text: [text]}),),
    )
    (declared, *_) = parameters.declared(portable, "")
    return str(declared.default)
