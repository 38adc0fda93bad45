"""Read YAML documents back, without anchors, as plain data."""

from __future__ import annotations

from typing import Any

import yaml

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TEXT = "tag:yaml.org,2002:str"


def parse(text: str) -> dict[str, Any]:
    """Return a document's content; raise ValueError or yaml.YAMLError if it is not valid."""
    found = parse_all(text)
    if len(found) != 1:
        raise ValueError(f"it has {len(found)} documents")
    return found[0]


def parse_all(text: str) -> list[dict[str, Any]]:
    """Return the content of each document of a text. Raises the errors of `parse`."""
    loader = _Loader(text)
    found: list[dict[str, Any]] = []
    try:
        while loader.check_node():
            node = loader.get_node()
            if not isinstance(node, yaml.MappingNode):
                raise ValueError("it is no mapping")
            found.append(_Reader(loader).value(node))
        return found
    finally:
        loader.dispose()


class _Reader:
    """Rejects YAML that readers interpret differently: anchors and duplicate keys."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader
        self._seen: set[int] = set()

    def value(self, node: yaml.Node) -> Any:
        if id(node) in self._seen:
            raise ValueError(f"line {node.start_mark.line + 1}: an anchor is used")
        self._seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(child) for child in node.value]
        return node.value if node.tag == _TEXT else self._loader.construct_object(node)

    def _mapping(self, node: yaml.MappingNode) -> dict[str, Any]:
        found = {key.value: self.value(value) for key, value in node.value}
        if any(key.tag != _TEXT for key, _ in node.value):
            raise ValueError(f"line {node.start_mark.line + 1}: a key is no text")
        if len(found) < len(node.value):
            raise ValueError(f"line {node.start_mark.line + 1}: a key stands twice")
        return found
