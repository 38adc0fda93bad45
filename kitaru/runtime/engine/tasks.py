"""Places of the tasks of an event loop.

A task factory names each task that the body of a flow creates: `worker`, `worker_2`, in order of
creation among the tasks of one parent. It works for `create_task`, `TaskGroup`, `gather`,
`as_completed`, `wait` and the task groups of anyio. No function of asyncio is replaced.

`as_completed` creates the tasks in the order of a set, which differs in each process. The tasks of
a list are therefore named in the order of the list.

Python 3.11 creates a task in `wait_for`, and 3.12 does not. Such a task has the place of its
caller. Tasks inside a checkpoint have no place: a replay does not run the checkpoint.

A loop that Kitaru did not create (`asyncio.run` in a flow that is not async, the loop of a
framework) gets the factory at the first durable call on it.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import re
import sys
from collections.abc import Callable, Coroutine, Sequence
from types import CodeType, CoroutineType, FrameType
from typing import Any
from weakref import WeakKeyDictionary

from kitaru.runtime.engine.cancellation import Task
from kitaru.runtime.engine.futures import Future
from kitaru.runtime.engine.places import Numbering, Place, inherited, numbering

# Coroutines of Kitaru around a durable call: their tasks have the place of the caller.
transparent: set[CodeType] = set()

_Places = WeakKeyDictionary[asyncio.Task[Any], Place]
# The places of a loop's tasks, in order of creation. Only the thread of the loop uses them.
_places: WeakKeyDictionary[asyncio.AbstractEventLoop, _Places] = WeakKeyDictionary()
_NUMBERED = re.compile(r"Task-(\d+)", re.ASCII)
_NO_NAME = re.compile(r"[^A-Za-z0-9_-]+", re.ASCII)
_MAX_FRAMES = 6
_CALLERS = {"wait_for", "as_completed", "_AsCompletedIterator.__init__"}
# What the parameter of `as_completed` is called, in Python 3.11 and since 3.13.
_TOGETHER = ("fs", "aws")
# The places of coroutines that `as_completed` is about to turn into tasks.
_reserved: WeakKeyDictionary[Any, Place] = WeakKeyDictionary()


def place_in(loop: asyncio.AbstractEventLoop) -> Place:
    """Return the place of the current task of a loop that runs on this thread."""
    places = _places.get(loop)
    if places is None:
        places = install(loop)
    task = asyncio.current_task(loop)
    # A callback, such as one of `call_soon`, is in no task.
    found = None if task is None else places.get(task)
    return found or inherited.get()


def put(task: asyncio.Task[Any], place: Place | None) -> Place | None:
    """Change the place of a task, and return the one before. None: that of its context."""
    loop = task.get_loop()
    places = _places.get(loop)
    if places is None:
        places = install(loop)
    before = places.get(task)
    if place is not None:
        # The order of the tasks is that of their creation, which this does not change.
        places[task] = place
    elif before is not None:
        del places[task]
    return before


def install(loop: asyncio.AbstractEventLoop) -> _Places:
    """Give a place to each new task of a loop, and to the existing ones in order of age."""
    places = _places[loop] = WeakKeyDictionary()
    loop.set_task_factory(_factory(places, loop.get_task_factory()))
    here, body = inherited.get(), numbering.get()
    for count, task in enumerate(sorted(asyncio.all_tasks(loop), key=_age)):
        is_child = count > 0 and body is not None and not here.is_shared
        places[task] = _child(body, here, task.get_coro()) if is_child else here
    return places


def left_behind(loop: asyncio.AbstractEventLoop) -> list[asyncio.Task[Any]]:
    """Return the other unfinished tasks of a loop, in the order in which they were created."""
    here = asyncio.current_task(loop)
    return [task for task in list(_places[loop]) if task is not here and not task.done()]


def placed(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function`, for a thread, so that its durable calls have a place of their own.

    A checkpoint that is itself the function gets the id that a call here would get.
    """
    body = numbering.get()
    if body is None:
        return function
    here = place_in(asyncio.get_running_loop())
    target, contexts = _target(function)
    spec = vars(type(target)).get("spec") and target.spec
    if here.is_shared:
        place = here
    elif spec:
        place = Place(here.prefix, body.reserve(spec, here.prefix))
    else:
        name = getattr(target, "__name__", "") or type(target).__name__
        place = _numbered(body, here, name)
    own = contextvars.copy_context()
    for context in (own, *contexts):
        context.run(inherited.set, place)
    return functools.partial(own.run, function)


