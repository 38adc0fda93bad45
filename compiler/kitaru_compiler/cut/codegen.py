"""Generate `steps.py`: a function per block, and a table back to the user's lines.

Statements keep their source text, including comments, as long as the text matches what the block
must do. Statements changed by a pass are unparsed from the tree. Each function is parsed again and
compared with its tree, so text and tree cannot differ.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Any

from kitaru.wire.structs import Struct
from kitaru_compiler.cut.basic_blocks import DraftBlock, jumps
from kitaru_compiler.frontend.source import Source
from kitaru_compiler.ir.awaits import write_awaits
from kitaru_compiler.ir.nodes import FlowIR
from kitaru_compiler.ir.scope import own_statements
from kitaru_compiler.ir.walk import is_same, walk

INDENT = "    "
Function = ast.FunctionDef | ast.AsyncFunctionDef
HEADER = '''"""The blocks of flow `{flow}`, generated; edit the flow's own source instead.

Each function takes the variables that are live at its start and returns the name of the next block
and the variables, or None and the flow's result. `plan.json` says which jumps start a new step.
"""
'''


class Generated(Struct):
    """The text of `steps.py` and its position table, for `kitaru.runtime.steps.blocks`."""

    text: str
    positions: tuple[dict[str, Any], ...]


def generate(
    ir: FlowIR,
    blocks: list[DraftBlock],
    live: dict[int, tuple[str, ...]],
    bound: dict[int, frozenset[str]],
) -> Generated:
    """Generate the functions of all blocks."""
    frame = _frame_name(blocks)
    # Also blocks without `await` need the event loop: their code may create tasks.
    define = "async def" if ir.is_async else "def"
    parts = [HEADER.format(flow=ir.name) + _future_imports(ir.source)]
    for block in blocks:
        for stmt in block.body:
            write_awaits(stmt)
            for node in own_statements(stmt):
                _resolve_jump(node)
        writer = _Writer(block.source, frame)
        lines = [f"{define} {block.name}({frame}):  # {_place_of(block, ir.source)}"]
        lines += _loads(block, writer, live[block.index], bound[block.index])
        for stmt in block.body:
            lines += writer.statement(stmt, INDENT)
        parts.append("\n".join(lines) + "\n")
    text = "\n\n".join(parts)
    parsed = [node for node in ast.parse(text).body if isinstance(node, Function)]
    positions = tuple(_table(p, b) for p, b in zip(parsed, blocks, strict=True))
    return Generated(text, positions)


def _loads(
    block: DraftBlock, writer: _Writer, live: tuple[str, ...], bound: frozenset[str]
) -> list[str]:
    """Return the statements that load the variables of the block's function from the frame."""
    lines = []
    for name in live:
        owner, _, variable = name.rpartition(".")
        if owner == block.activation.name:
            lines += writer.load(variable, name, name in bound)
    for variable, name in block.taken.items():
        lines += writer.load(variable, name, True)
    return lines


def _future_imports(source: Source) -> str:
    """Return the module's `from __future__` imports, which change the meaning of its code."""
    names = ", ".join(source.futures)
    return f"\nfrom __future__ import {names}\n" if names else ""


def _place_of(block: DraftBlock, source: Source) -> str:
    place = f"line {getattr(block.place, 'lineno', 1)}"
    return place if block.source is source else f"{block.source.file}, {place}"


def _frame_name(blocks: list[DraftBlock]) -> str:
    """Return a name for the blocks' parameter that does not occur in any function's source."""
    name = "frame"
    functions = {id(block.activation.ir): block.activation.ir for block in blocks}.values()
    while any(name in (*ir.locals, *ir.mentioned, *ir.temporaries) for ir in functions):
        name += "_"
    return name


def _resolve_jump(node: ast.AST) -> None:
    """Insert the target's name into the jump, now that every block has a name."""
    jump = getattr(node, "jump", None)
    if jump and jump.target and isinstance(node, ast.Return):
        assert isinstance(node.value, ast.Tuple) and isinstance(node.value.elts[0], ast.Constant)
        node.value.elts[0].value = jump.target.name


