"""Settings: the value of each, and the source of the value.

High to low: argument > decorator > `kitaru.configure()` > `KITARU_*` > `[tool.kitaru]` in the
nearest pyproject.toml > the user's `kitaru/config.toml` > a step's plan > default. The settings of
a stack rank directly below the other settings of the layer that names the stack.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kitaru import toml_files
from kitaru.errors import UsageError
from kitaru.settings import FALSE, KINDS, Kind
from kitaru.wire import disk, redaction
from kitaru.wire.names import check_name, suggestion
from kitaru.wire.structs import Struct

if TYPE_CHECKING:
    from kitaru.wire.disk_cache import DiskCache


class Setting(Struct):
    """A value in force and its origin, such as `KITARU_STORE` or `pyproject.toml`."""

    name: str
    value: Any
    origin: str


_configured: dict[str, Any] = {}
_command_stack: str | None = None
_plan: dict[str, Any] = {}


def configure(**values: Any) -> None:
    """Set defaults for this process; `None` takes a setting back.

    Settings: `stack`, `store`, `target`, `submit` (options of the target's service), `cache`,
    `retries`, `max_parallel`, `image`, `memory_scope` (of `kitaru.memory` outside flows),
    `default_model`, `models`, `budget`, `logs` and `otel` (see the docs), `capture` (what is
    kept of model calls), `redact` (what is applied to texts before they are kept), `secrets`
    (where the value of each is, such as `aws:prod/key`), `environment` (plain variables of
    every step), `requirements` (what a container installs), `base_image` (the image with Python
    that containers are built on), `require_hashes` (refuse to compile where something of a
    container has no hash). Raises UsageError on
    any other name and on a value of the wrong type.

        kitaru.configure(store="sqlite:/var/lib/flows/", cache=False)
    """
    if is_image(values.get("image")):
        values = {**values, **values.pop("image").as_settings("kitaru.configure()")}
    checked = {
        name: None if value is None else _checked(name, value, "kitaru.configure()")
        for name, value in values.items()
    }
    for name, value in checked.items():
        _configured.pop(name, None)
        if value is not None:
            _configured[name] = value


def is_image(value: Any) -> bool:
    """Whether a value describes an image by settings, as `kitaru.ImageSettings` does."""
    return hasattr(value, "as_settings")


def setting(
    name: str, *, argument: Any = None, decorator: Any = None, start: Path | None = None
) -> Setting:
    """Return the value in force of a setting, with its origin.

    `argument` and `decorator` are what the caller and the decorator said, `None` for nothing.
    `start` is where the search for pyproject.toml begins, upwards; default the working directory.
    Raises UsageError on a value of the wrong type, naming where it stands.
    """
    for origin, value in _layers(name, argument, decorator, start):
        if value is not None:
            return Setting(name, _checked(name, value, origin), origin)
    return Setting(name, _kind(name).default, "default")


def names() -> tuple[str, ...]:
    """Return the names of all settings, sorted."""
    return tuple(sorted(KINDS))


def use_plan(settings: Mapping[str, Any]) -> None:
    """Take the settings that a step's plan carries; whatever this process says goes before them."""
    _plan.clear()
    _plan.update(settings)


def is_configured() -> bool:
    """Return whether `configure()` has set anything in this process."""
    return bool(_configured)


def compile_cache(kind: Literal["analyses", "builds"]) -> DiskCache | None:
    """Return where the compiler stores results of this kind, None where it must not."""
    folder = setting("compile_cache").value
    if folder in FALSE:
        return None
    if folder is None:
        base = os.environ.get("XDG_CACHE_HOME") or disk.home() / ".cache"
        folder = Path(base) / "kitaru"
    # Only a compilation needs it.
    from kitaru.wire.disk_cache import DiskCache

    return DiskCache(Path(folder).expanduser() / kind)


def models(start: Path | None = None) -> dict[str, Any]:
    """Return the models in force by alias: of two layers with one alias the higher wins.

    A model is its name for litellm, or a table with `model` and, optionally, `api_base` and
    `secret`, the name of the secret that is its key.
    """
    return _merged("models", start)


def secrets(start: Path | None = None) -> dict[str, str]:
    """Return the references of secrets in force, by name; merged like the model aliases."""
    return _merged("secrets", start)


def channels(start: Path | None = None) -> dict[str, dict[str, Any]]:
    """Return the channels of notifications in force, by name; merged like the model aliases."""
    return _merged("notify", start)


def sources(start: Path | None = None) -> dict[str, dict[str, Any]]:
    """Return the sources of events in force, by name; merged like the model aliases."""
    return _merged("sources", start)


def secret_names(start: Path | None = None) -> set[str]:
    """Return the names that the settings in force give to secrets: their own, and models' keys."""
    keys = (model.get("secret") for model in models(start).values() if isinstance(model, dict))
    return {*secrets(start), *filter(None, keys)}


def project_settings(start: Path | None = None) -> dict[str, Any]:
    """Return `[tool.kitaru]` of the nearest pyproject.toml; `{}` without such a file."""
    return _project(start)[0]


def compiled_settings(start: Path | None = None, decorator: str | None = None) -> dict[str, Any]:
    """Return what a compilation takes from the project's file: its settings, over them its stack's.

    Tables are merged by key. Neither the environment nor the user's file is in it: the same project
    and stack give the same bytes anywhere. `decorator` is the stack that `@flow(stack=…)` names; a
    stack that the command names counts before it.
    """
    named, project = stack(start, decorator), project_settings(start)
    over = stacks(start)[named.value] if named.value else {}
    tables = {
        name: {**project[name], **value}
        for name, value in over.items()
        if isinstance(value, dict) and isinstance(project.get(name), dict)
    }
    return {**project, **over, **tables}


def stacks(start: Path | None = None) -> dict[str, dict[str, Any]]:
    """Return the settings of each stack by its name: the user's, and over them the project's."""
    return {**_user()[1], **_project(start)[1]}


def stack(start: Path | None = None, decorator: str | None = None) -> Setting:
    """Return which stack is in force, `None` for none; raise UsageError for an unknown one."""
    named = setting("stack", decorator=decorator, start=start)
    known = stacks(start) if named.value else {}
    if named.value and named.value not in known:
        raise UsageError(
            f"{named.origin}: there is no stack {named.value!r}.",
            help=_known_stacks(named.value, known),
        )
    return named


def _known_stacks(given: str, known: Iterable[str]) -> str:
    listed = ", ".join(sorted(known))
    if not listed:
        return "[tool.kitaru.stacks.NAME] in pyproject.toml makes one"
    return suggestion(given, known, f"stacks: {listed}")


def command_stack(name: str | None) -> None:
    """Set the stack that the command of this process names. It overrides any other."""
    global _command_stack
    _command_stack = name


def named_stack() -> str | None:
    """Return the stack that the command of this process names."""
    return _command_stack


def use_stack(name: str, start: Path | None = None) -> Path:
    """Select a stack for this project and user. Return the file that stores the choice."""
    if name not in stacks(start):
        raise UsageError(f"There is no stack {name!r}.", help=_known_stacks(name, stacks(start)))
    path = _stack_file(start)
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".stack.{os.getpid()}")
    staged.write_text(f"{name}\n", encoding="utf-8")
    staged.replace(path)
    return path


