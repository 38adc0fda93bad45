"""Translate command lines of Kitaru 0.21 and earlier before they are parsed.

    executions get ID -o json                         executions get ID --json, in an envelope
    executions replay ID --args '{"topic": "owls"}'   executions replay ID --inputs '{…}'
    executions replay ID --overrides '{"checkpoint.a": "x"}'     … --set 'checkpoint.a="x"'
    memory get KEY --scope repo --scope-type flow     memory get KEY --scope flow:repo
    memory scopes                                     memory scope list
    invoke FLOW --input '{"topic": "owls"}'           invoke FLOW --inputs '{"topic": "owls"}'
    flow deployments show FLOW --tag stable           flow show FLOW@stable
    executions logs EXEC --checkpoint draft           executions logs EXEC --invocation draft
    executions list --size 20                         executions list --limit 20

An option without an equivalent is an error that states what to write: `removed.PARTS`.

Other words are unchanged, and so are all words after `--`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from kitaru.compat.removed import PARTS
from kitaru.errors import UsageError

_OUTPUT = ("--output", "-o")
_REPLAY_JSON = (
    "--args",
    "--flow-overrides",
    "--overrides",
    "--checkpoint-overrides",
    "--invocation-overrides",
)
_RENAMED = {
    "executions list --size": "--limit",
    "executions logs --checkpoint": "--invocation",
}
_TAKE_INPUTS = ("invoke", "run", "dry-run")


def rewrite(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """Return the command line in today's form, and whether JSON output goes into an envelope.

    Raises:
        UsageError: an option that takes a JSON object has another value.
    """
    end = list(arguments).index("--") if "--" in arguments else len(arguments)
    words, rest = list(arguments[:end]), list(arguments[end:])
    words, enveloped = _formats(words)
    _refuse(words)
    words = [_renamed(words, word) for word in words]
    if words[:1] and words[0] in _TAKE_INPUTS:
        words = _inputs(words)
    if words[:2] == ["executions", "input"]:
        words = _answer(words)
    if words[:2] == ["flow", "deployments"]:
        words = _deployments(words)
    if words[:2] == ["executions", "replay"]:
        words = _replay(words)
    if words[:1] == ["memory"]:
        words = _memory(words)
    return words + rest, enveloped


def _formats(words: list[str]) -> tuple[list[str], bool]:
    """Turn `--output json` into `--json`; a directory of that name is written ./json."""
    found: list[str] = []
    enveloped = False
    pending = iter(words)
    for word in pending:
        option, equals, value = word.partition("=")
        if option in _OUTPUT and not equals:
            value = next(pending, "")
        elif word == "-ojson":
            option, value = "-o", "json"
        if option in _OUTPUT and value == "json":
            found.append("--json")
            enveloped = True
        elif option in _OUTPUT and not equals:
            found += [word, value] if value else [word]
        else:
            found.append(word)
    return found, enveloped


def _renamed(words: list[str], word: str) -> str:
    option, equals, value = word.partition("=")
    return _RENAMED.get(" ".join([*words[:2], option]), option) + equals + value


def _answer(words: list[str]) -> list[str]:
    """Remove `--interactive`: without --value, a terminal prompts anyway."""
    found = [word for word in words if word not in ("--interactive", "-i")]
    if len(found) == 2 and found != words:
        raise UsageError(
            "Which execution is to be answered is not named.",
            help="List those that wait, and answer each: kitaru executions list --status waiting",
        )
    return found


def _refuse(words: list[str]) -> None:
    """Raise UsageError for a part of a command line that has no equivalent."""
    for part, instead in PARTS.items():
        *command, last = part.split()
        if words[: len(command)] == command:
            given = words[len(command) :] if last.startswith("-") else words[len(command) :][:1]
            if any(word == last or word.startswith(f"{last}=") for word in given):
                raise UsageError(f"There is no `kitaru {part}`.", help=instead)


def _inputs(words: list[str]) -> list[str]:
    """Accept a JSON object for `--input`, as well as NAME=VALUE."""
    found = [*words]
    for at, word in enumerate(words):
        option, equals, value = word.partition("=")
        if option == "--input" and equals and value.startswith("{"):
            found[at] = f"--inputs={value}"
        elif word == "--input" and words[at + 1 : at + 2] and words[at + 1].startswith("{"):
            found[at] = "--inputs"
    return found


def _taken(words: list[str], *options: str) -> tuple[dict[str, str], list[str]]:
    """Return the values of options in the form `--name VALUE` or `--name=VALUE`, and the
    remaining words."""
    given: dict[str, str] = {}
    rest: list[str] = []
    pending = iter(words)
    for word in pending:
        option, equals, value = word.partition("=")
        if option in options:
            given[option] = value if equals else next(pending, "")
        else:
            rest.append(word)
    return given, rest


def _deployments(words: list[str]) -> list[str]:
    """Turn `flow deployments list|show FLOW` into `flow show FLOW`."""
    if len(words) < 3 or words[2] not in ("list", "show"):
        return words
    given, rest = _taken(words[3:], "--tag", "--version")
    version = f"v{given['--version'].removeprefix('v')}" if "--version" in given else ""
    chosen = given.get("--tag") or version
    if words[2] == "show" and rest and not rest[0].startswith("-"):
        rest[0] = f"{rest[0]}@{chosen or 'default'}"
    return ["flow", "show" if rest[:1] and rest[0][0] != "-" else "list", *rest]


def _replay(words: list[str]) -> list[str]:
    found: list[str] = []
    pending = iter(words)
    for word in pending:
        option, equals, value = word.partition("=")
        if option not in (*_REPLAY_JSON, "--at"):
            found.append(word)
            continue
        value = value if equals else next(pending, "")
        if option == "--at":
            found += [option, value] if value == "failure" else ["--from", value]
        elif option in ("--args", "--flow-overrides"):
            found += ["--inputs", value]
        else:
            for name, result in _object(option, value).items():
                found += ["--set", _override(option, name, result)]
    return found


def _override(option: str, name: str, result: Any) -> str:
    if option == "--overrides":
        if name.startswith("checkpoint."):
            return f"{name}={json.dumps(result)}"
        raise UsageError(
            f"The override {name!a} is not of the form checkpoint.NAME.",
            help="kitaru executions replay EXEC --set checkpoint.NAME=VALUE --input NAME=VALUE",
        )
    if not isinstance(result, dict) or result.keys() != {"output"}:
        raise UsageError(
            f'The override of the checkpoint {name} is not of the form {{"output": value}}.',
            help=f"kitaru executions replay EXEC --set checkpoint.{name}=VALUE",
        )
    return f"checkpoint.{name}={json.dumps(result['output'])}"


def _object(option: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if isinstance(value, dict):
        return value
    raise UsageError(f"{option} must be a JSON object, not {text!a}.")


def _memory(words: list[str]) -> list[str]:
    if words[1:2] == ["scopes"]:
        words = ["memory", "scope", "list", *words[2:]]
    given, found = _taken(words, "--scope", "--scope-type")
    scope, kind = given.get("--scope"), given.get("--scope-type")
    if kind and scope and ":" not in scope:
        scope = f"{kind}:{scope}"
    if scope is None and kind:
        scope = kind
    return found if scope is None else [*found, "--scope", scope]
