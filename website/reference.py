"""Reference pages made from the code: commands, Python API, settings.

The site adds them when it is built (`python3 dev.py docs`), so they cannot differ from the code.
Each function returns the Markdown of one page.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import click

import kitaru
from kitaru import errors, harness, memory, settings
from kitaru.cli.app import SECTIONS, cli
from kitaru.testing import FlowTest

SECTION = re.compile(r"^(Args|Attributes|Returns|Yields|Raises|Example|Examples):$", re.MULTILINE)
ENTRY = re.compile(r"^    (\S.*?): +(.*(?:\n {8}.*)*)", re.MULTILINE)

SETTINGS = {
    "store": "Where executions are recorded.",
    "cache": "Reuse results of other executions.",
    "stateless": "Packages and classes whose objects hold no state that a result depends on.",
    "retries": "Number of retries of checkpoints that set none.",
    "max_parallel": "Number of submitted calls that run at a time.",
    "stack": "The stack whose settings apply.",
    "target": "The orchestrator that commands compile for when `--target` is missing.",
    "submit": "Options that `kitaru invoke` passes to the target's service.",
    "image": "The container image of steps.",
    "memory_scope": "The memory scope outside flows.",
    "default_model": "The model of calls that name none.",
    "models": "Model aliases, with limits of requests and tokens.",
    "secrets": "References of secrets.",
    "logs": "Record the output of flows.",
    "source": "Record the flow's file with executions on this machine, for the pages.",
    "otel": "Export traces and metrics. Unset: when an OTLP endpoint is configured.",
    "capture": "What is recorded of model calls besides their values.",
    "budget": "How much the model calls of an execution, or of a flow on one day, may use.",
    "redact": "A function that edits texts of model calls and logs before they are recorded.",
    "sleep_in_process": "Longest sleep in seconds for which a deployed process waits by itself.",
    "environment": "Plain environment variables of steps.",
    "airflow": "Options of the Airflow target.",
    "airflow_url": "The Airflow server whose runs commands answer and cancel.",
    "argo_url": "The server of Argo Workflows whose runs commands start, answer and end.",
    "notify": "The channels of notifications: webhooks, Slack, Teams and mail.",
    "sources": "Services that send signed events, such as GitHub, Stripe and Slack.",
    "service_url": "The URL of the service, for links in notifications.",
    "link_key": "The secret that signs links which answer a question without an account.",
    "oidc": "The provider of OpenID Connect with which people log in to `kitaru serve`.",
    "oidc_roles": "The role of each of its groups, such as `approver of review`.",
    "base_image": "The image that the Dockerfile builds on; steps run on it if `image` is not set.",
    "require_hashes": "Fail if a requirement has no hash, or an image no digest.",
    "include": "Files to bundle in addition to those that the code names.",
    "exclude": "Files to leave out of the bundle.",
    "requirements": "The requirements file of steps.",
    "compile_cache": "Directory for cached results of `kitaru compile` and `kitaru check`; `off` "
    "turns the cache off. Default: `kitaru` in `$XDG_CACHE_HOME`, or in `~/.cache`.",
    "argo": "Options of the Argo Workflows target.",
    "azureml": "Options of the AzureML target.",
    "kubeflow": "Options of the Kubeflow target.",
    "kubernetes": "Options of the Kubernetes target.",
    "sagemaker": "Options of the SageMaker target.",
    "stepfunctions": "Options of the Step Functions target.",
    "vertex": "Options of the Vertex target.",
}


# Commands


def commands() -> str:
    context = click.Context(cli, info_name="kitaru")
    parts = [
        "# Commands",
        "Made from the command line itself; `kitaru COMMAND --help` prints the same. "
        "[Conventions of the command line](command-line.md) explains execution names, statuses, "
        "completion and exit codes.",
    ]
    for title, names in SECTIONS.items():
        parts.append(f"## {title}")
        for name in names:
            command = cli.get_command(context, name)
            assert command is not None, name
            parts += command_text(command, click.Context(command, context, name))
    return "\n\n".join(parts) + "\n"


def command_text(command: click.Command, context: click.Context) -> Iterator[str]:
    yield f"### {context.command_path}"
    usage = context.get_usage().removeprefix("Usage: ")
    yield "```\n" + re.sub(r"\s+", " ", usage) + "\n```"
    yield help_text(command.help or "")
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None, name
            yield from command_text(child, click.Context(child, context, name))
        return
    rows = [option_row(p, context) for p in command.params if isinstance(p, click.Option)]
    if rows:
        yield "\n".join(["| option | meaning |", "|---|---|", *rows])


def option_row(option: click.Option, context: click.Context) -> str:
    names, meaning = option.get_help_record(context) or (", ".join(option.opts), "")
    return f"| `{cell(names)}` | {cell(escaped(meaning))} |"


def help_text(text: str) -> str:
    """Return a help text as Markdown: blocks that click prints as they are become code."""
    parts = []
    for paragraph in inspect.cleandoc(text).replace("\f", "").split("\n\n"):
        if paragraph.startswith("\b"):
            parts.append("```\n" + paragraph.removeprefix("\b").strip("\n") + "\n```")
        else:
            parts.append(escaped(" ".join(paragraph.split())))
    return "\n\n".join(parts)


# Python API


def python() -> str:
    parts = ["# Python API", "Made from the signatures and docstrings of the package."]
    lazy = {"KitaruClient", "Handle", "Future", "Reply", "ToolCall", "__version__"}
    plain = [n for n in kitaru.__all__ if not n.startswith("Kitaru") and n not in lazy]
    functions = [n for n in plain if home(n) is None]
    parts.append("## Flows and checkpoints")
    for name in functions:
        parts += documented(f"kitaru.{name}", getattr(kitaru, name), "###")
    parts.append("## Memory in flows")
    for name, value in public(memory):
        parts += documented(f"kitaru.memory.{name}", value, "###")
    parts.append("## Objects that calls return")
    for name in ("Handle", "Future", "Reply", "ToolCall"):
        parts += class_text(f"kitaru.{name}", getattr(kitaru, name), "###")
    parts.append("## Client")
    parts += class_text("kitaru.KitaruClient", kitaru.KitaruClient, "###")
    for name, value in namespaces():
        parts += class_text(f"client.{name}", type(value), "###")
    parts.append("## Durable steps of harnesses")
    parts.append("[Write an adapter](../how-to/writing-an-adapter.md) explains them.")
    for name, value in public(harness):
        parts += documented(f"kitaru.harness.{name}", value, "###")
    parts.append("## Tests")
    parts += class_text("kitaru.testing.FlowTest", FlowTest, "###")
    parts.append("## Errors")
    parts.append("Each error has an exit code; every command that ends with the error uses it.")
    parts.append("\n".join(error_rows()))
    parts.append("## Names of Kitaru 0.21 and earlier")
    parts.append("[Migrate from Kitaru 0.21](../how-to/migrating.md) explains them.")
    for name in plain:
        if home(name):
            parts += documented(f"kitaru.{name}", getattr(kitaru, name), "###")
    return "\n\n".join(parts) + "\n"


def home(name: str) -> str | None:
    """Return the compatibility module that defines a name, `None` for today's names."""
    value = getattr(kitaru, name)
    if isinstance(value, ModuleType):
        return "module"
    module = str(getattr(value, "__module__", ""))
    return module if module.startswith("kitaru.compat") or value is kitaru.Handle else None


