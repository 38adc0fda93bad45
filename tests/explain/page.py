"""Reads one page: the source of a flow, and what `kitaru compile --explain` prints about it."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from kitaru_compiler.passes.uncuttable import MAX_CALLS
from kitaru_targets import registry

from kitaru.cli.output import Output
from kitaru.cli.render.explanation import show
from kitaru.ops.compile import request
from kitaru.ops.explain import Explanation, explain

FOLDER = Path(__file__).with_name("pages")
START = "## The explanation\n"
_BLOCK = re.compile(r"^```python *(?P<info>.*)\n(?P<code>(?s:.*?))^```$", re.M)


class Page:
    """One page: its source, and what is expected below it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.head, _, self.expected = path.read_text(encoding="utf-8").partition(START)
        found = _BLOCK.search(self.head)
        assert found is not None, path
        self.source = found["code"]
        options = dict(word.split("=") for word in found["info"].split())
        self.target = options.get("target", "vertex")
        self.granularity = options.get("granularity", "checkpoint")
        # As if a document of the target took no more steps, and a flow made no more calls.
        self.most = int(options.get("most", "0")) or None
        self.calls = int(options.get("calls", MAX_CALLS))

    def explanation(self) -> Explanation:
        """Explain the page's flow."""
        with TemporaryDirectory() as folder, chdir(folder):
            Path("flow.py").write_text(self.source, encoding="utf-8")
            named = request("flow.py", self.target, "build", granularity=self.granularity)  # type: ignore[arg-type]
            with self._limited():
                return explain(named)

    @contextmanager
    def _limited(self) -> Iterator[None]:
        target = registry.get(self.target)
        if self.most is not None:
            target = replace(target, profile=replace(target.profile, max_steps=self.most))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(registry, "get", lambda _: target)
            # The package has a function of the module's name.
            module = sys.modules["kitaru_compiler.passes.uncuttable"]
            patch.setattr(module, "MAX_CALLS", self.calls)
            yield

    def actual(self, printed: Callable[[], str]) -> str:
        """Return what should be below the source; `printed` reads what was printed since."""
        found = explained(self.path)
        printed()
        show(found, Output(False))
        return f"\n```text\n{printed()}```\n"

    def write(self, actual: str) -> None:
        self.path.write_text(f"{self.head}{START}{actual}", encoding="utf-8")


@cache
def explained(path: Path) -> Explanation:
    """Explain the flow of a page, once for all tests."""
    return Page(path).explanation()
