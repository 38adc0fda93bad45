"""Fit recorded objects to classes that have changed since they were recorded.

Next to its nodes, a document lists the declaration of each class at the time of recording:

    {"$kitaru": "graph/1", "nodes": [...], "root": [0],
     "classes": [[1, ["dataclass", ["score", "topic"], [], ""]]]}

Node 1 is the class. The declaration contains the class's kind, declared fields, slots, and a digest
of the field types if there is a validator. An unchanged class costs one comparison per document:
its objects are rebuilt from their state without running user code. Otherwise each object is
refitted:

1. `kitaru.migrate`, if declared, converts the recorded fields to those of the class.
2. Fields that the class has and the record does not have get their defaults.
3. Fields without a default, fields that the class does not have, and another kind of class are an
   error. No recorded value is dropped, and no object lacks a declared field.
4. Pydantic validates the result.

Attributes without a declared field, such as those set by `__post_init__`, are restored unchanged.
Documents without `classes` were written by Kitaru 0.1. They contain only the names of an object's
attributes. For them a name without a field is an error only if a field is missing, too.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any

from kitaru.errors import ClassChanged, UsageError
from kitaru.runtime.codec import qualified_names
from kitaru.runtime.codec.registry import model_kind
from kitaru.runtime.codec.slots import layout_of
from kitaru.wire import modules
from kitaru.wire.structs import Struct, defaults_of

Fields = dict[str, Any]
Migration = Callable[[Fields], Fields]

_PLAIN = ("plain", "slots")
_FIELDS_SET, _EXTRA = "__pydantic_fields_set__", "__pydantic_extra__"
_PRIVATE = "__pydantic_private__"
_PYDANTIC = (_FIELDS_SET, _EXTRA, _PRIVATE)
_CACHED_HASH = "_attrs_cached_hash"
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_MISSING = object()
_migrations: dict[type, Migration] = {}
_looks: dict[type, Look] = {}


class Look(Struct):
    """The declaration of a class: kind, fields (sorted, except in a named tuple), slots, types."""

    kind: str
    fields: tuple[str, ...]
    slots: tuple[str, ...] = ()
    types: str = ""

    def to_json(self) -> list[Any]:
        """Return the form that documents contain."""
        return [self.kind, list(self.fields), list(self.slots), self.types]


def look_from_json(document: list[Any]) -> Look:
    """Reverse `Look.to_json`; raise ValueError or TypeError if the data is damaged."""
    kind, fields, slots, types = document
    return Look(str(kind), tuple(map(str, fields)), tuple(map(str, slots)), str(types))


def moved(old: str, new: type | Callable[..., Any]) -> None:
    """Declare that `new`, a class or a checkpoint, replaces the recorded name `old`.

    For a moved or renamed class, this applies to results, memories, artifacts and waiting
    executions. It also applies if the flow's own file was renamed. Call it in the module that
    defines the class.

    For a checkpoint that moved to another module or class, recorded calls are found under the new
    place. Call it in a module that the flow imports. If the checkpoint's name changed as well,
    `kitaru.renamed` alone is sufficient.

    Args:
        old: the earlier place, `"module:Class"` or `"module:function"`, with the module as named in
            records (the name of the file for a script).
        new: the class to which these records are decoded, or the checkpoint.

    Raises:
        UsageError: `old` is not of the form `module:name`, or `new` is neither a class nor a
            checkpoint.

    Example:
        kitaru.moved("old_agent:Brief", Brief)
        kitaru.moved("agent:send_payment", payments.send_payment)
    """
    module, separator, qualname = old.partition(":") if isinstance(old, str) else ("", "", "")
    if not (module and separator and qualname) or ":" in qualname:
        raise UsageError(
            f"kitaru.moved takes the earlier place as module:name, not {old!r}.",
            help='Write it as in kitaru.moved("old_agent:Brief", Brief).',
        )
    callee = getattr(getattr(new, "spec", None), "callee", None)
    if isinstance(callee, str) and not isinstance(new, type):
        # Records name a function by the last part of its module.
        qualified_names.declare_moved_callee(f"{module.rpartition('.')[2]}.{qualname}", callee)
    else:
        qualified_names.declare_moved((module, qualname), _checked(new, "moved"))


def migrate(cls: type, function: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Declare how recorded fields of an earlier form of `cls` are converted to the current form.

    `function` is called for each record whose class was different at the time of recording, before
    defaults are filled in and before validation. It must accept every earlier form.

    Args:
        cls: a dataclass, attrs class, pydantic model, named tuple, enum or class of the project, or
            a class with a codec.
        function: takes the recorded fields by name and returns the fields to use. For a removed
            enum member it receives `{"name": "RED"}`. For a record of an earlier codec version it
            receives `{"version": 1, "form": …}` and returns the same with the current form.

    Raises:
        UsageError: `cls` is not a class, or `function` cannot be called.

    Example:
        def from_score(fields):
            fields["points"] = fields.pop("score", 0)
            return fields

        kitaru.migrate(Brief, from_score)
    """
    if not callable(function):
        raise UsageError(
            f"kitaru.migrate takes a function, not {type(function).__name__}.",
            help="Pass a function that takes and returns a dict of fields.",
        )
    _migrations[_checked(cls, "migrate")] = function


