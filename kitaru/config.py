"""Decides what each setting is, and says where the value came from.

High to low: argument > decorator > `kitaru.configure()` > `KITARU_*` > `[tool.kitaru]` in the
nearest pyproject.toml > the user's `kitaru/config.toml` > what a step's plan carries > default.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kitaru.errors import UsageError
from kitaru.wire import secrecy

TRUE = frozenset({"1", "true", "yes", "on"})
FALSE = frozenset({"0", "false", "no", "off"})
CAPTURES = ("full", "metadata", "off")
MODEL_KEYS = frozenset({"model", "api_base", "secret"})
CARRIED = ("capture", "default_model", "redact")
"""The project's settings that a plan carries to its steps, beside its models."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A value in force and its origin, such as `KITARU_STORE` or `pyproject.toml`."""

    name: str
    value: Any
    origin: str


@dataclass(frozen=True, slots=True)
class _Kind:
    default: Any
    check: Callable[[Any], bool]
    expected: str
    parse: Callable[[str], Any] = str


def _parse_bool(text: str) -> bool:
    lowered = text.strip().lower()
    if lowered not in TRUE | FALSE:
        raise ValueError(text)
    return lowered in TRUE


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_positive(value: Any) -> bool:
    return _is_count(value) and value > 0


def _is_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(_is_text(k) and _is_text(v) for k, v in value.items())


def _is_models(value: Any) -> bool:
    return isinstance(value, dict) and all(
        _is_text(alias) and (_is_text(model) or _is_model_table(model))
        for alias, model in value.items()
    )


def _is_model_table(value: Any) -> bool:
    return _is_texts(value) and "model" in value and value.keys() <= MODEL_KEYS


def _is_capture(value: Any) -> bool:
    return value in CAPTURES


def _is_hook(value: Any) -> bool:
    return callable(value) or (_is_text(value) and ":" in value)


_KINDS: Mapping[str, _Kind] = {
    "store": _Kind("sqlite:.kitaru/kitaru.db", _is_text, "a store such as sqlite:PATH"),
    "cache": _Kind(True, lambda value: type(value) is bool, "true or false", _parse_bool),
    "retries": _Kind(0, _is_count, "a whole number, 0 or more", int),
    "max_parallel": _Kind(8, _is_positive, "a whole number, 1 or more", int),
    "image": _Kind(None, _is_text, "an image reference"),
    "memory_scope": _Kind(None, _is_text, "a scope such as namespace:sales"),
    "default_model": _Kind("fast", _is_text, "a model or an alias"),
    "models": _Kind(
        {},
        _is_models,
        'a table of alias to model, {"fast": "…"} or {"fast": {"model": "…", "api_base": "…", '
        '"secret": "NAME"}}',
        json.loads,
    ),
    "secrets": _Kind({}, _is_texts, 'a table of references, {"API_KEY": "aws:…"}', json.loads),
    "capture": _Kind("full", _is_capture, "one of full, metadata and off"),
    "redact": _Kind(None, _is_hook, "a function of a text, or its name as module:function"),
    "environment": _Kind({}, _is_texts, 'a table of variables, {"LOG": "debug"}', json.loads),
    "airflow": _Kind({}, _is_texts, 'a table of options, {"pool": "llm"}', json.loads),
    "airflow_url": _Kind(None, _is_text, "the URL of Airflow's API server"),
    "requirements": _Kind(None, _is_text, "the path of a requirements file"),
}
_configured: dict[str, Any] = {}
_plan: dict[str, Any] = {}


def configure(**values: Any) -> None:
    """Set defaults for this process; `None` takes a setting back.

    Settings: `store`, `cache`, `retries`, `max_parallel`, `image`, `memory_scope` (of
    `kitaru.memory` outside flows), `default_model`, `models`, `capture` (what is kept of model
    calls), `redact` (what is applied to texts before they are kept), `secrets` (where the value of
    each is, such as `aws:prod/key`), `environment` (plain variables of every step), `requirements`
    (what a container installs). Raises UsageError on any other name and on a value of the wrong
    type.

        kitaru.configure(store="sqlite:/var/lib/flows/", cache=False)
    """
    checked = {
        name: None if value is None else _checked(name, value, "kitaru.configure()")
        for name, value in values.items()
    }
    for name, value in checked.items():
        _configured.pop(name, None)
        if value is not None:
            _configured[name] = value


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


