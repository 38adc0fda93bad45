"""The official JSON-Schema-Test-Suite, draft 2020-12, through the function that checks answers.

`python3 dev.py test` downloads it. The exceptions are listed here, each with its reason.
"""

from __future__ import annotations

import functools
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema_rs
import pytest

from kitaru.errors import UsageError
from kitaru.runtime.schema import validate
from kitaru.runtime.schema.validate import check_schema, problem

FOLDER = Path(__file__).parents[2] / ".envs" / "json-schema"
REMOTE = "http://localhost:1234/"
# The suite says that a format is a note unless a program chooses to check it; we do.
ASSERTED = "is only an annotation by default"
# A time of Python has no offset, or one of any minutes; RFC 3339 wants an offset, and a short one.
PYTHONIC = {
    ("time", "no time offset"),
    ("time", "no time offset with second fraction"),
    ("time", "only RFC3339 not all of ISO 8601 are valid"),
    ("time", "an invalid time string with invalid time numoffset minute"),
}


@functools.cache
def suite() -> dict[str, Any]:
    """Return the documents of the suite by their path below its root."""
    found = sorted(FOLDER.glob("jsonschema-*.tar.gz"))
    if not found:
        pytest.skip("the suite is not there: python3 dev.py test")
    documents = {}
    with tarfile.open(found[-1]) as archive:
        for member in archive:
            _, folder, path = (*member.name.split("/", 2), "", "")[:3]
            if folder == "json" and path.endswith(".json"):
                held = archive.extractfile(member)
                assert held is not None
                documents[path] = json.load(held)
    return documents


def cases(folder: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, document in sorted(suite().items()):
        name = path.removeprefix(f"tests/draft2020-12/{folder}")
        if name != path and "/" not in name:
            yield from ((name.removesuffix(".json"), case) for case in document)


@pytest.fixture
def remotes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let references find the documents that the suite expects on a server of its own."""

    def retrieve(uri: str) -> Any:
        return suite()["remotes/" + uri.removeprefix(REMOTE)]

    def validator_for(schema: Any, **options: Any) -> Any:
        options |= {"retriever": retrieve, "offline": False}
        return jsonschema_rs.validator_for(schema, **options)

    library = SimpleNamespace(
        **{name: getattr(jsonschema_rs, name) for name in dir(jsonschema_rs) if name[0] != "_"}
    )
    library.validator_for = validator_for
    monkeypatch.setattr(validate, "_library", lambda: library)


def wrong(folder: str) -> Iterator[tuple[str, str, str]]:
    for name, case in cases(folder):
        for test in case["tests"]:
            if (problem(test["data"], case["schema"]) is None) != test["valid"]:
                yield name, case["description"], test["description"]


@pytest.mark.usefixtures("remotes")
def test_every_required_case() -> None:
    count = sum(len(case["tests"]) for _, case in cases(""))
    assert count > 1200
    found = [one for one in wrong("") if not one[2].endswith(ASSERTED)]
    assert found == []


@pytest.mark.usefixtures("remotes")
def test_every_optional_case() -> None:
    assert list(wrong("optional/")) == []


def test_every_format() -> None:
    assert {(name, test) for name, _, test in wrong("optional/format/")} == PYTHONIC


def test_what_a_wait_takes_is_checked_as_the_suite_says() -> None:
    """Without its server: a schema is refused when it is asked, or all of it is checked."""
    taken = refused = 0
    for _, case in cases(""):
        if not isinstance(case["schema"], dict):
            continue
        try:
            check_schema(case["schema"], "the wait")
        except UsageError as error:
            refused += 1
            if "fits no value" in error.message:
                assert not any(test["valid"] for test in case["tests"]), case
            continue
        taken += 1
        for test in case["tests"]:
            if not test["description"].endswith(ASSERTED):
                found = problem(test["data"], case["schema"])
                assert (found is None) == test["valid"], (case, test, found)
    assert taken > 300 and refused < 60
