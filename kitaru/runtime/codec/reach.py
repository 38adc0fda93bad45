"""Digest the state that code can reach outside its frame, and list the undigestible parts.

`State` starts at a function and follows the names that its bytecode loads to their current objects:
other functions (bytecode, defaults, closure cells), the project's classes and their attributes,
instances, containers. No source is read, so functions from standard input, notebooks and `exec`,
lambdas and mocks are covered like all others.

An instance is known exactly if each of its classes was created by a `class` statement. Its whole
state is then in its `__dict__`, in slots, and in the content of a builtin base such as `dict`.
Other objects of unknown kinds are *opaque*, and the caller must not treat them as unchanged. The
digest may differ for equal states (two names for one object). It is never equal for different
states.

An attribute named in any followed code counts in every module of the project that followed code
names or contains, because the module may have reached that code as a value. Code that computes
names (`globals()`, `getattr(module, name)`, `sys.modules[...]`) reaches whole modules.

No method of the user's is called, not even `repr` or `__eq__`.
"""

from __future__ import annotations

import dis
import gc
import hashlib
import io
import itertools
import marshal
import operator
import os
import random
import re
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterable, Iterator
from enum import Enum, EnumMeta
from functools import _lru_cache_wrapper, cached_property, lru_cache, partial
from logging import Logger, StreamHandler
from types import (
    BuiltinFunctionType,
    CellType,
    ClassMethodDescriptorType,
    CodeType,
    FunctionType,
    GenericAlias,
    GetSetDescriptorType,
    MappingProxyType,
    MemberDescriptorType,
    MethodDescriptorType,
    MethodType,
    MethodWrapperType,
    ModuleType,
    SimpleNamespace,
    UnionType,
    WrapperDescriptorType,
)
from typing import Any, NamedTuple

from kitaru.runtime.codec.builtin_types import inlined
from kitaru.runtime.codec.encoder import kind_of
from kitaru.runtime.codec.instances import NAME, OBJECT
from kitaru.runtime.codec.stateless import is_stateless
from kitaru.wire import modules

LIMIT = 10_000
"""Maximum number of parts of a state; a larger state is opaque."""

# A larger container of JSON data is digested in one C call, up to a limit of rows.
_TABLE = 32
_ROWS = 1_000_000
_JSON_LEAVES = frozenset({type(None), bool, int, float, str, bytes})

_HEAP_TYPE = 1 << 9
_ATOMS = frozenset(
    {type(None), bool, int, float, complex, str, bytes, type(...), type(NotImplemented), range}
)
_DESCRIPTORS = frozenset(
    {
        MethodDescriptorType,
        WrapperDescriptorType,
        GetSetDescriptorType,
        MemberDescriptorType,
        ClassMethodDescriptorType,
    }
)
_LOADS = frozenset(
    {"LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL", "DELETE_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS"}
)
_STORES = frozenset({"STORE_ATTR", "DELETE_ATTR"})
_ATTRIBUTES = _STORES | {"LOAD_ATTR", "LOAD_METHOD", "IMPORT_FROM", "LOAD_SUPER_ATTR"}
# Code that reads or writes computed names: those of its own module, or of all modules.
_OWN_NAMES = frozenset({"globals", "vars", "eval", "exec", "__dict__", "__globals__", "f_globals"})
_IMPORTS = frozenset({"__import__", "import_module"})
_MADE_NAMES = frozenset({"getattr", "setattr", "delattr", "attrgetter", "methodcaller"})
_EXTERNAL = {
    "builtins": frozenset({"open", "input"}),
    "os": frozenset({"environ", "environb", "getenv", "getcwd", "listdir", "scandir", "walk"}),
}
_READS = frozenset({"read_text", "read_bytes", "iterdir", "glob", "rglob", "open"})
_READERS = (open, input, os.environ, os.getenv, os.getcwd, os.listdir, os.scandir, os.walk)
# Bookkeeping that Python and libraries fill in on first use.
_NO_STATE = frozenset(
    {
        "__dict__",
        "__weakref__",
        "__doc__",
        "__module__",
        "__qualname__",
        "__annotations__",
        "__slots__",
        "__abstractmethods__",
        "__firstlineno__",
        "__static_attributes__",
        "_abc_impl",
        "__parameters__",
        "__orig_bases__",
        "__signature__",
    }
)
_OF_ENUM = frozenset(
    {"_value2member_map_", "_hashable_values_", "_unhashable_values_", "_unhashable_values_map_"}
)
_OF_PYDANTIC = frozenset({"model_config", "model_fields", "model_computed_fields"})
_MEMOS = frozenset({"dispatch_cache", "cache_token"})
# Instances of these classes count by class: they never change, or contain no program state.
_IDLE = frozenset({"random.SystemRandom"})
_EXECUTORS = frozenset(
    {
        "concurrent.futures.thread.ThreadPoolExecutor",
        "concurrent.futures.process.ProcessPoolExecutor",
    }
)
CLIENTS = frozenset(
    {
        "aiohttp",
        "anthropic",
        "boto3",
        "botocore",
        "cohere",
        "google",
        "groq",
        "httpx",
        "jinja2",
        "langfuse",
        "litellm",
        "loguru",
        "mistralai",
        "ollama",
        "openai",
        "opentelemetry",
        "requests",
        "rich",
        "structlog",
        "tavily",
        "tiktoken",
        "urllib3",
    }
)
"""Packages whose objects contain connections and settings, which no code of a flow changes."""


