"""Text that somebody else may have changed is parsed where damage becomes an error with a name.

JSON, TOML and YAML come from users, services and stores. Where a parser is called outside of a
`try` that catches its error, damage would be reported as a defect of Kitaru. Each such place is
listed here with the reason why it cannot happen.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from .conftest import ROOT, tracked

PARSERS = {"json": {"load", "loads"}, "tomllib": {"load", "loads"}, "yaml": {"load", "safe_load"}}
CATCHING = {"ValueError", "Exception", "JSONDecodeError", "TOMLDecodeError", "YAMLError"}
# By file and function.
KEPT = {
    ("compiler/kitaru_compiler/frontend/analysis.py", "__init__"): "the digest was compared",
    ("kitaru/adapters/langgraph/runner.py", "_json"): "this process has just written it",
    ("kitaru/cli/commands/graph.py", "graph"): "this process has just written it",
    ("kitaru/ops/answer_links.py", "read_token"): "its signature was verified",
    ("kitaru/ops/build_cache.py", "load"): "the digest of the entry was compared",
    ("kitaru/runtime/journal/blobs.py", "store_value"): "it was written by this call",
    ("kitaru/runtime/steps/modules.py", "leave_checkouts"): "pip wrote it, for a dry run",
    ("kitaru/runtime/telemetry/logs.py", "_live_without_secrets"): "this process has written it",
    ("kitaru/server/pages/__init__.py", "handle"): "this process has just written it",
    ("kitaru/stores/azure_ml.py", "_answer"): "its caller catches the error",
    ("kitaru/testing/adapters/processes.py", "_import_what_a_child_imported"): "a child wrote it",
    ("kitaru/testing/adapters/processes.py", "run"): "a process of this test wrote it",
    ("kitaru/testing/adapters/processes.py", "serve"): "the test that started it wrote it",
    ("kitaru/wire/envelope.py", "reread"): "this process has just written it",
    ("kitaru/wire/plan.py", "from_json"): "it documents the ValueError; `read_plan` names the file",
    ("targets/kitaru_targets/build_secrets.py", "check"): "this process has just written it",
    ("targets/kitaru_targets/build_secrets.py", "check_files"): "this process has just written it",
    ("targets/kitaru_targets/airflow/dry_run.py", "_read"): "a step of this dry run wrote it",
    ("targets/kitaru_targets/airflow/dry_run.py", "task"): "a step of this dry run wrote it",
    ("targets/kitaru_targets/azureml/dry_run.py", "_outcome"): "a step of this dry run wrote it",
    ("targets/kitaru_targets/kfp/dry_run.py", "_loop"): "a step of this dry run wrote it",
    ("targets/kitaru_targets/local/dry_run.py", "execute"): "the document was validated",
    ("targets/kitaru_targets/kubernetes/dry_run.py", "_message"): "a step of this dry run wrote it",
    ("targets/kitaru_targets/kubernetes/submit.py", "_call"): "`_connected` catches the error",
    ("targets/kitaru_targets/sagemaker/dry_run.py", "_items"): "a step of this dry run wrote it",
    ("targets/kitaru_targets/sagemaker/dry_run.py", "_outcome"): "a step of this dry run wrote it",
    ("targets/kitaru_targets/sagemaker/dry_run.py", "execute"): "the document was validated",
    ("targets/kitaru_targets/argo/dry_run.py", "_task"): "a step of this dry run wrote it",
    ("targets/kitaru_targets/stepfunctions/dry_run.py", "execute"): "the document was validated",
    ("targets/kitaru_targets/stepfunctions/expressions.py", ""): "a step of this dry run wrote it",
    ("targets/kitaru_targets/stepfunctions/submit.py", "_registered"): "the build was verified",
    ("targets/kitaru_targets/stepfunctions/submit.py", "_open_runs"): "the service accepted it",
    ("targets/kitaru_targets/stepfunctions/dry_run.py", "_said"): "a step of it wrote it",
    ("targets/kitaru_targets/common/json_format.py", "parse"): "its callers catch the ValueError",
    ("targets/kitaru_targets/installs.py", "_own"): "it is a file of this package",
    ("targets/kitaru_targets/local/validate.py", "parsed"): "it was validated two lines above",
    ("targets/kitaru_targets/sbom.py", "sbom"): "the library has just written it",
    ("targets/kitaru_targets/sagemaker/sdk.py", "problems"): "the process of `vendor` reports it",
    ("targets/kitaru_targets/vendor.py", "_asked"): "its own process wrote it",
    ("targets/kitaru_targets/vertex/sdk.py", "_samples"): "its caller catches the error",
}


def parsed_without_care(path: Path) -> Iterator[str]:
    """Yield the functions of a file that parse outside of a `try` which catches the error."""

    def visit(node: ast.AST, function: str, is_caught: bool) -> Iterator[str]:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                function, is_caught = name, False
            case ast.Try():
                inside = is_caught or any(map(_catches, node.handlers))
                for child in node.body:
                    yield from visit(child, function, inside)
                for child in (*node.handlers, *node.orelse, *node.finalbody):
                    yield from visit(child, function, is_caught)
                return
            case ast.With(items=items):
                is_caught = is_caught or any(_suppresses(item.context_expr) for item in items)
            case ast.Call(func=ast.Attribute(value=ast.Name(id=module), attr=name)):
                if name in PARSERS.get(module, ()) and not is_caught:
                    yield function
        for child in ast.iter_child_nodes(node):
            yield from visit(child, function, is_caught)

    yield from visit(ast.parse(path.read_text("utf-8")), "", False)


def _catches(handler: ast.ExceptHandler) -> bool:
    return handler.type is None or bool(_names(handler.type) & CATCHING)


def _suppresses(context: ast.expr) -> bool:
    return "suppress" in _names(context) and bool(_names(context) & CATCHING)


def _names(node: ast.expr) -> set[str]:
    found = ast.walk(node)
    return {n.id if isinstance(n, ast.Name) else getattr(n, "attr", "") for n in found}


def found() -> set[tuple[str, str]]:
    roots = ("kitaru/*.py", "compiler/*.py", "targets/*.py")
    return {
        (path.relative_to(ROOT).as_posix(), function)
        for path in tracked(*roots)
        for function in parsed_without_care(path)
    }


def test_what_others_may_change_is_parsed_with_care() -> None:
    assert found() - KEPT.keys() == set(), "catch the parser's error, or add the reason to KEPT"
    assert KEPT.keys() - found() == set(), "these are parsed with care now"


def test_the_search_sees_both_kinds(tmp_path: Path) -> None:
    path = tmp_path / "code.py"
    path.write_text(
        "def bare(t):\n    return json.loads(t)\n"
        "def kept(t):\n    try:\n        json.loads(t)\n    except ValueError:\n        pass\n"
        "def quiet(t):\n    with suppress(ValueError):\n        json.loads(t)\n"
        "def late(t):\n    try:\n        pass\n    except ValueError:\n        json.loads(t)\n"
        "def other(t):\n    try:\n        tomllib.loads(t)\n    except OSError:\n        pass\n"
    )
    assert [*parsed_without_care(path)] == ["bare", "late", "other"]
