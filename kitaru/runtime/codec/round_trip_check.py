"""Check that objects with a codec survive a round trip before they are recorded.

A faulty `decode` must not be discovered days later, in the process that resumes. The encoded forms
are therefore decoded and encoded again at once, and the results must be equal. Objects with a
codec, and the objects in their forms, exist twice for a moment.

An object cannot be decoded before its form is complete. A form that refers to its own object is
therefore rejected. Objects in a form may be shared and may contain themselves, as in

    tree = Node("root"); tree.children.append(Node("leaf", parent=tree))
    box = Box(tree)          # recorded, if Node is a plain class of the project
"""

from __future__ import annotations

from typing import Any

from kitaru.errors import ClassChanged, ValueNotEncodable
from kitaru.runtime.codec.decoder import Decoder
from kitaru.runtime.codec.digests import Merkle
from kitaru.runtime.codec.encoder import Encoder
from kitaru.runtime.codec.user_codecs import TAG

# Nodes that are not rebuilt: the decoder looks up the same object without running its code.
_GIVEN = ("global", "pickled", "future", "name", "module")
_UNUSED = ["ellipsis", None]


def check(encoder: Encoder, nodes: list[Any], where: str) -> None:
    """Check the objects with a codec in a graph created by `encoder`.

    Raises:
        ValueNotEncodable: an object does not survive the round trip, or its form refers to it.
    """
    owned = [index for index, node in enumerate(nodes) if node[0] == TAG]
    _refuse_cycles(encoder, nodes, owned)
    needed = _reachable(nodes, owned)
    given = {index: encoder.value_of(index) for index in needed if nodes[index][0] in _GIVEN}
    kept = [
        node if index in needed and index not in given else _UNUSED
        for index, node in enumerate(nodes)
    ]
    root = [len(kept)]
    whole = [*kept, ["list", None, [[index] for index in owned]]]
    try:
        again = Decoder(whole, lambda _: None, (), encoder.looks(kept), given).build(root)
    except ClassChanged as error:
        raise ValueNotEncodable(
            f"{where or 'the value'} contains an object that would not come back. {error.message}",
            path=where,
            help=error.help,
        ) from error.__cause__
    stand_ins = {id(value): ["given", index] for index, value in given.items()}
    second = Encoder(where, parts=encoder.parts, stand_ins=stand_ins)
    slots = [second.add(value) for value in again]
    before = Merkle([["given", i] if i in given else node for i, node in enumerate(whole)])
    after = Merkle(second.finish())
    for index, slot in zip(owned, slots, strict=True):
        if before.digest([index])[0] != after.digest(slot)[0]:
            why = "encodes it differently after it was decoded"
            help = "Fix its functions: `decode` returns an object that `encode` encodes equally."
            raise encoder.unfit(index, why, help)


def _reachable(nodes: list[Any], start: list[int]) -> set[int]:
    found, pending = set(start), list(start)
    while pending:
        for slot in _slots(nodes[pending.pop()]):
            if type(slot) is list and slot[0] not in found:
                found.add(slot[0])
                pending.append(slot[0])
    return found


def _refuse_cycles(encoder: Encoder, nodes: list[Any], owned: list[int]) -> None:
    """Reject an object whose form refers to it: an object in a component with other nodes.

    Uses Tarjan's algorithm, without recursion.
    """
    order: dict[int, int] = {}
    low: dict[int, int] = {}
    open_: list[int] = []
    is_open: set[int] = set()
    for start in owned:
        stack = [(start, iter(_slots(nodes[start])))] if start not in order else []
        while stack:
            index, slots = stack[-1]
            if index not in order:
                order[index] = low[index] = len(order)
                open_.append(index)
                is_open.add(index)
            for slot in slots:
                if type(slot) is not list:
                    continue
                if slot[0] not in order:
                    stack.append((slot[0], iter(_slots(nodes[slot[0]]))))
                    break
                if slot[0] in is_open:
                    low[index] = min(low[index], order[slot[0]])
            else:
                stack.pop()
                if stack:
                    low[stack[-1][0]] = min(low[stack[-1][0]], low[index])
                if low[index] == order[index]:
                    at = len(open_) - 1
                    while open_[at] != index:
                        at -= 1
                    members, open_[at:] = open_[at:], []
                    is_open.difference_update(members)
                    if len(members) > 1:
                        _refuse_cycle(encoder, nodes, members)


def _refuse_cycle(encoder: Encoder, nodes: list[Any], members: list[int]) -> None:
    own = [index for index in members if nodes[index][0] == TAG]
    if own:
        help = "Leave the way back out of the form, and let `decode` set it again."
        raise encoder.unfit(min(own), "returns a form that leads back to the object", help)


def _slots(node: list[Any]) -> list[Any]:
    return node[2] if len(node) > 2 else []
