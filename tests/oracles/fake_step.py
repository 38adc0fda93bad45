"""Stand-in for the step runtime: the answers of a step on a scripted path.

usage: fake_step.py step --step NAME … --next-file FILE --status-file FILE [--input NAME=TEXT …]

PLAYED_PATH names a JSON file with the steps on the path and how it ends; what ran is appended to
the file beside it.
"""

import json
import os
import sys
from pathlib import Path

arguments = sys.argv[2:]
given = {n: v for n, v in zip(arguments[::2], arguments[1::2], strict=True) if n != "--input"}
inputs = [v for n, v in zip(arguments[::2], arguments[1::2], strict=True) if n == "--input"]
played = json.loads(Path(os.environ["PLAYED_PATH"]).read_text())
step, path = given["--step"], played["path"]
if step in path:
    following = [*path[path.index(step) + 1 :], "end"][0]
    status = "go" if following != "end" else played["last"]
else:
    following, status = "end", "skip"
note = {"step": step, "run": given["--run"], "inputs": inputs, "hash": os.environ["PYTHONHASHSEED"]}
with Path(os.environ["PLAYED_PATH"] + ".log").open("a") as log:
    log.write(json.dumps({**note, "on": step in path}) + "\n")
for name, value in (("next", following), ("status", status)):
    file = Path(given[f"--{name}-file"])
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(value)
