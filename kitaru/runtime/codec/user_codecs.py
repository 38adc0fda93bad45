"""Types that users record in a form of their own: `kitaru.register_codec`.

A codec is a name, a version and two functions. `encode` converts an object to a value that can be
recorded. `decode` converts that value back to an object. In a document such an object is one node
that refers to its encoded form, here `[1250, "EUR"]`:

    {"$kitaru": "graph/2", "root": [0],
     "nodes": [["codec", ["acme.money", 1, "shop.money"], [[1]]], ["list", None, [1250, "EUR"]]]}

Readers find the codec by its name. If it is not registered yet, they import the module that
registered it at the time of recording, here `shop.money`. A view, if there is one, is stored after
the module, so that commands can show the value without an import.

The encoded form decides whether two objects are equal: digests contain only the name, the version
and the form.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar, overload

from kitaru.errors import ClassChanged, FlowError, UsageError
from kitaru.runtime.codec import classes, json_fast_path, qualified_names, registry
from kitaru.runtime.codec.builtin_types import Taken, ValueKind
from kitaru.wire import modules
from kitaru.wire.limits import MAX_NAME_CHARACTERS
from kitaru.wire.structs import Struct

T = TypeVar("T")
TAG = "codec"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


class Codec(Struct):
    """The codec for objects of exactly `cls`; `module` and `place` are where it was registered."""

    cls: type
    name: str
    version: int
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]
    view: Callable[[Any], Any] | None
    module: str
    place: str

    @property
    def title(self) -> str:
        """The codec's name in messages, such as `the codec acme.money 2 (money.py:12)`."""
        return f"the codec {self.name} {self.version} ({self.place})"


class EncodeError(Exception):
    """A codec failed to encode an object; the message contains the reason."""


_by_name: dict[str, Codec] = {}
_by_type: dict[type, Codec] = {}


@overload
def register_codec(
    cls: type[T],
    /,
    *,
    name: str,
    encode: Callable[[T], Any],
    decode: Callable[[Any], T],
    version: int = 1,
    view: Callable[[T], Any] | None = None,
) -> type[T]: ...


@overload
def register_codec(
    *,
    name: str,
    encode: Callable[[Any], Any],
    decode: Callable[[Any], Any],
    version: int = 1,
    view: Callable[[Any], Any] | None = None,
) -> Callable[[type[T]], type[T]]: ...


def register_codec(
    cls: Any = None,
    /,
    *,
    name: str,
    encode: Callable[[Any], Any],
    decode: Callable[[Any], Any],
    version: int = 1,
    view: Callable[[Any], Any] | None = None,
) -> Any:
    """Register a codec for the objects of a class, and return the class.

    Call it at the top level of a module, or use it as the outermost decorator of the class. It
    applies to objects of exactly this class. Register subclasses separately.

    Args:
        cls: the class; it may come from a package that you do not own.
        name: the name of the codec in records. Never change it, because records are found by it.
        encode: returns the recorded form of an object: any value that can be recorded, including
            objects of other registered types. Equal forms mean equal objects.
        decode: returns the object for an encoded form.
        version: a number to increase when the encoded form changes. `kitaru.migrate` then converts
            the forms of earlier versions to the current form.
        view: returns JSON to show instead of the encoded form; by default the form itself is shown.

    Raises:
        UsageError: the name or the class has another codec, the class has a built-in codec, or an
            argument is of the wrong type.

    Example:
        kitaru.register_codec(
            Money,
            name="acme.money",
            encode=lambda money: [money.cents, money.currency],
            decode=lambda form: Money(*form),
        )
    """
    caller = sys._getframe(1)
    # A script's definitions are recorded under the name of its file.
    module = modules.recorded_name(caller.f_globals.get("__name__") or modules.SCRIPT)
    place = f"{Path(caller.f_code.co_filename).name}:{caller.f_lineno}"

    def register(cls: type[T]) -> type[T]:
        codec = Codec(cls, name, version, encode, decode, view, module, place)
        _check(codec)
        _check_unique(codec, caller)
        _forget(codec)
        _by_name[name] = _by_type[cls] = codec
        registry.add_type(cls, _kind(codec))
        return cls

    return register if cls is None else register(cls)


