"""Arrays, data frames and images come back as they were, or are refused."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from kitaru.errors import ValueNotEncodable
from kitaru.runtime.codec import decode, digest_arguments, encode
from kitaru.wire import canonical

DTYPES = ["?", "i1", "<u2", ">i4", "i8", "f2", "f4", ">f8", "c16", "<M8[us]", "m8[s]", "S3", "U2"]


def again(value: Any) -> Any:
    return decode(json.loads(canonical.dumps(encode(value))))


def steps(array: Any) -> list[int]:
    """Return the strides that lead anywhere: along a length of one, any will do."""
    longer = array.size > 0
    return [s for s, n in zip(array.strides, array.shape, strict=True) if longer and n > 1]


def same_array(left: Any, right: Any) -> bool:
    return (
        type(left) is type(right)
        and left.dtype == right.dtype
        and left.shape == right.shape
        and steps(left) == steps(right)
        and left.flags.writeable == right.flags.writeable
        and left.tobytes() == right.tobytes()
    )


@settings(deadline=None, max_examples=50)
@given(
    st.sampled_from(DTYPES),
    st.lists(st.integers(0, 3), max_size=3),
    st.sampled_from("CF"),
    st.binary(min_size=27 * 16, max_size=27 * 16),
)
def test_arrays(dtype: str, shape: list[int], order: Any, memory: bytes) -> None:
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    flat = np.frombuffer(memory[:size].translate(bytes(x % 2 for x in range(256))), dtype)
    array = flat.reshape(shape).copy(order)
    found = again(array)
    assert same_array(array, found) and found.base is None
    array.setflags(write=False)
    assert same_array(array, again(array))


def test_views_show_the_memory_of_their_array() -> None:
    for order in ("C", "F"):
        whole = np.arange(24).reshape(4, 6).copy(order)
        views = [whole[1], whole[::2, ::-1], whole.T, whole.reshape(-1)[3:], whole[1][2:4]]
        found, *others = again([whole, *views])
        assert all(same_array(a, b) for a, b in zip(views, others, strict=True))
        found[1, 2] = -1
        assert others[0][2] == -1 and others[2][2, 1] == -1 and others[4][0] == -1
    alone = again(np.arange(6).reshape(2, 3))
    assert alone.tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("dtype", [*DTYPES, "i4", "u8"])
def test_scalars(dtype: str) -> None:
    value = np.array(["ab" if dtype[0] in "SU" else 1]).astype(dtype)[0]
    found = again([value, {value: 1}])
    assert type(found[0]) is type(value) and found[0].dtype == value.dtype
    assert found[0].tobytes() == value.tobytes()


FRAMES = [
    pd.DataFrame({"a": [1, 2], "s": ["x", None], "f": [1.5, float("nan")], "b": [True, False]}),
    pd.DataFrame({"t": pd.to_datetime(["2026-01-02", None]), "n": pd.array([1, None], "Int64")}),
    pd.DataFrame({"o": ["x", 1, None]}, index=pd.Index(["p", "q", "r"], name="rows"), dtype=object),
    pd.DataFrame([[1, 2.5], [3, 4.5]], columns=pd.Index([10, 20], name="c")),
    pd.DataFrame(),
    pd.DataFrame({"a": [1]}).drop(0),
    pd.DataFrame([[1, 2]], columns=["same", "same"]),
]


@pytest.mark.parametrize("frame", FRAMES)
def test_frames_of_pandas(frame: pd.DataFrame) -> None:
    found = again({"frame": frame})["frame"]
    pd.testing.assert_frame_equal(found, frame, check_exact=True)
    assert list(found.dtypes) == list(frame.dtypes)
    found.insert(0, "new", 1)
    assert "new" not in frame


def test_series_of_pandas() -> None:
    for series in (pd.Series([1, 2], name="n"), pd.Series(["a", None], index=[5, 7])):
        pd.testing.assert_series_equal(again(series), series, check_exact=True)


def test_frames_of_polars() -> None:
    frame = pl.DataFrame(
        {"a": [1, None], "s": ["x", "ä"], "l": [[1], []], "c": ["u", "v"]},
        schema_overrides={"a": pl.Int16, "c": pl.Categorical},
    )
    found = again(frame)
    assert found.equals(frame) and found.schema == frame.schema
    assert again(pl.DataFrame()).shape == (0, 0)


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA", "F", "I;16"])
def test_images(mode: str) -> None:
    image = Image.new(mode, (3, 2), 1)
    image.info["dpi"] = (72, 72)
    found = again(image)
    assert found == image and found.info == image.info and type(found) is Image.Image


class Matrix(np.ndarray[Any, Any]):
    """More than an array."""


PALETTE = Image.new("P", (2, 2))
NOTED = pd.DataFrame({"a": [1]})
NOTED.attrs["source"] = "x"
ZONED = pd.DataFrame({"t": pd.to_datetime(["2026-01-02"]).tz_localize("Europe/Zurich")})
CLASSES = pd.DataFrame({"c": pd.Categorical(["b", "a"], ["b", "a", "c"], ordered=True)})


@pytest.mark.parametrize(
    "value",
    [
        np.array([object()]),
        np.zeros(2, [("a", "i4")]),
        np.zeros(2).view(Matrix),
        np.ma.masked_array([1], [True]),
        np.frombuffer(bytearray(8)),
        np.longdouble(1),
        np.str_(""),
        NOTED,
        ZONED,
        CLASSES,
        pd.DataFrame({"a": [1]}, index=pd.MultiIndex.from_tuples([(1, 2)], names=["x", "y"])),
        pl.DataFrame({"o": pl.Series([object()], dtype=pl.Object)}),
        PALETTE,
    ],
)
def test_what_would_not_come_back_is_refused(value: Any) -> None:
    with pytest.raises(ValueNotEncodable) as caught:
        encode({"rows": [value]}, where="result")
    assert caught.value.path.startswith('result["rows"][0]')


def test_a_digest_is_that_of_the_content() -> None:
    def digest(value: Any) -> str:
        return digest_arguments((value,), {}).digest

    assert digest(np.arange(3)) == digest(np.arange(3)) != digest(np.arange(3.0))
    assert digest(FRAMES[0]) == digest(FRAMES[0].copy()) != digest(FRAMES[1])


def test_nothing_of_it_is_imported_for_other_values() -> None:
    program = (
        "import sys, datetime; from kitaru.runtime.codec import encode, decode\n"
        "decode(encode([(1,), datetime.date(2026, 1, 1), {1: 2}]))\n"
        "print([m for m in ('numpy', 'pandas', 'polars', 'PIL', 'attr') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
