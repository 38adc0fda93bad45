"""Decides where in a store everything lies: one function per kind of key."""

from __future__ import annotations

from kitaru.wire.times import invert

INDEX = "index/"


def home(exec_id: str) -> str:
    """Return what the keys of everything that belongs to an execution begin with."""
    return f"x/{exec_id}/"


def execution(exec_id: str) -> str:
    return f"x/{exec_id}/execution"


def states(exec_id: str) -> str:
    return f"x/{exec_id}/state/"


def state(exec_id: str, number: int) -> str:
    return f"x/{exec_id}/state/{number:08d}"


def end(exec_id: str) -> str:
    return f"x/{exec_id}/end"


def invocations(exec_id: str) -> str:
    return f"x/{exec_id}/inv/"


def invocation(exec_id: str, id: str) -> str:
    return f"x/{exec_id}/inv/{id}"


def all_attempts(exec_id: str) -> str:
    return f"x/{exec_id}/attempt/"


def attempts(exec_id: str, id: str) -> str:
    return f"x/{exec_id}/attempt/{id}/"


def attempt(exec_id: str, id: str, number: int) -> str:
    return f"x/{exec_id}/attempt/{id}/{number:06d}"


def waits(exec_id: str) -> str:
    return f"x/{exec_id}/wait/"


def wait_request(exec_id: str, name: str) -> str:
    return f"x/{exec_id}/wait/{name}/request"


def wait_answer(exec_id: str, name: str) -> str:
    return f"x/{exec_id}/wait/{name}/answer"


def exits(exec_id: str) -> str:
    return f"x/{exec_id}/exit/"


def exit(exec_id: str, block: str) -> str:
    return f"x/{exec_id}/exit/{block}"


def frames(exec_id: str) -> str:
    return f"x/{exec_id}/frame/"


def frame(exec_id: str, block: str) -> str:
    return f"x/{exec_id}/frame/{block}"


def blob(home: str, digest: str) -> str:
    """Return where a large value lies whose owner's keys begin with `home`."""
    return f"{home}blob/{digest.removeprefix('sha256:')}"


def bundle(digest: str) -> str:
    return f"bundle/{digest.removeprefix('sha256:')}"


def inputs(digest: str) -> str:
    return f"inputs/{digest.removeprefix('sha256:')}"


def cache(digest: str) -> str:
    return f"cache/{digest.removeprefix('sha256:')}"


def index(started_at: str, exec_id: str, number: int, status: str, flow: str) -> str:
    """Return the listing hint of one state: all states of an execution lie together, newest start
    first, so that a page of executions is one range scan."""
    return f"{INDEX}{invert(started_at)}/{exec_id}/{number:08d}/{status}/{flow}"