class Mentions(NamedTuple):
    """The names in code, and in code nested inside it.

    `stored` are attributes that it sets or deletes. `anywhere` is not empty if the code computes
    names of modules.
    """

    names: frozenset[str]
    attributes: frozenset[str]
    imports: frozenset[str]
    stored: frozenset[str]
    anywhere: frozenset[str]


@lru_cache(maxsize=8192)
def mentions(code: CodeType) -> Mentions:
    """Return the names that a code object mentions."""
    names: set[str] = set()
    attributes: set[str] = set()
    imports: set[str] = set()
    stored: set[str] = set()
    anywhere: set[str] = set()
    importing = ""
    for one in dis.get_instructions(code):
        if importing and one.opname not in ("PUSH_NULL", "CACHE"):
            literal_name = one.argval if one.opname == "LOAD_CONST" else None
            if isinstance(literal_name, str) and _is_dotted(literal_name):
                imports.add(literal_name)
            else:
                anywhere.add(importing)
            importing = ""
        if one.opname in _LOADS | _ATTRIBUTES and one.argval in _IMPORTS:
            importing = one.argval
        if one.opname in _LOADS:
            names.add(one.argval)
        elif one.opname in _ATTRIBUTES:
            attributes.add(one.argval)
            if one.opname in _STORES:
                stored.add(one.argval)
        elif one.opname == "IMPORT_NAME":
            imports.add(one.argval)
    if (names | attributes) & _MADE_NAMES:
        literal = {text for text in _texts(code.co_consts) if text.isidentifier()}
        attributes |= literal
        if (names | attributes) & {"setattr", "delattr"}:
            stored |= literal
    if "modules" in names or {"sys", "modules"} <= names | attributes:
        anywhere.add("modules")
    found = (names, attributes, imports, stored, anywhere)
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            for own, more in zip(found, mentions(inner), strict=True):
                own |= more
    return Mentions(*map(frozenset, found))


def _is_dotted(text: str) -> bool:
    return all(part.isidentifier() for part in text.split("."))


def _texts(constants: Iterable[Any]) -> Iterator[str]:
    for one in constants:
        if type(one) is str:
            yield one
        elif type(one) is tuple:
            yield from _texts(one)


@lru_cache(maxsize=8192)
def code_digest(code: CodeType) -> str:
    """Return a digest of a code object that is equal in every process of one Python version."""
    told = [_constant(value) for value in code.co_consts]
    shape = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars, code.co_flags)
    exceptions = code.co_exceptiontable
    digest = hashlib.sha256(code.co_code + b"\0" + exceptions)
    digest.update(repr((told, shape, code.co_argcount, code.co_kwonlyargcount)).encode())
    return digest.hexdigest()


def _constant(value: Any) -> Any:
    if isinstance(value, CodeType):
        return code_digest(value)
    if type(value) is tuple:
        return [_constant(one) for one in value]
    # The order of a frozenset differs between processes.
    return sorted(map(repr, value)) if type(value) is frozenset else repr(value)


