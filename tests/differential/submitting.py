"""Makes the parts of random flows that submit calls and gather their results.

Futures have names of their own: whether one shows as done depends on how it ran.
"""

from __future__ import annotations

from typing import Protocol

from hypothesis import strategies as st


class Writer(Protocol):
    """What writes the rest of a program."""

    draw: st.DrawFn

    def one(self, *options: str) -> str: ...
    def name(self) -> str: ...
    def atom(self) -> str: ...
    def call(self, depth: int) -> str: ...
    def expr(self, depth: int) -> str: ...
    def indented(self, depth: int) -> list[str]: ...


def submit(writer: Writer, depth: int) -> str:
    """Return a submitted call."""
    return writer.one(
        f"ca.submit({writer.expr(depth - 1)})",
        f"cb.submit({writer.expr(depth - 1)}, y={writer.atom()})",
        f"cc.submit({writer.atom()})",
    )


def gathered(writer: Writer, depth: int) -> str:
    """Return an expression that submits calls and asks for their results."""
    return writer.one(
        f"{submit(writer, depth)}.result()",
        f"[h.result() for h in ca.map(glue(({writer.name()}, {writer.atom()})))]",
        f"cb.product({writer.one('(1, 2)', 'xs')}, [{writer.atom()}]).load()",
        f"pick({submit(writer, 1)}, {writer.atom()}).result()",
        f"ca([{submit(writer, 1)}, {submit(writer, 1)}])",
        f"sum(1 for h in cc.map([{writer.atom()}, 2]) if h.result())",
    )


def futures(writer: Writer) -> list[str]:
    """Return statements that submit, and mostly ask for the results, at once or later."""
    one, name, atom = writer.one, writer.name, writer.atom
    call, last = writer.call(1), submit(writer, 1)
    items = one("(1, 2)", "xs", "glue([3, 4, 5])", "()", f"[{atom()}]", "Noisy(3)", "ca(7)")
    beside = one("", "", f"glue({name()})", f"{name()} = {call}", "xs = [0]")
    match writer.draw(st.integers(0, 11)):
        case 0:
            lines = [f"hs = [ca.submit(v) for v in {items}]", beside]
            return [*lines, f"{name()} = [h.result() for h in hs]"]
        case 1:
            lines = ["hs = []", f"for v in {items}:", f"    if {one(atom(), 'True')}:"]
            lines.append("        hs.append(cb.submit(v, y=len(hs)))")
            return [*lines, one("", f"hs.append({last})"), beside, "xs = [h.load() for h in hs]"]
        case 2:
            lines = [f"h, g = {submit(writer, 2)}, {last}", beside]
            return [*lines, f"{name()} = (g.result(), h.result())"]
        case 3:
            lines = [f"h = {one('boom', 'ca')}.submit({writer.expr(1)})", f"g = {last}", beside]
            lines += ["try:", "    d = h.result()", "except ValueError as d:", "    trace(str(d))"]
            return [*lines, f"{name()} = [g.result()]"]
        case 4:
            lines = [f"hs = ca.map({items})", "gs = [cb.submit(h) for h in hs]", beside]
            return [*lines, f"{name()} = [g.result() for g in gs]", "c = len(hs)"]
        case 5:
            lines = [f"hs = {{v: {last} for v in (1, 2)}}", beside]
            return [*lines, "for v, h in hs.items():", "    trace(str(v)); d = h.result()"]
        case 6:
            return [one(submit(writer, 2), f"h = {submit(writer, 2)}", "h = boom.submit(2)")]
        case 7:
            lines = ["for v in ('x', 'y'):", f"    hs = ca.map([v, {atom()}])"]
            return [*lines, f"    {beside or 'pass'}", f"    c = ca({one('hs', 'hs[0]')})"]
        case 8:
            lines = [f"hs = [ca.submit(v) for v in {items}]", f"h = {last}", beside]
            return [*lines, one(*_gathers(writer))]
        case 9:
            lines = [f"hs = ca.map({items})", beside, f"for {one('h', 'a')} in hs:"]
            ways = (f"    c = cb({one('h', 'hs[0]')}.result())", f"    d = ca({atom()})")
            return [*lines, *ways, one("    if d: break", "    trace(str(c))", "    continue")]
        case 10:
            lines = [f"hs = [ca.submit(v) for v in {items}]", f"if {one('not hs', 'len(hs)')}:"]
            return [*lines, *writer.indented(1), f"{name()} = [h.result() for h in hs]"]
        case _:
            lines = [f"h = {last}", f"if {writer.expr(1)}:", *writer.indented(1)]
            return [*lines, f"{name()} = h.result()"]


def _gathers(writer: Writer) -> list[str]:
    """Return statements that gather `hs` and `h`, and call checkpoints on what they get."""
    name = writer.name()
    return [
        f"{name} = cb([ca(h.result()) for h in hs], y=h.result())",
        f"{name} = (cb([h.result() for h in hs]), cb(h.result(), y={writer.atom()}))",
        f"{name} = list(zip([h.result() for h in hs], [cb(g.result()) for g in hs])), ca(h)",
        f"{name} = {{'k': h.result(), 'j': [h.result() for h in hs], 'i': {writer.call(1)}}}",
        f"{name} = cb(h.result()) if any(h.result() for h in hs) else ca({writer.atom()})",
        f"if [h.result() for h in hs] and h.result(): {name} = {writer.call(1)}",
    ]
