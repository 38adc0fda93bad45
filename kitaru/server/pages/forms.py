"""Forms for JSON: the controls of a JSON schema, and the JSON that a person entered in them.

    form = Form(schema)             # controls with the schema's defaults
    form = Form(schema, posted)     # the controls as a browser sent them
    form.value                      # the JSON, if `form.errors` is empty

A form works without JavaScript. `Add` and `Remove` are submit buttons: the page is sent, and comes
back with one item more or less.

A schema that no control can express becomes a field for JSON, alone or inside of the others. Each
control states only a part of the schema, for example not a dependency between two fields, so the
whole value is validated as well.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from kitaru.runtime.schema.example import target
from kitaru.runtime.schema.validate import reasons

Posted = Mapping[str, Sequence[str]]
"""The values of a sent form by the name of their control."""

ABSENT: Final = object()
"""The value of a property that an object does not have."""

ROOT = "v"
# Deeper objects are JSON: a form of four levels has no overview.
_DEEPEST = 3
# Up to this many choices are shown at once.
MOST_RADIOS = 5
MOST_OPTIONS = 200
_MOST_ITEMS = 500
_LONG = 80
_LARGEST = sys.float_info.max
_ITEM = re.compile(r"[A-Za-z0-9]{1,20}")
_INTEGER = re.compile(r"[+-]?\d{1,400}")
_NUMBER = re.compile(r"-?(0|[1-9]\d{0,400})(\.\d{1,400})?([eE][+-]?\d{1,4})?")
_INPUTS = {"date": "date", "time": "time", "email": "email", "uri": "url"}
# Keywords whose effect on one control is unknown. The value is entered as JSON.
_FREE = frozenset({
    "$dynamicRef", "contains", "dependencies", "dependentSchemas", "if", "not",
    "patternProperties", "unevaluatedItems", "unevaluatedProperties",
})  # fmt: skip


@dataclass(slots=True)
class Choice:
    """One of several values; `number` is its value in the form."""

    number: int
    label: str
    help: str
    value: Any


@dataclass(slots=True)
class Control:
    """A control, or a group of controls.

    Attributes:
        name: its name in the form.
        key: its property name or index in the value, None at the root.
        kind: `boolean`, `choice`, `choices`, `text`, `integer`, `number`, `moment`, `json`,
            `fixed`, or a group: `object`, `list`, `tuple`, `map`.
        type: the `type` attribute of a text's input; `long` for several lines.
        text: what it contains, as text.
        chosen: the numbers of the chosen choices.
        given: for a group that may be left out, whether it is included.
        optional: whether it may be left out or null.
        children: the controls of a group; for a map, pairs of a key and a value.
        template: a further item of a list or map.
        error: why its content is not valid, or empty.
    """

    name: str
    key: str | int | None
    label: str
    kind: str
    help: str = ""
    schema: dict[str, Any] = field(default_factory=dict)
    type: str = "text"
    required: bool = True
    nullable: bool = False
    optional: bool = False
    text: str = ""
    choices: list[Choice] = field(default_factory=list)
    chosen: list[int] = field(default_factory=list)
    given: bool = True
    children: list[Control] = field(default_factory=list)
    template: Control | None = None
    error: str = ""

    @property
    def item(self) -> str:
        """The last part of the name, which identifies an item of a list."""
        return self.name.rpartition(".")[2]

    @property
    def limits(self) -> str:
        """The limits of a number or text in words, empty without any."""
        return ", ".join(_limits(self.schema))

    def each(self) -> Iterator[Control]:
        """Yield the control and all controls inside."""
        yield self
        for child in self.children:
            yield from child.each()


class Form:
    """The form of a schema.

    Attributes:
        root: its outermost control.
        value: the JSON that was entered, `ABSENT` if it is not valid.
        is_changed: whether `Add` or `Remove` was pressed. The form is then shown again.

    Example:
        form = Form({"type": "boolean"}, {"v": ["true"]})
        form.value, form.errors
    """

    def __init__(
        self, schema: Any, posted: Posted | None = None, *, label: str = "", initial: Any = ABSENT
    ) -> None:
        """Make the form; `initial` is the value with which a new one is filled.

        `label` is that of the root, which the question may be.
        """
        self._schema = schema
        self._posted = posted
        self.is_changed = posted is not None and ("add" in posted or "remove" in posted)
        self.root = self._control(schema, ROOT, None, label, True, initial, 0)
        self.value: Any = ABSENT
        if posted is not None and not self.is_changed:
            self._read()

    @property
    def errors(self) -> list[Control]:
        """The controls whose content is not valid, in order."""
        return [control for control in self.root.each() if control.error]

    @property
    def summary(self) -> str:
        """The chosen answer in a few words for the button that sends it, or empty."""
        root = self.root
        if root.kind == "object":
            first = [c for c in root.children if c.kind in ("choice", "boolean") and c.required]
            root = first[0] if len(first) == 1 else root
        return root.choices[root.chosen[0]].label if root.kind == "choice" and root.chosen else ""

    def refuse(self, reason: str) -> None:
        """Mark the whole value as not valid, for a reason that concerns no single control."""
        self.root.error = reason

    # Controls

    def _control(
        self, schema: Any, name: str, key: str | int | None, label: str, required: bool,
        start: Any, depth: int,
    ) -> Control:  # fmt: skip
        schema, nullable = self._resolved(schema)
        control = Control(
            name, key, str(schema.get("title", "")) or label, "json",
            help=str(schema.get("description", "")), schema=schema, required=required,
            nullable=nullable, optional=nullable or not required,
        )  # fmt: skip
        if start is ABSENT and "default" in schema:
            start = schema["default"]
        self._choose_kind(control, depth)
        if control.kind in ("object", "list", "tuple", "map"):
            self._fill_group(control, start, depth)
        else:
            self._fill(control, start)
        return control

    def _choose_kind(self, control: Control, depth: int) -> None:
        """Set the kind of a control. A schema that no other control can express is JSON."""
        schema = control.schema
        if schema.keys() & _FREE:
            return
        if "const" in schema:
            control.kind = "fixed"
        elif choices := _choices(schema):
            control.kind, control.choices = "choice", choices
        elif "anyOf" in schema or "oneOf" in schema or "allOf" in schema:
            if _is_number_or_text(schema):
                control.kind = "text"
        else:
            match schema.get("type"):
                case "boolean":
                    control.kind = "choice"
                    control.choices = [Choice(0, "Yes", "", True), Choice(1, "No", "", False)]
                case "integer" | "number" as kind:
                    control.kind = kind
                case "string":
                    self._choose_text(control)
                case "array":
                    self._choose_list(control, depth)
                case "object":
                    self._choose_object(control, depth)
        if control.kind == "choice" and control.optional:
            none = "None" if control.nullable else "Not set"
            value = None if control.nullable else ABSENT
            control.choices.append(Choice(len(control.choices), none, "", value))

    def _choose_text(self, control: Control) -> None:
        kind = control.schema.get("format", "")
        control.kind = "moment" if kind == "date-time" else "text"
        control.type = _INPUTS.get(kind, "text")
        longest = control.schema.get("maxLength")
        is_plain = not kind and "pattern" not in control.schema
        if is_plain and (longest is None or longest > _LONG):
            control.type = "long"

    def _choose_list(self, control: Control, depth: int) -> None:
        schema = control.schema
        if depth >= _DEEPEST:
            return
        if "prefixItems" in schema:
            has_fixed_size = schema.get("items") is False or (
                schema.get("maxItems") == schema.get("minItems") == len(schema["prefixItems"])
            )
            control.kind = "tuple" if has_fixed_size else "json"
            return
        items, nullable = self._resolved(schema.get("items", True))
        choices = _choices(items)
        if choices and schema.get("uniqueItems") and not nullable:
            control.kind, control.choices = "choices", choices
        elif isinstance(schema.get("items"), dict) and schema["items"]:
            control.kind = "list"

    def _choose_object(self, control: Control, depth: int) -> None:
        schema = control.schema
        if depth >= _DEEPEST:
            return
        rest = schema.get("additionalProperties", True)
        if schema.get("properties"):
            control.kind = "object"
        elif isinstance(rest, dict) and rest:
            control.kind = "map"

    def _resolved(self, schema: Any) -> tuple[dict[str, Any], bool]:
        """Return a schema without references and null, and whether null is valid."""
        nullable = False
        # A reference may refer to a reference, also in a circle.
        for _ in range(20):
            if not isinstance(schema, dict):
                return {}, False
            if "$ref" in schema:
                found = target(schema["$ref"], self._schema)
                if not isinstance(found, dict):
                    return {}, nullable
                schema = {**found, **{k: v for k, v in schema.items() if k != "$ref"}}
                continue
            if len(schema.get("allOf", ())) == 1:
                rest = {k: v for k, v in schema.items() if k != "allOf"}
                schema = {**schema["allOf"][0], **rest}
                continue
            found = self._without_null(schema)
            if found is None:
                return schema, nullable
            schema, nullable = found, True
        return {}, nullable

    def _without_null(self, schema: dict[str, Any]) -> dict[str, Any] | None:
        """Return `X` of a schema `X or null`, or None if it is another schema."""
        kinds = schema.get("type")
        if isinstance(kinds, list) and "null" in kinds and len(kinds) > 1:
            others = [kind for kind in kinds if kind != "null"]
            return {**schema, "type": others[0] if len(others) == 1 else others}
        for keyword in ("anyOf", "oneOf"):
            options = schema.get(keyword, ())
            others = [one for one in options if one != {"type": "null"}]
            if not others or len(others) == len(options):
                continue
            rest = {k: v for k, v in schema.items() if k != keyword}
            if len(others) > 1:
                return {**rest, keyword: others}
            return {**others[0], **rest} if isinstance(others[0], dict) else None
        return None

    # What controls contain

    def _fill(self, control: Control, start: Any) -> None:
        if self._posted is not None:
            texts = self._posted.get(control.name, [])
            control.text = texts[-1].replace("\r\n", "\n") if texts else ""
            numbers = {str(choice.number): choice.number for choice in control.choices}
            control.chosen = [numbers[text] for text in texts if text in numbers]
            return
        if control.kind == "choices":
            chosen = start if isinstance(start, list) else []
            control.chosen = [c.number for c in control.choices if _is_in(c.value, chosen)]
        elif control.kind == "choice":
            control.chosen = [c.number for c in control.choices if _is_same(c.value, start)][:1]
        elif start is not ABSENT and start is not None:
            is_text = control.kind in ("text", "moment") and isinstance(start, str)
            control.text = start if is_text else json.dumps(start, ensure_ascii=False, indent=2)
            if control.kind == "moment":
                control.text = control.text.removesuffix("Z").removesuffix("+00:00")
        elif start is None and control.kind == "json" and control.nullable:
            control.text = "null"

    def _fill_group(self, control: Control, start: Any, depth: int) -> None:
        schema = control.schema
        self._set_given(control, start)
        known = schema.get("properties", {})
        match control.kind:
            case "object":
                needed = schema.get("required", ())
                fields = start if isinstance(start, dict) else {}
                for number, key in enumerate(known):
                    control.children.append(self._control(
                        known[key], f"{control.name}.{number}", key, key, key in needed,
                        fields.get(key, ABSENT), depth + 1,
                    ))  # fmt: skip
            case "tuple":
                items = start if isinstance(start, list) else []
                for number, part in enumerate(schema["prefixItems"]):
                    value = items[number] if number < len(items) else ABSENT
                    control.children.append(self._control(
                        part, f"{control.name}.{number}", number, str(number + 1), True, value,
                        depth + 1,
                    ))  # fmt: skip
            case _:
                self._fill_items(control, start, depth)

    def _set_given(self, control: Control, start: Any) -> None:
        if not control.optional or (control.kind == "list" and not control.nullable):
            return
        if self._posted is None:
            control.given = start is not ABSENT and start is not None
        else:
            control.given = f"{control.name}?" in self._posted or any(
                self._posted.get(pressed, [""])[0].startswith(control.name)
                for pressed in ("add", "remove")
            )

    def _fill_items(self, control: Control, start: Any, depth: int) -> None:
        values: list[Any] = []
        if isinstance(start, dict | list):
            values = list(start.items() if isinstance(start, dict) else start)
        fresh = ""
        if self._posted is None:
            least = control.schema.get("minItems", 0) if control.kind == "list" else 0
            count = max(len(values), min(int(least), 20))
            items = [str(number) for number in range(count)]
        else:
            items = [i for i in self._posted.get(f"{control.name}#", ()) if _ITEM.fullmatch(i)]
            removed = self._posted.get("remove", [""])[0]
            items = [i for i in dict.fromkeys(items) if f"{control.name}.{i}" != removed]
            if self._posted.get("add") == [control.name]:
                fresh = _unused(items)
                items.append(fresh)
        for number, item in enumerate(items[:_MOST_ITEMS]):
            value = values[number] if number < len(values) else ABSENT
            make = self._new_item if item == fresh else self._item
            control.children.append(make(control, item, number, value, depth))
        control.template = self._new_item(control, f"new{depth}", 0, ABSENT, depth)

    def _new_item(
        self, control: Control, item: str, number: int, value: Any, depth: int
    ) -> Control:  # fmt: skip
        """Return an item with its defaults, which a browser has not sent yet."""
        self._posted, posted = None, self._posted
        try:
            return self._item(control, item, number, value, depth)
        finally:
            self._posted = posted

    def _item(
        self, control: Control, item: str, number: int, value: Any, depth: int
    ) -> Control:  # fmt: skip
        name = f"{control.name}.{item}"
        if control.kind == "list":
            return self._control(control.schema["items"], name, number, "", True, value, depth + 1)
        key, inside = value if isinstance(value, tuple) else (ABSENT, ABSENT)
        pair = Control(name, None, "", "pair")
        pair.children = [
            self._control({"type": "string", "maxLength": _LONG}, f"{name}.k", None, "Key", True,
                          key, depth + 1),
            self._control(control.schema["additionalProperties"], f"{name}.v", None, "Value", True,
                          inside, depth + 1),
        ]  # fmt: skip
        return pair

    # The value

    def _read(self) -> None:
        value = self._value(self.root)
        if self.errors:
            return
        for path, reason in reasons(value, self._schema):
            control = _at(self.root, path)
            control.error = control.error or f"{reason[:1].upper()}{reason[1:]}."
        if not self.errors:
            self.value = value

    def _value(self, control: Control) -> Any:
        if not control.given:
            return None if control.nullable else ABSENT
        match control.kind:
            case "fixed":
                return control.schema["const"]
            case "choice":
                if control.chosen:
                    return control.choices[control.chosen[0]].value
                return self._missing(control)
            case "choices":
                if not control.chosen and not control.required and "default" not in control.schema:
                    return ABSENT
                return [control.choices[number].value for number in control.chosen]
            case "object":
                values = {child.key: self._value(child) for child in control.children}
                return {key: value for key, value in values.items() if value is not ABSENT}
            case "tuple":
                return [self._value(child) for child in control.children]
            case "list":
                items = [self._value(child) for child in control.children]
                leaves_out = not control.required and "default" not in control.schema
                return ABSENT if leaves_out and not items and not control.nullable else items
            case "map":
                return self._map(control)
            case _:
                return self._typed(control)

    def _map(self, control: Control) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for pair in control.children:
            key, value = pair.children
            if key.text in values:
                key.error = "Another entry has the same key."
            values[key.text] = self._value(value)
        return values

    def _missing(self, control: Control) -> Any:
        """Return the value of an empty control, or mark it as required."""
        if control.nullable and (control.required or "default" in control.schema):
            return None
        if not control.required:
            return ABSENT
        control.error = "Choose one." if control.kind == "choice" else "This is required."
        return None

    def _typed(self, control: Control) -> Any:
        text = control.text
        if control.kind == "text" and not text and not control.nullable:
            is_free = control.type in ("long", "text") and "format" not in control.schema
            if is_free and (control.required or control.schema.get("default")):
                return text
        if control.kind != "text" or control.type != "long":
            text = text.strip()
        if not text:
            return self._missing(control)
        match control.kind:
            case "integer":
                if _INTEGER.fullmatch(text):
                    return int(text)
                control.error = "Enter a whole number, such as 12."
            case "number":
                number = _number(text)
                if number is None:
                    control.error = "Enter a number, such as 12.5."
                return number
            case "moment":
                return text if text.endswith("Z") or text[19:] else f"{text}Z"
            case "json":
                return self._json(control, text)
            case _:
                return _number_or_text(text) if "anyOf" in control.schema else text
        return None

    def _json(self, control: Control, text: str) -> Any:
        try:
            return json.loads(text, parse_constant=_refuse_constant)
        except RecursionError:
            control.error = "This JSON is nested too deeply."
        except ValueError as error:
            control.error = f"This is not JSON: {error}. A text needs double quotes."
        return None


def _choices(schema: Any) -> list[Choice]:
    """Return the values among which a schema lets choose, or nothing."""
    if not isinstance(schema, dict):
        return []
    values = schema.get("enum")
    if isinstance(values, list) and len(values) <= MOST_OPTIONS:
        return [Choice(n, _label(value), "", value) for n, value in enumerate(values)]
    options = schema.get("oneOf") or schema.get("anyOf") or ()
    if not options or not all(isinstance(one, dict) and "const" in one for one in options):
        return []
    return [
        Choice(n, str(one.get("title", _label(one["const"]))), str(one.get("description", "")),
               one["const"])
        for n, one in enumerate(options)
    ]  # fmt: skip


def _label(value: Any) -> str:
    if isinstance(value, str) and value:
        return value
    return json.dumps(value, ensure_ascii=False)


def _is_number_or_text(schema: dict[str, Any]) -> bool:
    """Return whether numbers and texts are valid. This is pydantic's schema of a Decimal."""
    options = [one for one in schema.get("anyOf", ()) if isinstance(one, dict)]
    return sorted(str(one.get("type")) for one in options) == ["number", "string"]


