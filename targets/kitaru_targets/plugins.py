"""Find targets of other distributions. A target is imported only if the user names it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kitaru.errors import EnvironmentFailure, UsageError
from kitaru.wire.structs import Struct
from kitaru_targets.base import Target

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "kitaru.targets"


class Plugin(Struct):
    """A target of another distribution that has not been imported."""

    name: str
    distribution: str
    version: str
    point: EntryPoint


def installed() -> tuple[Plugin, ...]:
    """Return the targets of other distributions from their metadata, without an import.

    >>> [plugin.name for plugin in installed()]
    ['shell']
    """
    # A command for one of Kitaru's own targets need not import it.
    from importlib.metadata import entry_points

    found = {
        (p.name, p.distribution, p.version): p for p in map(_plugin, entry_points(group=GROUP))
    }
    return tuple(found[key] for key in sorted(found))


def load(found: Sequence[Plugin]) -> Target:
    """Import the target of the only matching plug-in.

    Raises:
        UsageError: there are several plug-ins.
        EnvironmentFailure: it cannot be imported, or is not a target of this name.
    """
    plugin, *others = found
    if others:
        raise UsageError(
            f"The target {plugin.name!r} is brought by {_listed(found)}",
            help="uninstall all of them but one",
        )
    try:
        target = plugin.point.load()
    except Exception as error:
        raise _broken(plugin, f"it raises {type(error).__name__}: {error}") from error
    if not isinstance(target, Target):
        raise _broken(plugin, f"{plugin.point.value} is no kitaru_targets.base.Target")
    if not target.name == target.profile.name == plugin.name:
        raise _broken(plugin, f"its target is called {target.name!r}")
    return target


def _plugin(point: EntryPoint) -> Plugin:
    origin = point.dist
    name, version = (origin.name, origin.version) if origin else ("an unnamed distribution", "")
    return Plugin(point.name, name, version, point)


def _broken(plugin: Plugin, why: str) -> EnvironmentFailure:
    return EnvironmentFailure(
        f"The target {plugin.name!r} of {_listed([plugin])} cannot be used: {why}",
        help=f"pip install --upgrade {plugin.distribution}, or uninstall it",
    )


def _listed(found: Sequence[Plugin]) -> str:
    return ", ".join(f"{one.distribution} {one.version}".rstrip() for one in found)
