"""Size limits of what Kitaru stores, in bytes unless a name states another unit."""

INLINE_VALUE_BYTES = 64 * 1024
"""Maximum length of a document that is stored inside its record; a longer one is a blob."""

MAX_DOCUMENT_BYTES = 512 * 1024 * 1024
"""Maximum length of the document of a value, without its parts; SQLite allows 1,000,000,000."""

PART_BYTES = 256 * 1024
"""Minimum length of bytes and strings that are stored as parts, outside of their document."""

CHUNK_BYTES = 8 * 1024 * 1024
"""Maximum length of an object that contains a piece of a part."""

MAX_VALUE_BYTES = 8 * 1024 * 1024 * 1024
"""Maximum size of a value, parts included."""

MAX_RECORD_BYTES = 16 * 1024 * 1024
"""Maximum size of a record: a checkpoint's value, notes and model calls together."""

MAX_ANSWER_DEPTH = 200
"""Maximum nesting depth of the answer to a wait: JSON parsers are recursive."""

MAX_SIGNAL_BYTES = 256 * 1024
"""Maximum length of a signal, as JSON."""

MAX_EVENT_BYTES = 256 * 1024
"""Maximum length of the data of an event, as JSON."""

MAX_EVENT_ID_CHARACTERS = 200
"""Maximum length of the id of an event, which its sender chooses."""

DEFAULT_PARALLEL = 8
"""Default number of submitted calls that run concurrently, on threads or as nodes."""

MAX_NAME_CHARACTERS = 100
"""Maximum length of the name of a flow, checkpoint, wait or artifact."""

MAX_MEMORY_KEY_CHARACTERS = 100
"""Maximum length of a key of a memory; its escaped form still fits into a store's key."""

MAX_KEY_CHARACTERS = 512
"""Maximum length of a key; S3, GCS and Azure Blob allow 1,024, the user's prefix included."""
