"""The common base of all migrations: names, marks, imports and functions without `async`.

A migration is one walk from the leaves upwards. It makes decisions on the original nodes
(`original`) and builds on the nodes that the walk has rewritten (`updated`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import cast

import libcst as cst

from kitaru_compiler.fixes.module import Statement, dotted, statements, unused

MARK = "# MIGRATE:"
PAUSE = '''

@checkpoint
def {name}(seconds: float) -> None:
    """Wait inside a step: the process stays up for so long."""
    time.sleep(seconds)
'''
LONGEST_PAUSE = 600


class NotMigratable(Exception):
    """The migration cannot rewrite a program; the message contains the place and the reason."""


class Rewriter(cst.CSTTransformer):
    """Rewrites one file. A subclass defines a library's `packages` and the new names."""

    packages: tuple[str, ...] = ()
    title = ""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.before = cst.parse_module(text)
        self.imports = _imports(self.before)
        self.taken = _names(self.before)
        self.flows: dict[str, str] = {}
        """The names of functions or classes that become flows, with the names of the flows."""
        self.checkpoints: dict[str, dict[str, str]] = {}
        """The functions that become checkpoints, with the options of their decorators."""
        self.kitaru: set[str] = set()
        self.added: set[str] = set()
        self.pause = ""
        self.logger = ""
        self.objects: set[str] = set()
        """Variables that contain objects of the other library, such as a client."""
        self._marks: dict[cst.CSTNode, list[str]] = {}
        self._statements: list[cst.CSTNode] = []
        self._functions: list[cst.FunctionDef] = []

    # The whole.

    def migrated(self) -> str:
        """Return the rewritten text.

        Raises:
            NotMigratable: the text contains no flow, or a flow that requires an event loop.
        """
        self.find()
        if not self.flows:
            raise NotMigratable(f"no {self.title} was found in the file")
        self.sync = self._without_loop()
        tree = self.before.visit(self)
        text = self._with_marks(self._finished(tree))
        try:
            compile(text, "<migrated>", "exec", dont_inherit=True)
        except SyntaxError as error:
            line = text.split("\n")[(error.lineno or 1) - 1].strip()
            raise NotMigratable(f"a flow needs an event loop at `{line}`") from None
        return text

    def find(self) -> None:
        """Find the flows and the checkpoints; a subclass fills `flows` and `checkpoints`."""
        raise NotImplementedError

    # Decorators.

    def options(self, decorator: cst.BaseExpression, kind: str) -> dict[str, str]:
        """Return Kitaru's options for one of the library's decorators; `kind` is what it becomes.

        A library without options of its own returns none.
        """
        return {}

    def leave_FunctionDef(
        self, original_node: cst.FunctionDef, updated_node: cst.FunctionDef
    ) -> cst.FunctionDef | cst.RemovalSentinel | cst.FlattenSentinel[cst.FunctionDef]:
        name = original_node.name.value
        made = without_async(updated_node) if name in self.sync else updated_node
        if name not in self.flows and name not in self.checkpoints:
            return made
        kind = "flow" if name in self.flows else "checkpoint"
        self.kitaru.add(kind)
        kept = [
            decorated(kind, self.options(original.decorator, kind))
            if self.is_theirs(self.name_of(callee(original.decorator)))
            else updated
            for original, updated in zip(
                original_node.decorators, updated_node.decorators, strict=True
            )
        ]
        return made.with_changes(decorators=kept)

    # Names.

    def name_of(self, node: cst.CSTNode) -> str:
        """Return the absolute name of an imported object, else an empty string."""
        text = dotted(node)
        first, _, rest = text.partition(".")
        known = self.imports.get(first, "")
        return f"{known}.{rest}" if known and rest else known

    def is_theirs(self, name: str) -> bool:
        """Return whether an absolute name belongs to the other library."""
        return name.partition(".")[0] in self.packages

    def code(self, node: cst.CSTNode) -> str:
        """Return the source of a node."""
        return cst.Module([]).code_for_node(node)

    def fresh(self, name: str) -> str:
        """Reserve and return a name that the file does not use."""
        found = unused(name, self.taken)
        self.taken.add(found)
        return found

    def mark(self, text: str) -> None:
        """Mark the statement that the walk is visiting."""
        marks = self._marks.setdefault(self._statements[-1], [])
        if text not in marks:
            marks.append(text)

    # Calls.

    def call(self, name: str, arguments: Iterable[str]) -> cst.BaseExpression:
        """Return a call built from source texts."""
        return cst.parse_expression(f"{name}({', '.join(arguments)})")

    def paused(self, seconds: cst.BaseExpression) -> cst.BaseExpression:
        """Return a call of the checkpoint that sleeps."""
        self.pause = self.pause or self.fresh("pause")
        length = _seconds(seconds)
        if length is None or length > LONGEST_PAUSE:
            self.mark("a long pause keeps its process up; a wait that someone answers does not")
        return self.call(self.pause, [self.seconds(seconds)])

    def seconds(self, node: cst.BaseExpression) -> str:
        """Return a duration in seconds; `timedelta(…)` is converted."""
        length = _seconds(node)
        if length is not None:
            return f"{length:g}"
        text = self.code(node)
        return f"{text}.total_seconds()" if "timedelta" in text else text

    def wait(self, name: str, schema: str, *more: str) -> cst.BaseExpression:
        """Return a wait for an answer."""
        self.kitaru.add("wait")
        return self.call("kitaru.wait", [f'name="{as_name(name)}"', *more, f"schema={schema}"])

    def log(self) -> str:
        """Return the name of the module's logger."""
        self.logger = self.logger or self.fresh("logger")
        return self.logger

    def start(self, flow: str, arguments: Sequence[str], *, wait: bool) -> cst.BaseExpression:
        """Return the start of a flow, with its result if the program waited for it."""
        call = self.call(f"{flow}.run", arguments)
        if not wait:
            return call
        return cst.Call(cst.Attribute(call, cst.Name("wait")))

    def arguments(self, call: cst.Call, first: int = 0) -> list[str]:
        """Return the arguments of a call as texts, from positional argument `first` on."""
        plain = [a.with_changes(comma=cst.MaybeSentinel.DEFAULT) for a in call.args]
        place = [a for a in plain if not a.keyword][first:]
        return [self.code(a).strip() for a in (*place, *(a for a in plain if a.keyword))]

    def gathered(self, original: cst.Call, updated: cst.Call) -> cst.BaseExpression:
        """Return the results of calls that `asyncio.gather` ran concurrently."""
        submits = []
        for before, after in zip(original.args, updated.args, strict=True):
            inner = after.value
            if before.star and isinstance(inner, cst.ListComp | cst.GeneratorExp):
                call = self._submitted(inner.elt)
                if call is None:
                    break
                parts = f"{self.code(call)} {_on_one_line(self.code(inner.for_in))}"
                submits.append(f"*[{parts}]" if len(original.args) > 1 else f"[{parts}]")
            else:
                call = None if before.star else self._submitted(inner)
                if call is None:
                    break
                submits.append(self.code(call))
        else:
            alone = len(submits) == 1 and submits[0].startswith("[")
            listed = submits[0] if alone else f"[{', '.join(submits)}]"
            return cst.parse_expression(f"[call.result() for call in {listed}]")
        self.mark("these calls ran side by side: `.submit(…)` and `.result()`")
        return updated

    def _submitted(self, call: cst.BaseExpression) -> cst.Call | None:
        """Return a call of a checkpoint as its `.submit`."""
        if not isinstance(call, cst.Call) or dotted(call.func) not in self.checkpoints:
            return None
        return call.with_changes(func=cst.Attribute(call.func, cst.Name("submit")))

    def common_call(self, original: cst.Call, updated: cst.Call) -> cst.BaseExpression:
        """Return the replacement of an asyncio call in a function without an event loop."""
        match self.name_of(original.func):
            case "asyncio.gather" if self.in_flow:
                return self.gathered(original, updated)
            case "asyncio.sleep" if self.in_flow:
                return self.paused(updated.args[0].value)
            case "asyncio.run":
                inner = positional(original)
                if inner and isinstance(inner[0], cst.Call) and dotted(inner[0].func) in self.sync:
                    return updated.args[0].value
        return updated

    # Functions without a loop.

    def _without_loop(self) -> set[str]:
        """Return the functions that lose their `async`: flows, and users of the library."""
        known = {f.name.value: f for f in functions(self.before)}
        found = {name for name in known if name in self.flows}
        for name, function in known.items():
            used = (self.name_of(n) for n in nodes(function.body, cst.Name, cst.Attribute))
            if name not in self.checkpoints and any(map(self.is_theirs, used)):
                found.add(name)
        while True:
            more = {
                name
                for name, function in known.items()
                if name not in found | self.checkpoints.keys()
                and found & {dotted(call.func) for call in calls(function.body)}
            }
            if not more:
                return found - self._below_checkpoints(known)
            found |= more

    def _below_checkpoints(self, known: dict[str, cst.FunctionDef]) -> set[str]:
        """Return the functions called by checkpoints, which keep their event loop."""
        found: set[str] = set()
        pending = [name for name in self.checkpoints if name in known]
        while pending:
            called = {dotted(call.func) for call in calls(known[pending.pop()].body)}
            pending += [name for name in called & known.keys() if name not in found]
            found |= called & known.keys()
        return found - self.flows.keys()

    @property
    def in_flow(self) -> bool:
        """Whether the walk is in a function that runs without an event loop."""
        return any(function.name.value in self.sync for function in self._functions)

    def is_rewritten(self, call: cst.Call) -> bool:
        """Return whether the result of a call is available without an `await`."""
        name = dotted(call.func)
        last = name.rpartition(".")[2]
        return (
            self.is_theirs(self.name_of(call.func))
            or name in self.sync | self.checkpoints.keys()
            or self.name_of(call.func) in ("asyncio.sleep", "asyncio.gather")
            or last in ("submit", "result")
        )

    def leave_Await(self, original_node: cst.Await, updated_node: cst.Await) -> cst.BaseExpression:
        if not self.in_flow:
            return updated_node
        value = updated_node.expression
        inner = original_node.expression
        if isinstance(inner, cst.Call) and not self.is_awaitable(inner):
            return value.with_changes(lpar=updated_node.lpar, rpar=updated_node.rpar)
        if not isinstance(inner, cst.Call):
            return value
        self.added.add("asyncio")
        self.mark("this coroutine runs in the flow: make it a checkpoint")
        return self.call("asyncio.run", [self.code(value)])

    def is_awaitable(self, call: cst.Call) -> bool:
        """Return whether a call still returns a coroutine."""
        return not self.is_rewritten(call)

    # The walk.

    def on_visit(self, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.SimpleStatementLine | cst.BaseCompoundStatement):
            self._statements.append(node)
        if isinstance(node, cst.FunctionDef):
            self._functions.append(node)
        return super().on_visit(node)

    def on_leave(self, original_node: cst.CSTNode, updated_node: cst.CSTNode) -> cst.CSTNode:  # type: ignore[override]
        result = cast(cst.CSTNode, super().on_leave(original_node, updated_node))
        if isinstance(original_node, cst.FunctionDef):
            self._functions.pop()
        if isinstance(original_node, cst.SimpleStatementLine | cst.BaseCompoundStatement):
            self._statements.pop()
            marks = self._marks.get(original_node, [])
            if marks and isinstance(result, cst.SimpleStatementLine | cst.BaseCompoundStatement):
                result = marked(result, marks)
        return result

    # The result.

    def _finished(self, tree: cst.Module) -> str:
        """Return the text with new imports and definitions, and without unused imports."""
        if self.logger:
            self.added.add("logging")
        if self.pause:
            self.added.add("time")
            self.kitaru.add("checkpoint")
        tree = self._without_imports(tree)
        head: list[str] = sorted(f"import {name}" for name in self.added - _imported(tree))
        head += [""] if head else []
        if self.kitaru & {"wait"}:
            head.append("import kitaru")
        names = sorted(self.kitaru - {"wait"})
        head += [f"from kitaru import {', '.join(names)}"] if names else []
        head += self.outside()
        after = []
        if self.logger:
            after.append(f"\n{self.logger} = logging.getLogger(__name__)\n")
        if self.pause:
            after.append(PAUSE.format(name=self.pause))
        at = _behind_the_imports(tree.body)
        made = [*statements("\n".join(head) + "\n"), *(s for t in after for s in statements(t))]
        if made and at:
            alone = not _is_import(tree.body[at - 1])
            blank = [cst.EmptyLine(indent=False)] if alone else []
            made[0] = made[0].with_changes(leading_lines=[*blank, *made[0].leading_lines])
        body = list(tree.body)
        if at < len(body) and made:
            first = body[at]
            missing = (2 if self.pause else 1) - sum(
                not line.comment for line in first.leading_lines
            )
            blank = [cst.EmptyLine(indent=False)] * max(0, missing)
            body[at] = first.with_changes(leading_lines=[*blank, *first.leading_lines])
        return tree.with_changes(body=[*body[:at], *made, *body[at:]]).code

    def outside(self) -> list[str]:
        """Return the imports of other libraries that the result needs."""
        return []

    def _without_imports(self, tree: cst.Module) -> cst.Module:
        """Remove the library's unused imports from a module."""
        used = _mentioned(tree) - self.kitaru
        return tree.visit(_ImportsRemoved(self, used))

    def _with_marks(self, text: str) -> str:
        """Add a mark to each statement that still mentions the library."""
        tree = cst.parse_module(text)
        self.imports = _imports(tree)
        return tree.visit(_Leftovers(self)).code


