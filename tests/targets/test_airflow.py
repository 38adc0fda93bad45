"""A DAG file equals its template, except for literals."""

from __future__ import annotations

import ast
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kitaru_targets import dry_run, registry
from kitaru_targets.airflow import dag_file, module
from kitaru_targets.common import parameters
from kitaru_templates.render import literal, word

from kitaru.client import KitaruClient
from kitaru.errors import UsageError
from kitaru.wire.plan import Block, BranchItem, Parameter, Plan, Resources, Step, StepItem
from kitaru.wire.structs import replace as replaced

from .conftest import REVIEW, Make
from .programs import WIRING, Do, If, plan, span
from .test_injection import TEXT

TARGET = registry.get("airflow")
HERE = replace(WIRING, image="")
PROGRAM = (
    Do("a", "maybe", retries=2),
    If(((Do("b", wait=True),), (Do("c"),))),
    Do("d", resources=Resources("2", "4Gi", 1)),
)


def emit(made: Plan, wiring: Any = HERE) -> str:
    text = TARGET.emit(made, wiring).text
    assert TARGET.validate(text) == []
    return text


def asking() -> Plan:
    """A plan in which the step `b` asks, and `b_answer` takes the answer."""
    made = plan((Do("a"), Do("b", wait=True), Do("d")))
    wait = Block(9, "ok", "wait", ("d",), (), span(30))
    answer = Step("ok_answer", "ok", ("ok",), ("d",), span(30))
    steps = (*made.steps[:2], answer, *made.steps[2:])
    layout = tuple(map(StepItem, ("a", "b", "ok_answer", "d")))
    return made.replace(blocks=(*made.blocks, wait), steps=steps, layout=layout)


def test_the_tasks_stand_in_program_order_and_a_wait_asks_before_its_answer_is_taken() -> None:
    document = dag_file.read(emit(asking()))
    assert [(task.method, task.id, [*task.after]) for task in document.tasks] == [
        ("step", "a", []), ("step", "b", ["a"]), ("ask", "ok", ["b"]),
        ("step", "ok_answer", ["ok"]), ("step", "d", ["ok_answer"]),
    ]  # fmt: skip
    assert document.tasks[3].options == {"after": {"ok": ""}, "doc": "flow.py:30", "ask": "ok"}


BRANCHES = (
    Do("a"),
    If(((Do("b"), Do("c", wait=True)), (Do("d", "always"),), ())),
    Do("e"),
)


def test_a_branch_is_a_branch_and_an_arm_of_several_steps_a_group() -> None:
    made = plan(BRANCHES)
    branch = made.layout[1]
    assert isinstance(branch, BranchItem)
    layout = (made.layout[0], replaced(branch, test="n > 5"), made.layout[2])
    document = dag_file.read(emit(made.replace(layout=layout)))
    assert [(task.id, task.after, task.options.get("group")) for task in document.tasks] == [
        ("a", {}, None),
        ("b", {"a": "n > 5"}, "then-n-gt-5"),
        ("c", {"b": ""}, "then-n-gt-5"),
        ("d", {"a": "else"}, None),
        ("e", {"c": "", "a": "else"}, None),
    ]
    assert [group.id for group in document.groups] == ["then-n-gt-5"]


def test_what_is_left_after_an_answer_asks_nothing() -> None:
    made = asking()
    left = made.replace(steps=made.steps[2:], layout=made.layout[2:])
    assert [t.method for t in dag_file.read(emit(left)).tasks] == ["step", "step"]


def test_without_an_image_steps_are_processes_and_with_one_they_are_pods() -> None:
    here, pods = (dag_file.read(emit(plan(PROGRAM), wiring)) for wiring in (HERE, WIRING))
    assert "pod" not in here.flow and pods.flow["pod"] == {"image": "python:3.11-slim"}
    assert 'OUTCOME = "outcome.json"' in module.text(pods=False)
    assert 'OUTCOME = "/airflow/xcom/return.json"' in module.text(pods=True)
    assert "asks_for" not in here.tasks[-1].options
    amounts = {"cpu": "2", "memory": "4Gi", "nvidia.com/gpu": "1"}
    assert pods.tasks[-1].options["asks_for"] == amounts
    with pytest.raises(UsageError, match="not an amount"):
        TARGET.emit(plan((Do("a", resources=Resources(memory="4 GB")),)), WIRING)


