"""Parse a DAG with Airflow itself, as its DAG processor does."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
os.environ.setdefault("AIRFLOW__CORE__UNIT_TEST_MODE", "True")


def problems(path: Path) -> Iterator[str]:
    """Yield what Airflow says of the DAG in a file; its module is beside the file."""
    try:
        found = dag(path)
        import_module("airflow.serialization.serialized_objects").DagSerialization.to_dict(found)
    except ValueError as error:
        yield str(error)


def dag(path: Path) -> Any:
    """Return the DAG in a file. Raise ValueError with what Airflow says without one."""
    # Airflow puts the folder of the DAGs on the path, for the modules in it.
    folder = str(path.parent)
    sys.path[:] = [folder, *(entry for entry in sys.path if entry != folder)]
    bag = import_module("airflow.dag_processing.dagbag").DagBag(str(path))
    if bag.import_errors or len(bag.dags) != 1:
        raise ValueError("\n".join(bag.import_errors.values()) or "no DAG")
    (found,) = bag.dags.values()
    return found
