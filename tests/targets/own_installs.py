"""Write `own_installs.json`: what Kitaru adds to containers, locked by uv, with hashes.

After a change of a pin in `kitaru_targets/delivery.py`:

    .venv/bin/python -m tests.targets.own_installs
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from kitaru_compiler.frontend.lock_files import Need, read_lock
from kitaru_compiler.frontend.schemas import REQUIREMENT
from kitaru_targets import delivery

FILE = Path(delivery.__file__).with_name("own_installs.json")
PROJECT = '[project]\nname = "steps"\nversion = "0"\nrequires-python = ">=3.11"\n'


def own_pins() -> list[str]:
    """Return each pin that Kitaru itself adds to a flow's requirements."""
    keepers = [pin for pins in delivery.KEEPERS.values() for pin in pins]
    single = [delivery.OBSTORE, delivery.LITELLM, REQUIREMENT]
    return sorted([*single, *delivery.OPENAI, *delivery.OPENTELEMETRY, *keepers])


def rows_of(table: dict[str, Any]) -> list[str]:
    return [f"  {json.dumps(name)}: {json.dumps(table[name])}" for name in sorted(table)]


def write() -> None:
    """Lock the pins and write the file anew."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "pyproject.toml").write_text(
            f"{PROJECT}dependencies = {json.dumps(own_pins())}\n"
        )
        subprocess.run(["uv", "lock", "--directory", made], check=True)
        lock = read_lock(folder / "uv.lock")
    roots: dict[str, list[str]] = {}
    distributions: dict[str, list[Any]] = {}
    for pin in own_pins():
        closure = lock.closure([Need(pin.partition("==")[0])])
        roots[pin] = sorted({one.name for one in closure})
        for one in closure:
            hashes = [digest.removeprefix("sha256:") for digest in one.hashes]
            rows = distributions.setdefault(one.name, [])
            if [one.version, one.marker, hashes] not in rows:
                rows.append([one.version, one.marker, hashes])
    lines, named = rows_of(distributions), rows_of(roots)
    FILE.write_text(
        '{\n "roots": {\n' + ",\n".join(named)
        + '\n },\n "distributions": {\n' + ",\n".join(lines) + "\n }\n}\n"
    )  # fmt: skip


if __name__ == "__main__":
    write()
