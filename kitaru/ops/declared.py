"""What starts a flow by itself: schedule and events of the version with the tag `default`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kitaru.ops.schedules import declare_schedule
from kitaru.ops.triggers import declare_events

if TYPE_CHECKING:
    from kitaru.stores.base import Store


def declare(store: Store, flow: str) -> None:
    """Let a flow start by itself as the version with the tag `default` declares it.

    Called when that tag has moved. If it fails, or the process is killed, move the tag again.

    Raises:
        StateError: another schedule has the id of the flow's schedule.
    """
    declare_events(store, flow)
    declare_schedule(store, flow)
