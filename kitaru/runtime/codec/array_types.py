"""Codecs for arrays, data frames and images, without importing their libraries.

A process with such a value has already imported its library. Only the plain types of each library
are supported. If the library's own format may be lossy, the encoded value is decoded and compared
before it is accepted.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from typing import Any

from kitaru.runtime.codec.builtin_types import (
    Kind,
    LibraryType,
    Taken,
    ValueKind,
    dump_bytes,
    fill_bytes,
    from_base64,
    load_bytes,
    to_base64,
)

# Numbers, booleans, dates and fixed-length strings: their data is stored only in the array's
# memory.
_PLAIN_DTYPES = "?bBhHiIlLqQefdFDMmSU"
_IMAGE_MODES = ("1", "L", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "I;16")
_IMAGE_ATTRIBUTES = {"_im", "_mode", "_size", "palette", "info", "_readonly", "_exif"}


def _array(tag: str, numpy: Any) -> Kind:
    def take(array: Any) -> Taken:
        own = _owner(array)
        if own is None:
            order = "C" if array.flags.c_contiguous else "F"
            memory = dump_bytes(_memory(array, numpy))
            return [array.dtype.str, list(array.shape), order, _writable(array), memory], ()
        start = array.__array_interface__["data"][0] - own.__array_interface__["data"][0]
        place = [start, list(array.strides)]
        return [array.dtype.str, list(array.shape), place, _writable(array)], (own,)

    def make(data: Any, children: list[Any]) -> Any:
        dtype, shape, place, writable, *memory = data
        if memory:
            # The array owns its memory, as the recorded array did.
            array = numpy.empty(shape, dtype, place)
            fill_bytes(memoryview(_memory(array, numpy)), memory[0])
        else:
            own = children[0] if children[0].flags.c_contiguous else children[0].T
            array = numpy.ndarray(tuple(shape), dtype, own, place[0], tuple(place[1]))
        array.setflags(write=writable)
        return array

    def fits(array: Any) -> bool:
        own = _owner(array)
        whole = array if own is None else own
        contiguous = whole.flags.c_contiguous or whole.flags.f_contiguous
        return _is_plain(array.dtype) and whole.base is None and bool(contiguous)

    return ValueKind(tag, take, make, lambda _, __: ".base", fits, mutable=True)


def _memory(array: Any, numpy: Any) -> Any:
    """Return the memory of a contiguous array as an array of bytes, without a copy."""
    rows = array if array.flags.c_contiguous else array.T
    return rows.reshape(-1).view(numpy.uint8)


def _owner(array: Any) -> Any:
    """Return the array that owns the memory of this array, None if the array owns it itself."""
    base = array.base
    while type(base) is type(array) and type(base.base) is type(array):
        base = base.base
    return base if type(base) is type(array) else None


def _writable(array: Any) -> bool:
    return bool(array.flags.writeable)


def _is_plain(dtype: Any) -> bool:
    return dtype.char in _PLAIN_DTYPES and dtype.metadata is None and dtype.itemsize > 0


def _scalar(tag: str, numpy: Any) -> Kind:
    return ValueKind(
        tag,
        lambda value: ([value.dtype.str, to_base64(value.tobytes())], ()),
        lambda data, _: numpy.frombuffer(from_base64(data[1]), data[0])[0],
        # Some C types have two names in numpy, and only one of them can be looked up.
        fits=lambda value: (
            _is_plain(value.dtype) and numpy.dtype(value.dtype.str).type is type(value)
        ),
    )


def _pandas(
    pick: Callable[[Any], Any],
    build: Callable[[Any, Any], Any],
    columns: Callable[[Any], Iterator[Any]],
) -> Any:
    """Return the codec builder for a frame or series: `pick` disassembles it, `build` rebuilds it.

    The rebuilt value is compared column by column, which avoids a second copy of the whole.
    """

    def builder(tag: str, pandas: Any) -> Kind:
        def fits(value: Any) -> bool:
            # Before pandas 3, two frames may share memory.
            if int(pandas.__version__.partition(".")[0]) < 3 or value.attrs:
                return False
            try:
                for column in columns(value):
                    _check_column(pandas, column)
                for index in value.axes:
                    _check_index(pandas, index)
                return bool(value.flags.allows_duplicate_labels)
            except (AssertionError, TypeError, ValueError, AttributeError):
                return False

        return ValueKind(
            tag,
            lambda value: (None, (pick(value),)),
            lambda _, parts: build(pandas, parts[0]),
            fits=fits,
            mutable=True,
        )

    return builder


def _check_column(pandas: Any, column: Any) -> None:
    again = _build_series(pandas, _pick_series(column))
    check = pandas.testing.assert_series_equal
    check(column, again, check_exact=True, check_freq=True, check_index_type="exact")


def _check_index(pandas: Any, index: Any) -> None:
    again = _build_index(pandas, _pick_index(index))
    pandas.testing.assert_index_equal(index, again, exact="exact", check_exact=True)


def _columns(frame: Any) -> Iterator[Any]:
    return (frame.iloc[:, at] for at in range(frame.shape[1]))


def _pick_frame(frame: Any) -> Any:
    columns = [_pick_values(frame.iloc[:, at]) for at in range(frame.shape[1])]
    return [_pick_index(frame.index), _pick_index(frame.columns), columns]


def _build_frame(pandas: Any, picked: Any) -> Any:
    index, columns, parts = picked
    rows = _build_index(pandas, index)
    made = {at: _build_values(pandas, part, rows) for at, part in enumerate(parts)}
    frame = pandas.DataFrame(made, index=rows, copy=False)
    frame.columns = _build_index(pandas, columns)
    return frame


def _pick_series(series: Any) -> Any:
    return [_pick_index(series.index), series.name, _pick_values(series)]


def _build_series(pandas: Any, picked: Any) -> Any:
    index, name, values = picked
    series = _build_values(pandas, values, _build_index(pandas, index))
    series.name = name
    return series


def _pick_index(index: Any) -> Any:
    if type(index).__name__ == "RangeIndex":
        return [index.name, range(index.start, index.stop, index.step)]
    return [index.name, _pick_values(index)]


def _build_index(pandas: Any, picked: Any) -> Any:
    name, values = picked
    if type(values) is range:
        return pandas.RangeIndex(values, name=name)
    return pandas.Index(values[1], dtype=values[0], name=name)


def _pick_values(values: Any) -> Any:
    """Return dtype and values: an array of numbers, or a list with None for pandas.NA."""
    dtype = values.dtype
    if getattr(dtype, "char", "O") in _PLAIN_DTYPES:
        return [str(dtype), values.to_numpy(copy=True)]
    missing = sys.modules["pandas"].NA
    return [str(dtype), [None if v is missing else v for v in values.tolist()]]


def _build_values(pandas: Any, picked: Any, index: Any) -> Any:
    dtype, values = picked
    # The array of numbers was created for this series only.
    return pandas.Series(values, index=index, dtype=dtype, copy=False)


def _polars(tag: str, polars: Any) -> Kind:
    def dump(frame: Any) -> memoryview:
        target = io.BytesIO()
        frame.write_ipc(target)
        return target.getbuffer()

    def load(data: Any) -> Any:
        return polars.read_ipc(io.BytesIO(data))

    def fits(frame: Any) -> bool:
        if any(dtype.is_object() for dtype in frame.schema.dtypes()):
            return False
        again = load(dump(frame))
        return bool(again.schema == frame.schema and again.equals(frame, null_equal=True))

    return ValueKind(
        tag,
        lambda frame: (dump_bytes(dump(frame)), ()),
        lambda data, _: load(load_bytes(data)),
        fits=fits,
        mutable=True,
    )


def _image(tag: str, pillow: Any) -> Kind:
    def make(data: Any, children: list[Any]) -> Any:
        mode, size, pixels = data
        image = pillow.frombytes(mode, tuple(size), load_bytes(pixels))
        image.info = children[0]
        return image

    def fits(image: Any) -> bool:
        plain = image.mode in _IMAGE_MODES and image.palette is None and image._exif is None
        return plain and vars(image).keys() <= _IMAGE_ATTRIBUTES

    return ValueKind(
        tag,
        lambda image: ([image.mode, list(image.size), dump_bytes(image.tobytes())], (image.info,)),
        make,
        lambda _, __: ".info",
        fits,
        mutable=True,
    )


TYPES = (
    LibraryType("numpy.ndarray", _array),
    LibraryType("numpy.generic", _scalar, subclasses=True),
    LibraryType("pandas.DataFrame", _pandas(_pick_frame, _build_frame, _columns)),
    LibraryType("pandas.Series", _pandas(_pick_series, _build_series, lambda one: iter((one,)))),
    LibraryType("polars.DataFrame", _polars),
    LibraryType("PIL.Image.Image", _image),
)
