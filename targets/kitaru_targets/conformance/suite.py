"""The tests that a target must pass."""

from __future__ import annotations

import importlib.util
import os
import socket
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from kitaru_compiler import compile_flow

from kitaru.errors import EnvironmentFailure, InputError, KitaruError
from kitaru.handle import result_of
from kitaru.runtime.engine import waits
from kitaru.runtime.journal.journal import Journal
from kitaru.stores import open_store
from kitaru_targets import build, dry_run
from kitaru_targets.base import ContainerSpec, Target
from kitaru_targets.conformance.cases import CASES, DISTURBED, HOSTILE, Case
from kitaru_targets.dry_run.process import Ended, Machine, Start

FLOWS = Path(__file__).with_name("flows.py")
_CALLS = "CONFORMANCE_CALLS"
_MOST_ROUNDS = 20
_SECONDS = 120
# The exit code of a container whose node is lost.
_LOST = 137


_WIRING = ContainerSpec(
    "python:3.11-slim", ("python3", "-c", "pass"), ("step",), "s3://bucket/prefix", {}
)
_WRONG: tuple[dict[str, Any], ...] = (
    {},
    {"text": "a", "other": 1},
    {"text": "a", "number": "three"},
)
_HEAD = (
    "from kitaru import checkpoint, flow\n\n@checkpoint\ndef step(n: int) -> int:\n    return n\n"
)
_LARGE = {
    "a long name": _HEAD.replace("step", "s" * 300)
    + f"\n@flow\ndef large(n: int) -> int:\n    return {'s' * 300}(n)\n",
    "many steps": _HEAD
    + "\n@flow\ndef large(n: int) -> int:\n"
    + "    n = step(n)\n" * 150
    + "    return n\n",
    "many inputs": _HEAD
    + f"\n@flow\ndef large({', '.join(f'p{n}: int = {n}' for n in range(250))}) -> int:\n"
    + "    return step(p0)\n",
    "a long default": _HEAD
    + f"\n@flow\ndef large(text: str = {'é' * 300_000!r}) -> int:\n    return step(len(text))\n",
}


@dataclass(frozen=True)
class Ran:
    """What an execution left: its records by id, and the calls of checkpoints that ran."""

    status: str
    result: Any
    error: tuple[str, str] | None
    records: Mapping[str, tuple[Any, ...]]
    calls: Counter[str]
    containers: tuple[Ended, ...] = field(default=(), compare=False)


# What flows leave on this machine is the same for all targets.
_HERE: dict[str, Ran] = {}