def test_inputs_are_typed_in_the_form() -> None:
    given = (
        Parameter("s", "keyword_only", "str", "str", True, False),
        Parameter("empty", "keyword_only", "str", "str", False, True, ""),
        Parameter("n", "keyword_only", "int", "int", False, True, 3),
        Parameter("x", "keyword_only", "float", "float", False, True, 0.5),
        Parameter("b", "keyword_only", "bool", "bool", False, True, True),
        Parameter("j", "keyword_only", "json", "list", False, True, [1, "a"]),
        Parameter("late", "keyword_only", "int", "int", False, False),
    )
    found = dag_file.read(emit(plan((Do("a"),), parameters=given))).params
    shown = {name: (p["schema"]["type"], p.get("default", "required")) for name, p in found.items()}
    assert shown == {
        "s": ("string", "required"),
        "empty": (["null", "string"], ""),
        "n": ("integer", 3),
        "x": ("number", 0.5),
        "b": ("boolean", True),
        "j": (["null", "string"], '[1, "a"]'),
        "late": (["null", "string"], "kitaru:default"),
        "kitaru_execution": (["null", "string"], ""),
        "kitaru_store": (["null", "string"], "sqlite:/tmp/x.db"),
        "kitaru_inputs": (["null", "string"], ""),
    }


LISTS = """
    from kitaru import checkpoint, flow

    @checkpoint
    def parts(text: str) -> list[str]:
        return text.split()

    @checkpoint(retries=2)
    def shout(part: str) -> str:
        return part.upper()

    @flow
    def lists(text: str) -> list[str]:
        return [call.result() for call in [shout.submit(part) for part in parts(text)]]
"""


def test_the_calls_of_a_list_are_tasks_beside_one_another(make: Make) -> None:
    document = dag_file.read(make(LISTS, "airflow").document.read_text())
    assert [(t.method, t.id) for t in document.tasks] == [
        ("step", "parts"), ("each", "shout"), ("step", "gather_shout"),
    ]  # fmt: skip
    options = document.tasks[1].options
    assert (options["of"], options["max_active_tis_per_dagrun"], options["retries"]) == (
        "parts", 8, 2,
    )  # fmt: skip


def test_a_document_of_pods_runs_dry(make: Make, tmp_path: Path) -> None:
    built = make(LISTS, "airflow", image="registry/lists:1", delivery="image")
    assert f"from {module.name(pods=True)} import Flow\n" in built.document.read_text()
    assert f"{module.name(pods=True)}.py" in built.files
    url = f"sqlite:{tmp_path / 'store.db'}"
    exec_id = dry_run.run(built, inputs={"text": "a b"}, answers={}, store_url=url)
    assert KitaruClient(url).executions.get(exec_id).result == ["A", "B"]


def test_the_same_plan_gives_the_same_bytes(make: Make) -> None:
    one, two = make(REVIEW, "airflow", out="one"), make(REVIEW, "airflow", out="two")
    assert one.document.read_bytes() == two.document.read_bytes()
    assert one.document.name == "dag.py"


def test_the_project_says_how_airflow_runs_it() -> None:
    tasks = {"pool": "llm", "queue": "gpu", "executor": "CeleryExecutor", "owner": "ml"}
    given = {**tasks, "namespace": "flows"}
    document = dag_file.read(emit(plan((Do("a"),)).replace(options=given), WIRING))
    assert tasks.items() <= document.flow["options"].items()
    assert document.flow["pod"] == {"image": "python:3.11-slim", "namespace": "flows"}
    with pytest.raises(UsageError, match="no option 'colour'"):
        TARGET.emit(plan((Do("a"),)).replace(options={"colour": "red"}), WIRING)


