"""Flows whose values have codecs: here, in other processes, killed, and as every document."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Annotated, Any, Optional

import pytest
from kitaru_compiler import check, compile_flow
from kitaru_targets import registry

import kitaru
from kitaru import KitaruClient
from kitaru.errors import AnswerInvalid
from kitaru.runtime.codec import user_codecs
from kitaru.runtime.schema.types import from_json, to_json_schema
from kitaru.wire.fingerprint import fingerprint, sources_under
from tests.differential.real import loaded, run_dry, run_here
from tests.differential.test_killed_runs import EXEC, _arm
from tests.sdk.conftest import Script
from tests.waiting import attempts

MONEY = """\
class Money:
    __slots__ = ("cents", "currency")

    def __init__(self, cents, currency):
        self.cents, self.currency = cents, currency

    def __reduce__(self):
        raise TypeError("not by pickle")

    def __add__(self, other):
        return Money(self.cents + other.cents, self.currency)

    def __repr__(self):
        return f"{self.cents} {self.currency}"
"""
CODECS = """\
import kitaru
from own_money import Money

def to_form(money):
    return [money.cents, money.currency]

def from_form(form):
    cents, currency = form
    return Money(cents, currency)

kitaru.register_codec(Money, name="acme.money", encode=to_form, decode=from_form)
"""
FLOW = """\
import json
import os
import kitaru
from kitaru import checkpoint, flow
from own_money import Money
%s

def said(event):
    with open(os.environ.get("CALLS_OF_FLOW", "calls.txt"), "a") as file:
        file.write(event + "\\n")

@checkpoint
def price(n: int) -> Money:
    said(f"price{n}")
    return Money(n, "EUR")

@checkpoint
def total(parts: list[Money], more: Money) -> Money:
    said("total")
    out = more
    for part in parts:
        out = out + part
    return out

@checkpoint
def keep(money: Money) -> str:
    said("keep")
    kitaru.save("kept", money)
    return repr(money)

@checkpoint
def kept(exec_id: str) -> str:
    return repr(kitaru.load(exec_id, "kept"))

@flow
def main(n: int):
    local = Money(7, "EUR")
    both = [local, {"same": local}]
    prices = price.map(range(n)).result()
    kitaru.memory.set("last", prices[-1])
    if total(prices, local).cents > 3:
        local = local + price(100)
    ok = kitaru.wait(name="ok")
    tip = kitaru.wait(name="tip", schema=Money)
    same = both[0] is both[1]["same"]
    last = kitaru.memory.get("last")
    return [keep(total([last, tip], local)), both, same, repr(last), ok]

@flow
def given(start: Money):
    return [keep(start), start]

@flow
def later(exec_id: str):
    return kept(exec_id)
