"""Merkle trees: the RFC's definition, its published vectors, and what a change does."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.train.merkle import leaf, root

hashes = st.binary(min_size=32, max_size=32)
SALT = bytes(32)


def defined(leaves: list[bytes]) -> bytes:
    """RFC 6962, section 2.1, word by word: split at the greatest power of two below n."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1 << (len(leaves) - 1).bit_length() - 1
    return sha256(b"\x01" + defined(leaves[:k]) + defined(leaves[k:])).digest()


@given(st.lists(hashes, max_size=40))
def test_the_root_is_the_rfcs(leaves: list[bytes]) -> None:
    assert root(leaves) == defined(leaves)


# Leaf contents and roots by size, as published with the reference implementation of Certificate Transparency.
INPUTS = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


@pytest.mark.parametrize(("size", "expected"), enumerate(ROOTS, start=1))
def test_published_vectors(size: int, expected: str) -> None:
    assert root([sha256(b"\x00" + bytes.fromhex(content)).digest() for content in INPUTS[:size]]).hex() == expected


@given(st.lists(hashes, min_size=1, max_size=20), st.data())
def test_any_change_changes_the_root(leaves: list[bytes], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(leaves) - 1))
    other = data.draw(hashes.filter(lambda h: h != leaves[place]))
    assert root([*leaves[:place], other, *leaves[place + 1 :]]) != root(leaves)
    assert root([*leaves, other]) != root(leaves)
    assert root(leaves[:-1]) != root(leaves)


def test_no_inner_node_passes_for_a_row() -> None:
    a, b = leaf(SALT, b"a"), leaf(SALT, b"b")
    assert root([a, b]) != sha256(b"\x00" + a + b).digest()


def test_a_leaf_depends_on_salt_and_content() -> None:
    assert leaf(SALT, b"a") == sha256(b"\x00" + SALT + b"a").digest()
    assert len({leaf(SALT, b"a"), leaf(SALT, b"b"), leaf(b"\x01" * 32, b"a")}) == 3