def test_options_stand_in_the_projects_file(make: Make, tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    settings = tmp_path / "project" / "pyproject.toml"
    settings.write_text('[tool.kitaru.airflow]\npool = "llm"\n')
    document = dag_file.read(make(REVIEW, "airflow").document.read_text())
    assert document.flow["options"]["pool"] == "llm"
    settings.write_text("[tool.kitaru]\nairflow = 7\n")
    with pytest.raises(UsageError, match="table of options"):
        make(REVIEW, "airflow")


def test_airflow_can_be_told_of_an_answer() -> None:
    assert TARGET.answered is not None


# What control passes over


def passed_over(outcome: dict[str, str], task: str, made: Plan | None = None) -> list[str]:
    tasks = dag_file.read(emit(made or asking())).tasks
    before = {one.id: one.after for one in tasks}
    over: list[str] = module.functions(pods=False)["passed_over"](outcome, task, [*before], before)
    return over


@pytest.mark.parametrize(
    ("task", "following", "status", "over"),
    [
        ("a", "b", "go", []),
        ("a", "d", "go", ["b", "ok", "ok_answer"]),
        ("a", "end", "end", ["b", "ok", "ok_answer", "d"]),
        ("a", "ok_answer", "waiting", ["b"]),
        ("b", "ok_answer", "waiting", []),
        ("b", "d", "go", ["ok", "ok_answer"]),
        ("b", "end", "waiting", ["ok", "ok_answer", "d"]),
        ("d", "end", "end", []),
        ("d", "b", "go", []),
    ],
)
def test_tasks_that_control_passes_over_are_skipped(
    task: str, following: str, status: str, over: list[str]
) -> None:
    assert passed_over({"next": following, "status": status}, task) == over


@pytest.mark.parametrize(
    ("task", "following", "status", "over"),
    [
        ("a", "b", "go", ["d"]),
        ("a", "c", "go", ["b", "d"]),
        ("a", "d", "go", ["b", "c", "e"]),
        ("a", "e", "go", ["b", "c", "d"]),
        ("c", "e", "go", ["d"]),
        ("d", "end", "end", ["e"]),
        ("b", "end", "end", ["c", "d", "e"]),
    ],
)
def test_a_task_skips_all_arms_but_that_of_the_next_one(
    task: str, following: str, status: str, over: list[str]
) -> None:
    assert passed_over({"next": following, "status": status}, task, plan(BRANCHES)) == over


# Only literals vary


def structure(text: str) -> str:
    """Return the tree of a file with every literal's value taken out."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant):
            node.value = type(node.value).__name__
    return ast.dump(tree)


def hostile(text: str) -> str:
    """Return the file of a flow that has `text` wherever a user's text can be."""
    given = (
        Parameter("topic", "keyword_only", "str", "str", False, True, text),
        Parameter("limits", "keyword_only", "json", "dict", False, True, {text: [text]}),
    )
    place = replace(span(10), file=f"{text}.py")
    made = plan(PROGRAM, parameters=given)
    steps = tuple(replace(step, span=place) for step in made.steps)
    options = dict.fromkeys(("namespace", "pool", "queue", "owner", "service_account_name"), text)
    made = made.replace(
        steps=steps, file=place.file, doc=text, models={text: text}, options=options
    )
    wiring = replace(
        WIRING,
        image=f"image{text}",
        store=f"s3://bucket/{text}",
        environment={"LABEL": text},
        leading=("step", "--target", text),
    )
    return TARGET.emit(parameters.portable(made, TARGET.transport), wiring).text


@settings(deadline=None, max_examples=200)
@given(TEXT.filter(lambda text: "{{" not in text))
def test_a_text_of_the_users_is_a_literal_and_changes_nothing_else(text: str) -> None:
    written = hostile(text)
    assert TARGET.validate(written) == []
    assert structure(written) == structure(hostile("benign"))
    document = dag_file.read(written)
    assert document.flow["environment"]["LABEL"] == text
    assert document.flow["start"][-1] == text
    assert document.flow["pod"]["image"] == f"image{text}"
    assert document.params["topic"]["default"] == text
    assert document.tasks[0].options["doc"] == f"{text}.py:10"


def test_nothing_of_the_users_stands_where_airflow_expands() -> None:
    for pods in (False, True):
        found = [n for n in ast.parse(module.text(pods=pods)).body if isinstance(n, ast.ClassDef)]
        assert [node.name for node in found] == ["Step", "Ask", "Flow"]
        for node in found[:2]:
            assert "template_fields = ()" in ast.unparse(node)


class Text(str):
    """A text that says something else when it is asked."""

    def __repr__(self) -> str:
        return "__import__('os')"


@pytest.mark.parametrize("value", [Text("a"), {Text("a"): 1}, (1,), {1}, float("nan"), b"", str])
def test_only_plain_literals_are_written(value: Any) -> None:
    with pytest.raises(TypeError, match="plain literal"):
        literal(value)
    with pytest.raises(TypeError, match="no name"):
        word(value)


def test_what_no_filter_has_seen_is_refused() -> None:
    with pytest.raises(TypeError, match="as it is"):
        render_with("{{ value }}", value="import os")
    assert render_with("{{ value | py }}", value="import os") == "'import os'"


def render_with(template: str, **values: Any) -> str:
    from kitaru_templates.render import _python

    return _python().from_string(template).render(values)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: (
    st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)))  # fmt: skip
def test_a_literal_is_read_back(value: Any) -> None:
    assert ast.literal_eval(literal(value)) == value


# What the check finds

