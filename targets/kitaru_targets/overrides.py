"""Overrides: the project's last word on an emitted document.

An override is a JSON patch (RFC 6902) and the path of the nodes that it changes:

    [[tool.kitaru.vertex.overrides]]
    at = "/deploymentSpec/executors/exec-publish/container"
    patch = [{ op = "add", path = "/resources", value = { cpuLimit = 4 } }]

The path is a JSON pointer (RFC 6901) with some additions. An element of a list is found by its
`name`, `Name` or `id`, so that a path stays valid when another step is added before it. A step is
found by its name in the plan, too. `*` is any key or element, and `**` is any number of them.
`flow` limits an override to one flow, and `file` names another document of the target.

What Kitaru wrote has to stay valid: a document without what the overrides added must pass the check
of its target. What they added is not checked by Kitaru, but by the target or its SDK
(`kitaru verify --with-sdk`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from copy import deepcopy
from typing import Any

from kitaru.errors import FlowError, UsageError
from kitaru.wire.names import suggestion
from kitaru.wire.plan import Plan, PlannedOverride
from kitaru.wire.structs import replace
from kitaru_targets.base import Emission, Form, Target

_NAMES = ("name", "Name", "id")
# A node is changed in its parent, so that a patch may replace the node itself.
_Place = tuple[Any, Any]


def apply(plan: Plan, target: Target, emission: Emission, *, rest: bool) -> Emission:
    """Return an emission with the overrides of a plan.

    With `rest`, the document contains only the remaining steps of an execution, and an override of
    a node that is not in it is left out.

    Raises:
        UsageError: an override names a file or node that does not exist, or its patch does not fit.
        FlowError: an override changes what Kitaru needs.
    """
    if not plan.overrides:
        return emission
    forms = _forms(target, emission)
    changed = {name: deepcopy(form.data) for name, form in forms.items()}
    for override in plan.overrides:
        name = override.file or target.document
        if name not in forms:
            raise UsageError(
                f"{_title(target, override)}: {name} is not a document that an override can "
                "change.",
                help=suggestion(name, forms, f"documents: {', '.join(sorted(forms)) or 'none'}"),
            )
        find = _Finder(emission.steps)
        changed[name] = _changed(changed[name], override, target, find, rest=rest)
    texts = {}
    for name, form in forms.items():
        try:
            texts[name] = form.dump(changed[name])
        except (TypeError, ValueError) as error:
            raise UsageError(
                f"[[tool.kitaru.{target.name}.overrides]]: {name} cannot be written: {error}."
            ) from None
    _check(target, forms, changed)
    files = {name: texts.get(name, text) for name, text in emission.files.items()}
    return replace(emission, text=texts.get(target.document, emission.text), files=files)


def summary(override: PlannedOverride) -> str:
    """Return an override on one line: where it is, and its operations.

    >>> summary(PlannedOverride("/spec", ({"op": "remove", "path": "/ttl"},)))
    '/spec: remove /ttl'
    """
    done = ", ".join(f"{one.get('op')} {one.get('path') or 'the node'}" for one in override.patch)
    file = f"{override.file} " if override.file else ""
    return f"{file}{override.at or '/'}: {done}"


def _forms(target: Target, emission: Emission) -> Mapping[str, Form]:
    named = {target.document: emission.form, **emission.forms}
    return {name: form for name, form in named.items() if form is not None}


def _title(target: Target, override: PlannedOverride) -> str:
    return f'[[tool.kitaru.{target.name}.overrides]] with at = "{override.at}"'


def _changed(
    data: Any, override: PlannedOverride, target: Target, find: _Finder, *, rest: bool
) -> Any:
    try:
        from jsonpatch import JsonPatch, JsonPatchException
        from jsonpointer import JsonPointer, JsonPointerException
    except ImportError:
        raise UsageError(
            "Overrides need the package jsonpatch, which is not installed.",
            help="Install Kitaru with the extra overrides.",
        ) from None
    title, root = _title(target, override), {"": data}
    try:
        path = JsonPointer(override.at).parts
        patch = JsonPatch(override.patch)
    except (JsonPatchException, JsonPointerException) as error:
        raise UsageError(f"{title}: {error}.", help=_HELP) from None
    places = [*find.places(root, "", path)]
    if not places and not rest:
        raise UsageError(
            f"{title}: the document has no such node.",
            help=f"Compile without the override, and look into {override.file or target.document}.",
        )
    # A node may be in another one: the inner one is changed first.
    for parent, key in reversed(places):
        try:
            parent[key] = patch.apply(parent[key])
        except (JsonPatchException, JsonPointerException) as error:
            raise UsageError(f"{title}: the patch does not fit: {error}.", help=_HELP) from None
    return root[""]


_HELP = (
    "A path is written as in RFC 6901, such as /spec/template, and a patch as in RFC 6902: "
    '[{ op = "add", path = "/priority", value = 5 }]'
)


class _Finder:
    """Finds the nodes at a path. `steps` are the names of steps by their keys in the document."""

    def __init__(self, steps: Mapping[str, str]) -> None:
        self._steps = steps

    def places(self, parent: Any, key: Any, path: Sequence[str]) -> Iterator[_Place]:
        """Yield the places of all nodes at a path below the node `parent[key]`, each once."""
        node = parent[key]
        if not path:
            yield parent, key
            return
        first, *others = path
        if first != "**":
            for inside in self._keys(node, first):
                yield from self.places(node, inside, others)
            return
        seen: set[tuple[int, Any]] = set()
        for place in self._deep(parent, key, others):
            if (mark := (id(place[0]), place[1])) not in seen:
                seen.add(mark)
                yield place

    def _deep(self, parent: Any, key: Any, path: Sequence[str]) -> Iterator[_Place]:
        yield from self.places(parent, key, path)
        for inside in self._keys(parent[key], "*"):
            yield from self._deep(parent[key], inside, path)

    def _keys(self, node: Any, part: str) -> list[Any]:
        """Return the keys or indexes of a node that a part of a path means."""
        if isinstance(node, Mapping):
            return [key for key in node if part in ("*", key) or self._steps.get(key) == part]
        if isinstance(node, list):
            return [n for n, one in enumerate(node) if self._is(n, _name(one), part)]
        return []

    def _is(self, index: int, name: str | None, part: str) -> bool:
        return part in ("*", str(index), name) or (name and self._steps.get(name)) == part


def _name(element: Any) -> str | None:
    if isinstance(element, Mapping):
        for name in _NAMES:
            if isinstance(element.get(name), str):
                return str(element[name])
    return None


def _check(target: Target, forms: Mapping[str, Form], changed: Mapping[str, Any]) -> None:
    """Raise FlowError if the overrides changed what Kitaru needs in the main document."""
    form = forms.get(target.document)
    if form is None or changed[target.document] == form.data:
        return
    problems = target.validate(form.dump(_own(changed[target.document], form.data)))
    if problems:
        shown = "\n".join(f"  {problem}" for problem in problems[:10])
        raise FlowError(
            f"[[tool.kitaru.{target.name}.overrides]]: with these overrides, {target.title} would "
            f"not run the flow as it is meant:\n{shown}",
            help="Remove the override that changes this part.",
        )


def _own(now: Any, emitted: Any) -> Any:
    """Return a changed document without what was added to the emitted one."""
    if isinstance(now, MutableMapping) and isinstance(emitted, Mapping):
        kept = deepcopy(now)
        for key in [*kept]:
            if key in emitted:
                kept[key] = _own(now[key], emitted[key])
            else:
                del kept[key]
        return kept
    if isinstance(now, list) and isinstance(emitted, list):
        return [*_elements(now, emitted)]
    return now


def _elements(now: list[Any], emitted: list[Any]) -> Iterator[Any]:
    named = {name: one for one in emitted if (name := _name(one)) is not None}
    for place, one in enumerate(now):
        if (name := _name(one)) in named:
            yield _own(one, named[name])
        elif one in emitted:
            yield one
        elif len(now) <= len(emitted) and place < len(emitted):
            yield _own(one, emitted[place])