def create_stack(name: str, settings: Mapping[str, Any]) -> Path:
    """Create a stack in the user's configuration; return its file.

    Raises:
        UsageError: the stack exists, or a setting is wrong.
    """
    if name in stacks():
        raise UsageError(f"The stack {name} exists already.", help="kitaru stack list")
    for setting_name, value in settings.items():
        _checked(setting_name, value, f"stack {name}")
    return toml_files.write(toml_files.user_file(), ("stacks", check_name("stack", name)), settings)


def delete_stack(name: str) -> Path:
    """Delete a stack of the user's configuration; raise UsageError where it has none."""
    if name not in _user()[1]:
        where = "in pyproject.toml" if name in stacks() else "nowhere"
        raise UsageError(
            f"The stack {name} is not in {toml_files.user_file()} but {where}.",
            help="kitaru stack list",
        )
    return toml_files.write(toml_files.user_file(), ("stacks", name), None)


def register_model(alias: str, model: str, secret: str | None = None) -> Path:
    """Set the model of an alias in the user's configuration. Return its file."""
    value: Any = {"model": model, "secret": secret} if secret else model
    _checked("models", {alias: value}, "kitaru model register")
    return toml_files.write(toml_files.user_file(), ("models", alias), value)


def _stack_file(start: Path | None) -> Path:
    project = toml_files.project_file(start)
    return (project.parent if project else Path.cwd()) / ".kitaru" / "stack"


def _used_stack(start: Path | None) -> str | None:
    try:
        return disk.read_text(_stack_file(start)).strip() or None
    except OSError:
        return None