GOOD = emit(
    asking().replace(parameters=(Parameter("topic", "keyword_only", "str", "str", True, False),))
)
ASK = "flow.ask(\n        'ok',"
CHANGES: dict[str, tuple[str, str, str]] = {
    "more code": ("with flow.dag(", "import os\nwith flow.dag(", "not the one that its template"),
    "another import": ("import Param", "import Param, DAG", "not the one that its template"),
    "another module": ("from kitaru_airflow_", "from kitaru_airflow_1", "not the one of this"),
    "another name": ("import Flow", "import Flow as os", "the import of Flow"),
    "other options": ("flow = Flow(", "flow = Flow(more=1, ", "here belongs flow = Flow"),
    "other options of the DAG": ("flow.dag(", "flow.dag(more=1, ", "its DAG has"),
    "a call as a constant": ("environment={", "environment=dict() or {", "cannot be read"),
    "a call as an option": ("doc='flow.py:30'", "doc=print('flow.py:30')", "cannot be read"),
    "a program of another": ("start=[", "start=[program('other.py'), ", "not the one of this"),
    "an unpacking": (ASK, "flow.ask(\n        *['ok'],", "here belongs a step"),
    "another method": (ASK, "flow.exec(\n        'ok',", "here belongs a step"),
    "another object": (ASK, "json.ask(\n        'ok',", "here belongs a step"),
    "a name for the DAG": ("    },\n):", "    },\n) as json:", "one DAG"),
    "a default that is code": ("Param('sqlite:/tmp/x.db'", "Param(open('x')", "cannot be read"),
    "an f-string": ("schedule=None", "schedule=f'{1}'", "cannot be read"),
    "broken": ("with flow.dag(", "with flow.dag((", "cannot be read"),
    "an invalid id": ("'d',", "'d d',", "cannot be an id"),
    "one id twice": ("'d',", "'a',", "two tasks are called a"),
    "an unknown option": ("doc='flow.py:30'", "pool='x'", "unknown option pool"),
    "an answer nobody takes": ("ask='ok',", "", "does not take the answer"),
    "an answer out of order": ("after={'ok': ''}", "after={'b': ''}", "does not take the answer"),
    "a list of nobody's": (ASK, "flow.each('ok', of='d',", "makes its list"),
    "a list that comes later": (ASK, "flow.each('ok', of='a',", "come after the task with its"),
    "a long list": (ASK, f"flow.each('ok', of={['0'] * 1025},", "longer than 1,024"),
    "a pod's resources": ("doc='flow.py:30'", "asks_for={'cpu': '1'}", "runs in none"),
    "a task of no way": ("after={'b': ''}", "after={}", "comes after no task"),
    "a way from nowhere": ("after={'b': ''}", "after={'d': ''}", "comes after d, which is not"),
    "an unknown group": ("doc='flow.py:30'", "group='x'", "is in an unknown group"),
    "a group in another": (ASK, "flow.group('g', inside='x')\n    " + ASK, "g is in an unknown"),
    "a default of another type": ("Param('sqlite:/tmp/x.db'", "Param(7", "default of kitaru_store"),
    "an input that is no parameter": ("['topic']", "['topic', 'other']", "other is missing"),
    "inputs of a later step": ("doc='flow.py:30'", "inputs=['topic']", "is not the first"),
    "a schedule that gives no input": (
        "schedule=None",
        "schedule={'cron': '0 7 * * *', 'timezone': 'UTC', 'one_at_a_time': True}",
        "is given no topic",
    ),
    "a schedule as a text": ("schedule=None", "schedule='@daily'", "not one that the module reads"),
    "a schedule in no zone": (
        "schedule=None",
        "schedule={'cron': '0 7 * * *', 'timezone': 'Mars', 'one_at_a_time': True}",
        "'Mars' is not a time zone",
    ),
    "a variable that is no text": ("'PYTHONHASHSEED': '0'", "'PYTHONHASHSEED': 0", "is no text"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_the_check_finds(name: str) -> None:
    old, new, problem = CHANGES[name]
    assert old in GOOD
    found = TARGET.validate(GOOD.replace(old, new))
    assert any(problem in line for line in found), found


def test_a_file_is_read_as_what_it_was_made_from() -> None:
    document = dag_file.read(GOOD)
    assert asdict(document.tasks[0]) == {
        "id": "a", "method": "step",
        "options": {"after": {}, "doc": "flow.py:10", "inputs": ["topic"]},
    }  # fmt: skip
    assert document.dag["dag_id"] == "some_flow" and document.dag["schedule"] is None
