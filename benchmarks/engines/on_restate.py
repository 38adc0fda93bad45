"""Restate: a handler of `ctx.run` steps, served by hypercorn, on the Restate server."""

import asyncio
import json
import os
import subprocess
import threading
import urllib.request

import restate
from hypercorn.asyncio import serve
from hypercorn.config import Config
from meter import COUNT, FOLDER, PHASE, end_here, free_port, measure, wait_for

SERVER = os.environ["RESTATE_SERVER"]
chain = restate.Service("chain")


def step(number: int) -> int:
    return number + 1


@chain.handler()
async def run(ctx: restate.Context, count: int) -> int:
    number = 0
    for _ in range(count):
        number = await ctx.run_typed("step", step, number=number)
    end_here(server.pid)
    return number


def ports() -> dict[str, int]:
    """The ports of this store's first run, which its server stores."""
    file = FOLDER / "ports.json"
    if not file.exists():
        made = {name: free_port() for name in ("service", "ingress", "admin", "node")}
        file.write_text(json.dumps(made))
    return json.loads(file.read_text())


def start_service(port: int) -> None:
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    app, never = restate.app([chain]), asyncio.Event()

    def work() -> None:
        asyncio.run(serve(app, config, shutdown_trigger=never.wait))

    threading.Thread(target=work, daemon=True).start()
    wait_for(port)


def start_server(at: dict[str, int]) -> subprocess.Popen:
    settings = {
        "RESTATE_BIND_ADDRESS": f"127.0.0.1:{at['node']}",
        "RESTATE_ADVERTISED_ADDRESS": f"http://127.0.0.1:{at['node']}",
        "RESTATE_INGRESS__BIND_ADDRESS": f"127.0.0.1:{at['ingress']}",
        "RESTATE_ADMIN__BIND_ADDRESS": f"127.0.0.1:{at['admin']}",
        "RESTATE_BASE_DIR": str(FOLDER / "restate"),
        "RESTATE_NODE_NAME": "bench",
        "RESTATE_DISABLE_TELEMETRY": "true",
    }
    log = (FOLDER / "server.log").open("w")
    server = subprocess.Popen([SERVER], env={**os.environ, **settings}, stdout=log, stderr=log)
    for name in ("admin", "ingress"):
        wait_for(at[name])
    return server


def post(url: str, body: object, **headers: str) -> object:
    headers["content-type"] = "application/json"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=300) as answer:
        return json.load(answer)


at = ports()
start_service(at["service"])
server = start_server(at)
call = f"http://127.0.0.1:{at['ingress']}/chain/run"
try:
    if PHASE != "resume":
        service = {"uri": f"http://127.0.0.1:{at['service']}"}
        post(f"http://127.0.0.1:{at['admin']}/deployments", service)
    # With the same key, the second call returns the result of the first call.
    measure(lambda: post(call, COUNT, **{"idempotency-key": "bench"}), server.pid)
finally:
    server.terminate()
    server.wait()
