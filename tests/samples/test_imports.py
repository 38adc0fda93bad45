"""What importing a flow's file does: it defines everything and starts nothing."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from importlib.machinery import FileFinder, PathFinder, SourceFileLoader
from importlib.util import decode_source
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kitaru_compiler import check

from kitaru import KitaruClient
from kitaru.errors import FlowError
from kitaru.runtime.steps.modules import import_file
from kitaru.wire.importing import check_exit

HEAD = """
import asyncio
import kitaru
from kitaru import KitaruClient, checkpoint, flow

@checkpoint
def draft(topic):
    return f"draft of {topic}"

@flow
def review(topic):
    return draft(topic)

"""
SAMPLES = sorted(Path(__file__).parent.glob("*_sample.py"))


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("KITARU_STORE", f"sqlite:{tmp_path / 'kitaru.db'}")
    monkeypatch.chdir(tmp_path)
    before, path = set(sys.modules), list(sys.path)
    yield
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None) or ""
        if file.startswith(str(tmp_path)):
            del sys.modules[name]
    sys.path[:] = path


def imported(source: str, name: str = "seed") -> ModuleType:
    file = Path(f"{name}.py")
    file.write_text(source)
    return import_file(file)


def executions() -> list[dict[str, Any]]:
    return KitaruClient().executions.list()


STARTS = {
    "run": "review.run('owls')",
    "wait": "handle = review.run('owls').wait()\nprint(handle.upper())",
    "options": "review.options(cache=False).run('owls').wait()",
    "two names": "first = second = review.run('owls')\nprint(second.wait(), first.exec_id)",
    "in a function": "def main():\n    print(review.run('owls').wait())\n\nmain()",
    "in an event loop": "async def main():\n    review.run('owls').wait()\n\nasyncio.run(main())",
    "in a task group": (
        "async def one():\n    review.run('owls').wait()\n\n"
        "async def main():\n    async with asyncio.TaskGroup() as group:\n"
        "        group.create_task(one())\n\nasyncio.run(main())"
    ),
    "in a loop": "for topic in ('owls', 'kayaks'):\n    print(review.run(topic).wait())",
    "in a comprehension": "found = [review.run(t).wait() for t in ('owls',)]\nassert found",
    "in a try": "try:\n    review.run('owls').wait()\nexcept Exception as error:\n    raise error",
    "in a with": "import contextlib\nwith contextlib.suppress(OSError):\n    review.run('owls')",
    "in a class": "class Holder:\n    handle = review.run('owls')\n",
    "after a semicolon": "ready = 1; review.run('owls'); late = 2; print(ready + late)",
    "in a thread": (
        "import threading\nt = threading.Thread(target=lambda: review.run('owls').wait())\n"
        "t.start()\nt.join()"
    ),
    "exit with the result": "import sys\nsys.exit(0 if review.run('owls').wait() else 1)",
    "resume": "review.resume('1m8jxcp2y-prfg3tyg').wait()",
    "replay": "review.replay('1m8jxcp2y-prfg3tyg').wait()",
    "deployment": (
        "import contextlib\nwith contextlib.suppress(kitaru.errors.NotFound):\n"
        "    review.deployment(tag='stable').invoke(topic='owls').wait()"
    ),
    "deploy": "review.deploy(tag='stable').invoke(topic='owls')",
    "client invoke": "KitaruClient().deployments.invoke('review', {'topic': 'owls'})",
    "client input": "KitaruClient().executions.input('1m8jxcp2y-prfg3tyg', True).wait()",
    "client retry": "KitaruClient().executions.retry('1m8jxcp2y-prfg3tyg')",
    "client cancel": "KitaruClient().executions.cancel('1m8jxcp2y-prfg3tyg')",
}


# Outside pytest a thread that raises SystemExit ends without a word.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS.keys())
def test_a_top_level_that_starts_an_execution_only_defines(start: str) -> None:
    module = imported(f"{HEAD}{start}\n\nBELOW = 1\n\ndef below():\n    return BELOW\n")
    assert executions() == []
    assert module.review.name == "review"
    assert (module.BELOW, module.below()) == (1, 1)


# What the compiler cannot know from the source alone: threads, and what a client does.
UNSEEN = {"in a thread", *(name for name in STARTS if name.startswith("client"))}


@pytest.mark.parametrize("name", STARTS)
def test_the_compiler_notes_a_start_at_the_top_level(name: str) -> None:
    Path("seed.py").write_text(f"{HEAD}{STARTS[name]}\n")
    found = [one for one in check(Path("seed.py"))[0] if one.code == "KIT507"]
    assert len(found) == (name not in UNSEEN)
    guarded = STARTS[name].replace("\n", "\n    ")
    Path("seed.py").write_text(f"{HEAD}if __name__ == '__main__':\n    {guarded}\n")
    assert "KIT507" not in [one.code for one in check(Path("seed.py"))[0]]


def test_what_it_would_have_bound_is_unbound_and_not_stale() -> None:
    module = imported(f"{HEAD}text = ''\ntext = review.run('owls').wait()\nlength = len(text)\n")
    assert not hasattr(module, "text")
    assert not hasattr(module, "length")


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_the_samples_are_imported_without_an_execution(sample: Path) -> None:
    assert imported(sample.read_text(), sample.stem).review_flow.name == "review_flow"
    assert executions() == []


def test_a_module_of_the_project_that_starts_something_is_imported_as_well() -> None:
    text = f"{HEAD}report = review.run('owls').wait()\nTONE = 'dry'\n"
    Path("house_of_seeds.py").write_text(text)
    module = imported(f"import house_of_seeds\nfrom house_of_seeds import TONE\n{HEAD}")
    assert (module.TONE, executions()) == ("dry", [])


def beartype_everywhere() -> None:
    """Replace the loader of all modules, as fastmcp's dependencies do for one package."""
    from beartype.claw import beartype_package

    beartype_package("a_package_of_no_project")


