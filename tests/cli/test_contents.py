"""`kitaru explain FLOW:checkpoint` shows what its fingerprint covers, and imports nothing."""

from __future__ import annotations

import sys
from importlib import import_module

import pytest

from kitaru.version import VERSION
from kitaru.wire.fingerprint import fingerprint_function

from .conftest import Kitaru

HELPERS = """\
import json
import absent_package.deep as deep

MARK = "!"

def shout(text):
    return json.dumps(text) + MARK + deep.sign(text)

def unused(): ...
"""
FLOW = """\
from kitaru import checkpoint, flow
from contents_helpers import shout

TABLE = {}

@checkpoint
def draft(topic):
    return TABLE.get(topic) or shout(topic)

@checkpoint(name="other-name")
def other(topic): return topic

TABLE["a"] = 1
def plain(): ...

@flow
def main(): return other(draft("a"))
"""
LOUD = "raise SystemExit('imported')\n"


def test_it_lists_definitions_and_packages(kitaru: Kitaru) -> None:
    kitaru.write("lib/contents_helpers.py", HELPERS + LOUD)
    kitaru.write("lib/contents_flow.py", FLOW + LOUD)
    document = kitaru("explain", "lib/contents_flow.py:draft", "--json").document
    assert document["checkpoint"] == "draft"
    assert [(d["file"], d["name"], d["lines"]) for d in document["definitions"]] == [
        ("lib/contents_flow.py", "TABLE", [4, 13]),
        ("lib/contents_flow.py", "draft", [7]),
        ("lib/contents_helpers.py", "MARK", [4]),
        ("lib/contents_helpers.py", "shout", [6]),
    ]
    assert document["packages"] == [
        {"name": "absent_package", "version": "not installed", "names": ["deep.sign"]},
        {"name": "json", "version": "standard library", "names": ["dumps"]},
        {"name": "kitaru", "version": VERSION, "names": ["checkpoint"]},
    ]
    text = kitaru("explain", "lib/contents_flow.py:draft").out
    assert text.startswith(f"draft  {document['fingerprint']}\n")
    assert "lib/contents_flow.py:13" in text and "lib/contents_helpers.py:6" in text
    assert "unused" not in text


def test_it_is_the_fingerprint_that_a_run_records(
    kitaru: Kitaru, monkeypatch: pytest.MonkeyPatch
) -> None:
    helpers = HELPERS.replace("import absent_package.deep as deep\n", "import os as deep\n")
    kitaru.write("contents_helpers.py", helpers)
    kitaru.write("contents_flow.py", FLOW)
    monkeypatch.syspath_prepend(str(kitaru.folder))
    try:
        function = import_module("contents_flow").draft.function
        wanted = fingerprint_function(function)
    finally:
        for name in ("contents_flow", "contents_helpers"):
            sys.modules.pop(name, None)
    assert wanted
    document = kitaru("explain", "contents_flow:draft", "--json").document
    assert document["fingerprint"] == wanted


def test_a_checkpoint_is_found_by_its_own_name_and_where_it_is_imported(kitaru: Kitaru) -> None:
    kitaru.write("parts/__init__.py", "")
    kitaru.write("parts/work.py", "from kitaru import checkpoint\n@checkpoint\ndef work(): ...\n")
    kitaru.write("uses.py", "from parts.work import work as labour\n")
    document = kitaru("explain", "uses.py:labour", "--json").document
    assert [d["file"] for d in document["definitions"]] == ["parts/work.py"]
    own = kitaru("explain", "parts/work.py:work", "--json").document
    assert own["fingerprint"] == document["fingerprint"]


def test_what_is_no_checkpoint_names_those_there_are(kitaru: Kitaru) -> None:
    kitaru.write("flow.py", FLOW.replace("from contents_helpers import shout", "shout = str"))
    error = kitaru("explain", "flow.py:plain", "--json", code=2).error
    assert error["message"] == "flow.py has no checkpoint called 'plain'."
    assert error["help"] == "checkpoints here: draft, other"
    assert kitaru("explain", "flow.py:other", "--json").document["checkpoint"] == "other"
    kitaru("explain", "absent.py:plain", code=2)
    kitaru.write("broken.py", "def (\n")
    assert "error[KIT101]" in kitaru("explain", "broken.py:plain", code=1).err