class TargetTests:
    """The tests of a target: subclass it in a test module, with a name that starts with `Test`.

    Attributes:
        target: the target.
        golden: a folder with the document of each flow, which is compared byte by byte. With the
            variable `KITARU_WRITE`, the tests write it. Default: no comparison.
        cases: the executions to compare. Default: all.
        disturbed: those whose containers start twice or are lost. Default: branches, a wait, and
            a fan-out.

    Example:
        class TestShell(TargetTests):
            target = TARGET
    """

    target: ClassVar[Target]
    golden: ClassVar[Path | None] = None
    cases: ClassVar[tuple[Case, ...]] = CASES
    disturbed: ClassVar[tuple[Case, ...]] = DISTURBED

    @pytest.fixture(scope="class")
    @classmethod
    def chosen(cls) -> Target:
        """The target under test."""
        return cls.target

    @pytest.fixture(scope="class")
    @classmethod
    def world(cls, chosen: Target, tmp_path_factory: pytest.TempPathFactory) -> World:
        """Compiles and runs flows for the target."""
        return World(chosen, tmp_path_factory.mktemp("conformance"))

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run a test once for each `case`, `disturbed` case or `flow` of the class."""
        flows = sorted({case.flow for case in self.cases})
        values = {"case": self.cases, "disturbed": self.disturbed, "flow": flows}
        for name in values.keys() & {*metafunc.fixturenames}:
            metafunc.parametrize(name, values[name], ids=str)

    def test_an_execution_is_the_same(self, world: World, case: Case) -> None:
        """Status, result, error and records of a dry run are those of the flow on this machine."""
        assert world.dry(case) == world.here(case)

    def test_a_container_may_start_twice(
        self, world: World, disturbed: Case, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A second start of a container writes the same outputs and calls no checkpoint again."""
        pairs = _start_twice(monkeypatch)
        assert world.dry(disturbed, "twice") == world.here(disturbed)
        assert pairs
        for first, second in pairs:
            assert (second.code, second.outputs) == (first.code, first.outputs)

    def test_a_container_may_be_lost(self, world: World, disturbed: Case) -> None:
        """Without the outputs of a container, the next run continues behind its last record."""
        for place in range(len(world.dry(disturbed).containers)):
            with pytest.MonkeyPatch.context() as patch:
                _lose(patch, place)
                lost = world.dry(disturbed, f"lost {place}")
                assert lost == world.here(disturbed), f"container {place} was lost"

    def test_no_text_is_taken_for_something_else(self, world: World) -> None:
        """Defaults, inputs and variables reach the flow as they are, or are refused."""
        texts = world.accepted(HOSTILE)
        assert texts, "the target refuses every text"
        source, expected = _echo(texts), [*texts, *texts]
        for given in ({}, {f"p{n}": text for n, text in enumerate(texts)}):
            ran = world.dry(Case("echo", given), source=source, environment=_variables(texts))
            assert (ran.status, ran.result) == ("completed", expected)

    def test_a_plan_has_one_document(
        self, world: World, flow: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A document needs no network, has the same bytes each time, and is the golden one."""
        monkeypatch.setattr(socket.socket, "connect", _no_network)
        first, second = (world.compiled(flow, again=n) for n in range(2))
        assert first.contents == second.contents
        if self.golden is not None:
            # Without the digests of a bundle, which other versions of Kitaru change.
            text = world.target.emit(first.plan, _WIRING).text
            kept = self.golden / f"{flow}{first.document.suffix}"
            if os.environ.get("KITARU_WRITE"):
                kept.parent.mkdir(parents=True, exist_ok=True)
                kept.write_text(text, encoding="utf-8")
            expected = kept.read_text(encoding="utf-8") if kept.exists() else "no file"
            assert text == expected, "write it with KITARU_WRITE=1, and read the difference"

    def test_the_check_accepts_documents_and_finds_damage(self, world: World) -> None:
        """The check of the target accepts what it emits, and not a part of it."""
        text = world.compiled("branches").document.read_text(encoding="utf-8")
        assert world.target.validate(text) == []
        assert world.target.validate("") != []
        assert world.target.validate(text[: len(text) // 2]) != []

    @pytest.mark.parametrize("name", _LARGE)
    def test_a_limit_is_refused_before_anything_is_written(self, world: World, name: str) -> None:
        """A flow that is too large for the service is refused, or its document is valid."""
        try:
            written = world.compiled("large", source=_LARGE[name])
        except KitaruError as error:
            assert str(error)
        else:
            assert world.target.validate(written.document.read_text(encoding="utf-8")) == []

    @pytest.mark.parametrize("given", _WRONG, ids=str)
    def test_inputs_are_checked_before_anything_starts(
        self, world: World, given: Mapping[str, Any]
    ) -> None:
        """A missing, an unknown or a wrong input is an error, and no container starts."""
        with pytest.raises(InputError):
            world.dry(Case("row", given))

    def test_the_guide_is_about_the_flow(self, world: World) -> None:
        """DEPLOY.md says how to run the flow."""
        guide = (world.compiled("review").directory / "DEPLOY.md").read_text(encoding="utf-8")
        assert "review" in guide and "topic" in guide


class World:
    """Compiles flows for a target, and runs them as documents and as flows."""

    def __init__(self, target: Target, folder: Path) -> None:
        self.target = target
        self._folder = folder
        self._builds: dict[tuple[Any, ...], build.Build] = {}
        self._dry: dict[tuple[str, str], Ran] = {}

    def compiled(
        self, flow: str, *, source: str = "", environment: str = "", again: int = 0
    ) -> build.Build:
        """Return the build of a flow of `flows.py`, or of `source`."""
        key = (flow, source, environment, again)
        if key not in self._builds:
            project = self._folder / f"project-{os.urandom(4).hex()}"
            project.mkdir()
            path = project / "flows.py"
            path.write_text(source or FLOWS.read_text(encoding="utf-8"), encoding="utf-8")
            settings = f"[project]\nname = 'flows'\nversion = '0'\n{environment}"
            (project / "pyproject.toml").write_text(settings, encoding="utf-8")
            made = compile_flow(path, flow, profile=self.target.profile)
            self._builds[key] = build.write(made, self.target, project / "build")
        return self._builds[key]

    def accepted(self, texts: tuple[str, ...]) -> list[str]:
        """Return the texts that the target does not refuse in a default or a variable."""
        try:
            self.compiled("echo", source=_echo([*texts]), environment=_variables([*texts]))
        except KitaruError:
            half = len(texts) // 2
            return [*self.accepted(texts[:half]), *self.accepted(texts[half:])] if half else []
        return [*texts]

    def dry(self, case: Case, way: str = "", *, source: str = "", environment: str = "") -> Ran:
        """Run the document of a flow; `way` distinguishes runs that are disturbed."""
        key = (f"{case}{source}", way)
        if key not in self._dry:
            made = self.compiled(case.flow, source=source, environment=environment)
            self._dry[key] = self._played(made, case, self._place("dry"))
        return self._dry[key]

    def here(self, case: Case) -> Ran:
        """Run a flow on this machine, without a document."""
        if str(case) not in _HERE:
            _HERE[str(case)] = self._ran_here(case, self._place("here"))
        return _HERE[str(case)]

    def _place(self, kind: str) -> Path:
        place = self._folder / f"{kind}-{os.urandom(4).hex()}"
        place.mkdir()
        return place

    def _played(self, made: build.Build, case: Case, place: Path) -> Ran:
        url, ended = f"sqlite:{place / 'store.db'}", list[Ended]()
        exec_id: str | None = None
        with _calls(place) as calls:
            for _ in range(_MOST_ROUNDS):
                try:
                    exec_id = dry_run.run(
                        made, inputs=case.inputs, answers=dict(case.answers), store_url=url,
                        exec_id=exec_id, report=ended.append,
                    )  # fmt: skip
                    break
                except EnvironmentFailure:
                    # A container was lost: the run continues, as after a new start on the service.
                    exec_id = _only_execution(url)
            return _read(url, str(exec_id), calls, tuple(ended))

    def _ran_here(self, case: Case, place: Path) -> Ran:
        url = f"sqlite:{place / 'store.db'}"
        with _calls(place) as calls:
            flow = getattr(_imported(FLOWS), case.flow)
            handle = flow.options(store=url, cache=False).run(**case.inputs)
            for _ in range(_MOST_ROUNDS):
                if handle.settle(_SECONDS) != "waiting":
                    break
                journal = Journal.open(open_store(url), handle.exec_id)
                for request in journal.pending_waits():
                    waits.answer(journal, request, case.answers[request.name])
            return _read(url, handle.exec_id, calls)


def _start_twice(patch: pytest.MonkeyPatch) -> list[tuple[Ended, Ended]]:
    """Start each container that succeeds once more; return how both ended."""
    pairs: list[tuple[Ended, Ended]] = []
    run = Machine.run

    def twice(machine: Machine, start: Start) -> Ended:
        first = run(machine, start)
        if first.succeeded:
            pairs.append((first, run(machine, replace(start, attempt=start.attempt + 1))))
        return first

    patch.setattr(Machine, "run", twice)
    return pairs


def _lose(patch: pytest.MonkeyPatch, place: int) -> None:
    """Lose the outputs of one container, the first one being 0, when its work is done."""
    run, started = Machine.run, list[Start]()

    def lossy(machine: Machine, start: Start) -> Ended:
        started.append(start)
        ended = run(machine, start)
        if len(started) != place + 1:
            return ended
        lost = replace(ended, code=_LOST, outputs={}, succeeded=False)
        machine.failures[start.task] = lost
        return lost

    patch.setattr(Machine, "run", lossy)


class _calls:
    """Collects the calls of checkpoints in a file that steps find by a variable."""

    def __init__(self, place: Path) -> None:
        self._file = place / "calls"

    def __enter__(self) -> Path:
        self._before = os.environ.get(_CALLS)
        self._file.touch()
        os.environ[_CALLS] = str(self._file)
        return self._file

    def __exit__(self, *_: object) -> None:
        if self._before is None:
            del os.environ[_CALLS]
        else:
            os.environ[_CALLS] = self._before


def _read(url: str, exec_id: str, calls: Path, containers: tuple[Ended, ...] = ()) -> Ran:
    store = open_store(url)
    try:
        journal = Journal.open(store, exec_id)
        state = journal.state()
        error = (state.error.type, state.error.message) if state.error else None
        result = result_of(journal)
        records = {
            one.id: (one.kind, one.callee, one.status, one.arguments_digest, one.position, one.uses)
            for one in journal.invocations()
        }
    finally:
        store.close()
    made = Counter(calls.read_text(encoding="utf-8").splitlines())
    return Ran(state.status, result, error, records, made, containers)


def _only_execution(url: str) -> str:
    store = open_store(url)
    try:
        ids = {key.split("/")[1] for key in store.list("x/")}
    finally:
        store.close()
    (found,) = ids
    return found


def _imported(path: Path) -> Any:
    """Import the module of the flows under its own name, as a script's folder has it."""
    found = sys.modules.get(path.stem)
    if found is not None and getattr(found, "__file__", "") == str(path):
        return found
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def _echo(texts: list[str]) -> str:
    """Return a flow that returns its inputs, which have these defaults, and its variables."""
    named = [f"p{n}" for n in range(len(texts))]
    declared = ", ".join(f"{n}: str = {t!r}" for n, t in zip(named, texts, strict=True))
    return (
        "import os\nfrom kitaru import checkpoint, flow\n\n@checkpoint\n"
        "def read(given: list[str]) -> list[str]:\n"
        f"    return [*given, *(os.environ[f'TEXT_{{n}}'] for n in range({len(texts)}))]\n\n"
        f"@flow\ndef echo({declared}) -> list[str]:\n    return read([{', '.join(named)}])\n"
    )


def _variables(texts: list[str]) -> str:
    """Return the setting that gives these texts to each step as variables."""
    lines = (f"TEXT_{n} = {_toml(text)}" for n, text in enumerate(texts))
    return "\n".join(["[tool.kitaru.environment]", *lines, ""])


def _toml(text: str) -> str:
    plain = text.isascii() and text.isprintable() and not set(text) & set('"\\')
    escaped = "".join(c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in text)
    return f'"{text if plain else escaped}"'


def _no_network(*_: object) -> None:
    raise AssertionError("a document is written without the network")
