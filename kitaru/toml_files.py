"""Locate and read configuration files."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from kitaru.errors import UsageError
from kitaru.settings import FALSE
from kitaru.wire import disk


def project_file(start: Path | None = None) -> Path | None:
    """Return the nearest pyproject.toml at or above `start` (default: the working directory)."""
    directory = disk.resolved(start or Path.cwd())
    for candidate in (directory, *directory.parents):
        if disk.is_file(candidate / "pyproject.toml"):
            return candidate / "pyproject.toml"
    return None


def user_file() -> Path:
    """Return where the user's own configuration is looked for."""
    home = os.environ.get("XDG_CONFIG_HOME") or disk.home() / ".config"
    return Path(home) / "kitaru" / "config.toml"


def table(path: Path, *names: str) -> dict[str, Any]:
    """Return a table of a TOML file by its path of names, `{}` if there is no file or table.

    Raises UsageError when the file is no TOML, or something else stands there.
    """
    found: Any = _read(path)
    for place, name in enumerate(names):
        found = found.get(name, {})
        if not isinstance(found, dict):
            raise UsageError(f"{path}: [{'.'.join(names[: place + 1])}] must be a table.")
    return dict(found)


def anchored(settings: dict[str, Any], directory: Path) -> dict[str, Any]:
    """Return settings in which a relative file means relative to the file that they stand in."""
    moved = dict(settings)
    store, requirements = settings.get("store"), settings.get("requirements")
    cache = settings.get("compile_cache")
    if isinstance(store, str) and store.startswith("sqlite:"):
        path = store.removeprefix("sqlite:")
        tail = "/" if path.endswith("/") else ""
        moved["store"] = f"sqlite:{directory / path}{tail}"
    if isinstance(requirements, str):
        moved["requirements"] = str(directory / requirements)
    if isinstance(cache, str) and cache not in FALSE and not cache.startswith("~"):
        moved["compile_cache"] = str(directory / cache)
    return moved


def _read(path: Path) -> dict[str, Any]:
    try:
        data = disk.read_bytes(path)
    except OSError:
        return {}
    return _parsed(path, data)


@lru_cache(maxsize=8)
def _parsed(path: Path, data: bytes) -> dict[str, Any]:
    # Imported late: it would add half a millisecond to `import kitaru`.
    import tomllib

    try:
        return tomllib.loads(disk.decoded(data))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from None


def write(path: Path, names: tuple[str, ...], value: Any) -> Path:
    """Set the entry of a TOML file at a path of names, None to delete it; all else stays as it is.

    Raises UsageError when the file is not valid TOML.
    """
    # Preserves the comments and the order of a file that people edit.
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    *tables, last = names
    try:
        document = tomlkit.parse(disk.read_text(path) if disk.is_file(path) else "")
    except (TOMLKitError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from None
    place: Any = document
    for name in tables:
        place = place.setdefault(name, tomlkit.table(is_super_table=True))
    if value is None:
        place.pop(last, None)
    else:
        place[last] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    staged.write_text(tomlkit.dumps(document), encoding="utf-8")
    staged.replace(path)
    return path
