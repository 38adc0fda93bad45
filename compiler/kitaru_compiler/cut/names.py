"""Names of blocks, in characters that every target accepts."""

from __future__ import annotations

import ast
import keyword
import re

from kitaru.wire.plan import BlockKind
from kitaru_compiler.cut.basic_blocks import DraftBlock
from kitaru_compiler.ir.nodes import FlowIR, durable_of

_PREFIXES: dict[BlockKind, str] = {"fan": "submit_", "gather": "gather_"}
_NAMES: dict[BlockKind, str] = {"entry": "start", "join": "join", "return": "back"}


def name_blocks(blocks: list[DraftBlock], ir: FlowIR) -> None:
    """Name each block after its purpose: letters, digits and single underscores, unique."""
    taken = {ir.name: 1}
    for block in blocks:
        if block.kind == "fan":
            block.items = _unique(_hint(block), taken)
        block.name = _unique(_PREFIXES.get(block.kind, "") + _hint(block), taken)


def _unique(base: str, taken: dict[str, int]) -> str:
    """Add a name to those taken, each with the last number that was tried behind it."""
    name, number = base, taken.get(base, 1)
    while name in taken:
        number += 1
        name = f"{base}_{number}"
    taken[base] = number
    taken.setdefault(name, 1)
    return name


def _hint(block: DraftBlock) -> str:
    block = block.fan or block
    if block.kind in _NAMES:
        return _NAMES[block.kind]
    if block.kind == "call":
        return _clean(f"enter_{block.activation.name}")
    named = [_wait_name(block)] if block.kind == "wait" else []
    named += [call.name for call in block.calls if call.kind == "agent"]
    named += _invoked_names(block)
    distinct = [n for n in named if n] or list(
        dict.fromkeys(name for call in block.calls for name in call.records)
    )
    words = "_".join(distinct[:3]) if block.kind != "region" or len(distinct) <= 3 else "region"
    name = _clean(words)
    return f"{name}_step" if keyword.iskeyword(name) else name


def _invoked_names(block: DraftBlock) -> list[str]:
    """Return the flows that a block invokes by a literal name, or by the name of a variable."""
    found = []
    for node in ast.walk(block.place):
        durable = durable_of(node)
        if durable is None or durable.kind != "child" or not isinstance(node, ast.Call):
            continue
        match node.args:
            case [ast.Constant(value=str(text)), *_]:
                found.append(text.partition("@")[0])
            case [ast.Name(id=name), *_]:
                found.append(name)
    return found


def _clean(words: str) -> str:
    clean = re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")
    return clean[:50].strip("_") if clean[:1].isalpha() else "region"


def _wait_name(block: DraftBlock) -> str:
    """Return the literal name of a wait, which is more specific than `wait`."""
    if block.kind != "wait":
        return ""
    call = getattr(block.place, "value", None)
    for given in call.keywords if isinstance(call, ast.Call) else []:
        if given.arg == "name" and isinstance(given.value, ast.Constant):
            return str(given.value.value)
    return ""
