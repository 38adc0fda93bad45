"""Start a run, by Kitaru and by hand: a process on this machine."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kitaru_targets.base import Submitted
from kitaru_targets.common import parameters

from kitaru.errors import EnvironmentFailure

from .script import INPUT

_OWN = {
    parameters.STORE: "KITARU_STORE",
    parameters.EXECUTION: "KITARU_EXECUTION",
    parameters.INPUTS: "KITARU_INPUTS",
}


def submit(document: str, parameters: Mapping[str, Any], options: Mapping[str, str]) -> Submitted:
    """Run the script to its end; raise EnvironmentFailure when it fails. There are no options."""
    run = secrets.token_hex(8)
    given = {**os.environ, **variables(parameters), "KITARU_RUN": run}
    done = subprocess.run(["sh", document], env=given, check=False)
    if done.returncode:
        raise EnvironmentFailure(
            f"{document} ended with code {done.returncode}",
            help=f"what it has done is recorded; run it again with KITARU_RUN={run}",
        )
    return Submitted(run, Path(document).resolve().as_uri())


def variables(given: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables that carry the parameters of a run."""
    return {_OWN.get(name, f"{INPUT}{name}"): _text(value) for name, value in given.items()}


def guide(values: Mapping[str, Any]) -> str:
    """Return DEPLOY.md."""
    needed = [f"{INPUT}{p['name']}=…" for p in values["parameters"] if p["default"] == "required"]
    store = [] if values["store"] else ["KITARU_STORE=…"]
    upload = f"kitaru store upload . --store {values['store'] or '…'}"
    run = " ".join([*needed, *store, "sh", values["document"]])
    return f"# Run `{values['flow']}` by a shell\n\n```\n{upload}\n{run}\n```\n"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