class _ImportsRemoved(cst.CSTTransformer):
    """Removes unused imports of a library, and of names that only its calls needed."""

    def __init__(self, rewriter: Rewriter, used: set[str]) -> None:
        super().__init__()
        self._rewriter = rewriter
        self._used = used
        self._own = ("asyncio", "datetime")

    def _is_unused(self, absolute: str, bound: str) -> bool:
        package = absolute.partition(".")[0]
        theirs = package in (*self._rewriter.packages, *self._own)
        return theirs and bound not in self._used

    def leave_Import(
        self, original_node: cst.Import, updated_node: cst.Import
    ) -> cst.Import | cst.RemovalSentinel:
        kept = [a for a in updated_node.names if not self._is_unused(dotted(a.name), _bound(a))]
        if not kept:
            return cst.RemoveFromParent()
        return updated_node.with_changes(names=_closed(kept))

    def leave_ImportFrom(
        self, original_node: cst.ImportFrom, updated_node: cst.ImportFrom
    ) -> cst.ImportFrom | cst.RemovalSentinel:
        if isinstance(updated_node.names, cst.ImportStar) or updated_node.relative:
            return updated_node
        module = dotted(updated_node.module)
        kept = [a for a in updated_node.names if not self._is_unused(module, _bound(a))]
        if not kept:
            return cst.RemoveFromParent()
        if len(kept) == len(updated_node.names):
            return updated_node
        return updated_node.with_changes(names=_closed(kept), lpar=None, rpar=None)

    def leave_IndentedBlock(
        self, original_node: cst.IndentedBlock, updated_node: cst.IndentedBlock
    ) -> cst.IndentedBlock:
        body = list(updated_node.body)
        if not body or len(body) == len(original_node.body):
            return updated_node
        # The blank lines after a removed import.
        first = cast(Statement, body[0])
        kept = [line for line in first.leading_lines if line.comment]
        return updated_node.with_changes(body=[first.with_changes(leading_lines=kept), *body[1:]])

    def leave_With(
        self, original_node: cst.With, updated_node: cst.With
    ) -> cst.With | cst.RemovalSentinel:
        # `with workflow.unsafe.imports_passed_through():` around removed imports.
        block = updated_node.body
        empty = isinstance(block, cst.IndentedBlock) and not block.body
        return cst.RemoveFromParent() if empty else updated_node