def public(module: ModuleType) -> list[tuple[str, Any]]:
    """Return the functions that a module offers, as functions or as methods of an object."""
    return [(n, getattr(module, n)) for n in module.__all__ if n[0].islower()]


def namespaces() -> list[tuple[str, Any]]:
    """Return the parts of a client, such as `executions`."""
    client = kitaru.KitaruClient("memory:reference")
    found = [(name, getattr(client, name)) for name in dir(client) if name[0] != "_"]
    return [
        (n, v) for n, v in found if type(v).__module__.startswith("kitaru.") and not callable(v)
    ]


def class_text(name: str, cls: type[Any], level: str) -> Iterator[str]:
    yield from documented(name, cls, level)
    for member in dir(cls):
        value = inspect.getattr_static(cls, member)
        if member[0] == "_" or not str(getattr(cls, "__module__", "")).startswith("kitaru"):
            continue
        if isinstance(value, property):
            yield from documented(f"{name}.{member}", value, level + "#")
        elif isinstance(value, classmethod | staticmethod) or inspect.isfunction(value):
            yield from documented(f"{name}.{member}", getattr(cls, member), level + "#")


def documented(name: str, value: Any, level: str) -> Iterator[str]:
    yield f"{level} {name}"
    if callable(value):
        yield "```text\n" + signature(name, value) + "\n```"
    yield docstring(inspect.getdoc(value) or "")


