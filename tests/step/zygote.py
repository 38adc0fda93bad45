"""Runs steps and code in processes forked from one that has imported Kitaru: real, started fast.

Reads a request per line: the folder, where the log goes, what to kill it at, and the arguments of a
step or Python code.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import traceback

from kitaru.runtime.__main__ import main
from tests.step.killer import arm

# What steps and flows import when they run: imported once, for all that are forked.
for name in (
    *("asyncio", "importlib.metadata", "symtable", "kitaru.aio", "kitaru.checkpoints"),
    *("kitaru.client", "kitaru.flows", "kitaru.memory", "kitaru.primitives"),
    *("kitaru.runtime.engine.awaited_calls", "kitaru.runtime.engine.body_loop"),
    *("kitaru.runtime.engine.child_calls", "kitaru.runtime.engine.questions"),
    *("kitaru.runtime.steps.blocks", "kitaru.stores.sqlite", "kitaru.wire.definitions"),
):
    importlib.import_module(name)
gc.freeze()

for line in sys.stdin:
    folder, log, kill, arguments = json.loads(line)
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        arm(kill)
        code = 1
        try:
            if isinstance(arguments, str):
                sys.path.insert(0, folder)
                exec(arguments, {"__name__": "__main__"})
                code = 0
            else:
                code = main(arguments)
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        except Exception:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
    sys.stdout.flush()
