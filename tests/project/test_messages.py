"""Every error is a sentence, so that a person, a log and a JSON document read alike."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from kitaru import errors

ROOT = Path(__file__).parents[2]
# The handler of this error completes the sentence with the place of the value.
CLAUSES = {"ValueNotEncodable"}
RAISED = {name for name in vars(errors) if isinstance(getattr(errors, name), type)} - CLAUSES
# A capital, a value, or a name from the source or the command line; `{}` stands for a value.
BEGINS = re.compile(r"""[A-Z@\[({'"`-]|[a-z_]+[.=]""")
ENDS = (".", "…", "{}")


def messages(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
            text = written(node.args[0])
            if node.func.id in RAISED and text:
                yield node.lineno, text


def written(message: ast.expr) -> str:
    parts = message.values if isinstance(message, ast.JoinedStr) else [message]
    return "".join(str(p.value) if isinstance(p, ast.Constant) else "{}" for p in parts)


def test_every_message_is_a_sentence() -> None:
    folders = [ROOT / name for name in ("kitaru", "compiler", "targets", "templates")]
    found = [
        (path, line, text)
        for folder in folders
        for path in sorted(folder.rglob("*.py"))
        for line, text in messages(path)
    ]
    assert len(found) > 200
    odd = [
        f"{path.relative_to(ROOT)}:{line}: {text}"
        for path, line, text in found
        if not BEGINS.match(text) or not text.endswith(ENDS)
    ]
    assert odd == []