class _Leftovers(cst.CSTTransformer):
    """Marks the statements that still mention the library."""

    def __init__(self, rewriter: Rewriter) -> None:
        super().__init__()
        self._rewriter = rewriter
        self._statements: list[tuple[cst.CSTNode, set[str]]] = []

    def on_visit(self, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.SimpleStatementLine | cst.BaseCompoundStatement):
            self._statements.append((node, set()))
        if self._statements and isinstance(node, cst.Name | cst.Attribute):
            name = self._rewriter.name_of(node)
            known = dotted(node).partition(".")[0] in self._rewriter.objects
            if known or self._rewriter.is_theirs(name):
                self._statements[-1][1].add(self._rewriter.code(node))
                return False
        return not isinstance(node, cst.Import | cst.ImportFrom)

    def on_leave(self, original_node: cst.CSTNode, updated_node: cst.CSTNode) -> cst.CSTNode:  # type: ignore[override]
        if not isinstance(original_node, cst.SimpleStatementLine | cst.BaseCompoundStatement):
            return updated_node
        _, names = self._statements.pop()
        if not names or not isinstance(updated_node, Statement):
            return updated_node
        listed = ", ".join(f"`{name}`" for name in sorted(names))
        return marked(updated_node, [f"{listed} has no equivalent that is certain"])


