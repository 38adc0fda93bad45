"""A folder for the temporary files of a test run: in memory, where creating files takes no disk.

Each step of a dry run unpacks a bundle of more than 200 files. On a disk, creating and removing
them took half of the time of such tests. `ON_DISK` is for tests of what a disk stores.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

_MEMORY = Path("/dev/shm")
_PREFIX = "kitaru-tests-"
# A run of the whole suite contains less at a time. The 64 MiB of many containers are too few.
_NEEDED = 2 * 2**30
# Where failed or killed runs left files, those of the last hour stay for inspection.
_STAYS = 3600.0
# The default folder; the other processes of a run inherit it.
ON_DISK = os.environ.setdefault("TESTS_ON_DISK", tempfile.gettempdir())


def use_memory() -> Path | None:
    """Create the temporary files of this process and those that it starts in memory.

    Return the new folder, or None if TMPDIR is set already or there is too little memory.
    """
    if "TMPDIR" in os.environ or not _MEMORY.is_dir():
        return None
    _remove_old()
    if shutil.disk_usage(_MEMORY).free < _NEEDED:
        return None
    folder = tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=_MEMORY)
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    return Path(folder)


def _remove_old() -> None:
    for folder in _MEMORY.glob(f"{_PREFIX}*"):
        process = folder.name.removeprefix(_PREFIX).partition("-")[0]
        is_old = time.time() - folder.stat().st_mtime > _STAYS
        if is_old and not Path("/proc", process).exists():
            shutil.rmtree(folder, ignore_errors=True)
