"""Find reads in a flow's body that may return another value in another process."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import chain

from kitaru_compiler.diagnostics.model import Diagnostic, Rule
from kitaru_compiler.diagnostics.rules.values import (
    CLOCK_IN_FLOW,
    ENVIRONMENT_IN_FLOW,
    FILE_IN_FLOW,
    RANDOM_IN_FLOW,
)
from kitaru_compiler.lint.body import Body
from kitaru_compiler.lint.call_graph import reached


def _each(module: str, names: str) -> list[str]:
    return [f"{module}.{name}" for name in names.split()]


_CLOCK = (
    *_each("time", "time time_ns monotonic monotonic_ns perf_counter perf_counter_ns"),
    *_each("time", "process_time process_time_ns"),
    *_each("datetime", "datetime.now datetime.utcnow datetime.today date.today"),
)
# With an argument these functions convert a time. Without one they read the clock.
_CLOCK_WHEN_BARE = frozenset(_each("time", "localtime gmtime ctime asctime"))
_RANDOM = (
    *_each("random", "random uniform triangular randint randrange choice choices sample shuffle"),
    *_each("random", "betavariate expovariate gammavariate gauss lognormvariate normalvariate"),
    *_each("random", "vonmisesvariate paretovariate weibullvariate getrandbits randbytes"),
    *_each("numpy.random", "rand randn randint random choice shuffle permutation normal uniform"),
    *_each("secrets", "choice randbelow randbits token_bytes token_hex token_urlsafe"),
    *_each("uuid", "uuid1 uuid4 uuid6 uuid7"),
    "os.urandom",
)
_ENVIRONMENT = (
    *_each("os", "getenv getenvb getcwd getpid getlogin uname"),
    *_each("pathlib", "Path.cwd Path.home"),
    *_each("platform", "node"),
    *_each("socket", "gethostname getfqdn"),
    "getpass.getuser",
)
_FILES = (
    *_each("os", "listdir scandir walk stat"),
    *_each("os.path", "exists isfile isdir getsize getmtime"),
    *_each("glob", "glob iglob"),
)
_PATH_READS = frozenset(
    ["read_text", "read_bytes", "open", "exists", "is_file", "is_dir", "iterdir", "glob", "rglob"]
)
_LEVELS = frozenset(["debug", "info", "warning", "error", "exception", "critical"])
RULES: dict[str, Rule] = {
    **dict.fromkeys(_CLOCK, CLOCK_IN_FLOW),
    **dict.fromkeys(_RANDOM, RANDOM_IN_FLOW),
    **dict.fromkeys(_ENVIRONMENT, ENVIRONMENT_IN_FLOW),
    **dict.fromkeys(_FILES, FILE_IN_FLOW),
}
MESSAGES = {
    "KIT202": ("reads the clock", "a resume or a later step sees another time", "now"),
    "KIT203": ("is random", "a resume draws another value", "draw"),
    "KIT204": ("reads the environment", "a later step or a resume may see something else", ""),
    "KIT205": ("reads the disk", "a later step has another one", "load"),
}


def outside_reads(body: Body) -> Iterator[Diagnostic]:
    """Find reads of the clock, randomness, the environment and files in a flow and its helpers."""
    for (rule, name), node in _reads_of(body):
        what, why, _ = MESSAGES[rule.code]
        message = f"`{name}` in the flow's body {what}: {why}"
        yield body.find(rule, node, message, help=_fix(rule))
    shown = _shown(body)
    told: set[tuple[ast.Call, str]] = set()
    for found in reached(body, _reads_of):
        rule, name = found.fact
        if found.call not in shown and (found.call, rule.code) not in told:
            told.add((found.call, rule.code))
            what, why, _ = MESSAGES[rule.code]
            message = f"`{found.name}`, called in the flow's body, {what}: {why}"
            related = found.related(f"`{name}` {what}")
            yield body.find(rule, found.call, message, help=_fix(rule), related=related)


def _fix(rule: Rule) -> str:
    helper = MESSAGES[rule.code][2]
    if not helper:
        return "make it an input of the flow, or read it in the checkpoint that needs it"
    return f"read it in a checkpoint, whose result is recorded: `@checkpoint def {helper}(): …`"


def _reads_of(body: Body) -> Iterator[tuple[tuple[Rule, str], ast.AST]]:
    ignored = _shown(body) | _changed(body)
    for node in body.nodes:
        rule, name = _read(body, node)
        if rule is not None and node not in ignored:
            yield (rule, name), node


def _read(body: Body, node: ast.AST) -> tuple[Rule | None, str]:
    match node:
        case ast.Call(func=function):
            name = body.outside(function)
            if name in _CLOCK_WHEN_BARE and not node.args and not node.keywords:
                return CLOCK_IN_FLOW, name
            if name in RULES:
                return RULES[name], name
            return (FILE_IN_FLOW, _text(function)) if _reads_file(body, node) else (None, "")
        case ast.Attribute() | ast.Name(ctx=ast.Load()):
            if body.outside(node) == "os.environ":
                return ENVIRONMENT_IN_FLOW, "os.environ"
    return None, ""


def _changed(body: Body) -> set[ast.AST]:
    """Return the objects that are assigned by key or updated, which are not reads."""
    found: set[ast.AST] = set()
    for node in body.nodes:
        match node:
            case (
                ast.Subscript(value=value, ctx=ast.Store() | ast.Del())
                | ast.Attribute(value=value, attr="update")
            ):
                found.add(value)
    return found


def _reads_file(body: Body, call: ast.Call) -> bool:
    if body.is_builtin(call.func, "open") or body.outside(call.func) == "io.open":
        return _reads(call, 1)
    if not isinstance(call.func, ast.Attribute) or call.func.attr not in _PATH_READS:
        return False
    return _is_path(body, call.func.value) and (call.func.attr != "open" or _reads(call, 0))


def _reads(call: ast.Call, position: int) -> bool:
    """Return whether an `open` certainly reads: its mode is absent, or a literal for reading."""
    given = [keyword.value for keyword in call.keywords if keyword.arg == "mode"]
    given += call.args[position : position + 1]
    if any(keyword.arg is None for keyword in call.keywords):
        return False
    if not given:
        return True
    mode = given[0].value if isinstance(given[0], ast.Constant) else ""
    return isinstance(mode, str) and ("r" in mode or "+" in mode)


def _is_path(body: Body, expression: ast.expr) -> bool:
    """Return whether `expression` is a `Path(…)`, or a path joined with `/`."""
    while isinstance(expression, ast.BinOp) and isinstance(expression.op, ast.Div):
        expression = expression.left
    if not isinstance(expression, ast.Call):
        return False
    return body.outside(expression.func) == "pathlib.Path"


def _shown(body: Body) -> set[ast.AST]:
    """Return values that are only printed or logged: they affect no decision."""
    shown = (
        node.value
        for node in body.nodes
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and (body.is_builtin(node.value.func, "print") or _logs(node.value.func))
    )
    return set(chain.from_iterable(ast.walk(node) for node in shown))


def _logs(function: ast.expr) -> bool:
    return isinstance(function, ast.Attribute) and function.attr in _LEVELS


def _text(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else ast.unparse(function)