def use_plan(settings: Mapping[str, Any]) -> None:
    """Take the settings that a step's plan carries; whatever this process says goes before them."""
    _plan.clear()
    _plan.update(settings)


def models(start: Path | None = None) -> dict[str, Any]:
    """Return the models in force by alias: of two layers with one alias the higher wins.

    A model is its name for litellm, or a table with `model` and, optionally, `api_base` and
    `secret`, the name of the secret that is its key.
    """
    return _merged("models", start)


def secrets(start: Path | None = None) -> dict[str, str]:
    """Return the references of secrets in force, by name; merged like the model aliases."""
    return _merged("secrets", start)


def project_file(start: Path | None = None) -> Path | None:
    """Return the nearest pyproject.toml at or above `start` (default: the working directory)."""
    directory = (start or Path.cwd()).resolve()
    for candidate in (directory, *directory.parents):
        if (candidate / "pyproject.toml").is_file():
            return candidate / "pyproject.toml"
    return None


def project_settings(start: Path | None = None) -> dict[str, Any]:
    """Return `[tool.kitaru]` of the nearest pyproject.toml, `{}` when there is none."""
    path = project_file(start)
    if path is None:
        return {}
    table = _table(_read_toml(path).get("tool", {}), "kitaru", path)
    for name, value in table.items():
        _checked(name, value, f"[tool.kitaru] in {path}")
    return _anchored(table, path.parent)


def user_file() -> Path:
    """Return where the user's own configuration is looked for."""
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home) / "kitaru" / "config.toml"


def _layers(
    name: str, argument: Any, decorator: Any, start: Path | None
) -> Iterator[tuple[str, Any]]:
    yield "argument", argument
    yield "decorator", decorator
    yield "kitaru.configure()", _configured.get(name)
    yield f"KITARU_{name.upper()}", _from_environment(name)
    yield "pyproject.toml", project_settings(start).get(name)
    yield "user configuration", _user_settings().get(name)
    yield "the plan", _plan.get(name)


def _merged(name: str, start: Path | None) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for origin, value in reversed(list(_layers(name, None, None, start))):
        if value is not None:
            merged.update(_checked(name, value, origin))
    return merged


def _kind(name: str, where: str = "kitaru.configure()") -> _Kind:
    if name not in _KINDS:
        known = ", ".join(sorted(_KINDS))
        raise UsageError(f"{where}: there is no setting {name!r}", help=f"settings: {known}")
    return _KINDS[name]


def _checked(name: str, value: Any, origin: str) -> Any:
    kind = _kind(name, origin)
    if not kind.check(value):
        shown = secrecy.redacted(repr(value))
        raise UsageError(f"{origin}: {name} must be {kind.expected}, not {shown}")
    return value


def _from_environment(name: str) -> Any:
    text = os.environ.get(f"KITARU_{name.upper()}")
    if not text:
        return None
    try:
        return _kind(name).parse(text)
    except ValueError:
        expected = _kind(name).expected
        shown = secrecy.redacted(repr(text))
        raise UsageError(f"KITARU_{name.upper()} must be {expected}, not {shown}") from None


def _user_settings() -> dict[str, Any]:
    path = user_file()
    if not path.is_file():
        return {}
    settings = _read_toml(path)
    for name in settings:
        _kind(name, str(path))
    return _anchored(settings, path.parent)


def _read_toml(path: Path) -> dict[str, Any]:
    # Half a millisecond that `import kitaru` need not pay.
    import tomllib

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from None


def _table(parent: Any, name: str, path: Path) -> dict[str, Any]:
    table = parent.get(name, {}) if isinstance(parent, dict) else None
    if not isinstance(table, dict):
        raise UsageError(f"{path}: [tool.{name}] must be a table")
    return table


def _anchored(settings: dict[str, Any], directory: Path) -> dict[str, Any]:
    """A relative file in a configuration file means relative to that file."""
    anchored = dict(settings)
    store, requirements = settings.get("store"), settings.get("requirements")
    if isinstance(store, str) and store.startswith("sqlite:"):
        path = store.removeprefix("sqlite:")
        tail = "/" if path.endswith("/") else ""
        anchored["store"] = f"sqlite:{directory / path}{tail}"
    if isinstance(requirements, str):
        anchored["requirements"] = str(directory / requirements)
    return anchored