def migration_of(cls: type) -> Migration | None:
    """Return the function declared with `kitaru.migrate` for a class, or None."""
    return _migrations.get(cls)


def _checked(cls: Any, name: str) -> type:
    if isinstance(cls, type):
        return cls
    raise UsageError(
        f"kitaru.{name} takes a class, not {type(cls).__name__}.",
        help="Pass the class itself, or to kitaru.moved a checkpoint.",
    )


def look_of(cls: type) -> Look:
    """Return the current declaration of `cls`."""
    look = _looks.get(cls)
    if look is None:
        look, whole = _look(cls)
        if whole:
            _looks[cls] = look
    return look


def _look(cls: type) -> tuple[Look, bool]:
    if issubclass(cls, tuple):
        return Look("namedtuple", tuple(getattr(cls, "_fields", ()))), True
    model = model_kind(cls)
    if model == "pydantic":
        if not cls.__pydantic_complete__:  # type: ignore[attr-defined]
            cls.model_rebuild(raise_errors=False)  # type: ignore[attr-defined]
        declared = cls.model_fields  # type: ignore[attr-defined]
        whole = bool(cls.__pydantic_complete__)  # type: ignore[attr-defined]
        return Look("pydantic", tuple(sorted(declared)), (), _types_digest(declared)), whole
    slots = tuple(sorted(layout_of(cls) or ()))
    if model == "dataclass":
        declared = _dataclass_fields(cls) or {}
        types = _types_digest(getattr(cls, "__pydantic_fields__", {}))
        return Look("dataclass", tuple(sorted(declared)), slots, types), True
    if model == "attrs":
        fields = sorted(field.name for field in cls.__attrs_attrs__)  # type: ignore[attr-defined]
        return Look("attrs", tuple(fields), slots), True
    return Look("slots" if slots else "plain", (), slots), True


def _dataclass_fields(cls: type) -> dict[str, Any] | None:
    declared = getattr(cls, "__dataclass_fields__", None)
    if declared is None:
        return None
    # That table also contains class variables and `__init__`-only variables.
    from dataclasses import fields

    return {field.name: field for field in fields(cls)}


def _types_digest(fields: dict[str, Any]) -> str:
    """Return a digest of the types that pydantic checks, the same in every process and Python."""
    if not fields:
        return ""
    texts = [
        f"{name}:{_type_text(info.annotation)}:{_ADDRESS.sub('', repr(info.metadata))}"
        for name, info in sorted(fields.items())
    ]
    data = "\n".join(texts).encode("utf-8", "backslashreplace")
    return hashlib.sha256(data).hexdigest()[:16]


def _type_text(annotation: Any) -> str:
    from types import UnionType
    from typing import Union, get_args, get_origin

    origin, args = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return "|".join(map(_type_text, args))
    if args:
        return f"{_type_text(origin)}[{','.join(map(_type_text, args))}]"
    if isinstance(annotation, type):
        return f"{modules.recorded_name(annotation.__module__)}.{annotation.__qualname__}"
    if isinstance(annotation, list):
        return f"[{','.join(map(_type_text, annotation))}]"
    return _ADDRESS.sub("", repr(annotation))


def resembles(cls: Any, look: Look | None, attributes: Fields, slots: Fields) -> bool:
    """Return whether an object's record fits the current class."""
    now = look_of(cls)
    if look is not None:
        return look == now
    present = attributes.keys() | slots.keys()
    if (now.kind == "pydantic") != (_FIELDS_SET in slots):
        return False
    if now.kind == "pydantic":
        return set(now.fields) == {name for name in attributes if not _is_cached(cls, name)}
    if not slots.keys() <= set(now.slots) or (attributes and not cls.__dictoffset__):
        return False
    unset = {name for name in now.fields if name not in present}
    return all(_may_be_unset(cls, name) for name in unset)


def _may_be_unset(cls: type, name: str) -> bool:
    field = (_dataclass_fields(cls) or {}).get(name)
    return field is not None and not field.init


def refit(target: Any, look: Look | None, attributes: Fields, slots: Fields) -> None:
    """Set the fields of an object from the record of an earlier form of its class.

    Raises ClassChanged if the author of the class must decide how.
    """
    cls = type(target)
    now = look_of(cls)
    then = look or _guessed(now, attributes, slots)
    state = {**attributes, **{n: v for n, v in slots.items() if n not in _PYDANTIC}}
    state.pop(_CACHED_HASH, None)
    declared = dict(state)
    if then.kind not in _PLAIN:
        declared = {name: state[name] for name in then.fields if name in state}
    hidden = {
        name: value
        for name, value in state.items()
        if name not in declared and not _is_cached(cls, name)
    }
    unset = {*then.fields, *then.slots} - state.keys()
    migration = _migrations.get(cls)
    if migration is not None:
        declared, unset = _migrated(cls, migration, declared), set()
    elif (then.kind == "pydantic") != (now.kind == "pydantic"):
        raise _another_kind(cls, then.kind, now.kind)
    if now.kind == "pydantic":
        extra = slots.get(_EXTRA) or {}
        promoted = {name: value for name, value in extra.items() if name in now.fields}
        declared = {**promoted, **declared}
        slots = {**slots, _EXTRA: {n: v for n, v in extra.items() if n not in promoted}}
        hidden |= _leftovers(cls, slots)
    unknown = _unplaced(cls, now, declared) | _unplaced(cls, now, hidden, declared=False)
    missing = {
        name: _default(cls, name)
        for name in (now.slots if now.kind == "slots" else now.fields)
        if name not in declared and name not in unset
    }
    needed = {name for name, default in missing.items() if default is _MISSING}
    if unknown or needed:
        raise _misfit(cls, unknown, needed)
    if now.kind == "pydantic":
        recorded = slots if then.kind == "pydantic" else {}
        _take_state(target, _validated(cls, declared), recorded, migration is not None)
        return
    _assign(target, {**declared, **hidden})
    for name, default in missing.items():
        _assign(target, {name: default(target)})
    if _CACHED_HASH in now.slots or _CACHED_HASH in attributes:
        _assign(target, {_CACHED_HASH: None})
    if now.types:
        _assign(target, _checked_dataclass(cls, target))


def _guessed(now: Look, attributes: Fields, slots: Fields) -> Look:
    if _FIELDS_SET in slots:
        return Look("pydantic", tuple(attributes))
    kind = "dataclass" if now.kind == "pydantic" else now.kind
    present = (*attributes, *slots)
    return Look(kind, () if kind in _PLAIN else present, tuple(slots))


def _is_cached(cls: type, name: str) -> bool:
    return isinstance(getattr(cls, name, None), cached_property)


def _migrated(cls: type, function: Migration, fields: Fields) -> Fields:
    migrated = function(dict(fields))
    if isinstance(migrated, dict) and all(type(name) is str for name in migrated):
        return dict(migrated)
    raise UsageError(
        f"The function that kitaru.migrate declares for {title(cls)} returned a "
        f"{type(migrated).__name__}, not a dict of fields.",
        help="Return the fields by name, also if nothing in them changed.",
    )


def _leftovers(cls: Any, slots: Fields) -> Fields:
    """Return recorded extra and private values that the model's class no longer accepts."""
    extra, private = slots.get(_EXTRA) or {}, slots.get(_PRIVATE) or {}
    lost = {name: v for name, v in private.items() if name not in cls.__private_attributes__}
    return lost if cls.model_config.get("extra") == "allow" else {**extra, **lost}


def _unplaced(cls: type, now: Look, values: Fields, declared: bool = True) -> set[str]:
    """Return the names that the class cannot store."""
    if now.kind == "pydantic" or (declared and now.kind not in _PLAIN):
        return values.keys() - set(now.fields)
    return set() if cls.__dictoffset__ else values.keys() - set(now.slots)


def _default(cls: Any, name: str) -> Any:
    """Return a function that creates a field's default for an object, or `_MISSING`."""
    info = getattr(cls, "__pydantic_fields__", {}).get(name)
    if info is not None:
        if info.is_required():
            return _MISSING
        return lambda _: info.get_default(call_default_factory=True)
    if issubclass(cls, Struct):
        return _MISSING if name not in defaults_of(cls) else lambda _: defaults_of(cls)[name]()
    field = (_dataclass_fields(cls) or {}).get(name)
    if field is not None:
        return _dataclass_default(field)
    field = next((f for f in getattr(cls, "__attrs_attrs__", ()) if f.name == name), None)
    return _MISSING if field is None else _attrs_default(field.default)


def _dataclass_default(field: Any) -> Any:
    from dataclasses import MISSING

    if field.default_factory is not MISSING:
        return lambda _: field.default_factory()
    return _MISSING if field.default is MISSING else lambda _: field.default


def _attrs_default(default: Any) -> Any:
    attr = sys.modules["attr"]
    if default is attr.NOTHING:
        return _MISSING
    if isinstance(default, attr.Factory):
        return default.factory if default.takes_self else lambda _: default.factory()
    return lambda _: default


def _assign(target: Any, values: Fields) -> None:
    layout = layout_of(type(target)) or {}
    for name, value in values.items():
        if name in layout:
            layout[name].__set__(target, value)
        else:
            object.__getattribute__(target, "__dict__")[name] = value


def _validated(cls: Any, fields: Fields) -> Any:
    """Build and validate a model from fields by name, regardless of their aliases."""
    aliases = {name: _alias(cls, name) for name in fields}
    try:
        made = cls.model_validate({aliases[name]: value for name, value in fields.items()})
    except Exception as error:
        raise _invalid(cls, error) from error
    if type(made) is not cls:
        raise _invalid(cls, TypeError(f"its validators return a {type(made).__name__}"))
    return made


def _alias(cls: Any, name: str) -> str:
    info, config = cls.model_fields[name], cls.model_config
    by_name = config.get("populate_by_name") or config.get("validate_by_name")
    alias = info.validation_alias
    if by_name or alias is None:
        return name
    # For an AliasChoices, use its first plain name. An alias path refers to another value and has
    # no name.
    choices = [alias, *getattr(alias, "choices", ())]
    return next((each for each in choices if isinstance(each, str)), name)


def _take_state(target: Any, made: Any, recorded: Fields, migrated: bool) -> None:
    cls = type(target)
    layout = layout_of(cls) or {}
    state = object.__getattribute__(target, "__dict__")
    state.clear()
    state.update(made.__dict__)
    fields_set, private = made.__pydantic_fields_set__, made.__pydantic_private__
    if _FIELDS_SET in recorded and not migrated:
        fields_set = recorded[_FIELDS_SET] & fields_set
    if private is not None:
        private = {**private, **(recorded.get(_PRIVATE) or {})}
    extra = made.__pydantic_extra__
    if extra is not None:
        extra = {**extra, **(recorded.get(_EXTRA) or {})}
    values = {_FIELDS_SET: fields_set, _PRIVATE: private, _EXTRA: extra}
    for name, value in values.items():
        layout[name].__set__(target, value)


def _checked_dataclass(cls: Any, target: Any) -> Fields:
    """Validate a pydantic dataclass and return its fields."""
    fields = _dataclass_fields(cls) or {}
    taken = {name: getattr(target, name) for name, field in fields.items() if field.init}
    try:
        made = cls(**taken)
    except Exception as error:
        raise _invalid(cls, error) from error
    return {name: getattr(made, name) for name in taken}


def named_tuple(cls: Any, look: Look | None, values: list[Any]) -> Any:
    """Rebuild a named tuple from its record, by field name if the record contains names."""
    if not (isinstance(cls, type) and issubclass(cls, tuple) and hasattr(cls, "_fields")):
        raise _another_kind(cls, "namedtuple", kind_name(cls))
    made: Any = cls
    fields = made._fields
    if look is None:
        if len(values) != len(fields):
            raise ClassChanged(
                f"A recorded {title(cls)} has {len(values)} fields, and the class has "
                f"{len(fields)}: {', '.join(fields)}. The record does not contain their names.",
                help=f"Restore the fields of {cls.__qualname__}, or start a new execution.",
            )
        return tuple.__new__(cls, values)
    if look.fields == fields:
        return tuple.__new__(cls, values)
    recorded = dict(zip(look.fields, values, strict=True))
    if cls in _migrations:
        recorded = _migrated(cls, _migrations[cls], recorded)
    filled = {**made._field_defaults, **recorded}
    unknown, needed = recorded.keys() - set(fields), set(fields) - filled.keys()
    if unknown or needed:
        raise _misfit(cls, unknown, needed)
    return tuple.__new__(cls, [filled[name] for name in fields])