def _layers(
    name: str, argument: Any, decorator: Any, start: Path | None
) -> Iterator[tuple[str, Any]]:
    """Yield the settings of each layer, highest first; a stack follows the layer that names it."""
    if name == "stack":
        yield from _direct(name, argument or _command_stack, decorator, start)
        return
    below, said = _stack_layer(name, start)
    for place, layer in enumerate(_direct(name, argument, decorator, start)):
        yield layer
        if place == below:
            yield said


def _stack_layer(name: str, start: Path | None) -> tuple[int, tuple[str, Any]]:
    """Return the index of the layer that names the active stack, and the stack's settings."""
    named = stack(start)
    if named.value is None:
        return -1, ("", None)
    origins = [origin for origin, _ in _direct("stack", _command_stack, None, start)]
    said = stacks(start)[named.value].get(name)
    return origins.index(named.origin), (f"stack {named.value}", said)


def _direct(
    name: str, argument: Any, decorator: Any, start: Path | None
) -> Iterator[tuple[str, Any]]:
    yield "argument", argument
    yield "decorator", decorator
    yield "kitaru.configure()", _configured.get(name)
    yield f"KITARU_{name.upper()}", _from_environment(name)
    yield "kitaru stack use", _used_stack(start) if name == "stack" else None
    yield "pyproject.toml", _project(start)[0].get(name)
    yield "user configuration", _user()[0].get(name)
    yield "the plan", _plan.get(name)


def _merged(name: str, start: Path | None) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for origin, value in reversed(list(_layers(name, None, None, start))):
        if value is not None:
            merged.update(_checked(name, value, origin))
    return merged


def _kind(name: str, where: str = "kitaru.configure()") -> Kind:
    if name not in KINDS:
        help = suggestion(name, KINDS, f"settings: {', '.join(sorted(KINDS))}")
        raise UsageError(f"{where}: there is no setting {name!r}.", help=help)
    return KINDS[name]


def _checked(name: str, value: Any, origin: str) -> Any:
    kind = _kind(name, origin)
    if not kind.check(value):
        shown = redaction.redacted(repr(value))
        raise UsageError(f"{origin}: {name} must be {kind.expected}, not {shown}")
    return value


def _from_environment(name: str) -> Any:
    text = os.environ.get(f"KITARU_{name.upper()}")
    if not text and name == "models":
        return _registry(os.environ.get("KITARU_MODEL_REGISTRY"))
    if not text:
        return None
    try:
        return _kind(name).parse(text)
    except ValueError:
        expected = _kind(name).expected
        shown = redaction.redacted(repr(text))
        raise UsageError(f"KITARU_{name.upper()} must be {expected}, not {shown}") from None


def _registry(text: str | None) -> Any:
    """Return the aliases in Kitaru 0.21's variable: JSON, optionally under `aliases`."""
    if not text:
        return None
    try:
        found = json.loads(text)
    except ValueError:
        raise UsageError("KITARU_MODEL_REGISTRY must be JSON: {alias: model}.") from None
    return found.get("aliases", found) if isinstance(found, dict) else found


def _project(start: Path | None) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    path = toml_files.project_file(start)
    table = toml_files.table(path, "tool", "kitaru") if path else {}
    if path is None:
        return {}, {}
    settings, stacks = _settings(table, path, "[tool.kitaru]")
    for table in (settings, *stacks.values()):
        if table.get("compile_cache", "off") not in FALSE:
            raise UsageError(
                f"[tool.kitaru] in {path}: compile_cache can only be off. A folder that a project "
                "names may contain forged results.",
                help=f"Set KITARU_COMPILE_CACHE, or compile_cache in {toml_files.user_file()}.",
            )
    return settings, stacks


def _user() -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    path = toml_files.user_file()
    return _settings(toml_files.table(path), path, "")


def _settings(
    table: dict[str, Any], path: Path, where: str
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Return the settings in a file, and those of its stacks by name."""
    place = f"{where} in {path}".strip()
    found = table.pop("stacks", {})
    if not isinstance(found, dict) or not all(isinstance(one, dict) for one in found.values()):
        raise UsageError(f"{place}: stacks must be tables, [tool.kitaru.stacks.NAME].")
    for name, value in table.items():
        _checked(name, value, place)
    for stack_name, settings in found.items():
        for name, value in settings.items():
            inner = "a stack in a stack" if name == "stack" else name
            _checked(inner, value, f"{place}, {stack_name}")
    below = {name: toml_files.anchored(one, path.parent) for name, one in found.items()}
    return toml_files.anchored(table, path.parent), below
