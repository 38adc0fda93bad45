"""The settings of Kitaru, and the allowed values of each."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from kitaru.store_urls import DEFAULT_URL
from kitaru.wire.limits import DEFAULT_PARALLEL
from kitaru.wire.structs import Struct

TRUE = frozenset({"1", "true", "yes", "on"})
FALSE = frozenset({"0", "false", "no", "off"})
CAPTURES = ("full", "metadata", "off")
BUDGET_KEYS = frozenset({"usd", "tokens", "usd_per_day", "tokens_per_day", "notify_usd"})
MODEL_TEXTS = frozenset({"model", "api_base", "secret"})
MODEL_LIMITS = frozenset({"rpm", "tpm", "at_a_time"})
CHANNEL_KEYS = frozenset(
    {
        "kind", "on", "flows", "url", "url_secret", "signing_secret", "password_secret", "from",
        "to", "answer_links", "link_hours",
    }
)  # fmt: skip
SOURCE_KEYS = frozenset({"kind", "secret", "header", "type_at", "id_at"})
OVERRIDE_KEYS = frozenset({"at", "patch", "flow", "file"})
PATCH_KEYS = frozenset({"op", "path", "value", "from"})
CARRIED = (
    "budget",
    "cache",
    "capture",
    "default_model",
    "logs",
    "otel",
    "redact",
    "sleep_in_process",
    "stateless",
)
"""The project's settings that a plan carries to its steps, beside its models."""


class Kind(Struct):
    """A setting's default, the test of a value, and what is expected, for people."""

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


def _is_target(value: Any) -> bool:
    """Return whether a value is a target's table: texts, and a list of overrides."""
    if not isinstance(value, dict):
        return False
    overrides = value.get("overrides", [])
    return (
        _is_texts({name: given for name, given in value.items() if name != "overrides"})
        and isinstance(overrides, list)
        and all(map(_is_override, overrides))
    )


def _is_override(value: Any) -> bool:
    """Return whether a value describes an override; the compilation applies the patch."""
    if not isinstance(value, dict):
        return False
    patch = value.get("patch")
    return (
        value.keys() <= OVERRIDE_KEYS
        and all(isinstance(given, str) for name, given in value.items() if name != "patch")
        and isinstance(patch, list)
        and bool(patch)
        and all(isinstance(one, dict) and one.keys() <= PATCH_KEYS for one in patch)
        and _is_json(patch)
    )


