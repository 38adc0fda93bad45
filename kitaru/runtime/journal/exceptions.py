"""Record exceptions so that every replay raises an identical exception."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from types import MemberDescriptorType, TracebackType
from typing import TYPE_CHECKING, Any

from kitaru.errors import CheckpointFailed, ValueNotEncodable
from kitaru.runtime import codec
from kitaru.runtime.codec import qualified_names
from kitaru.wire.redaction import redacted
from kitaru.wire.structs import Struct

if TYPE_CHECKING:
    from traceback import FrameSummary, StackSummary

_CAUSES = 8
_HEAP_TYPE = 1 << 9
_OWN_CODE = str(Path(__file__).parents[2]) + os.sep


class Unrecorded(Struct):
    """Placeholder for a part of an exception that cannot be recorded; shows the part's text."""

    text: str

    def __repr__(self) -> str:
        return self.text


def encode_exception(exc: BaseException) -> dict[str, Any]:
    """Return the document of an exception: class, arguments, attributes, notes and causes.

    Arguments that cannot be recorded are replaced; attributes that cannot be recorded are left out.
    An exception that would not decode to its class and text is recorded in degraded form, which
    decodes to CheckpointFailed. Secrets in its texts are masked. Never raises for a user's
    exception.
    """
    return _encode_checked(exc, _CAUSES)


def decode_exception(document: dict[str, Any]) -> BaseException:
    """Create an exception of the recorded class, without running its `__init__`.

    Raises FlowError if the class no longer exists, RecordCorrupt if the document is damaged.
    """
    if "state" not in document:
        return CheckpointFailed(document["text"], help=document["help"])
    return _decode(document)


def user_traceback(exc: BaseException) -> str:
    """Return the traceback in Python's format, with causes, shortened for the flow's author.

    Kitaru's own frames are left out. Each run of library frames becomes one line with their number:

          File "flow.py", line 9, in draft
            return client.complete(brief)
          … 23 frames in httpx, openai
        openai.InternalServerError: 500
    """
    # The import takes milliseconds, which a run without failures does not need.
    import traceback

    report = traceback.TracebackException.from_exception(exc)
    pending: list[traceback.TracebackException | None] = [report]
    while pending:
        part = pending.pop()
        if part is not None:
            part.stack = _folded([f for f in part.stack if not is_own(f.filename)])
            pending += [part.__cause__, part.__context__, *(part.exceptions or ())]
    return "".join(report.format())


def _folded(frames: list[FrameSummary]) -> StackSummary:
    """Return the frames as a stack in which each run of library frames is one line."""
    from itertools import groupby
    from traceback import FrameSummary, StackSummary

    class Folded(StackSummary):
        def format_frame_summary(self, frame_summary: FrameSummary, **more: Any) -> str:
            if not frame_summary.filename:
                return f"  {frame_summary.name}\n"
            return super().format_frame_summary(frame_summary, **more)

    kept: list[FrameSummary] = []
    for library, run in groupby(frames, key=lambda frame: bool(library_of(frame.filename))):
        some = list(run)
        if library:
            names = ", ".join(sorted({library_of(frame.filename) for frame in some}))
            counted = f"… {len(some)} frame{'' if len(some) == 1 else 's'} in {names}"
            some = [FrameSummary("", 0, counted, lookup_line=False, line="")]
        kept += some
    folded = Folded()
    folded.extend(kept)
    return folded


@lru_cache(maxsize=1024)
def library_of(filename: str) -> str:
    """Return the library that a file belongs to, empty for the user's code."""
    import sysconfig

    if filename.startswith("<frozen "):
        return "Python"
    for kind in ("purelib", "platlib", "stdlib"):
        place = sysconfig.get_path(kind) + os.sep
        if filename.startswith(place):
            name = Path(filename).relative_to(place).parts[0].removesuffix(".py")
            return "Python" if kind == "stdlib" else name
    return ""


def import_traceback(exc: Exception) -> str:
    """Return the traceback of a failed import, starting at the module's own line."""
    frames = exc.__traceback__
    while frames is not None and _imports(frames.tb_frame.f_code.co_filename):
        frames = frames.tb_next
    return user_traceback(exc.with_traceback(frames)).rstrip()


def without_own_frames(exc: BaseException) -> None:
    """Remove Kitaru's own frames from the tracebacks of an exception and its causes.

    Python prints those tracebacks if a script does not catch the error: twenty frames of the engine
    around the two that matter. The frames are kept with `KITARU_TRACEBACK=1`, or if there are no
    others.
    """
    pending: list[BaseException | None] = [exc]
    seen: set[int] = set()
    while pending and not os.environ.get("KITARU_TRACEBACK"):
        one = pending.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        frames = list(_frames(one.__traceback__))
        users = [frame for frame in frames if not is_own(frame.tb_frame.f_code.co_filename)]
        if users and len(users) < len(frames):
            one.__traceback__ = _chained(users)
        pending += [one.__cause__, one.__context__]


def _frames(traceback: TracebackType | None) -> Iterator[TracebackType]:
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next


