"""Every `curl` of the documentation works as it is printed there, in the order of the page."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from kitaru import KitaruClient
from kitaru.stores.base import Store

from .conftest import begin, serving
from .test_changes import SOURCE

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "serving.md"
COMMANDS = [
    command
    for block in re.findall(r"^```bash\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
    for command in re.findall(r"^curl (?:.*\\\n)*.*", block, re.M)
]


def prepare(store: Store, folder: Path) -> dict[str, str]:
    """Create what the page is about, and return the values of its variables."""
    begin(store, "review", "waits-1", "cats")
    begin(store, "review", "waits-2", "dogs")
    begin(store, "review", "waits-3", "owls")
    begin(store, "plain", "done-1", "owls")
    (folder / "review.py").write_text(SOURCE)
    client = KitaruClient(store)
    client.deployments.deploy(str(folder / "review.py"), "local")
    started = [client.deployments.invoke("review", {"topic": t}) for t in ("bad", "owls")]
    for handle in started:
        assert handle.settle(240) == "waiting"
    failed, answered = (handle.exec_id for handle in started)
    assert client.executions.input(failed, True).settle(240) == "failed"
    client.executions.input(answered, True, submit=False)
    return {
        "EXEC": "waits-1", "OTHER": "waits-2", "CANCELLED": "waits-3", "DONE": "done-1",
        "FAILED": failed, "ANSWERED": answered, "WAIT": "ok", "INVOCATION": "draft",
        "FLOW": "review",
    }  # fmt: skip


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_commands_of_the_page_succeed(store: Store, tmp_path: Path) -> None:
    values = prepare(store, tmp_path)
    assert len(COMMANDS) > 30
    with serving(store, token="t-1") as service:
        environment = {**os.environ, **values, "API": f"{service.url}/api/v1"}
        for command in COMMANDS:
            line = command.replace(
                "curl ", "curl --fail-with-body -H 'Authorization: Bearer t-1' ", 1
            )
            done = subprocess.run(
                ["bash", "-c", line], env=environment, cwd=tmp_path, text=True,
                capture_output=True, check=False,
            )  # fmt: skip
            assert done.returncode == 0, command + done.stdout + done.stderr
            assert done.stdout or "-o value.json" in command or "DELETE" in command