@dataclass
class _Writer:
    source: Source
    frame: str

    def load(self, variable: str, name: str, surely: bool) -> list[str]:
        """Return the statement that binds a variable, `name` in the frame, if it has a value."""
        line = f'{variable} = {self.frame}["{name}"]'
        if surely:
            return [INDENT + line]
        return [f'{INDENT}if "{name}" in {self.frame}:', INDENT * 2 + line]

    def statement(self, stmt: ast.stmt, indent: str) -> list[str]:
        """Return the lines of one statement."""
        if isinstance(stmt, ast.If) and jumps(stmt):
            return self._branch(stmt, indent, "if")
        lines = self._verbatim(stmt, indent) or self._jump(stmt, indent)
        lines = lines or self._assignment(stmt, indent)
        return lines or _indented(ast.unparse(stmt), indent)

    def _jump(self, stmt: ast.stmt, indent: str) -> list[str] | None:
        """Format the end of a block as a person would write it."""
        jump = getattr(stmt, "jump", None)
        if jump is None or not isinstance(stmt, ast.Return):
            return None
        assert isinstance(stmt.value, ast.Tuple)
        following = f'"{jump.target.name}"' if jump.target else "None"
        value = stmt.value.elts[1]
        if isinstance(value, ast.Dict) and jump.passed:
            text = self._items(value)
        else:
            text = self._expression(value)
        line = f"{indent}return {following}, {text}"
        return [line] if _same_statement([line], stmt) else None

    def _items(self, value: ast.Dict) -> str:
        """Format the values passed to another activation, each as in the source."""
        items = [
            f"{_quoted(key)}: {self._expression(item)}" if key else f"**{ast.unparse(item)}"
            for key, item in zip(value.keys, value.values, strict=True)
        ]
        return "{" + ", ".join(items) + "}"

    def _assignment(self, stmt: ast.stmt, indent: str) -> list[str] | None:
        """Format an assignment that a pass created, with its value as in the source."""
        match stmt:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                line = f"{indent}{name} = {self._expression(value)}"
                return [line] if _same_statement([line], stmt) else None
        return None

    def _expression(self, expression: ast.expr) -> str:
        text = self._segment(expression)
        return text if _same_expression(text, expression) else ast.unparse(expression)

    def _segment(self, expression: ast.expr) -> str:
        """Return the source text of an expression on one line."""
        if expression.lineno != expression.end_lineno:
            return ""
        line = self.source.lines[expression.lineno - 1].encode()
        return line[expression.col_offset : expression.end_col_offset].decode(errors="ignore")

    def _branch(self, stmt: ast.If, indent: str, word: str) -> list[str]:
        above = self._comments_above(stmt, indent) if word == "if" else []
        lines = [*above, f"{indent}{word} {self._expression(stmt.test)}:"]
        for inner in stmt.body:
            lines += self.statement(inner, indent + INDENT)
        match stmt.orelse:
            case [ast.If() as other] if jumps(other):
                lines += self._branch(other, indent, "elif")
            case []:
                pass
            case orelse:
                lines.append(f"{indent}else:")
                for inner in orelse:
                    lines += self.statement(inner, indent + INDENT)
        return lines

    def _verbatim(self, stmt: ast.stmt, indent: str) -> list[str] | None:
        """Return the statement's own lines, indented by `indent`, if they still match its tree."""
        lines = self._own_lines(stmt)
        if lines is None:
            return None
        moved = _moved(lines, stmt, indent)
        if moved is None:
            return None
        ends = [node for node in own_statements(stmt) if getattr(node, "jump", None)]
        if ends:
            moved = _ending(moved, *_around(ends[0]))
        if moved is None or not _same_statement(moved, stmt):
            return None
        return [*self._comments_above(stmt, indent), *moved]

    def _own_lines(self, stmt: ast.stmt) -> list[str] | None:
        assert stmt.end_lineno is not None and stmt.end_col_offset is not None
        lines = [line.rstrip("\n") for line in self.source.lines[stmt.lineno - 1 : stmt.end_lineno]]
        if not lines:
            return None
        before = lines[0].encode()[: stmt.col_offset].decode(errors="ignore")
        after = lines[-1].encode()[stmt.end_col_offset :].decode(errors="ignore").strip()
        if before.strip(" ") or (after and not after.startswith("#")):
            return None
        return lines

    def _comments_above(self, stmt: ast.stmt, indent: str) -> list[str]:
        found: list[str] = []
        number = stmt.lineno - 2
        while number >= 0 and self.source.lines[number].strip().startswith("#"):
            found.insert(0, indent + self.source.lines[number].strip())
            number -= 1
        return found


def _quoted(name: ast.expr) -> str:
    """Format a generated name, which contains no quotes, in the quote style of the other lines."""
    return ast.unparse(name).replace("'", '"')


def _moved(lines: list[str], stmt: ast.stmt, indent: str) -> list[str] | None:
    """Change the indentation of lines; lines inside a string stay unchanged."""
    inside = _inside_strings(stmt)
    shift = len(indent) - stmt.col_offset
    moved = []
    for number, line in enumerate(lines, stmt.lineno):
        space = len(line) - len(line.lstrip(" "))
        if line[:space] != line[: len(line) - len(line.lstrip())]:
            return None  # tabs
        if number in inside or not line.strip():
            moved.append(line)
        else:
            moved.append(" " * max(space + shift, 0) + line[space:])
    return moved


