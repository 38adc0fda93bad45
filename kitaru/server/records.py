"""Structured logs of the service: one JSON line per request or event, on stderr."""

from __future__ import annotations

import json
import logging
import traceback
from typing import Any

from kitaru.wire.redaction import redacted
from kitaru.wire.times import now

logger = logging.getLogger("kitaru.server")
FIELDS = "kitaru_fields"


class JSONLines(logging.Formatter):
    """Formats each record as one line of JSON. Secrets are hidden."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        line: dict[str, Any] = {
            "at": now(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, FIELDS, {}),
        }
        if record.exc_info and record.exc_info[1] is not None:
            line["traceback"] = "".join(traceback.format_exception(record.exc_info[1]))
        return redacted(json.dumps(line))


def log(level: int, message: str, error: BaseException | None = None, **fields: Any) -> None:
    """Log an event with its fields."""
    logger.log(level, message, extra={FIELDS: fields}, exc_info=error)


def configuration() -> dict[str, Any]:
    """Return the logging configuration of the process, for `logging.config`."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"lines": {"()": JSONLines}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "lines"}},
        "loggers": {
            name: {"handlers": ["stderr"], "level": level, "propagate": False}
            for name, level in (("kitaru.server", "INFO"), ("uvicorn", "WARNING"))
        },
    }
