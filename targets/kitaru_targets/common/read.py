"""Decides how a document is read back: one YAML document, without anchors, as plain data."""

from __future__ import annotations

from typing import Any

import yaml

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def parse(text: str) -> dict[str, Any]:
    """Return a document's content; raise ValueError or yaml.YAMLError when it is none."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None or not isinstance(node, yaml.MappingNode):
            raise ValueError("it is no mapping")
        _check_unshared(node)
        return dict(loader.construct_document(node))
    finally:
        loader.dispose()


def _check_unshared(root: yaml.Node) -> None:
    """Refuse anchors, which some readers do not resolve, and keys that stand twice."""
    seen, pending = {id(root)}, [root]
    while pending:
        node = pending.pop()
        for child in _children(node):
            if id(child) in seen:
                raise ValueError(f"line {child.start_mark.line + 1}: an anchor is used")
            seen.add(id(child))
            pending.append(child)


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        names = [key.value for key, _ in node.value]
        if len(set(names)) < len(names):
            raise ValueError(f"line {node.start_mark.line + 1}: a key stands twice")
        return [child for pair in node.value for child in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []
