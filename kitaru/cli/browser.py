"""Show the page of an execution in a browser, from a service that runs or from this process."""

from __future__ import annotations

import json
import os
import sys
import urllib.request
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from typing import TYPE_CHECKING

import click

from kitaru.cli.output import Output
from kitaru.cli.service import TOKEN, needs_server

with needs_server():
    from kitaru.server.serving import Service, serving_beside

if TYPE_CHECKING:
    from kitaru.stores.base import Store

# Where `kitaru serve` listens if no option says otherwise.
RUNNING = "http://127.0.0.1:8088"
_SECONDS = 5.0
_MOST_BYTES = 1_000_000


@contextmanager
def open_page(store: Store, exec_id: str, output: Output) -> Iterator[None]:
    """Print the link to an execution's page, and open it in a graphical browser.

    A service on port 8088 that knows the execution is used, if it needs no token. Otherwise this
    process serves the store while the block runs, and on a terminal until a key is pressed.
    """
    if is_served(RUNNING, exec_id):
        _open(RUNNING, exec_id, output)
        yield
        return
    with serving_beside(store, Service(port=0, token=os.environ.get(TOKEN) or None)) as url:
        _open(url, exec_id, output)
        yield
        if output.interactive:
            click.pause(
                f"The page is served until a key is pressed: {_page(url, exec_id)}", err=True
            )


def is_served(url: str, exec_id: str) -> bool:
    """Return whether a service knows an execution, and so serves its store.

    Ids of executions are random. Another program on the port does not know it.
    """
    # Not with a token, which another program on the port could read. Not through a proxy: the
    # address is on this machine.
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(
            f"{url}/api/v1/executions/{exec_id}?limit=1", timeout=_SECONDS
        ) as response:
            found = json.loads(response.read(_MOST_BYTES))
    except (OSError, ValueError, HTTPException):
        return False
    return isinstance(found, dict) and found.get("exec_id") == exec_id


def _page(url: str, exec_id: str) -> str:
    return f"{url}/executions/{exec_id}"


def _open(url: str, exec_id: str, output: Output) -> None:
    page = _page(url, exec_id)
    output.note(f"page     {page}")
    # Without a screen, a text browser would block the terminal.
    graphical = sys.platform == "darwin" or any(
        os.environ.get(name) for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY")
    )
    if graphical:
        try:
            webbrowser.open(page)
        except webbrowser.Error:
            output.note("no browser was found: open the page yourself")