def is_project(name: Any) -> bool:
    """Return whether to follow code of module `name`: not if it is installed or standard.

    A module without a file, such as that of a notebook or of standard input, belongs to the
    project.
    """
    if not isinstance(name, str) or name == "__main__":
        return True
    file = getattr(sys.modules.get(name), "__file__", None)
    known = _projects.get(name)
    if known is None or known[0] != file:
        top = name.partition(".")[0]
        outside = top in modules.OURS or top in sys.stdlib_module_names
        found = (file is None and not outside) or modules.of_project(name)
        known = _projects[name] = file, found
    return known[1]


# Results for modules by file, cached because the check accesses the disk.
_projects: dict[str, tuple[str | None, bool]] = {}


class State:
    """The state reached from the values passed to `add`.

    `opaque` lists the parts that cannot be digested, as `module.name: type`. `unknown` contains
    these objects with their types, by identity. `external` lists the files, the environment and
    other outside sources that followed code reads by name. `met` contains every object reached, by
    identity, and `functions` the project's functions among them. `complete` is false after a value
    had more parts than the limit.
    """

    def __init__(
        self,
        *,
        stateless: frozenset[str] = frozenset(),
        exact: bool = True,
        follow: bool = True,
        limit: int = LIMIT,
    ) -> None:
        """`stateless` are packages and classes (`a.b.Class`) whose objects have no state.

        `exact` includes the configuration of clients. It has no digest, so clients are then opaque.
        `follow` continues with the names in code. Without it, a function consists of its code and
        the objects it contains. `limit` is the maximum number of parts of one value.
        """
        self.opaque: list[str] = []
        self.unknown: dict[int, tuple[Any, str]] = {}
        self.external: list[str] = []
        self.functions: list[FunctionType] = []
        self.complete = True
        # References every object found, so that no identity is reused meanwhile.
        self.met: dict[int, Any] = {}
        self._stateless = stateless
        self._exact = exact
        self._follow = follow
        self._limit = limit
        self._durable = False
        self._told: list[str] = []
        self._numbers: dict[int, tuple[str, int]] = {}
        self._section = ""
        self._parts = 0
        self._rows = 0
        self._pending: deque[tuple[Any, str]] = deque()
        self._named: set[tuple[str, str]] = set()
        self._attributes: set[str] = set()
        self._modules: dict[str, ModuleType] = {}
        self._absent: set[str] = set()

    def add(self, value: Any, where: str) -> None:
        """Add a value and all objects that it reaches; `where` is its name in messages."""
        self._parts = 0
        for name in sorted(self._absent & sys.modules.keys()):
            # Code followed earlier may import a module that exists only now.
            self._absent.discard(name)
            self._module(sys.modules[name], frozenset())
        self._slot(value, where)
        while self._pending:
            if self._parts > self._limit:
                self._give_up(value, where)
                return
            one, place = self._pending.popleft()
            try:
                self._tell(one, place)
            except Exception as error:
                # A thread changes the object meanwhile, or its class behaves in an unexpected way.
                self._refuse(f"{type(one).__qualname__} ({type(error).__name__})", place, one)

    def digest(self) -> str:
        """Return the digest, 64 hex digits. It is meaningless if `opaque` is not empty."""
        text = "\n".join(self._told)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

    def section(self, value: Any, where: str) -> str:
        """Add a value; return the digest of the added state.

        An object reached by an earlier section counts by its place there. Sections added in the
        same order therefore have equal digests only if the same objects are shared. `where` must
        differ between sections.
        """
        self._told = []
        self._section = where
        self._rows = 0
        self.add(value, where)
        return self.digest()

    def _give_up(self, value: Any, where: str) -> None:
        self._refuse(f"more than {self._limit} parts", where, value)
        self.complete = False
        self._pending.clear()
        # No later section depends on objects found here, so this section need not be added again.
        numbers = self._numbers.items()
        self._numbers = {key: at for key, at in numbers if at[0] != self._section}

    def _say(self, *words: Any) -> None:
        self._told.append(" ".join(repr(word) for word in words))

    def _refuse(self, what: str, where: str, value: Any) -> None:
        self.opaque.append(f"{where}: {what}")
        self.unknown[id(value)] = value, what

    def _slot(self, value: Any, where: str) -> None:
        kind = type(value)
        if kind in _ATOMS:
            return self._say(kind.__name__, value)
        known = self._numbers.get(id(value))
        if known is not None:
            return self._say("same", known)
        self._parts += 1
        self._numbers[id(value)] = self._section, self._parts
        self.met[id(value)] = value
        self._say("next", kind.__module__, kind.__qualname__)
        self._pending.append((value, where))

    def _all(self, values: Iterable[Any], where: str) -> None:
        for one in list(values):
            self._slot(one, where)

    def _tell(self, value: Any, where: str) -> None:
        kind = type(value)
        self._say("of", self._numbers[id(value)])
        if is_stateless(value):
            self._say("stateless")
            # The declaration does not cover the objects that its code reaches.
            inner = modules.undecorated(value)
            if type(inner) is FunctionType and is_project(inner.__globals__.get("__name__")):
                self._names(inner.__code__, inner.__globals__)
        elif kind is FunctionType:
            self._function(value, where)
        elif isinstance(value, type):
            self._class(value, where)
        elif isinstance(value, ModuleType):
            self._say(value.__name__)
            if self._follow and is_project(value.__name__):
                self._whole(value)
        elif not (self._definition(value, kind, where) or self._known(value, kind, where)):
            self._object(value, kind, where)

    # Parts of code

    def _definition(self, value: Any, kind: type, where: str) -> bool:
        name = f"{kind.__module__}.{kind.__qualname__}"
        if kind is MethodType:
            self._all((value.__func__, value.__self__), where)
        elif kind in (staticmethod, classmethod):
            self._slot(value.__func__, where)
        elif kind is property:
            self._all((value.fget, value.fset, value.fdel), where)
        elif kind is partial:
            self._all((value.func, value.args, value.keywords), where)
        elif kind is CellType:
            try:
                self._slot(value.cell_contents, where)
            except ValueError:
                self._say("empty")
        elif kind is _lru_cache_wrapper:
            self._lru(value, where)
        elif kind is BuiltinFunctionType or kind is MethodWrapperType:
            self._say(value.__name__)
            if not isinstance(value.__self__, ModuleType | None):
                self._slot(value.__self__, where)
        elif kind in _DESCRIPTORS:
            self._say(
                value.__objclass__.__module__, value.__objclass__.__qualname__, value.__name__
            )
        elif kind is CodeType:
            self._say(code_digest(value))
        elif name in ("kitaru.checkpoints.Checkpoint", "kitaru.flows.Flow"):
            # The fingerprint covers its options; other attributes are filled in on first use.
            self._durable = True
            self._say(value.name)
            self._slot(value.function, where)
        else:
            return False
        return True

    def _function(self, function: FunctionType, where: str) -> None:
        home = function.__globals__.get("__name__")
        own = is_project(home)
        self._say(function.__module__, function.__qualname__)
        if home == "kitaru.primitives":
            self._durable = True
        if not own and function.__closure__ is None and _is_in_place(function):
            return
        if own:
            self.functions.append(function)
        self._say(code_digest(function.__code__))
        self._all(function.__defaults__ or (), where)
        for name, value in (function.__kwdefaults__ or {}).items():
            self._say(name)
            self._slot(value, where)
        for name, cell in zip(
            function.__code__.co_freevars, function.__closure__ or (), strict=True
        ):
            if home != "functools" or name not in _MEMOS:
                self._slot(cell, where)
        # State that a library attaches to the function returned by its decorator belongs to the
        # library.
        kept = vars(function) if own else {"__wrapped__": vars(function).get("__wrapped__")}
        for name, value in list(kept.items()):
            self._say(name)
            self._slot(value, where)
        if own:
            self._names(function.__code__, function.__globals__)

    def _names(self, code: CodeType, space: dict[str, Any]) -> None:
        if not self._follow:
            return
        home = str(space.get("__name__"))
        names, attributes, imports, _, anywhere = mentions(code)
        made = names | attributes
        if made & _OWN_NAMES:
            names |= {name for name in space if not name.startswith("__")}
        for name in sorted(names):
            if name not in space:
                if name in _EXTERNAL["builtins"]:
                    self._outside(name, home)
            elif isinstance(space[name], ModuleType):
                self._mention(space[name], made, attributes)
            elif (home, name) not in self._named:
                self._named.add((home, name))
                self._say("global", home, name)
                if any(space[name] is one for one in _READERS):
                    # Whatever the form of the import and the name.
                    self._outside(name, home)
                self._slot(space[name], f"{home}.{name}")
        for name in sorted(imports):
            if name in sys.modules:
                self._mention(sys.modules[name], made, attributes)
            else:
                self._absent.add(name)
        if anywhere:
            for name, module in sorted(sys.modules.items()):
                if is_project(name) and isinstance(module, ModuleType):
                    self._whole(module)
        self._ask(attributes)
        for name in sorted(attributes & _READS):
            self._outside(f".{name}", home)

    def _mention(
        self, module: ModuleType, made: frozenset[str], attributes: frozenset[str]
    ) -> None:
        """Follow a module named in code, and the attributes named next to it."""
        self._say("module", module.__name__)
        if made & (_OWN_NAMES | _MADE_NAMES) and is_project(module.__name__):
            return self._whole(module)
        self._module(module, attributes)

    def _ask(self, attributes: frozenset[str]) -> None:
        """Follow these attributes in each reached module of the project."""
        new = attributes - self._attributes
        self._attributes |= new
        for module in list(self._modules.values()) if new else ():
            self._module(module, new)

    def _whole(self, module: ModuleType) -> None:
        self._module(module, frozenset(name for name in vars(module) if name[:2] != "__"))

    def _outside(self, what: str, home: str) -> None:
        self.external.append(f"{home} reads {what}")

    def _module(self, module: ModuleType, attributes: frozenset[str]) -> None:
        name, space = module.__name__, vars(module)
        if name == "kitaru":
            self._durable = True
        own = is_project(name)
        if own and name not in self._modules:
            self._modules[name] = module
            attributes |= self._attributes
        for attribute in sorted(attributes & space.keys()):
            value = space[attribute]
            if attribute in _EXTERNAL.get(name, ()):
                self._outside(f"{name}.{attribute}", name)
            if (name, attribute) in self._named or attribute.startswith("__"):
                continue
            # In a module from outside, only objects set by a test or the project count.
            if not own and not _is_foreign(value, name):
                continue
            self._named.add((name, attribute))
            self._say("global", name, attribute)
            if isinstance(value, ModuleType):
                self._module(value, attributes)
            else:
                self._slot(value, f"{name}.{attribute}")

    def _class(self, cls: type, where: str) -> None:
        self._say(cls.__module__, cls.__qualname__)
        if not is_project(cls.__module__):
            return
        self._all(cls.__bases__, where)
        enum, pydantic = isinstance(cls, EnumMeta), hasattr(cls, "__pydantic_fields__")
        for name, value in list(vars(cls).items()):
            if name in _NO_STATE or (enum and name in _OF_ENUM):
                continue
            if pydantic and (name in _OF_PYDANTIC or name.startswith("__pydantic_")):
                continue
            self._say(name)
            self._slot(value, f"{where}.{name}")

    # State of objects

    def _known(self, value: Any, kind: type, where: str) -> bool:
        if kind in (list, dict) and len(value) > _TABLE and self._table(value):
            return True
        if kind in (list, tuple, deque):
            self._say(len(value), value.maxlen if kind is deque else None)
            self._all(value, where)
        elif kind in (dict, OrderedDict, Counter, defaultdict):
            if kind is defaultdict:
                self._slot(value.default_factory, where)
            self._pairs(dict.items(value), where)
        elif kind is MappingProxyType:
            self._pairs(value.items(), where)
        elif kind in (set, frozenset):
            self._set(value, where)
        elif kind is SimpleNamespace:
            self._pairs(vars(value).items(), where)
        elif kind is slice:
            self._all((value.start, value.stop, value.step), where)
        elif kind in (bytearray, memoryview) or _named(kind) == "array.array":
            self._say(getattr(value, "typecode", ""), hashlib.sha256(bytes(value)).hexdigest())
        elif kind is re.Pattern:
            self._say(value.pattern, value.flags)
        elif kind in (GenericAlias, UnionType) or kind.__module__ in ("typing", "_typing"):
            self._say(repr(value))
        elif kind in (io.StringIO, io.BytesIO):
            self._say(value.closed, *(() if value.closed else (value.tell(), value.getvalue())))
        elif _named(kind) == "_contextvars.ContextVar" or kind.__name__ == "ContextVar":
            # The variable's own default counts as well, and may be changed.
            try:
                self._slot(value.get(), where)
            except LookupError:
                self._say("unset")
        elif kind is itertools.count and _has_atoms(value):
            self._say(repr(value))
        elif kind in (operator.itemgetter, operator.attrgetter, operator.methodcaller):
            self._slot(value.__reduce__()[1:], where)
        elif _named(kind) == "_collections._tuplegetter":
            self._slot(value.__reduce__()[1], where)
        elif _named(kind) == "decimal.Context":
            shape = (
                value.prec,
                value.rounding,
                value.Emin,
                value.Emax,
                value.capitals,
                value.clamp,
            )
            self._say(*shape, *sorted(_named(signal) for signal, on in value.traps.items() if on))
        elif _named(kind) == "_thread._local":
            # Only this thread's data: the threads of submitted calls end before a cut.
            self._pairs(value.__dict__.items(), where)
        elif _named(kind) in ("_thread.lock", "_thread.RLock"):
            if value.locked() if hasattr(value, "locked") else "owner=0" not in repr(value):
                self._refuse(f"{kind.__qualname__} that is held", where, value)
        elif kind is random.Random:
            # The module's own generator is state of the process, regardless of its imported name.
            if value is not random._inst:
                self._slot(value.getstate(), where)
        elif any(value is stream for stream in _streams()):
            self._say(_named(kind))
        elif _named(kind) in _EXECUTORS:
            self._executor(value, where)
        elif _named(kind) in _IDLE or _top(kind) in modules.OURS:
            self._say(_named(kind))
        elif isinstance(value, Logger):
            self._logger(value, where)
        elif kind.__module__.startswith("pydantic_core"):
            self._say(_named(kind))
        elif _top(kind) in self._stateless or _named(kind) in self._stateless:
            self._say("stateless")
        else:
            return self._recorded(value, where)
        return True

    def _table(self, value: Any) -> bool:
        """Digest JSON data in C; return False for other data and for shared data."""
        parts = _containers(value)
        if parts is None or any(id(one) in self._numbers for one in parts[1:]):
            return False
        for one in parts[1:]:
            self._rows += 1
            self._numbers[id(one)] = self._section, -self._rows
            self.met[id(one)] = one
        # Version 2 of the format does not depend on reference counts.
        self._say("table", hashlib.sha256(marshal.dumps(value, 2)).hexdigest())
        return True

    def _recorded(self, value: Any, where: str) -> bool:
        """Digest a value of a kind that records support, such as a date; return False otherwise."""
        found = kind_of(value)
        if found is None or found is OBJECT:
            return False
        if found is NAME and is_project(type(value).__module__):
            # A record would refer to it by name, but here its content counts.
            return False
        data, children = found.take(value)
        self._say(found.tag, inlined(data))
        self._all(children, where)
        return True

    def _pairs(self, pairs: Iterable[tuple[Any, Any]], where: str) -> None:
        for key, value in list(pairs):
            self._slot(key, where)
            self._slot(value, where)

    def _set(self, values: Iterable[Any], where: str) -> None:
        """Digest a set in an order that does not depend on hashes."""
        digests = []
        for one in list(values):
            if type(one) in _ATOMS:
                digests.append(f"{type(one).__name__} {one!r}")
                continue
            inner = self._inner(follow=self._follow)
            inner.add(one, where)
            self.opaque += inner.opaque
            self.unknown |= inner.unknown
            self.external += inner.external
            self._durable |= inner._durable
            digests.append(inner.digest())
        self._say(*sorted(digests))

    def _inner(self, *, follow: bool) -> State:
        inner = State(stateless=self._stateless, exact=self._exact, follow=follow)
        inner.met = self.met
        return inner

    def _executor(self, pool: Any, where: str) -> None:
        """Digest a pool: an idle pool counts as a new pool."""
        self._say(pool._shutdown if hasattr(pool, "_shutdown") else pool._shutdown_thread)
        waiting = getattr(pool, "_work_queue", None) or getattr(pool, "_pending_work_items", None)
        if waiting is not None and (waiting.qsize() if hasattr(waiting, "qsize") else waiting):
            self._refuse(f"{type(pool).__qualname__} with work", where, pool)

    def _logger(self, logger: Logger, where: str) -> None:
        self._say(logger.name)
        for handler in list(logger.handlers):
            # A handler that writes to program memory is state; a handler of a stream is not.
            if isinstance(handler, StreamHandler) and type(handler.stream) is not io.StringIO:
                continue
            if type(handler).__module__ in ("logging", "logging.handlers"):
                self._slot(getattr(handler, "stream", None), where)
            else:
                self._slot(handler, where)

    def _lru(self, cached: Any, where: str) -> None:
        """Digest a function behind `lru_cache`, with its results if losing them matters.

        It does not matter for the immutable results of a pure function. A function that returns a
        mutable object returns the same object each time, and a function that reaches a checkpoint
        pays for each call.
        """
        self._slot(cached.__wrapped__, where)
        results = _lru_results(cached)
        if results is None:
            return self._refuse("functools.lru_cache", where, cached)
        if not self._is_found_again(results, cached.__wrapped__, where):
            self._all(results, where)

    def _is_found_again(self, results: list[Any], function: Any, where: str) -> bool:
        """Return whether computing these results of `function` again makes no difference."""
        if not all(self._is_constant(one) for one in results):
            return False
        # The values that it reaches do not belong to this state; they are followed anyway.
        inner = State(stateless=self._stateless, exact=self._exact)
        if results:
            inner.add(function, where)
        return not inner._durable

    def _is_constant(self, value: Any, depth: int = 0) -> bool:
        if type(value) in _ATOMS or isinstance(value, ModuleType):
            return True
        if type(value) in (tuple, frozenset):
            return depth < 20 and all(self._is_constant(one, depth + 1) for one in value)
        if type(value) is re.Pattern or self._is_client(type(value)) or is_stateless(value):
            return True
        if type(value).__module__ in ("datetime", "decimal", "uuid", "pathlib"):
            return True
        if isinstance(value, Enum):
            return True
        if getattr(getattr(type(value), "__dataclass_params__", None), "frozen", False):
            held = [*_instance_dict(value).values(), *(one for _, one in _slots(value))]
            return depth < 20 and all(self._is_constant(one, depth + 1) for one in held)
        return False

    def _is_client(self, kind: type) -> bool:
        return not self._exact and not CLIENTS.isdisjoint((_top(kind), _named(kind)))

    def _object(self, value: Any, kind: type, where: str) -> None:
        if self._is_client(kind):
            return self._say("client")
        if _top(kind) in CLIENTS or _is_mock(kind):
            return self._refuse(_named(kind), where, value)
        seed = random.Random in kind.__mro__
        classes = (cls for cls in kind.__mro__ if cls.__flags__ & _HEAP_TYPE)
        if not all(_is_written_in_python(cls) for cls in classes if not (seed and _is_seed(cls))):
            return self._refuse(_named(kind), where, value)
        base = next(cls for cls in kind.__mro__ if not cls.__flags__ & _HEAP_TYPE)
        if seed:
            self._slot(random.Random.getstate(value), where)
        elif not self._content(value, base, where):
            return self._refuse(_named(kind), where, value)
        of_loop = _top(kind) == "asyncio"
        for name, held in list(_instance_dict(value).items()):
            # A lock or a queue of asyncio remembers the loop that first used it.
            if (of_loop and name == "_loop") or self._is_memo(kind, name, held, where):
                continue
            self._say("attribute", name)
            self._slot(held, where)
        for name, held in _slots(value):
            self._say("slot", name)
            self._slot(held, where)
        if is_project(kind.__module__):
            self._slot(kind, where)

    def _is_memo(self, kind: type, name: str, held: Any, where: str) -> bool:
        """Return whether an attribute is the result of a pure `cached_property`."""
        for cls in kind.__mro__:
            member = vars(cls).get(name)
            if member is not None:
                if type(member) is not cached_property:
                    return False
                return self._is_found_again([held], member.func, where)
        return False

    def _content(self, value: Any, base: type, where: str) -> bool:
        """Digest the content of an object's builtin base; return False if the base is unknown."""
        if base is object:
            return True
        if base in (dict, OrderedDict, defaultdict):
            self._pairs(dict.items(value), where)
        elif base in (list, tuple, deque):
            self._all(base.__iter__(value), where)
        elif base in (set, frozenset):
            self._set(base.__iter__(value), where)
        elif base in (str, int, float, bytes, complex):
            self._say(base.__repr__(value))
        elif issubclass(base, BaseException):
            self._all((value.args, value.__cause__, value.__context__), where)
        else:
            return False
        return True


