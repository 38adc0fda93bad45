"""A conversation of the SDK in `kitaru.memory`."""

from __future__ import annotations

from typing import Any

from agents.memory import SessionABC, SessionSettings
from pydantic_core import to_jsonable_python

from kitaru import aio
from kitaru.errors import MemoryConflict


class KitaruSession(SessionABC):
    """Keeps the items of a conversation under one key of `kitaru.memory`.

    In a flow, each operation is a record: a resumed execution sees the items that it saw before,
    and adds none twice. Executions that add items at the same time lose none.

    Args:
        session_id: name of the conversation. The key is `session/NAME`.
        scope: scope of the memory, such as `namespace:support`. Default: the flow's. Outside of
            flows, the setting `memory_scope`.

    Example:
        session = KitaruSession("customer-7")
        result = await KitaruRunner.run(agent, "Where is my order?", session=session)
    """

    def __init__(self, session_id: str, *, scope: str | None = None) -> None:
        self.session_id = session_id
        self.session_settings = SessionSettings()
        self._key, self._scope = f"session/{session_id}", scope

    async def get_items(self, limit: int | None = None) -> list[Any]:
        """Return the items, oldest first; with a limit, the newest ones."""
        if limit is None:
            limit = self.session_settings.limit if self.session_settings is not None else None
        items = (await self._entry())[0]
        if limit is None:
            return items
        return items[-limit:] if limit > 0 else []

    async def add_items(self, items: list[Any]) -> None:
        """Append items."""
        added = to_jsonable_python(items)
        while added:
            before, version = await self._entry()
            if await self._written([*before, *added], version):
                return

    async def pop_item(self) -> Any:
        """Remove the newest item and return it; None without items."""
        while True:
            items, version = await self._entry()
            if not items:
                return None
            if await self._written(items[:-1], version):
                return items[-1]

    async def clear_session(self) -> None:
        """Remove all items."""
        await aio.memory.delete(self._key, scope=self._scope)

    async def _entry(self) -> tuple[list[Any], int]:
        found = await aio.memory.entry(self._key, scope=self._scope)
        return ([], 0) if found is None else (list(found.value), found.version)

    async def _written(self, items: list[Any], version: int) -> bool:
        """Write the items unless another execution has written a version since."""
        try:
            await aio.memory.set(self._key, items, expect=version, scope=self._scope)
        except MemoryConflict:
            return False
        return True