def _number(text: str) -> int | float | None:
    """Return a number in the notation of JSON; None for other texts, and beyond a double."""
    if not _NUMBER.fullmatch(text):
        return None
    number = float(text) if set(text) & set(".eE") else int(text)
    return number if abs(number) <= _LARGEST else None


def _number_or_text(text: str) -> Any:
    """Return a number as number, unless a double would change it; other texts as they are."""
    number = _number(text)
    return text if number is None or Decimal(text) != Decimal(repr(number)) else number


def _limits(schema: dict[str, Any]) -> Iterator[str]:
    words = {
        "minimum": "at least {}",
        "exclusiveMinimum": "more than {}",
        "maximum": "at most {}",
        "exclusiveMaximum": "less than {}",
        "multipleOf": "a multiple of {}",
        "minLength": "at least {} characters",
        "maxLength": "at most {} characters",
        "minItems": "at least {} items",
        "maxItems": "at most {} items",
    }
    for keyword, text in words.items():
        if isinstance(limit := schema.get(keyword), int | float):
            yield text.format(f"{limit:,}")


def _at(control: Control, path: Iterable[str | int]) -> Control:
    """Return the control at a path in the value, or the closest one around it."""
    for part in path:
        if control.kind == "map":
            pairs = (pair.children for pair in control.children)
            inside = [value for key, value in pairs if key.text == part]
        else:
            inside = [child for child in control.children if child.key == part]
        if not inside:
            break
        control = inside[0]
    return control


def _unused(items: Sequence[str]) -> str:
    return str(max((int(i) for i in items if i.isdecimal()), default=-1) + 1)


def _is_same(a: Any, b: Any) -> bool:
    # In Python, True equals 1.
    return a is b or (a == b and isinstance(a, bool) == isinstance(b, bool))


def _is_in(value: Any, values: Iterable[Any]) -> bool:
    return any(_is_same(value, one) for one in values)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
