"""The fingerprint of a checkpoint changes with what it mentions, and with nothing else."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest

from kitaru.wire.fingerprint import fingerprint, fingerprint_function

BASE = {
    "flow": """
        import json
        import helpers
        from helpers import tidy as clean
        from pkg import shared
        from pkg.inner import deep

        PROMPT = "Write: {}"
        REGISTRY = {}
        LIMIT: int = 3

        class Brief:
            limit = LIMIT

        def unrelated(x):
            return x - 1

        def shout(text):
            return text.upper() + suffix()

        def suffix():
            return "!"

        def draft(topic: "str", n=LIMIT) -> Brief:
            '''Says what it does.'''
            local = json.dumps(topic)
            return shout(clean(PROMPT.format(local))) + shared.twice(topic) + deep(topic)

        def lookup(name):
            return REGISTRY[name]

        REGISTRY["a"] = shout

        def lazy():
            from helpers import other
            return other()

        def module_user():
            return helpers.tidy("x")

        def shadow(suffix):
            return [unrelated for unrelated in suffix]
    """,
    "helpers": """
        def tidy(text):
            return text.strip(CHARS)

        CHARS = " "

        def other():
            return 1
    """,
    "pkg.__init__": "from . import shared\n",
    "pkg": "from . import shared\n",
    "pkg.shared": "from .inner import deep\n\ndef twice(x):\n    return x * 2\n",
    "pkg.inner": "from ..pkg import shared\n\ndef deep(x):\n    return [x]\n",
}


def take(name: str, *changes: tuple[str, str, str]) -> str:
    sources = {module: textwrap.dedent(text) for module, text in BASE.items()}
    for module, old, new in changes:
        assert old in sources[module]
        sources[module] = sources[module].replace(old, new)
    return fingerprint(sources.get, "flow", name)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("draft", ("flow", "return x - 1", "return x - 2")),
        ("draft", ("flow", "Says what it does.", "Says more.")),
        ("draft", ("flow", "    local =", "    # why\n    local =")),
        ("draft", ("flow", "json.dumps(topic)", "json . dumps(  topic )")),
        ("draft", ("helpers", "return 1", "return 2")),
        ("shadow", ("flow", 'return "!"', 'return "?"')),
        ("shadow", ("flow", "return x - 1", "return x - 2")),
        ("module_user", ("helpers", "return 1", "return 2")),
        ("unrelated", ("flow", "text.upper()", "text.lower()")),
    ],
)
def test_stays(name: str, change: tuple[str, str, str]) -> None:
    assert take(name) == take(name, change)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("draft", ("flow", "json.dumps(topic)", "json.loads(topic)")),
        ("draft", ("flow", "text.upper()", "text.lower()")),
        ("draft", ("flow", 'return "!"', 'return "?"')),
        ("draft", ("flow", '"Write: {}"', '"Draft: {}"')),
        ("draft", ("flow", "LIMIT: int = 3", "LIMIT: int = 4")),
        ("draft", ("flow", "limit = LIMIT", "limit = LIMIT + 1")),
        ("draft", ("flow", "import json", "import pickle as json")),
        ("draft", ("helpers", "text.strip", "text.lstrip")),
        ("draft", ("helpers", 'CHARS = " "', 'CHARS = "_"')),
        ("draft", ("pkg.shared", "x * 2", "x * 3")),
        ("draft", ("pkg.inner", "[x]", "(x,)")),
        ("lookup", ("flow", 'REGISTRY["a"] = shout', 'REGISTRY["a"] = suffix')),
        ("lookup", ("flow", "text.upper()", "text.lower()")),
        ("lazy", ("helpers", "return 1", "return 2")),
        ("module_user", ("helpers", "text.strip", "text.lstrip")),
    ],
)
def test_changes(name: str, change: tuple[str, str, str]) -> None:
    assert take(name) != take(name, change)


def test_different_definitions_differ() -> None:
    names = ("draft", "lookup", "lazy", "shadow", "unrelated", "suffix")
    assert len({take(name) for name in names}) == len(names)


def test_unknown_definition_has_no_fingerprint() -> None:
    assert take("missing") == ""


def test_method_counts_its_whole_class() -> None:
    assert take("Brief.limit") == take("Brief") != ""


def test_fallback_import_and_star() -> None:
    def of(value: str, star: str) -> str:
        sources = {
            "m": "try:\n    from fast import go\nexcept ImportError:\n    from slow import go\n"
            "from consts import *\n\ndef f():\n    return go(SIZE)\n",
            "slow": f"def go(x):\n    return {value}\n",
            "consts": f"SIZE = {star}\n",
        }
        return fingerprint(sources.get, "m", "f")

    assert len({of("1", "1"), of("2", "1"), of("1", "2")}) == 3


def test_function_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "fp_helpers.py").write_text("def help_me():\n    return 1\n")
    source = "def f():\n    import fp_helpers\n    return fp_helpers.help_me()\n"
    (tmp_path / "fp_flow.py").write_text(source)
    before = _function(tmp_path)
    (tmp_path / "fp_helpers.py").write_text("def help_me():\n    return 1  # same\n")
    assert _function(tmp_path) == before
    (tmp_path / "fp_helpers.py").write_text("def help_me():\n    return 2\n")
    assert _function(tmp_path) != before
    assert "fp_helpers" not in sys.modules


def _function(root: Path) -> str:
    import importlib

    sys.modules.pop("fp_flow", None)
    result = fingerprint_function(importlib.import_module("fp_flow").f)
    assert result.startswith("sha256:")
    sys.modules.pop("fp_flow", None)
    return result


def test_captured_variables_have_no_fingerprint() -> None:
    def make(n: int):  # type: ignore[no-untyped-def]
        return lambda: n

    assert fingerprint_function(make(1)) == ""


def test_deep_expressions() -> None:
    source = "X = " + "+".join(["1"] * 900) + "\n\ndef f():\n    return X\n"
    other = "X = " + "+".join(["1"] * 899 + ["2"]) + "\n\ndef f():\n    return X\n"
    found = {fingerprint({"m": text}.get, "m", "f") for text in (source, other)}
    assert len(found) == 2


def test_main_guard_does_not_count() -> None:
    def of(tail: str) -> str:
        return fingerprint({"m": f"def f():\n    return 1\n{tail}"}.get, "m", "f")

    assert of("") == of('if __name__ == "__main__":\n    f.run()\n')