def enum_member(cls: Any, name: str) -> Any:
    """Return the member of an enum; raise ClassChanged if it does not exist."""
    members = getattr(cls, "__members__", None)
    if not isinstance(cls, type) or members is None:
        raise _another_kind(cls, "enum", kind_name(cls))
    if name not in members and cls in _migrations:
        name = _migrated(cls, _migrations[cls], {"name": name}).get("name", name)
    if name in members:
        return members[name]
    raise ClassChanged(
        f"A recorded {title(cls)} is the member {name}, which the class does not have; "
        f"it has {', '.join(members) or 'none'}.",
        help=f"Restore {name}, or map it to another member:\n"
        f'    kitaru.migrate({cls.__qualname__}, lambda fields: {{"name": "…"}})',
    )


def flag_value(cls: Any, value: Any) -> Any:
    """Return the combination of flags with a value."""
    if not hasattr(cls, "__members__"):
        raise _another_kind(cls, "enum", kind_name(cls))
    try:
        return cls(value)
    except ValueError as error:
        raise ClassChanged(
            f"A recorded {title(cls)} combines members that the class does not have: {error}.",
            help=f"Restore the members of {cls.__qualname__}, or start a new execution.",
        ) from error


def new_object(cls: Any) -> Any:
    """Create an object of `cls` without attributes; raise ClassChanged if that is impossible."""
    if not isinstance(cls, type) or layout_of(cls) is None:
        raise _another_kind(cls, "object", kind_name(cls))
    return object.__new__(cls)


def kind_name(cls: Any) -> str:
    """Return the kind of the object that now has the name of a recorded class."""
    if not isinstance(cls, type):
        return "function" if callable(cls) else type(cls).__name__
    if hasattr(cls, "__members__"):
        return "enum"
    if issubclass(cls, tuple):
        return "namedtuple"
    return "unrecordable" if layout_of(cls) is None else look_of(cls).kind


_KINDS = {
    "dataclass": "a dataclass",
    "attrs": "an attrs class",
    "pydantic": "a pydantic model",
    "namedtuple": "a named tuple",
    "enum": "an enum",
    "slots": "a class with slots",
    "plain": "a plain class",
    "object": "a class with attributes",
    "unrecordable": "a class whose objects cannot be recorded",
}


def _another_kind(cls: Any, then: str, now: str) -> ClassChanged:
    name = getattr(cls, "__qualname__", str(cls))
    shown = _KINDS.get(now, f"a {now}")
    fits = {then, now} <= {"pydantic", "dataclass", "attrs", *_PLAIN}
    advice = f", declare kitaru.migrate({name}, function)" if fits else ""
    return ClassChanged(
        f"A recorded {title(cls)} was {_KINDS[then]}, and {name} is now {shown}.",
        help=f"Restore {name} as it was{advice}, or start a new execution.",
    )


def _misfit(cls: type, unknown: Iterable[str], needed: Iterable[str]) -> ClassChanged:
    unknown, needed = sorted(unknown), sorted(needed)
    what, then = [], []
    if unknown:
        what.append(f"the record has {_listed(unknown)}, which the class does not have")
        then.append(f"restore {', '.join(unknown)}")
    if needed:
        what.append(
            f"the class has {_listed(needed)} without a default, which the record does not have"
        )
        then.append(f"give {', '.join(needed)} a default")
    advice = ", ".join([*then, f"or declare kitaru.migrate({cls.__qualname__}, function)"])
    return ClassChanged(
        f"A recorded {title(cls)} does not fit its class, which has changed since: "
        f"{'; '.join(what)}.",
        help=f"{advice[0].upper()}{advice[1:]}, which returns the present fields from the "
        "recorded ones.",
    )


def _listed(fields: list[str]) -> str:
    return f"the field{'s' if len(fields) > 1 else ''} {', '.join(fields)}"


def _invalid(cls: type, error: Exception) -> ClassChanged:
    errors = getattr(error, "errors", None)
    text = str(error)
    if callable(errors):
        # The text of pydantic's errors contains values, which may be long or confidential.
        found = ((".".join(map(str, each["loc"])), each["msg"]) for each in errors())
        text = "; ".join(f"{at}: {message}" if at else message for at, message in found)
    return ClassChanged(
        f"A recorded {title(cls)} is not valid for its class, which has changed since: {text}.",
        help="Restore the type of the field, or declare "
        f"kitaru.migrate({cls.__qualname__}, function), which returns valid fields from the "
        "recorded ones.",
    )


def title(cls: Any) -> str:
    """Return the module and the name of a class, as in records."""
    module = modules.recorded_name(getattr(cls, "__module__", None) or "")
    return f"{module}.{getattr(cls, '__qualname__', cls)}"