def _target(function: Any) -> tuple[Any, list[contextvars.Context]]:
    """Return the function inside partial applications, and the contexts that these run it in.

    `asyncio.to_thread(f)` passes `partial(copy_context().run, f)`.
    """
    contexts = []
    while isinstance(function, functools.partial):
        owner = getattr(function.func, "__self__", None)
        if isinstance(owner, contextvars.Context) and function.args:
            contexts.append(owner)
            function = function.args[0]
        else:
            function = function.func
    return function, contexts


def _age(task: asyncio.Task[Any]) -> tuple[int, str]:
    numbered = _NUMBERED.fullmatch(task.get_name())
    return (int(numbered[1]) if numbered else sys.maxsize, task.get_name())


def _factory(places: _Places, before: Any) -> Callable[..., Any]:
    make = before or _new_task

    def create(loop: Any, coro: Any, **options: Any) -> Any:
        place = _place_of_new(loop, coro)
        if place is None:
            return make(loop, coro, **options)
        if options.get("context") is None:
            # Threads that the task starts copy this context. A context of the caller's own is left
            # as it is.
            options["context"] = contextvars.copy_context()
            options["context"].run(inherited.set, place)
        task = make(loop, coro, **options)
        places[task] = place
        return task

    return create


def _new_task(loop: Any, coro: Any, **options: Any) -> asyncio.Task[Any]:
    return Task(coro, loop=loop, **options)


def _place_of_new(loop: Any, coro: Any) -> Place | None:
    body = numbering.get()
    if body is None:
        return None
    running = asyncio._get_running_loop() is loop
    if not running:
        return inherited.get()
    # Other awaitables, such as that of `__anext__`, cannot be referred to weakly.
    is_coroutine = isinstance(coro, CoroutineType)
    if is_coroutine and (found := _reserved.pop(coro, None)) is not None:
        return found
    here = place_in(loop)
    if here.is_shared:
        return here
    caller = _caller_in_asyncio()
    if caller is not None and caller.f_code.co_name == "wait_for":
        return here
    if caller is not None and is_coroutine:
        for one in _together(caller, coro):
            _reserved[one] = _place_of(body, here, one)
        if (found := _reserved.pop(coro, None)) is not None:
            return found
    return _place_of(body, here, coro)


def _place_of(body: Numbering, here: Place, coro: Any) -> Place:
    if getattr(coro, "cr_code", None) in transparent or _wraps_future(coro):
        return here
    return _child(body, here, coro)


def _wraps_future(coro: Any) -> bool:
    """Return whether asyncio made a coroutine to await a future of Kitaru, as `gather` does."""
    if getattr(coro, "__name__", "") != "_wrap_awaitable":
        return False
    # Up to Python 3.11 it is a generator.
    frame = getattr(coro, "cr_frame", None) or getattr(coro, "gi_frame", None)
    return frame is not None and isinstance(frame.f_locals.get("awaitable"), Future)


def _together(caller: FrameType, coro: Any) -> list[Any]:
    """Return the coroutines in the list that `as_completed` was called with, if `coro` is one."""
    if getattr(coro, "__name__", "") == "_wrap_awaitable":
        # A coroutine of asyncio, which awaits a future in the list.
        return []
    passed = next(caller.f_locals[name] for name in _TOGETHER if name in caller.f_locals)
    if not isinstance(passed, Sequence):
        # A generator is used up by now, and the order of its coroutines is lost.
        return []
    found = [one for one in passed if isinstance(one, CoroutineType)]
    return found if any(one is coro for one in found) else []


def _caller_in_asyncio() -> FrameType | None:
    """Return the frame of `wait_for` or `as_completed` that creates a task, None without one."""
    frame: FrameType | None = sys._getframe(3)
    for _ in range(_MAX_FRAMES):
        if frame is None:
            return None
        code = frame.f_code
        if code.co_qualname in _CALLERS and code.co_filename == asyncio.tasks.__file__:
            return frame
        frame = frame.f_back
    return None


def _child(body: Numbering | None, parent: Place, coro: Any) -> Place:
    assert body is not None, "only a body creates children"
    inner = _unwrapped(coro)
    name = getattr(inner, "__qualname__", "") or type(inner).__qualname__
    return _numbered(body, parent, name.rpartition(".")[2])


def _unwrapped(coro: Any) -> Any:
    """Return the coroutine that a task of anyio runs inside a coroutine of its own."""
    frame = getattr(coro, "cr_frame", None)
    if frame is None or "anyio" not in frame.f_code.co_filename:
        return coro
    found = [*frame.f_locals.values(), getattr(frame.f_locals.get("self"), "_coro", None)]
    return next((one for one in found if isinstance(one, Coroutine)), coro)


def _numbered(body: Numbering, parent: Place, name: str) -> Place:
    part = body.take_part(parent.prefix, _NO_NAME.sub("", name) or "task")
    return Place(f"{parent.prefix}{part}.")