"""
ANSWERS = {"ok": True, "tip": [3, "EUR"]}
RESULT = [
    "111 EUR",
    [[7, "EUR"], {"same": [7, "EUR"]}],
    True,
    "1 EUR",
    True,
]


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    before = user_codecs.codecs()
    yield
    for codec in user_codecs.codecs():
        if codec not in before:
            user_codecs._forget(codec)


@pytest.fixture
def script(tmp_path: Path, store: str) -> Script:
    return _script(tmp_path, store, "import own_codecs")


def _script(folder: Path, store: str, imports: str) -> Script:
    (folder / "own_money.py").write_text(MONEY)
    (folder / "own_codecs.py").write_text(CODECS)
    (folder / "own_flows.py").write_text(FLOW % imports)
    return Script(folder / "own_flows.py", store)


START = "handle = flows.main.options(exec_id='e1').run(2); print(handle.settle())"


def answer(name: str) -> Any:
    return ANSWERS[name]


@pytest.mark.slow
@pytest.mark.parametrize(
    "target",
    [
        "argo",
        "kubeflow",
        "kubernetes",
        "vertex",
        "sagemaker",
        "azureml",
        "airflow",
        "stepfunctions",
    ],
)
def test_a_document_means_the_same_as_the_flow(
    target: str, script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALLS_OF_FLOW", str(tmp_path / "calls.txt"))
    here = run_here(script.file, "main", {"n": 2}, answer, tmp_path)
    dry = run_dry(script.file, "main", {"n": 2}, answer, tmp_path, target)
    assert here.status == dry.status == "completed", dry.error
    assert here.result == dry.result == RESULT
    assert here.invocations == dry.invocations
    assert dry.steps > (0 if target == "kubernetes" else 3)


@pytest.mark.slow
def test_a_flow_that_is_killed_at_every_record_ends_the_same(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALLS_OF_FLOW", str(tmp_path / "calls.txt"))
    url = f"sqlite:{tmp_path / 'killed.db'}"
    died = 0
    for moment in cycle(("before", "after")):
        assert died < 60
        child = os.fork()
        if child == 0:
            code = 1
            try:
                _arm(moment, tmp_path / "died")
                _to_the_end(script.file, url)
                code = 0
            finally:
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code == 0:
            break
        assert code == -signal.SIGKILL
        died += 1
    assert died > 10
    view = KitaruClient(url).executions.get(EXEC)
    here = run_here(script.file, "main", {"n": 2}, answer, tmp_path)
    assert view.to_dict()["result"] == here.result == RESULT
    ended = sorted((r.id, r.callee, r.arguments_digest) for r in view.invocations)
    assert ended == sorted((one[0], one[2], one[4]) for one in here.invocations)


def _to_the_end(path: Path, url: str) -> None:
    handle = loaded(path).main.options(store=url, exec_id=EXEC, cache=False).run(2)
    client = KitaruClient(url)
    for _ in attempts():
        if handle.settle(60) != "waiting":
            break
        for wait in client.executions.get(EXEC).waits:
            client.executions.input(EXEC, answer(wait.name), wait=wait.name)


def test_another_process_resumes_and_commands_import_nothing(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert script.run(START)[1] == "waiting"
    for file in ("own_money.py", "own_codecs.py", "own_flows.py"):
        (tmp_path / file).rename(tmp_path / f"{file}.away")
    client = KitaruClient(script.store)
    client.executions.get("e1").to_dict()
    shown = {one.name: one for one in client.artifacts.list("e1")}
    assert shown and "acme.money" not in user_codecs._by_name
    for file in ("own_money.py", "own_codecs.py", "own_flows.py"):
        (tmp_path / f"{file}.away").rename(tmp_path / file)
    assert script.answer("e1", True) == "waiting"
    before = script.calls()
    assert script.answer("e1", ["a"]) == "waiting"
    (wait,) = client.executions.get("e1").to_dict()["waits"]
    assert wait["name"] == "tip" and "the codec acme.money 1" in wait["refused"]
    assert script.answer("e1", [3, "EUR"]) == "completed"
    assert client.executions.get("e1").to_dict()["result"] == RESULT
    assert script.calls() == [*before, "total", "keep"]
    assert script.run("print(flows.later.run('e1').wait())")[1] == "111 EUR"
    # All records are there: nothing runs again.
    again = (
        "flows.main.options(exec_id='e1').run(2).wait(); print(len(flows.Money(1, 'a').currency))"
    )
    assert script.run(again)[1] == "1"
    assert script.calls() == [*before, "total", "keep"]


def test_a_changed_version_stops_before_anything_runs(script: Script, tmp_path: Path) -> None:
    assert script.run(START)[1] == "waiting"
    before = script.calls()
    newer = CODECS.replace('name="acme.money"', 'name="acme.money", version=2')
    (tmp_path / "own_codecs.py").write_text(newer)
    answered = "\ntry: print(client.executions.input('e1', True).wait())"
    answered += "\nexcept Exception as error: print(error)"
    told = script.run(answered)[1]
    assert "version 1 of the codec acme.money, and version 2 is registered" in told
    assert script.calls() == before
    (tmp_path / "own_codecs.py").write_text(CODECS)
    retry = "print(client.executions.retry('e1').settle())"
    assert script.run(retry)[1] == "waiting"
    assert script.calls() == before


def test_an_input_and_an_override_are_given_in_the_encoded_form(script: Script) -> None:
    run = "print(json.dumps(client.executions.get(flows.given.run(%s).exec_id).inputs))"
    code = (
        "from kitaru.runtime.engine.inputs import bind_json\n"
        "one = bind_json('given', flows.given.function, {'start': [5, 'EUR']})\n"
        "print(one.arguments['start'])"
    )
    assert script.run(code)[1] == "5 EUR"
    assert script.run(run % "flows.Money(5, 'EUR')")[1] == '{"start": [5, "EUR"]}'
    assert script.run(START)[1] == "waiting"
    for value in ("[1, 'EUR']", "flows.Money(1, 'EUR')"):
        code = (
            "handle = client.executions.replay('e1', from_='total', "
            f"overrides={{'checkpoint.total': {value}}})\n"
            "print(handle.settle(), client.executions.get(handle.exec_id).to_dict()['status'])"
        )
        assert script.run(code)[1].startswith("waiting"), script.run(code)


class Price:
    def __init__(self, cents: int) -> None:
        self.cents = cents

    def __repr__(self) -> str:
        return f"{self.cents} cents"


@pytest.mark.parametrize(
    ("schema", "value", "expected"),
    [
        (list[Price], [[5], [7]], "[5 cents, 7 cents]"),
        (list[Price], [Price(5)], "[5 cents]"),
        (dict[str, list[Price]], {"a": [[5]]}, "{'a': [5 cents]}"),
        (tuple[Price, ...], [[5]], "(5 cents,)"),
        (Optional[Price], None, "None"),  # noqa: UP045 - as people write it
        (Price | None, [5], "5 cents"),
        (Annotated[list[Price], "of a cart"], [[5]], "[5 cents]"),
        (list[Price], [[]], None),
        (list[Price], "text", None),
        (dict[str, Price | int], {"a": None}, None),
    ],
)
def test_a_codec_decodes_inside_of_containers(
    schema: Any, value: Any, expected: str | None
) -> None:
    kitaru.register_codec(
        Price, name="acme.price", encode=lambda p: [p.cents], decode=lambda form: Price(*form)
    )
    if expected is None:
        with pytest.raises(AnswerInvalid):
            from_json(value, schema, "it", strict=True)
    else:
        assert str(from_json(value, schema, "it", strict=True)) == expected
    assert "acme.price" in json.dumps(to_json_schema(schema))


def test_the_compiler_finds_the_module_that_registers(tmp_path: Path, store: str) -> None:
    script = _script(tmp_path, store, "")
    (tmp_path / "unrelated.py").write_text(
        "import kitaru, gone\nkitaru.register_codec(gone.A, name='a', encode=1, decode=1)\n"
    )
    (tmp_path / "test_money.py").write_text(CODECS)
    compiled = compile_flow(script.file, "main", profile=registry.get("vertex").profile)
    assert compiled.plan.codecs == ("own_codecs",)
    files = compiled.travel.files
    assert {"own_codecs.py", "own_money.py"} <= set(files)
    assert not {"unrelated.py", "test_money.py"} & set(files)
    assert type(compiled.plan).from_json(compiled.plan.to_json()) == compiled.plan
    (tmp_path / "own_codecs.py").unlink()
    without = compile_flow(script.file, "main", profile=registry.get("vertex").profile).plan
    assert without.codecs == () and '"codecs"' not in without.to_json()


def test_a_document_imports_the_module_that_nothing_imports(
    tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALLS_OF_FLOW", str(tmp_path / "calls.txt"))
    script = _script(tmp_path, store, "")
    dry = run_dry(script.file, "main", {"n": 2}, answer, tmp_path, "kubeflow")
    assert (dry.status, dry.result) == ("completed", RESULT), dry.error


def test_the_code_of_a_codec_is_part_of_its_class(tmp_path: Path) -> None:
    source = MONEY + CODECS.replace("from own_money import Money\n", "")
    source += "\ndef use():\n    return Money(1, 'EUR')\n"
    file = tmp_path / "shop.py"

    def digest(text: str) -> str:
        file.write_text(text)
        return fingerprint(sources_under(tmp_path), "shop", "use")

    assert digest(source) == digest(source + "# a comment")
    assert digest(source) != digest(source.replace("[money.cents, ", "[int(money.cents), "))
    assert digest(source) != digest(source.replace('name="acme.money"', 'name="acme.m"'))


def test_a_changed_codec_takes_nothing_from_the_cache(script: Script, tmp_path: Path) -> None:
    cost = "\n@checkpoint(cache=True)\ndef cost(n: int):\n    return made(n)\n"
    cost += "@flow(cache=True)\ndef costs(n: int):\n    return repr(cost(n))\n"
    script.file.write_text(FLOW % "from own_codecs import made" + cost)
    made = "\ndef made(n):\n    return Money(n, 'EUR')\n"
    # A process that a test starts has a cache of its own.
    run = (
        "import os; os.environ.pop('PYTEST_CURRENT_TEST')\n"
        "handle = flows.costs.run(1)\nprint(handle.wait())\n"
        "(one,) = client.executions.get(handle.exec_id).invocations\nprint(bool(one.cached_from))"
    )
    (tmp_path / "own_codecs.py").write_text(CODECS + made)
    assert [script.run(run)[1] for _ in range(2)] == ["1 EUR\nFalse", "1 EUR\nTrue"]
    changed = CODECS.replace("Money(cents, currency)", "Money(cents, str(currency))")
    (tmp_path / "own_codecs.py").write_text(changed + made)
    assert [script.run(run)[1] for _ in range(2)] == ["1 EUR\nFalse", "1 EUR\nTrue"]


def test_what_has_no_codec_is_told_with_a_line_to_paste(script: Script, tmp_path: Path) -> None:
    script.file.write_text(FLOW % "")
    code = (
        "\ntry: flows.main.options(exec_id='e1').run(2).wait()"
        "\nexcept Exception as error: print(error, error.__cause__ or '')"
    )
    _, told, log = script.run(code)
    assert 'kitaru.register_codec(Money, name="own_money.Money", encode=…, decode=…)' in told + log


def test_an_input_of_a_registered_class_needs_no_advice(script: Script, tmp_path: Path) -> None:
    codes = [one.code for one in check(script.file)[0]]
    assert "KIT503" not in codes and "KIT408" not in codes
    (tmp_path / "own_codecs.py").unlink()
    script.file.write_text(FLOW % "")
    assert "KIT503" in [one.code for one in check(script.file)[0]]


def test_the_example_of_the_documentation_runs(tmp_path: Path, store: str) -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "values.md"
    section = page.read_text().partition("## Types of your own")[2]
    example = section.partition("```python\n")[2].partition("```")[0]
    (tmp_path / "own_flows.py").write_text(example)
    script = Script(tmp_path / "own_flows.py", store)
    start = "print(flows.plan.options(exec_id='e1').run('Oslo').settle())"
    assert script.run(start)[1] == "waiting"
    assert script.answer("e1", True) == "completed"
    result = KitaruClient(store).executions.get("e1").to_dict()["result"]
    assert result == ["10.1.0.0/17", "10.1.128.0/17"]
    assert f"`{result}`".replace("'", '"') in section