def _is_json(value: Any) -> bool:
    """Return whether a value of TOML is one of JSON: neither a date nor an infinite number."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


def _is_environment(value: Any) -> bool:
    """Return whether a process can have these variables."""
    return _is_texts(value) and all(
        name and "=" not in name and "\0" not in name + text for name, text in value.items()
    )


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and all(_is_text(item) for item in value)


def _is_models(value: Any) -> bool:
    return isinstance(value, dict) and all(
        _is_text(alias) and (_is_text(model) or _is_model_table(model))
        for alias, model in value.items()
    )


def _is_model_table(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and "model" in value
        and all(
            (name in MODEL_TEXTS and _is_text(given))
            or (name in MODEL_LIMITS and _is_positive(given))
            for name, given in value.items()
        )
    )


def _is_budget(value: Any) -> bool:
    return isinstance(value, dict) and all(
        name in BUDGET_KEYS and type(most) in (int, float) and most > 0
        for name, most in value.items()
    )


def _is_channels(value: Any) -> bool:
    """Return whether a value describes channels; `kitaru.ops.channels` checks each further."""
    return _is_tables(value, CHANNEL_KEYS)


def _is_sources(value: Any) -> bool:
    """Return whether a value describes sources; `kitaru.ops.sources` checks each further."""
    return _is_tables(value, SOURCE_KEYS)


def _is_tables(value: Any, allowed: frozenset[str]) -> bool:
    return isinstance(value, dict) and all(
        _is_text(name) and isinstance(table, dict) and table.keys() <= allowed
        for name, table in value.items()
    )


def _is_address(value: Any) -> bool:
    return _is_text(value) and value.startswith(("https://", "http://"))


def _is_capture(value: Any) -> bool:
    return value in CAPTURES


def _is_hook(value: Any) -> bool:
    return callable(value) or (_is_text(value) and ":" in value)


def _target(example: str) -> Kind:
    expected = (
        f"a table of options, {example}, with a list `overrides` of tables with "
        f"{', '.join(sorted(OVERRIDE_KEYS))}"
    )
    return Kind({}, _is_target, expected, json.loads)


KINDS: Mapping[str, Kind] = {
    "store": Kind(DEFAULT_URL, _is_text, "a store such as sqlite:PATH"),
    "cache": Kind(False, lambda value: type(value) is bool, "true or false", _parse_bool),
    "stateless": Kind([], _is_list, 'a list of packages, ["openai"]', json.loads),
    "retries": Kind(0, _is_count, "a whole number, 0 or more", int),
    "max_parallel": Kind(DEFAULT_PARALLEL, _is_positive, "a whole number, 1 or more", int),
    "stack": Kind(None, _is_text, "the name of a stack"),
    "target": Kind(None, _is_text, "a target such as vertex"),
    "submit": Kind({}, _is_texts, 'a table of options, {"project": "p"}', json.loads),
    "image": Kind(None, _is_text, "an image reference"),
    "memory_scope": Kind(None, _is_text, "a scope such as namespace:sales"),
    "default_model": Kind("fast", _is_text, "a model or an alias"),
    "models": Kind(
        {},
        _is_models,
        'a table of alias to model, {"fast": "…"} or {"fast": {"model": "…", "api_base": "…", '
        '"secret": "NAME", "rpm": 60, "tpm": 90000, "at_a_time": 4}}',
        json.loads,
    ),
    "secrets": Kind({}, _is_texts, 'a table of references, {"API_KEY": "aws:…"}', json.loads),
    "logs": Kind(True, lambda value: type(value) is bool, "true or false", _parse_bool),
    "source": Kind(True, lambda value: type(value) is bool, "true or false", _parse_bool),
    "otel": Kind(None, lambda value: type(value) is bool, "true or false", _parse_bool),
    "capture": Kind("full", _is_capture, "one of full, metadata and off"),
    "budget": Kind(
        {},
        _is_budget,
        f'a table of {", ".join(sorted(BUDGET_KEYS))}, such as {{"usd": 5, "tokens": 200000}}',
        json.loads,
    ),
    "redact": Kind(None, _is_hook, "a function of a text, or its name as module:function"),
    "sleep_in_process": Kind(60, _is_count, "a number of seconds, 0 or more", int),
    "environment": Kind({}, _is_environment, 'a table of variables, {"LOG": "debug"}', json.loads),
    "airflow": _target('{"pool": "llm"}'),
    "airflow_url": Kind(None, _is_text, "the URL of Airflow's API server"),
    "argo_url": Kind(None, _is_text, "the URL of Argo's server"),
    "notify": Kind(
        {},
        _is_channels,
        f"a table of channels by name, each a table of {', '.join(sorted(CHANNEL_KEYS))}",
        json.loads,
    ),
    "sources": Kind(
        {},
        _is_sources,
        f"a table of sources by name, each a table of {', '.join(sorted(SOURCE_KEYS))}",
        json.loads,
    ),
    "service_url": Kind(None, _is_address, "the URL of the service, https://…"),
    "link_key": Kind(None, _is_text, "the name of a secret"),
    "oidc": Kind(
        {}, _is_texts, 'a table, {"issuer": "https://…", "client_id": "kitaru"}', json.loads
    ),
    "oidc_roles": Kind(
        {}, _is_texts, 'a table of group to role, {"reviewers": "approver of review"}', json.loads
    ),
    "base_image": Kind(None, _is_text, "an image reference"),
    "require_hashes": Kind(False, lambda v: type(v) is bool, "true or false", _parse_bool),
    "include": Kind([], _is_list, 'a list of patterns, ["prompts/**"]', json.loads),
    "exclude": Kind([], _is_list, 'a list of patterns, ["prompts/old/**"]', json.loads),
    "requirements": Kind(None, _is_text, "the path of a requirements file"),
    "compile_cache": Kind(None, _is_text, "the path of a folder, or off"),
    "argo": _target('{"service_account": "flows"}'),
    "azureml": _target('{"compute": "cpu"}'),
    "kubeflow": _target('{"labels": "team=ml"}'),
    "kubernetes": _target('{"namespace": "agents"}'),
    "sagemaker": _target('{"queue": "https://…"}'),
    "stepfunctions": _target('{"cluster": "agents"}'),
    "vertex": _target('{"accelerator": "NVIDIA_L4"}'),
}
