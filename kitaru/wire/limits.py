"""Size limits of what Kitaru stores, in bytes unless a name says otherwise."""

INLINE_VALUE_BYTES = 64 * 1024
"""A value whose document is at most this long lives inside its record; a longer one is a blob."""

MAX_DOCUMENT_BYTES = 512 * 1024 * 1024
"""The longest document of one value, without its parts; SQLite stops at 1,000,000,000."""

PART_BYTES = 256 * 1024
"""Bytes and texts that are at least this long are parts beside the document that mentions them."""

CHUNK_BYTES = 8 * 1024 * 1024
"""A part is stored in objects that are at most this long."""

MAX_VALUE_BYTES = 8 * 1024 * 1024 * 1024
"""The largest value, its parts included."""

MAX_RECORD_BYTES = 16 * 1024 * 1024
"""The longest record: what a checkpoint logs and its model calls add up to, next to its value."""

MAX_ANSWER_DEPTH = 200
"""How deep the answer to a wait may nest: JSON readers are recursive."""

DEFAULT_PARALLEL = 8
"""How many submitted calls of a flow run at the same time, on threads or as nodes, unless told."""

MAX_NAME_CHARACTERS = 100
"""The longest name of a flow, checkpoint, wait or artifact."""

MAX_MEMORY_KEY_CHARACTERS = 100
"""The longest key of a memory; escaped, it still fits into a store's key."""

MAX_KEY_CHARACTERS = 512
"""The longest key; S3, GCS and Azure Blob all allow 1,024, the user's prefix included."""
