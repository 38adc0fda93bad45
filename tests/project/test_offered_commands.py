"""Every command that Kitaru tells people to type is one that its command line accepts.

Collected from the sources, templates and documents: string constants (errors, helps, docstrings),
code in documents, and calls that build a command word by word. A value that is known only at run
time, such as an execution's id, stands for any word. Each command is parsed as the real one would
be, and not run.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest

from kitaru.cli.app import cli
from kitaru.compat.command_line import rewrite
from kitaru.errors import UsageError

from .conftest import ROOT, tracked

VALUE = "VALUE"
COMMAND = re.compile(r"(?<![\w./@=-])(?<!import )(?<!from )kitaru (?=[a-z])(?!offline|and)[^\n`]*")
# A command ends where the shell, the sentence or a quotation does.
END = re.compile(r" ?(?:&&|\|\||[;|<>]| & | \\$).*|[.:,;]$|[.,;:)] .*| \(.*|  +\S.*|[)\"]+$")


@cache
def offered() -> list[tuple[str, str]]:
    """Return the places that offer commands, with each command."""
    return list(found())


def found() -> Iterator[tuple[str, str]]:
    for path in tracked("kitaru/**.py", "compiler/**.py", "targets/**.py", "templates/**.py"):
        place = str(path.relative_to(ROOT))
        tree = ast.parse(path.read_text("utf-8"))
        for line, text in [*strings(tree), *built(tree)]:
            yield from ((f"{place}:{line}", one) for one in commands(text))
    for path in tracked("templates/**.j2"):
        text = re.sub(r"\{%.*?%\}", "", path.read_text("utf-8"), flags=re.DOTALL)
        text = re.sub(r"\{\{.*?\}\}", VALUE, text, flags=re.DOTALL)
        yield from ((str(path.relative_to(ROOT)), one) for one in commands(text))
    for path in tracked("*.md"):
        if path.name != "CHANGELOG.md":
            yield from ((str(path.relative_to(ROOT)), one) for one in commands(code(path)))


def strings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield string constants and f-strings, with `VALUE` for what is filled in."""
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)
              for part in node.values}  # fmt: skip
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [p.value if isinstance(p, ast.Constant) else VALUE for p in node.values]
            yield node.lineno, "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and type(node.value) is str and id(node) not in inside:
            yield node.lineno, node.value


def built(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the commands that are built of words, where their names are constants.

    ["kitaru", "executions", "get", id]           a list
    command(store, "executions", "get", id)   kitaru.hints
    _of(execution, "input", "--wait", name)   kitaru.hints
    _execution(store_url, "get", id)          kitaru.hints
    command("get", id, store=store)           kitaru.cli.render.execution
    """
    for node in ast.walk(tree):
        words: list[ast.expr] = []
        if isinstance(node, ast.List) and node.elts and is_text(node.elts[0], "kitaru"):
            words = node.elts[1:]
        elif isinstance(node, ast.Call) and node.args:
            name, (first, *others) = ast.unparse(node.func), node.args
            if name == "_of" and others:
                words = [ast.Constant("executions"), others[0], ast.Name("id"), *others[1:]]
            elif name == "_execution":
                words = [ast.Constant("executions"), *others]
            elif name == "command" and isinstance(first, ast.Constant):
                words = [ast.Constant("executions"), first, *others]
            elif name in ("command", "hints.command"):
                words = others
        shown = [w.value if isinstance(w, ast.Constant) else VALUE for w in words
                 if not isinstance(w, ast.Starred)]  # fmt: skip
        if shown and VALUE not in shown[:2]:
            yield node.lineno, shlex.join(["kitaru", *map(str, shown)])


def is_text(node: ast.expr, text: str) -> bool:
    return isinstance(node, ast.Constant) and node.value == text


CONTEXT = click.Context(cli, info_name="kitaru")


def commands(text: str) -> Iterator[str]:
    text = text.replace("\\\n", " ")
    for found in COMMAND.finditer(text):
        yield END.sub("", found[0]).strip()


def code(path: Path) -> str:
    text = path.read_text("utf-8")
    blocks = re.findall(r"^```.*?$(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    plain = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return "\n".join([*blocks, *(f"`{one}`" for one in re.findall(r"`([^`]*)`", plain))])


def wrong(text: str) -> str:
    """Return what the command line says against a command, empty when it accepts it."""
    try:
        plain = re.sub(r"[\[\]]| or \S+", "", text)
        # The quotation mark of the text around it, or of a value.
        closed = plain if plain.count("'") % 2 == 0 else plain.rstrip("'") + "'" * ("='" in plain)
        words = shlex.split(closed, comments=True)[1:]
    except ValueError as error:
        return str(error)
    try:
        words, _ = rewrite(words)
        return parse(cli, CONTEXT, words)
    except (click.UsageError, UsageError) as error:
        return str(error)


def parse(command: click.Command, context: click.Context, words: list[str]) -> str:
    if isinstance(command, click.Group) and words and words[0][0] not in "-…":
        child = command.get_command(context, words[0])
        if child is None:
            return f"no command {words[0]}"
        return parse(child, click.Context(child, context, words[0]), words[1:])
    given, rest, _ = command.make_parser(context).parse_args(args=list(words))
    if rest and rest != ["…"]:
        return f"too many words: {rest}"
    parameters = command.get_params(context)
    present = {
        p.name for p in parameters if isinstance(given.get(p.name or ""), str | tuple | list)
    }
    # A command that is only named, as in `kitaru deploy --tag canary`, need not be whole.
    named = not any(isinstance(p, click.Argument) and p.name in present for p in parameters)
    for parameter in parameters:
        if parameter.required and parameter.name not in present and not named:
            return f"{parameter.get_error_hint(context)} is missing"
        value = given.get(parameter.name or "")
        if isinstance(parameter.type, click.Choice) and isinstance(value, str) and value.islower():
            parameter.type.convert(value, parameter, context)
    return ""


def test_commands_are_found() -> None:
    places = {place.partition(":")[0] for place, _ in offered()}
    built_there = "kitaru/hints.py"
    assert {"README.md", "kitaru/cli/render/execution.py", built_there} <= places
    assert len(offered()) > 300


def test_every_offered_command_is_accepted() -> None:
    refused = [(place, text, why) for place, text in offered() if (why := wrong(text))]
    assert refused == []


@pytest.mark.parametrize(
    "text",
    ["kitaru replay EXEC", "kitaru executions resume EXEC --from x", "kitaru flow tag review@v1",
     "kitaru executions list --status gone", "kitaru compile a.py b.py --target vertex"],
)  # fmt: skip
def test_a_command_that_is_wrong_is_noticed(text: str) -> None:
    assert wrong(text)
