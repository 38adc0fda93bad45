"""What differs between two values: changed paths, and lines of texts."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kitaru import checkpoint, flow
from kitaru.client import KitaruClient
from kitaru.runtime.journal.json_diff import differences

TREES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text("ab\n", max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner),
    max_leaves=8,
)


@given(TREES, TREES)
def test_no_difference_means_equal_and_each_is_one(a: Any, b: Any) -> None:
    found = differences("x", a, b)
    assert bool(found) == (repr(a) != repr(b) and _typed(a) != _typed(b))
    assert all(each.old is None or each.old != each.new or type(each.old) is not type(each.new)
               for each in found)  # fmt: skip


def _typed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _typed(one) for key, one in value.items()}
    return [_typed(one) for one in value] if isinstance(value, list) else (type(value), value)


def test_paths() -> None:
    found = differences("r", {"a": [1, {"b c": 2}], "gone": 1}, {"a": [1, {"b c": 3}, 4], "new": 0})
    assert [(one.path, one.how, one.old, one.new) for one in found] == [
        ('$.a[1]["b c"]', "changed", 2, 3),
        ("$.a[2]", "added", None, 4),
        ("$.gone", "removed", 1, None),
        ("$.new", "added", None, 0),
    ]


def test_texts() -> None:
    (found,) = differences("r", "one\ntwo\nthree", "one\n2\nthree")
    assert found.lines == ("@@ -1,3 +1,3 @@", " one", "-two", "+2", " three")
    assert differences("r", "short", "other")[0].lines == ()


@checkpoint
def plan(topic: str) -> dict[str, Any]:
    return {"topic": topic, "text": f"first\n{topic}\nlast"}


@flow
def planned(topic: str) -> Any:
    return plan(topic)


def test_a_comparison_tells_where_results_differ() -> None:
    ids = []
    for topic in ("tea", "owls"):
        handle = planned.run(topic)
        handle.wait(60)
        ids.append(handle.exec_id)
    found = KitaruClient().executions.diff(*ids)
    assert [(one.path, one.old, one.new) for one in found.rows[0].differences] == [
        ("$.topic", "tea", "owls"),
        ("$.text", "first\ntea\nlast", "first\nowls\nlast"),
    ]
    assert {(one.of, one.path) for one in found.differences} == {
        ("input", "$.topic"), ("result", "$.topic"), ("result", "$.text"),
    }  # fmt: skip
    assert found.to_dict()["rows"][0]["differences"][1]["lines"][2:4] == ("-tea", "+owls")