def codecs() -> list[Codec]:
    """Return all registered codecs by name."""
    return [_by_name[name] for name in sorted(_by_name)]


def codec_of(cls: type) -> Codec:
    """Return the codec of a registered class."""
    return _by_type[cls]


def find(cls: Any) -> Codec | None:
    """Return the codec of a class, or None."""
    return _by_type.get(cls) if isinstance(cls, type) else None


def codec_of_base(cls: type) -> Codec | None:
    """Return the codec of the nearest base of a class, None if no base has one."""
    if not _by_type:
        return None
    return next((_by_type[base] for base in cls.__mro__[1:] if base in _by_type), None)


def _kind(codec: Codec) -> ValueKind:
    def take(value: Any) -> Taken:
        data = [codec.name, codec.version, codec.module]
        if codec.view is not None:
            data.append(_view(codec, codec.view, value))
        try:
            form = codec.encode(value)
        except MemoryError:
            raise
        except Exception as error:
            raise EncodeError(f"raised {type(error).__name__}: {error}") from error
        if type(form) is codec.cls:
            raise EncodeError(f"returned a {codec.cls.__qualname__} instead of its parts")
        return data, (form,)

    return ValueKind(
        TAG,
        take,
        lambda data, children: decoded(data, children[0]),
        lambda _, __: f".<{codec.name}>",
        lambda _: True,
        mutable=True,
    )


def _view(codec: Codec, view: Callable[[Any], Any], value: Any) -> Any:
    try:
        return json_fast_path.Copier().copy(view(value))
    except json_fast_path.NotPlain:
        raise EncodeError("has a view that does not return JSON") from None
    except MemoryError:
        raise
    except Exception as error:
        raise EncodeError(f"has a view that raised {type(error).__name__}: {error}") from error


def decoded(data: list[Any], form: Any) -> Any:
    """Decode the encoded form of an object; `data` is the data of its node.

    Raises:
        ClassChanged: no codec with that name is registered, or it cannot read the recorded version.
    """
    name, version, module = data[:3]
    codec = _by_name.get(name) or _imported(name, version, module)
    if version != codec.version:
        form = _migrated(codec, version, form)
    return _object(codec, form)


def from_form(cls: type, form: Any) -> Any:
    """Return the object of a registered class for JSON; raise ClassChanged if it does not fit."""
    return _object(_by_type[cls], form)


def _object(codec: Codec, form: Any) -> Any:
    name = codec.name
    try:
        value = codec.decode(form)
    except MemoryError:
        raise
    except Exception as error:
        raise ClassChanged(
            f"A {_title(codec.cls)} cannot be decoded: {codec.title} raised "
            f"{type(error).__name__}: {error}",
            help=f"Fix its function `decode`. If the form changed, raise `version` of {name}, and "
            f"declare kitaru.migrate({codec.cls.__qualname__}, function).",
        ) from error
    if type(value) is not codec.cls:
        raise ClassChanged(
            f"A {_title(codec.cls)} cannot be decoded: {codec.title} returned a "
            f"{type(value).__qualname__}, not a {codec.cls.__qualname__}.",
            help="Fix its function `decode`.",
        )
    return value


def _imported(name: str, version: int, module: str) -> Codec:
    """Import the module that registered a codec when the value was recorded."""
    why = f"the module {module} does not register it any more"
    try:
        qualified_names.load_module(module)
    except FlowError as error:
        why = error.message[0].lower() + error.message[1:]
    if name in _by_name:
        return _by_name[name]
    known = f" Registered are {', '.join(sorted(_by_name))}." if _by_name else ""
    raise ClassChanged(
        f"A recorded value needs the codec {name} {version}, which is not registered here: {why}."
        f"{known}",
        help=f"Register it in a module that the flow imports:\n"
        f'    kitaru.register_codec(…, name="{name}", version={version}, encode=…, decode=…)',
    )


