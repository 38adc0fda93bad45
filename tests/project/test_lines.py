"""Lines of source files are counted as Python counts them, wherever they are put together again."""

from __future__ import annotations

from .conftest import tracked


def test_no_text_is_split_where_python_ends_no_line() -> None:
    # `splitlines(keepends=True)` also splits at form feeds and U+2028: a diff or an edit then
    # counts other lines than Python and editors. Use `io.StringIO(text).readlines()`.
    products = tracked("kitaru/*.py", "compiler/*.py", "targets/*.py")
    assert [p for p in products if "splitlines(keepends" in p.read_text("utf-8")] == []
