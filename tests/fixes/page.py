"""Reads one page: the source of a flow, and what `kitaru check --fix` turns it into."""

from __future__ import annotations

import re
from pathlib import Path
from tempfile import TemporaryDirectory

from kitaru.ops.fix import fix
from kitaru.ops.flow_ref import locate

FOLDER = Path(__file__).with_name("pages")
START = "## After the fixes\n"
_BLOCK = re.compile(r"^```python\n(?P<code>(?s:.*?))^```$", re.M)


class Page:
    """One page: its source, and what is expected below it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.head, _, self.expected = path.read_text(encoding="utf-8").partition(START)
        found = _BLOCK.search(self.head)
        assert found is not None, path
        self.source = found["code"]

    def actual(self) -> str:
        """Fix the page's flow, and return what should be below its source."""
        text, before, after = fixed(self.source)
        left = sorted({code for code in after if code in before})
        gone = ", ".join(f"{code} {before.count(code)}" for code in sorted({*before} - {*left}))
        return f"\n```python\n{text}```\n\nGone: {gone}. Left: {', '.join(left) or 'none'}.\n"

    def write(self) -> None:
        self.path.write_text(f"{self.head}{START}{self.actual()}", encoding="utf-8")


def fixed(source: str, *, unsafe: bool = True) -> tuple[str, list[str], list[str]]:
    """Return a source after the fixes, and the codes of its findings before and after."""
    from kitaru.ops.check import check

    with TemporaryDirectory() as folder:
        path = Path(folder) / "flow.py"
        path.write_text(source, encoding="utf-8")
        location = locate(str(path))
        before = [d.code for d in check(location).findings]
        done = fix(location, unsafe_fixes=unsafe)
        after = [d.code for d in done.checked.findings]
        assert after == [d.code for d in check(location).findings]
        return path.read_text(encoding="utf-8"), before, after