def _migrated(codec: Codec, version: int, form: Any) -> Any:
    message = (
        f"A recorded {_title(codec.cls)} was recorded by version {version} of the codec "
        f"{codec.name}, and version {codec.version} is registered ({codec.place})."
    )
    if version > codec.version:
        raise ClassChanged(message, help="Run the code that registers the later version.")
    migration = classes.migration_of(codec.cls)
    if migration is None:
        raise ClassChanged(
            message,
            help=f"Declare kitaru.migrate({codec.cls.__qualname__}, function). The function takes "
            f'{{"version": {version}, "form": …}} and returns the form of version '
            f'{codec.version} under "form".',
        )
    try:
        fields = migration({"version": version, "form": form})
    except MemoryError:
        raise
    except Exception as error:
        raise ClassChanged(
            f"{message} The function that kitaru.migrate declares raised {type(error).__name__}: "
            f"{error}",
            help="Fix that function.",
        ) from error
    if not isinstance(fields, dict) or "form" not in fields:
        raise UsageError(
            f"The function that kitaru.migrate declares for {_title(codec.cls)} did not return the "
            "form.",
            help=f'Return {{"form": …}}, in the form of version {codec.version} of {codec.name}.',
        )
    return fields["form"]


def _check(codec: Codec) -> None:
    cls, name, version = codec.cls, codec.name, codec.version
    if not isinstance(cls, type):
        raise _misused(f"a class, not {cls!r}", "Pass the class itself.")
    if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > MAX_NAME_CHARACTERS:
        raise _misused(
            f"a name of letters, digits and . _ -, not {name!r}",
            'Choose one that no other package uses, as in name="acme.money".',
        )
    if type(version) is not int or version < 1:
        raise _misused(f"a version of 1 or more, not {version!r}", "Start with version=1.")
    for function in ("encode", "decode", "view"):
        value = getattr(codec, function)
        if not callable(value) and not (function == "view" and value is None):
            raise _misused(f"a function as `{function}`, not {value!r}", "Pass a function.")
    if (
        cls.__module__ == "builtins"
        or issubclass(cls, Enum)
        or cls.__module__.partition(".")[0] in modules.OURS
        or (cls not in _by_type and registry.kind_of_type(cls) is not None)
    ):
        raise UsageError(
            f"{_title(cls)} cannot have a codec: Kitaru records it itself.",
            help="Register a class of your own that contains it.",
        )


def _misused(what: str, help: str) -> UsageError:
    return UsageError(f"kitaru.register_codec takes {what}.", help=help)


def _check_unique(codec: Codec, caller: FrameType) -> None:
    for earlier in (_by_name.get(codec.name), _by_type.get(codec.cls)):
        if earlier is None or _is_reload(earlier, codec, caller):
            continue
        taken = f"name {codec.name}" if earlier.name == codec.name else f"class {_title(codec.cls)}"
        raise UsageError(
            f"The {taken} has two codecs: {earlier.name} of {_title(earlier.cls)} "
            f"({earlier.module}, {earlier.place}), and {codec.name} of {_title(codec.cls)} "
            f"({codec.module}, {codec.place}).",
            help="Remove one of them. Records are found by the name, so keep the one whose values "
            "are recorded already.",
        )


def _is_reload(earlier: Codec, codec: Codec, caller: FrameType) -> bool:
    """Return whether the same module registers again because it was executed again."""
    same = (earlier.module, _title(earlier.cls)) == (codec.module, _title(codec.cls))
    # Code typed into a notebook has no file.
    typed = not Path(caller.f_code.co_filename).is_file()
    again = earlier.cls is not codec.cls or earlier.place == codec.place
    return same and (typed or again)


def _forget(codec: Codec) -> None:
    for earlier in (_by_name.get(codec.name), _by_type.get(codec.cls)):
        if earlier is not None:
            _by_name.pop(earlier.name, None)
            _by_type.pop(earlier.cls, None)
            registry.remove_type(earlier.cls)


def _title(cls: Any) -> str:
    return classes.title(cls)


registry.add_tags(
    (ValueKind(TAG, lambda _: (None, ()), lambda data, children: decoded(data, children[0])),)
)
