"""A stored event as a leaf of the tree: all of its columns, so that none can be changed without notice.

Personal data is ciphertext in them. Destroying a key changes no leaf.
"""

from __future__ import annotations

import struct
from uuid import UUID

_HEAD = struct.Struct(">q16sqI")


def leaf_data(position: int, originator_id: UUID, originator_version: int, topic: str, state: bytes) -> bytes:
    """Return position (8 bytes) | aggregate's id (16) | version (8) | length of the name (4) | name in UTF-8 | state.

    Numbers are big-endian. `state` is the JSON as it is stored, to the last byte.
    """
    name = topic.encode()
    return _HEAD.pack(position, originator_id.bytes, originator_version, len(name)) + name + state