def _named(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _is_mock(kind: type) -> bool:
    return any(cls.__module__ == "unittest.mock" for cls in kind.__mro__)


def _top(kind: type) -> str:
    return kind.__module__.partition(".")[0]


def _instance_dict(value: Any) -> dict[str, Any]:
    try:
        found: dict[str, Any] = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return {}
    return found


@lru_cache(maxsize=4096)
def _is_written_in_python(cls: type) -> bool:
    """Return whether a `class` statement created a class, so that it adds no hidden C state."""
    own = vars(cls)
    for name, held in own.items():
        kind = type(held)
        if kind is BuiltinFunctionType and name == "__new__" and held.__self__ is cls:
            return False
        if kind in _DESCRIPTORS and held.__objclass__ is cls:
            slot = kind is MemberDescriptorType and "__slots__" in own
            if not slot and name not in ("__dict__", "__weakref__"):
                return False
    return "__module__" in own


def _is_seed(cls: type) -> bool:
    return cls.__module__ == "_random"


def _streams() -> tuple[Any, ...]:
    now = sys.stdin, sys.stdout, sys.stderr
    return (*now, sys.__stdin__, sys.__stdout__, sys.__stderr__)


def _containers(value: Any) -> list[Any] | None:
    """Return the lists and dicts of JSON data, outermost first; None if parts are shared."""
    found, pending = [], [value]
    while pending:
        one = pending.pop()
        found.append(one)
        if type(one) is dict:
            if set(map(type, one)) - {str, int}:
                return None
            one = one.values()
        kinds = set(map(type, one))
        if kinds - _JSON_LEAVES - {list, dict}:
            return None
        if kinds - _JSON_LEAVES:
            pending += [inner for inner in one if type(inner) in (list, dict)]
        if len(pending) + len(found) > _ROWS:
            return None
    return found if len(set(map(id, found))) == len(found) else None


def _is_in_place(function: FunctionType) -> bool:
    """Return whether an outside function is the one that its module contains under its name."""
    found: Any = sys.modules.get(function.__module__)
    for part in function.__qualname__.split("."):
        found = getattr(found, part, None) if part != "<locals>" else None
    return getattr(found, "__func__", found) is function or "<locals>" not in function.__qualname__


def _slots(value: Any) -> Iterator[tuple[str, Any]]:
    for cls in type(value).__mro__:
        for name, member in list(vars(cls).items()):
            # The content of a builtin base includes its C members.
            if type(member) is MemberDescriptorType and cls.__flags__ & _HEAP_TYPE:
                try:
                    yield f"{cls.__qualname__}.{name}", member.__get__(value)
                except AttributeError:
                    continue


def _has_atoms(value: Any) -> bool:
    return all(type(one) in _ATOMS or isinstance(one, type) for one in gc.get_referents(value))


def _is_foreign(value: Any, home: str) -> bool:
    """Return whether the project or a mock has set `value` in an outside module."""
    if isinstance(value, ModuleType):
        return False
    if type(value) is FunctionType:
        name = value.__globals__.get("__name__")
        return name != home and is_project(name)
    kind = value if isinstance(value, type) else type(value)
    return kind.__module__ == "unittest.mock" or is_project(kind.__module__)


def _lru_results(cached: Any) -> list[Any] | None:
    """Return the results in an `lru_cache`; None if this Python version does not expose them."""
    if sys.implementation.name != "cpython":
        return None
    if not cached.cache_info().currsize:
        return []
    own, wrapped = _instance_dict(cached), cached.__wrapped__
    held = [
        one
        for one in gc.get_referents(cached)
        if one is not own and one is not wrapped and not isinstance(one, type)
    ]
    # An unbounded cache stores key and result in a dict; a bounded cache exposes them directly.
    if cached.cache_parameters()["maxsize"] is None:
        tables = [one for one in held if type(one) is dict]
        return [result for table in tables for result in table.values()]
    return [
        one
        for one in held
        if type(one) is not object
        and type(one).__name__ != "_lru_list_elem"
        and not (type(one) is dict and one and _are_links(one.values()))
    ]


def _are_links(values: Iterable[Any]) -> bool:
    return all(type(one).__name__ == "_lru_list_elem" for one in values)