class Seeing(SourceFileLoader):
    """Sees each source. Needs the source and no tree, as jaxtyping's loader does."""

    seen: ClassVar[list[str]] = []

    def source_to_code(self, data: Any, path: Any, *args: Any, **options: Any) -> Any:  # type: ignore[override]
        self.seen.append(decode_source(data))
        return super().source_to_code(data, path, *args, **options)


class SeeingFinder:
    """A finder in front of the others, as typeguard's and jaxtyping's."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> Any:
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = Seeing(spec.loader.name, spec.loader.path)
        return spec


def loader_everywhere() -> None:
    sys.path_hooks.insert(0, FileFinder.path_hook((Seeing, [".py"])))
    sys.path_importer_cache.clear()


def finder_in_front() -> None:
    sys.meta_path.insert(0, SeeingFinder)


@pytest.mark.parametrize("replace", [beartype_everywhere, loader_everywhere, finder_in_front])
def test_a_module_whose_loader_a_library_replaces_starts_nothing(
    replace: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path_hooks", list(sys.path_hooks))
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    Seeing.seen.clear()
    replace()
    text = (
        f"from __future__ import annotations\n{HEAD}annotations = 'mine'\n"
        "report = review.run('owls').wait()\nTONE = annotations\n\ndef below(x: NoName): ...\n"
    )
    Path("house_of_seeds.py").write_text(text)
    module = imported(f"from house_of_seeds import TONE, below\nimport house_of_seeds\n{HEAD}")
    assert (module.TONE, executions()) == ("mine", [])
    assert module.below.__code__.co_firstlineno == text[: text.index("def below")].count("\n") + 1
    if replace is not beartype_everywhere:
        # Also the part after the abandoned statement passed through the library's loader.
        assert ["report =" in source for source in Seeing.seen if "TONE =" in source] == [
            True,
            False,
        ]
    sys.path_importer_cache.clear()


def test_the_rest_of_the_module_keeps_its_docstring_lines_and_future() -> None:
    source = (
        f'"""What it is."""\nfrom __future__ import annotations\n{HEAD}review.run("owls")\n'
        '"""Not a docstring."""\n\ndef below(x: NoSuchName) -> int:\n    return 1 / 0\n'
    )
    module = imported(source)
    assert module.__doc__ == "What it is."
    assert (
        module.below.__code__.co_firstlineno == source[: source.index("def below")].count("\n") + 1
    )


def test_another_name_error_is_still_an_error() -> None:
    with pytest.raises(NameError, match="absent"):
        imported(f"{HEAD}review.run('owls')\nprint(absent)\n")


def test_an_exit_before_the_flow_is_told_with_its_line() -> None:
    module = imported("import sys\nsys.exit('usage: seed TOPIC')\n" + HEAD)
    with pytest.raises(FlowError, match=r"seed\.py:2: SystemExit: usage: seed TOPIC"):
        check_exit(module, "a flow")


def test_the_process_that_imports_may_start_executions_meanwhile_and_later() -> None:
    import_file_done, imports = threading.Event(), threading.Event()
    sys.modules["meeting"] = meeting = ModuleType("meeting")
    meeting.__dict__.update(imports=imports, done=import_file_done)
    ready = imported(HEAD, "ready")
    Path("slow.py").write_text(
        f"{HEAD}import meeting\nmeeting.imports.set()\nmeeting.done.wait(60)"
    )
    importer = threading.Thread(target=import_file, args=(Path("slow.py"),))
    importer.start()
    assert imports.wait(60)
    try:
        assert ready.review.run("owls").wait() == "draft of owls"
    finally:
        import_file_done.set()
        importer.join()
        del sys.modules["meeting"]
    assert sys.modules["slow"].review.run("owls").wait() == "draft of owls"


# Statements of generated modules: what each binds, what it needs, and whether it starts something.
STATEMENTS = st.sampled_from(
    [
        ("{0} = 1", False),
        ("{0} = {1}", False),
        ("def {0}():\n    return {1}", False),
        ("class {0}:\n    at = 1", False),
        ("import math as {0}", False),
        ("{0} = [{1} for _ in range(1)]", False),
        ("for {0} in (1, 2):\n    pass", False),
        ("with __import__('contextlib').nullcontext({1}) as {0}:\n    pass", False),
        ("if ({0} := 3):\n    pass", False),
        ("{0} = review.run('owls').wait()", True),
        ("{0} = (lambda: review.run('owls'))()", True),
        ("for {0} in (1, 2):\n    review.run('owls').wait()", True),
        ("if ({0} := review.run('owls')):\n    pass", True),
        ("try:\n    {0} = review.run('owls').wait()\nfinally:\n    pass", True),
        ("@(lambda f: review.run('owls') and f)\ndef {0}():\n    pass", True),
    ]
)
NAMES = st.sampled_from("abcd")


@settings(max_examples=150)
@given(st.lists(st.tuples(STATEMENTS, NAMES, NAMES), max_size=12), st.sampled_from("\n;"))
def test_generated_modules_bind_what_does_not_hang_on_an_execution(
    program: list[tuple[tuple[str, bool], str, str]], separator: str
) -> None:
    known, unbound, body = {"a", "b", "c", "d"}, set[str](), "a = b = c = d = 0\n"
    joins = False
    for (text, starts), name, other in program:
        statement = text.format(name, other)
        simple = "\n" not in statement and not statement.startswith("if")
        body += (separator if joins and simple else "\n") + statement
        joins = simple
        needs = "{1}" in text and "def" not in text
        gone = starts or (needs and other in unbound)
        (unbound.add if gone else unbound.discard)(name)
    module = imported(f"{HEAD}{body}\nEND = 1\n", "generated")
    try:
        assert {name for name in known if hasattr(module, name)} == known - unbound, body
        assert module.END == 1
        assert executions() == []
    finally:
        del sys.modules["generated"]