def marked(statement: Statement, marks: Sequence[str]) -> Statement:
    """Return a statement with comments above it."""
    lines = [cst.EmptyLine(comment=cst.Comment(f"{MARK} {text}")) for text in marks]
    return statement.with_changes(leading_lines=[*statement.leading_lines, *lines])


def nodes(tree: cst.CSTNode, *kinds: type[cst.CSTNode]) -> list[cst.CSTNode]:
    """Return all nodes of some kinds in a tree, in source order."""
    found: list[cst.CSTNode] = []
    pending = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, kinds):
            found.append(node)
        pending += reversed(node.children)
    return found


def functions(tree: cst.CSTNode) -> list[cst.FunctionDef]:
    """Return the functions that a tree defines, including methods and nested functions."""
    return [node for node in nodes(tree, cst.FunctionDef) if isinstance(node, cst.FunctionDef)]


def calls(tree: cst.CSTNode) -> list[cst.Call]:
    """Return the calls in a tree."""
    return [node for node in nodes(tree, cst.Call) if isinstance(node, cst.Call)]


def given(call: cst.Call | cst.BaseExpression, name: str) -> cst.BaseExpression | None:
    """Return the keyword argument of that name."""
    if not isinstance(call, cst.Call):
        return None
    return next((a.value for a in call.args if a.keyword and a.keyword.value == name), None)


