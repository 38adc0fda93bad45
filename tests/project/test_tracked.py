"""What no tracked file may hold: registry addresses, paths of a machine, notes to oneself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .conftest import ROOT, tracked

# Put together from parts, so that this file does not hold what it looks for.
REGISTRIES = [
    ("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("npmjs", "com"),
    ("yarnpkg", "com"), ("crates", "io"), ("proxy.golang", "org"),
]  # fmt: skip
MACHINE = [
    r"(?<!\w)/wo" + r"rk(?![\w-])",
    r"(?<!\w)/ro" + r"ot(?![\w-])",
    "/tm" + "p/(kv|brief)",
    r"(?<!\w)/ho" + r"me/\w+",
]
NOTES = ["TO" + "DO", "FIX" + "ME", "XX" + "X"]
FORBIDDEN = {
    **{".".join(host): re.escape(".".join(host)) for host in REGISTRIES},
    **{path: path for path in MACHINE},
    **{note: rf"\b{note}\b" for note in NOTES},
    "a conflict": "^(<{7}|>{7})( |$)",
}


def texts() -> dict[Path, str]:
    found = {}
    for path in tracked():
        try:
            found[path] = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
    return found


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_tracked_file_holds(what: str) -> None:
    pattern = re.compile(FORBIDDEN[what])
    places = [
        f"{path.relative_to(ROOT)}:{number}"
        for path, text in texts().items()
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]
    assert places == []


@pytest.mark.parametrize(
    ("what", "line"),
    [("pypi." + "org", "index = https://pypi." + "org/simple"), (MACHINE[0], "cd /wo" + "rk/main")],
)
def test_the_search_can_find_something(what: str, line: str) -> None:
    assert re.search(FORBIDDEN[what], line)