def signature(name: str, value: Callable[..., Any]) -> str:
    shown = str(inspect.signature(value)).replace("'", "")
    shown = re.sub(r"\((?:self|cls)(?:, )?", "(", shown, count=1)
    # Where a module that prints addresses stands as a default.
    shown = re.sub(r"<(\w+) object at 0x[0-9a-f]+>|<([\w.]+)>", r"\1\2", shown)
    short = name.rpartition(".")[2] + shown
    if len(short) <= 88:
        return short
    inside, closing, returns = shown.rpartition(")")
    return f"{name.rpartition('.')[2]}(\n" + arguments(inside[1:]) + f"\n{closing}{returns}"


def arguments(text: str) -> str:
    """Return one argument a line; commas inside of brackets separate nothing."""
    lines, depth, current = [], 0, ""
    for letter in text:
        depth += (letter in "[({") - (letter in "])}")
        if letter == "," and depth == 0:
            lines.append(f"    {current.strip()},")
            current = ""
        else:
            current += letter
    return "\n".join([*lines, f"    {current.strip()},"])


def docstring(text: str) -> str:
    """Return a docstring as Markdown: its sections become lists and code."""
    before, *sections = SECTION.split(text)
    parts = [escaped(before.strip())]
    for title, body in zip(sections[::2], sections[1::2], strict=True):
        parts.append(f"**{title}**")
        if title.startswith("Example"):
            parts.append("```python\n" + textwrap.dedent(body).strip() + "\n```")
        elif entries := ENTRY.findall(body):
            parts.append("\n".join(f"- `{n}`: {escaped(' '.join(t.split()))}" for n, t in entries))
        else:
            parts.append(escaped(" ".join(body.split())))
    return "\n\n".join(parts)


def error_rows() -> Iterator[str]:
    yield from ("| error | below | exit code | meaning |", "|---|---|---|---|")
    for name, value in vars(errors).items():
        if (
            isinstance(value, type)
            and value.__module__ == errors.__name__
            and value.__name__ == name
        ):
            code = getattr(value, "exit_code", "")
            summary = cell(
                escaped(" ".join((inspect.getdoc(value) or "").split("\n\n")[0].split()))
            )
            yield f"| `{name}` | `{value.__mro__[1].__name__}` | {code} | {summary} |"


# Settings


def setting_rows() -> Iterator[str]:
    for name, kind in settings.KINDS.items():
        default = "none" if kind.default is None else f"`{kind.default!r}`"
        expected = cell(escaped(kind.expected))
        variable = f"`KITARU_{name.upper()}`"
        yield f"| `{name}` | {SETTINGS[name]} | {expected} | {cell(default)} | {variable} |"


def settings_page() -> str:
    rows = ["| setting | meaning | value | default | variable |", "|---|---|---|---|---|"]
    return "\n\n".join(
        [
            "# Settings",
            "Generated from the code. A setting can be set in `[tool.kitaru]` of pyproject.toml, "
            "in a stack, as an environment variable, or with `kitaru.configure(NAME=VALUE)`. "
            "[Configure a project](../how-to/configuration.md) explains the order. `kitaru stack "
            "show` prints every setting in force and its source.",
            "\n".join([*rows, *setting_rows()]),
        ]
    ) + "\n"  # fmt: skip


# Markdown


def escaped(text: str) -> str:
    """Return text whose characters mean themselves; code in backticks stays code."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(p if p.startswith("`") else re.sub(r"([<>*_\[\]])", r"\\\1", p) for p in parts)


def cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


PAGES: dict[str, Callable[[], str]] = {
    "reference/commands.md": commands,
    "reference/python.md": python,
    "reference/settings.md": settings_page,
}