def positional(call: cst.Call) -> list[cst.BaseExpression]:
    """Return the positional arguments of a call."""
    return [argument.value for argument in call.args if not argument.keyword]


def as_name(text: str) -> str:
    """Convert a text to the name of a wait or a function."""
    plain = re.sub(r"[^A-Za-z0-9_]+", "_", text).strip("_") or "wait"
    return f"_{plain}" if plain[0].isdigit() else plain


def snake(name: str) -> str:
    """Convert the name of a class to the name of a function."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def string(node: cst.CSTNode | None) -> str:
    """Return the value of a literal string, otherwise an empty string."""
    value = node.evaluated_value if isinstance(node, cst.SimpleString) else ""
    return value if isinstance(value, str) else ""


def decorators(function: cst.FunctionDef | cst.ClassDef) -> list[cst.BaseExpression]:
    """Return the decorators of a definition."""
    return [decorator.decorator for decorator in function.decorators]


def callee(decorator: cst.BaseExpression) -> cst.BaseExpression:
    """Return a decorator without its arguments."""
    return decorator.func if isinstance(decorator, cst.Call) else decorator


def decorated(name: str, options: dict[str, str]) -> cst.Decorator:
    """Return `@name` or `@name(option=value)`."""
    listed = ", ".join(f"{option}={value}" for option, value in options.items())
    return cst.Decorator(cst.parse_expression(f"{name}({listed})" if listed else name))


def without_async(function: cst.FunctionDef) -> cst.FunctionDef:
    """Return a function without `async`."""
    return function.with_changes(asynchronous=None)


_UNITS = {
    "milliseconds": 0.001,
    "seconds": 1,
    "minutes": 60,
    "hours": 3600,
    "days": 86400,
    "weeks": 604800,
}


def _seconds(node: cst.BaseExpression) -> float | None:
    """Return a literal duration in seconds."""
    if isinstance(node, cst.Integer | cst.Float):
        return float(node.evaluated_value)
    if not isinstance(node, cst.Call) or dotted(node.func).rpartition(".")[2] != "timedelta":
        return None
    total = 0.0
    for argument in node.args:
        value = argument.value
        unit = argument.keyword.value if argument.keyword else "days"
        if not isinstance(value, cst.Integer | cst.Float) or unit not in _UNITS:
            return None
        total += float(value.evaluated_value) * _UNITS[unit]
    return total


def _bound(alias: cst.ImportAlias) -> str:
    return alias.evaluated_alias or dotted(alias.name).partition(".")[0]


def _closed(aliases: Sequence[cst.ImportAlias]) -> list[cst.ImportAlias]:
    """Return the names of an import, without a trailing comma."""
    return [*aliases[:-1], aliases[-1].with_changes(comma=cst.MaybeSentinel.DEFAULT)]


def _imports(tree: cst.Module) -> dict[str, str]:
    """Return the absolute name of each name that the file imports."""
    found: dict[str, str] = {}
    for node in nodes(tree, cst.Import, cst.ImportFrom):
        if isinstance(node, cst.Import):
            for alias in node.names:
                name = dotted(alias.name)
                found[_bound(alias)] = name if alias.asname else name.partition(".")[0]
        elif isinstance(node, cst.ImportFrom) and not isinstance(node.names, cst.ImportStar):
            for alias in node.names:
                found[_bound(alias)] = f"{dotted(node.module)}.{dotted(alias.name)}"
    return found


def _mentioned(tree: cst.CSTNode) -> set[str]:
    """Return the names that code mentions, except in imports."""
    found: set[str] = set()
    pending = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, cst.Name):
            found.add(node.value)
        if not isinstance(node, cst.Import | cst.ImportFrom):
            pending += node.children
    return found


def _names(tree: cst.CSTNode) -> set[str]:
    """Return the names in a file, except attributes."""
    attributes = {n.attr for n in nodes(tree, cst.Attribute) if isinstance(n, cst.Attribute)}
    return {dotted(n) for n in nodes(tree, cst.Name) if n not in attributes}


def _on_one_line(code: str) -> str:
    """Join the lines of code that contains neither strings nor comments."""
    return code.strip() if set(code) & set("\"'#") else " ".join(code.split())


def _is_import(statement: cst.CSTNode) -> bool:
    body = statement.body if isinstance(statement, cst.SimpleStatementLine) else []
    if isinstance(statement, cst.With):
        return all(map(_is_import, statement.body.body))
    return bool(body) and all(isinstance(one, cst.Import | cst.ImportFrom) for one in body)


def _imported(tree: cst.Module) -> set[str]:
    """Return the modules that a file imports as a whole."""
    names = {
        _bound(a) for n in nodes(tree, cst.Import) if isinstance(n, cst.Import) for a in n.names
    }
    return names


def _behind_the_imports(body: Sequence[cst.CSTNode]) -> int:
    """Return the position after the imports at the head of a file."""
    at = 0
    for number, statement in enumerate(body):
        inner = statement.body[0] if isinstance(statement, cst.SimpleStatementLine) else None
        docstring = isinstance(inner, cst.Expr) and isinstance(inner.value, cst.SimpleString)
        if _is_import(statement) or (number == 0 and docstring):
            at = number + 1
        elif not isinstance(statement, cst.SimpleStatementLine | cst.With):
            break
    return at
