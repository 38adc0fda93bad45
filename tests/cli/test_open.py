"""`kitaru run --open`: the page of an execution, served while the command runs."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kitaru.stores import open_store
from tests.server.conftest import begin, httpx, serving

from . import flows
from .conftest import Kitaru
from .test_terminal import Terminal

is_served = pytest.importorskip("kitaru.cli.browser").is_served

SECONDS = 120


def page_in(text: str) -> tuple[str, str]:
    """Return the URL of the service and the execution of the link in an output."""
    found = re.search(r"page +(http://127\.0\.0\.1:\d+)/executions/(\S+)", text)
    assert found is not None, text
    return found[1], found[2]


@pytest.fixture
def terminal(kitaru: Kitaru, tmp_path: Path) -> Iterator[Terminal]:
    browser = kitaru.write("browser", f'#!/bin/sh\necho "$1" > {tmp_path}/opened\n')
    browser.chmod(0o755)
    kitaru.environ["BROWSER"] = f"{browser} %s"
    kitaru.write("review.py", flows.REVIEW)
    started = Terminal(kitaru, "run", "review.py", "-i", "topic=kayaks", "--open")
    yield started
    started.close()


def test_an_answer_on_the_page_continues_the_run(terminal: Terminal, tmp_path: Path) -> None:
    url, exec_id = page_in(terminal.read_until("Approve draft? [y/n]"))
    page = f"{url}/executions/{exec_id}"
    assert (tmp_path / "opened").read_text().strip() == page
    assert "research" in httpx.get(page, timeout=SECONDS).text
    answer = f"{url}/api/v1/executions/{exec_id}/waits/approve/answer"
    httpx.post(answer, json={"value": True}, timeout=SECONDS).raise_for_status()
    terminal.read_until("served until a key is pressed")
    assert "completed" in httpx.get(page, timeout=SECONDS).text
    terminal.type("x")
    assert terminal.end() == 0
    with pytest.raises(httpx.TransportError):
        httpx.get(page, timeout=SECONDS)


def test_ctrl_c_ends_the_service_with_the_run(terminal: Terminal) -> None:
    url, _ = page_in(terminal.read_until("Approve draft? [y/n]"))
    terminal.type("\x03")
    assert terminal.end() == 130
    with pytest.raises(httpx.TransportError):
        httpx.get(url, timeout=SECONDS)


def test_without_a_screen_the_link_is_printed(kitaru: Kitaru) -> None:
    kitaru.write("review.py", flows.REVIEW)
    screen = {"BROWSER": "", "DISPLAY": "", "WAYLAND_DISPLAY": ""}
    done = kitaru("run", "review.py", "-i", "topic=owls", "--open", "--json", **screen)
    url, exec_id = page_in(done.err)
    assert done.document["exec_id"] == exec_id
    with pytest.raises(httpx.TransportError):
        httpx.get(url, timeout=SECONDS)


def test_a_service_with_the_store_is_found(tmp_path: Path) -> None:
    store = open_store(f"sqlite:{tmp_path / 'kitaru.db'}")
    begin(store, "review", "here-1", "cats")
    with serving(store) as running:
        assert is_served(running.url, "here-1")
        # The store of another project.
        assert not is_served(running.url, "elsewhere-1")
    assert not is_served(running.url, "here-1")
    with serving(store, token="sesame") as running:
        assert not is_served(running.url, "here-1")


def test_another_program_on_the_port_is_no_service() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"220 mail.example.com ESMTP\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        assert not is_served(f"http://127.0.0.1:{listening.getsockname()[1]}", "here-1")
        thread.join(SECONDS)
