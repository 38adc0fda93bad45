"""LangGraph: an entrypoint of tasks with SqliteSaver, which writes while later tasks run."""

import sqlite3

from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.func import entrypoint, task
from meter import COUNT, FOLDER, PHASE, end_here, measure

CONFIG = {"configurable": {"thread_id": "bench"}, "recursion_limit": COUNT + 10}
saver = SqliteSaver(sqlite3.connect(FOLDER / "langgraph.db", check_same_thread=False))
saver.setup()


@task
def step(number: int) -> int:
    return number + 1


@entrypoint(checkpointer=saver)
def chain(count: int) -> int:
    number = 0
    for _ in range(count):
        number = step(number).result()
    end_here()
    return number


given = None if PHASE == "resume" else COUNT
measure(lambda: chain.invoke(given, CONFIG, durability="sync"))
