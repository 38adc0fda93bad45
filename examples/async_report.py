"""Write the sections of a report concurrently with plain asyncio: `gather`, a task group, a wait.

Locally, all calls run on one event loop. In a pipeline, each call of the `gather` and of the task
group runs in a container of its own, and the wait releases the compute.
"""

import asyncio

from kitaru import aio, checkpoint, flow


@checkpoint
async def research(topic: str) -> str:
    await asyncio.sleep(0)
    return f"facts about {topic}"


@checkpoint(retries=1)
async def write(title: str, notes: str) -> str:
    await asyncio.sleep(0)
    return f"{title}: {notes}"


@checkpoint
def publish(sections: list[str]) -> str:
    return "; ".join(sections)


async def introduction(topic: str) -> str:
    notes = await research(f"the history of {topic}")
    return await write("Introduction", notes)


@flow
async def report(topics: str = "owls,kayaks") -> str:
    names = topics.split(",")
    notes = await asyncio.gather(*[research(name) for name in names])
    opening = await introduction(names[0])
    async with asyncio.TaskGroup() as group:
        first = group.create_task(write("Part 1", notes[0]))
        last = group.create_task(write("Part 2", notes[-1]))
    sections = [opening, first.result(), last.result()]
    if not await aio.wait(name="approve", question="Publish the report?"):
        return "rejected"
    return publish(sections)