def _chained(frames: list[TracebackType]) -> TracebackType | None:
    # Build a new chain: other code may reference the old one.
    found: TracebackType | None = None
    for one in reversed(frames):
        found = TracebackType(found, one.tb_frame, one.tb_lasti, one.tb_lineno)
    return found


def is_own(filename: str) -> bool:
    """Return whether a file contains code of Kitaru and not of the user."""
    return filename.startswith(_OWN_CODE)


def _imports(filename: str) -> bool:
    library = str(Path(importlib.__file__).parent)
    return filename.startswith(("<frozen importlib", library)) or is_own(filename)


def _encode(exc: BaseException, depth: int) -> dict[str, Any]:
    own = {n: _shown(value) for n, value in vars(exc).items() if n != "__notes__"}
    return {
        "class": list(qualified_names.name_of(type(exc)) or ()),
        "args": [_encode_argument(part, depth) for part in exc.args],
        "state": _encode_kept(own),
        "slots": _encode_kept({n: _shown(value) for n, value in _slot_values(exc).items()}),
        "notes": [redacted(str(note)) for note in getattr(exc, "__notes__", ())],
        "cause": _encode_cause(exc.__cause__, depth),
        "suppress": exc.__suppress_context__,
    }


def _decode(document: dict[str, Any]) -> BaseException:
    cls = qualified_names.find(*document["class"])
    args = [_decode_argument(part) for part in document["args"]]
    # The class's `__init__` may take other arguments than those that it passed to its base class.
    exc: BaseException = _builtin_base(cls).__new__(cls, *args)
    exc.args = tuple(args)
    for name, value in _slots_of(cls, document["slots"]):
        name.__set__(exc, codec.decode(value))
    vars(exc).update({name: codec.decode(value) for name, value in document["state"]})
    for note in document["notes"]:
        exc.add_note(note)
    if document["cause"] is not None:
        exc.__cause__ = decode_exception(document["cause"])
    exc.__suppress_context__ = document["suppress"]
    return exc


def _encode_argument(part: Any, depth: int) -> dict[str, Any]:
    if isinstance(part, BaseException) and depth:
        return {"exception": _encode_checked(part, depth - 1)}
    if type(part) in (list, tuple) and any(isinstance(item, BaseException) for item in part):
        return {"items": [_encode_argument(item, depth) for item in part]}
    try:
        return {"value": codec.encode(_shown(part))}
    except ValueNotEncodable:
        return {"value": codec.encode(Unrecorded(_text(part, repr)))}


def _decode_argument(part: dict[str, Any]) -> Any:
    if "exception" in part:
        return decode_exception(part["exception"])
    if "items" in part:
        return [_decode_argument(item) for item in part["items"]]
    return codec.decode(part["value"])


def _encode_cause(cause: BaseException | None, depth: int) -> dict[str, Any] | None:
    return _encode_checked(cause, depth - 1) if cause is not None and depth else None


def _encode_kept(values: dict[str, Any]) -> list[list[Any]]:
    """Encode the attributes that can be encoded; leave out others, such as a response."""
    kept = []
    for name, value in values.items():
        try:
            kept.append([name, codec.encode(value)])
        except ValueNotEncodable:
            continue
    return kept


def _slot_values(exc: BaseException) -> dict[str, Any]:
    """Return the state that the class stores outside of `__dict__`, such as `errno`."""
    values = {}
    for name, slot in _slots(type(exc)).items():
        try:
            values[name] = slot.__get__(exc)
        except AttributeError:
            continue
    return {name: value for name, value in values.items() if value is not None}


def _slots(cls: type) -> dict[str, Any]:
    return {
        name: slot
        for klass in reversed(cls.__mro__)
        if klass not in (object, BaseException, BaseExceptionGroup)
        for name, slot in vars(klass).items()
        if isinstance(slot, MemberDescriptorType)
    }


def _slots_of(cls: type, values: list[list[Any]]) -> list[tuple[Any, Any]]:
    slots = _slots(cls)
    return [(slots[name], value) for name, value in values if name in slots]


def _builtin_base(cls: type) -> type:
    return next(klass for klass in cls.__mro__ if not klass.__flags__ & _HEAP_TYPE)


def _encode_checked(exc: BaseException, depth: int) -> dict[str, Any]:
    document = _encode(exc, depth)
    return document if _comes_back(exc, document) else _degraded(exc)


def _comes_back(exc: BaseException, document: dict[str, Any]) -> bool:
    """Return whether the document decodes to the same class with the same text."""
    try:
        again = _decode(document)
        return type(again) is type(exc) and str(again) == redacted(str(exc))
    except Exception:
        return False


def _degraded(exc: BaseException) -> dict[str, Any]:
    cls = type(exc)
    return {
        "text": f"{cls.__module__}.{cls.__qualname__}: {_text(exc, str)}",
        "help": "Define the exception's class at the top level of a module, with arguments that "
        "can be recorded, to catch it by its type.",
    }


def _shown(part: Any) -> Any:
    """Return a text with its secrets masked: people read the texts of exceptions."""
    return redacted(part) if type(part) is str else part


def _text(value: Any, show: Callable[[Any], str]) -> str:
    try:
        return redacted(show(value))
    except Exception:
        return f"<{type(value).__qualname__} that cannot be shown>"
