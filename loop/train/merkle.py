"""Merkle trees over hashed rows, after RFC 6962: one digest names all rows, and each row can be checked by itself."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

_LEAF = b"\x00"
_NODE = b"\x01"


def leaf(salt: bytes, content: bytes) -> bytes:
    """Hash of one row: SHA-256 of 0x00, a 32-byte salt and the content.

    The leading byte keeps leaves and inner nodes apart, so that no subtree can pass for a row. The salt keeps the leaf
    of an erased row from being guessed back: few people and few texts make an unsalted hash an open secret.
    """
    assert len(salt) == hashlib.sha256().digest_size
    return hashlib.sha256(_LEAF + salt + content).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """Merkle tree hash (RFC 6962, section 2.1) of leaves in their order; of none, SHA-256 of nothing.

    The RFC splits n leaves at the greatest power of two below n. Pairing neighbours level by level, an odd one out
    moving up as it is, builds the same tree.
    """
    if not leaves:
        return hashlib.sha256().digest()
    level = list(leaves)
    while len(level) > 1:
        paired = [hashlib.sha256(_NODE + level[i] + level[i + 1]).digest() for i in range(0, len(level) - 1, 2)]
        level = paired + level[2 * len(paired) :]
    return level[0]
