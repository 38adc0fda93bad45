"""Temporal: a workflow of activities, or of local ones, on its development server with SQLite.

A resume after a crash waits for a lease first. The measurement covers fetching and replaying a
finished history.
"""

import asyncio
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

from meter import COUNT, FOLDER, PHASE, free_port, measure, wait_for
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import Replayer, Worker

LOCAL = sys.argv[4:] == ["local"]


@activity.defn
async def step(number: int) -> int:
    return number + 1


@workflow.defn(sandboxed=False)
class Chain:
    @workflow.run
    async def run(self, count: int, local: bool) -> int:
        execute = workflow.execute_local_activity if local else workflow.execute_activity
        number = 0
        for _ in range(count):
            number = await execute(step, number, start_to_close_timeout=timedelta(seconds=60))
        return number


def start_server() -> tuple[subprocess.Popen, int]:
    port = free_port()
    command = [str(Path(sys.executable).with_name("temporal")), "server", "start-dev", "--headless"]
    command += ["--port", str(port), "--db-filename", str(FOLDER / "temporal.db")]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(port)
    return server, port


async def connect(port: int) -> Client:
    for _ in range(100):
        try:
            return await Client.connect(f"127.0.0.1:{port}")
        except RuntimeError:
            await asyncio.sleep(0.2)
    raise SystemExit("the server does not answer")


async def run(client: Client) -> int:
    async with Worker(client, task_queue="bench", workflows=[Chain], activities=[step]):
        return await client.execute_workflow(
            Chain.run, args=[COUNT, LOCAL], id="bench", task_queue="bench"
        )


async def replay(client: Client) -> int:
    history = await client.get_workflow_handle("bench").fetch_history()
    await Replayer(workflows=[Chain]).replay_workflow(history)
    return COUNT


async def main(pid: int, port: int) -> None:
    client = await connect(port)
    loop = asyncio.get_running_loop()
    work = replay if PHASE == "resume" else run
    if PHASE != "resume":
        await settled(client)
    await asyncio.to_thread(
        measure, lambda: asyncio.run_coroutine_threadsafe(work(client), loop).result(), pid
    )


async def settled(client: Client) -> None:
    """Wait until the server has its namespace, some seconds after it starts to listen."""
    for _ in range(100):
        try:
            await client.count_workflows()
        except Exception:
            await asyncio.sleep(0.2)
        else:
            return


server, port = start_server()
try:
    asyncio.run(main(server.pid, port))
    # The server writes the data in its memory when it is terminated.
    time.sleep(0.5)
finally:
    server.terminate()
    server.wait()