def _around(end: ast.AST) -> tuple[bytes, bytes]:
    """Return the text before and after the value of a `return` that became this statement."""
    match end:
        case ast.Return(value=ast.Tuple(elts=[ast.Constant() as target, ast.Dict(keys=[key])])):
            assert isinstance(key, ast.Constant)
            if isinstance(target.value, str):
                return f' "{target.value}", {{"{key.value!s}":'.encode(), b"}"
    return b" None,", b""


def _ending(lines: list[str], before: bytes, after: bytes) -> list[str] | None:
    """Turn `return x` into `return None, x`, the last first so that positions stay valid."""
    text = _as_block(lines)
    try:
        stmt = ast.parse(text).body[0].body[0]  # type: ignore[attr-defined]
    except (SyntaxError, IndexError):
        return None
    rows = [line.encode() for line in text.split("\n")]
    returns = [node for node in own_statements(stmt) if isinstance(node, ast.Return)]
    for node in sorted(returns, key=lambda n: (n.lineno, n.col_offset), reverse=True):
        row, column = node.lineno - 1, node.col_offset + len("return")
        if node.value is None:
            rows[row] = rows[row][:column] + before + b" None" + after + rows[row][column:]
            continue
        closing = b")" + after if isinstance(node.value, ast.Tuple) else after
        end_row, end = _end(node)
        rows[end_row] = rows[end_row][:end] + closing + rows[end_row][end:]
        if isinstance(node.value, ast.Tuple):
            start = node.value.col_offset if node.value.lineno == node.lineno else column
            rows[row] = rows[row][:column] + before + b" (" + rows[row][start:]
        else:
            rows[row] = rows[row][:column] + before + rows[row][column:]
    return [row.decode() for row in rows[1:]]


def _end(node: ast.Return) -> tuple[int, int]:
    assert node.end_lineno is not None and node.end_col_offset is not None
    return node.end_lineno - 1, node.end_col_offset


def _as_block(lines: list[str]) -> str:
    """Wrap indented lines so that Python parses them as the body of a function."""
    return "async def f():\n" + "\n".join(lines)


def _same_statement(lines: list[str], stmt: ast.stmt) -> bool:
    try:
        wrapped = ast.parse(_as_block(lines)).body[0]
    except (SyntaxError, ValueError):
        return False
    body = wrapped.body  # type: ignore[attr-defined]
    return len(body) == 1 and is_same(body[0], stmt)


def _same_expression(text: str, expression: ast.expr) -> bool:
    try:
        return is_same(ast.parse(text, mode="eval").body, expression)
    except (SyntaxError, ValueError):
        return False


def _indented(text: str, indent: str) -> list[str]:
    """Indent the output of `ast.unparse`; lines inside a string stay unchanged."""
    inside = _inside_strings(ast.parse(text))
    return [
        line if number in inside or not line else indent + line
        for number, line in enumerate(text.split("\n"), 1)
    ]


def _inside_strings(tree: ast.AST) -> set[int]:
    """Return the numbers of the lines that start inside a string."""
    return {
        line
        for node in walk(tree)
        if isinstance(node, ast.Constant | ast.JoinedStr)
        for line in range(node.lineno + 1, (node.end_lineno or node.lineno) + 1)
    }


def _table(parsed: Function, block: DraftBlock) -> dict[str, Any]:
    """Return the position table of one function; `kitaru.runtime.steps.blocks` defines its form.

    The loads of variables at its start have no position in the user's source.
    """
    lines: dict[str, list[int]] = {}
    nodes: dict[str, list[list[int]]] = {}
    loads = len(parsed.body) - len(block.body)
    for index, meant in enumerate(block.body, loads):
        written = parsed.body[index]
        if not is_same(written, meant):
            raise AssertionError(f"generated text differs: {ast.unparse(meant)!r}")
        pairs = [
            (a, b) for a, b in zip(walk(written), walk(meant), strict=True) if hasattr(a, "lineno")
        ]
        shifts = _shifts(pairs)
        if shifts is None or any(lines.get(k, v) != v for k, v in shifts.items()):
            nodes[str(index)] = [_place(b) for _, b in pairs]
        else:
            lines.update(shifts)
    return {"function": parsed.name, "lines": lines, "nodes": nodes}


def _shifts(pairs: list[tuple[Any, Any]]) -> dict[str, list[int]] | None:
    """Return the offset of each line, or None if the parts of a line moved by different offsets."""
    found: dict[str, list[int]] = {}
    for written, meant in pairs:
        ends = (
            (written.lineno, written.col_offset, meant.lineno, meant.col_offset),
            (
                written.end_lineno,
                written.end_col_offset,
                meant.end_lineno,
                meant.end_col_offset,
            ),
        )
        for line, column, to_line, to_column in ends:
            moved = [to_line, to_column - column]
            if found.setdefault(str(line), moved) != moved:
                return None
    return found


def _place(node: Any) -> list[int]:
    return [node.lineno, node.col_offset, node.end_lineno, node.end_col_offset]
