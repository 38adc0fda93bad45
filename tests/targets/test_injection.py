"""No text of a user changes a document: it is quoted as a literal, or rejected.

Attacks on every emitter: texts that an engine expands, that a reader takes for something else than
a string, that close a quote or a block, as defaults of inputs, variables, names of files, flows and
steps, and what a flow says of itself. Questions and prompts are not in a document at all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any, ClassVar

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from kitaru_targets import registry
from kitaru_targets.airflow import dag_file
from kitaru_targets.base import Transport
from kitaru_targets.common import parameters, shell
from kitaru_targets.kubernetes import job

from kitaru.wire.plan import Parameter, Plan, StepItem

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
# As Python allows them, in any script.
IDENTIFIERS = st.from_regex(r"[^\W\d]\w{0,90}", fullmatch=True).filter(str.isidentifier)

STEPS = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,90}", fullmatch=True)


class Core(yaml.SafeLoader):
    """Reads plain scalars by the core schema of YAML 1.2, where PyYAML reads them by 1.1."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}


for kind, pattern in {
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+",
    "float": r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan",
}.items():
    Core.add_implicit_resolver(f"tag:yaml.org,2002:{kind}", re.compile(rf"(?:{pattern})$"), None)


def by_both(text: str) -> Any:
    """Return what readers of YAML 1.1 and 1.2 both make of a text."""
    found = yaml.safe_load(text)
    assert yaml.load(text, Core) == found
    return found


READ: dict[str, Callable[[str], Any]] = {
    "dag.py": lambda text: vars_of(dag_file.read(text)),
    "job.yaml": by_both,
    "pipeline.json": json.loads,
    "pipeline.yaml": by_both,
    "state-machine.json": json.loads,
    "workflow.yaml": by_both,
}
# Nobody can mean this by accident: where it stands, the other text has to stand.
BENIGN = "benign"


def written(name: str, text: str) -> Any:
    """Return the document of a flow that has a user's text wherever one can be."""
    target = registry.get(name)
    default = Parameter("topic", "keyword_only", "str", "str", False, True, text)
    boxed = Parameter("limits", "keyword_only", "json", "dict", False, True, {text: [text]})
    made = fitting(name, plan(PROGRAM, parameters=(default, boxed)))
    portable = parameters.portable(made, target.transport)
    emission = target.emit(portable, replace(WIRING, environment={"LABEL": text}))
    assert target.validate(emission.text) == []
    return READ[target.document](emission.text)


def fitting(name: str, made: Plan) -> Plan:
    """Return a plan as it is cut for a target: one step for a target that runs flows whole."""
    if not registry.get(name).runs_whole:
        return made
    step = replace(made.steps[0], blocks=tuple(one.name for one in made.blocks), exits=(None,))
    return made.replace(steps=(step,), layout=(StepItem(step.name),))


def vars_of(document: dag_file.DagFile) -> dict[str, Any]:
    """Return all that a DAG file holds as literals."""
    tasks = [asdict(task) for task in document.tasks]
    return {"dag": document.dag, "params": document.params, "tasks": tasks, **document.flow}


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
            if name == "azureml" and place.startswith("/inputs/"):
                texts = tuple(map(shell.encoded, texts))
            elif name == "kubernetes":
                texts = tuple(map(job.literal, texts))
            assert value in texts, place
        else:
            assert value == benign[place], place


@pytest.mark.parametrize("name", registry.names())
@pytest.mark.parametrize("text", [text for text in HOSTILE if "{{" in text])
def test_a_default_that_an_engine_could_expand_is_left_to_the_flow(name: str, text: str) -> None:
    def count(default: str) -> int:
        attacked = Parameter("attacked", "keyword_only", "str", "", False, True, default)
        made = fitting(name, plan(PROGRAM, parameters=(attacked,)))
        document = registry.get(name).emit(parameters.portable(made, Transport()), WIRING).text
        return document.count(text)

    assert count(text) == count(BENIGN), "a document may itself name the run"


def placed(name: str, text: str) -> Any:
    """Return the document of a flow in a file of this name, None where it is refused."""
    target, made = registry.get(name), fitting(name, plan(PROGRAM))
    file = f"{text}.py"
    steps = tuple(replace(step, span=replace(step.span, file=file)) for step in made.steps)
    text = target.emit(made.replace(file=file, doc=text, steps=steps), WIRING).text
    return None if target.validate(text) else READ[target.document](text)


@pytest.mark.parametrize("name", registry.names())
@settings(deadline=None, max_examples=8)
@given(text=TEXT)
def test_the_name_of_a_file_and_a_docstring_are_shown_and_no_more(name: str, text: str) -> None:
    found = placed(name, text)
    if found is None:
        assert "{{" in text, "only what an engine could expand is refused"
        return
    benign, hostile = dict(leaves(placed(name, BENIGN))), dict(leaves(found))
    assert list(benign) == list(hostile)
    shown = [place for place, value in benign.items() if BENIGN in str(value)]
    assert [place for place in benign if benign[place] != hostile[place]] == shown or text in BENIGN
    for place in shown:
        assert isinstance(hostile[place], str), place


@pytest.mark.parametrize("name", registry.names())
@settings(deadline=None, max_examples=8)
@given(flow=IDENTIFIERS, steps=st.lists(STEPS, min_size=3, max_size=3, unique=True))
def test_a_name_in_any_script_makes_the_same_shape(name: str, flow: str, steps: list[str]) -> None:
    target = registry.get(name)
    first, second, third = steps

    def shape(names: Sequence[str], flow: str) -> int:
        a, b, c = names
        made = fitting(name, plan((Do(a), If(((Do(b),), ())), Do(c))).replace(flow=flow))
        text = target.emit(made, WIRING).text
        assert target.validate(text) == []
        return len(list(leaves(READ[target.document](text))))

    assert shape((first, second, third), flow) == shape(("a", "b", "c"), "flow")


def _boxed(text: str) -> str:
    portable: Plan = plan(
        (Do("a"),),
        parameters=(Parameter("x", "keyword_only", "json", "dict", False, True, {text: [text]}),),
    )
    (declared, *_) = parameters.declared(portable, "")
    return str(declared.default)
