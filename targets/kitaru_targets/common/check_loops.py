"""Check a task that runs once for each item of a list."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

# `kfp.local` takes the task's name out of the input's.
_FOUND = re.compile(r"pipelinechannel--[a-z0-9-]+-Output")


def problems(task: dict[str, Any], called: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with how `task` iterates over the component that it calls, if it does."""
    iterator = task.get("parameterIterator")
    if "artifactIterator" in task or (iterator is None and "iteratorPolicy" in task):
        yield "only a list of texts can be iterated over"
    if iterator is None:
        return
    declared = called.get("inputDefinitions", {}).get("parameters", {})
    given = task.get("inputs", {}).get("parameters", {})
    if "dag" not in called or "triggerPolicy" in task:
        yield "only an unconditional group can be iterated over"
    item = iterator.get("itemInput")
    if declared.get(item, {}).get("parameterType") != "STRING" or item in given:
        yield f"its item {item} is no text input that only the iterator gives"
    limit = task.get("iteratorPolicy", {}).get("parallelismLimit")
    if type(limit) is not int or limit < 1:
        yield f"runs {limit!r} at a time"
    yield from _list(iterator.get("items", {}), given, declared)


def _list(items: dict[str, Any], given: dict[str, Any], declared: dict[str, Any]) -> Iterator[str]:
    match items:
        case {"inputParameter": str(name)}:
            if name not in given or declared.get(name, {}).get("parameterType") != "LIST":
                yield f"iterates over {name}, which is no list that it is given"
            elif not _FOUND.fullmatch(name):
                yield f"local runners do not find the list {name}"
        case {"raw": str(raw)}:
            if not _is_list_of_texts(raw):
                yield f"iterates over {raw}, which is no list of texts"
        case _:
            yield f"iterates over {sorted(items)}"


def _is_list_of_texts(raw: str) -> bool:
    try:
        texts = json.loads(raw)
    except ValueError:
        return False
    return isinstance(texts, list) and all(isinstance(text, str) for text in texts)
