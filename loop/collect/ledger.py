"""The ledger: which client keys were ever received and with what content, and what was suggested lately.

Derived from the spool and older than it: when a segment has moved on, its keys stay here. RocksDB, so memory does not
grow with the number of keys. Writes become durable with `flush`; what a crash takes is replayed from the spool.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Final

import msgspec
import rocksdict

from loop.errors import LoopError

KEEP_SUGGESTIONS: Final = timedelta(days=40)
"""Feedback later than this must be a whole event."""
_CACHE_BYTES: Final = 32 << 20
_MEMTABLE_BYTES: Final = 16 << 20
_SEEN: Final = struct.Struct("<16sq")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_OURS: Final = re.compile(r"s-[0-9a-f]{12,64}")
"""Ids that begin with their time. Other tools' suggestions have no record here."""
# Key prefixes in the family of suggestions, each followed by the suggestion's id.
_RECORD, _LAST, _OPEN = b"r", b"e", b"u"
ERASED: Final = bytes(16)
"""In the place of the digest of a content that was erased: whatever comes under its key is nothing new."""
_MANIFEST_BYTES: Final = 1 << 10
"""A longer list of files is begun anew: it has the least and greatest key of each file, also of those that are gone."""
_SEALED: Final = b"sealed"
"""Key (shorter than any hash) of the last segment whose keys are all here durably."""


class Seen(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What is known of a key: the digest of its content, and when that was first received, in microseconds."""

    digest: bytes
    at: int


class Entry(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What is to be remembered of one received item."""

    key: bytes
    """From `hashed`, or `variant` for a conflicting content."""
    seen: Seen
    suggestion_id: str | None = None
    record: bytes | None = None
    """The suggestion's record, of any encoding, if the item is a suggestion."""
    event_id: str | None = None
    """The event's key, if the item is an event."""
    ignorable: bool = False
    """Whether the suggestion, as long as it has no event, is to be told by `unanswered`."""


def hashed(kind: str, key: str) -> bytes:
    """16 bytes that stand for a client's key."""
    return hashlib.blake2b(f"{kind}\0{key}".encode(), digest_size=16).digest()


def variant(key: bytes, digest: bytes) -> bytes:
    """Under which a key's second and further contents are remembered."""
    return key + digest


@lru_cache(maxsize=64)  # what comes in together has one time
def micros(time: datetime) -> int:
    """Microseconds since 1970 of an aware time."""
    since = time - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


@lru_cache(maxsize=64)
def moment(at: int) -> datetime:
    """The time of so many microseconds, in UTC."""
    return _EPOCH + timedelta(microseconds=at)


class Ledger:
    """One writer; look-ups from any thread. Every method raises LoopError where the database fails."""

    def __init__(self, folder: Path) -> None:
        """Opens or makes it.

        Raises:
            LoopError: it is in use, damaged, or cannot be written to.
        """
        self._folder = folder
        self._start = b""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._keys = rocksdict.Rdict(str(folder), (options := _options()), {"suggestions": options})
        except Exception as error:  # the binding raises bare Exception
            raise self._failed("to open", error) from error
        self._suggestions = self._keys.get_column_family("suggestions")
        self._family = self._keys.get_column_family_handle("suggestions")

    def find(self, keys: Sequence[bytes]) -> list[Seen | None]:
        """What is known of each key, in their order."""
        try:
            values = self._keys.get(list(keys))
        except Exception as error:
            raise self._failed("to read", error) from error
        assert values is not None
        return [None if value is None else Seen(*_SEEN.unpack(value)) for value in values]

    def write(self, entries: Sequence[Entry]) -> None:
        """Remember all entries, or none; durable after `flush`."""
        batch = rocksdict.WriteBatch(raw_mode=True)
        for entry in entries:
            batch.put(entry.key, _SEEN.pack(entry.seen.digest, entry.seen.at))
            if entry.suggestion_id is None or not _OURS.fullmatch(entry.suggestion_id):
                continue
            suggestion = entry.suggestion_id.encode()
            if entry.record is not None:
                batch.put(_RECORD + suggestion, entry.record, self._family)
                if entry.ignorable:
                    batch.put(_OPEN + suggestion, b"", self._family)
            if entry.event_id is not None:
                batch.put(_LAST + suggestion, entry.event_id.encode(), self._family)
                batch.delete(_OPEN + suggestion, self._family)
        try:
            self._keys.write(batch)
        except Exception as error:
            raise self._failed("to write", error) from error

    def flush(self, sealed: str | None = None) -> None:
        """Make everything written durable; `sealed` is the segment up to which the spool is now in here."""
        try:
            if sealed is not None:
                self._keys.put(_SEALED, sealed.encode())
            self._keys.flush_wal(sync=True)
        except Exception as error:
            raise self._failed("to flush", error) from error

    @property
    def sealed(self) -> str:
        """The last segment given to `flush`; empty where there is none."""
        return (self._get(self._keys, _SEALED) or b"").decode()

    # -- suggestions ------------------------------------------------------------------------------------------------

    def record(self, suggestion_id: str) -> bytes | None:
        """The suggestion's record as it was written."""
        return self._get(self._suggestions, _RECORD + suggestion_id.encode())

    def last_event(self, suggestion_id: str) -> str | None:
        """The key of the last event received on one of our suggestions."""
        value = self._get(self._suggestions, _LAST + suggestion_id.encode())
        return None if value is None else value.decode()

    def unanswered(self, before: datetime, limit: int) -> list[bytes]:
        """Records of the oldest ignorable suggestions from before that time that have no event; at most `limit`."""
        end = _OPEN + _prefix(before)
        found: list[bytes] = []
        try:
            for key in self._suggestions.keys(from_key=max(self._start, _OPEN)):
                if key >= end or len(found) >= limit:  # type: ignore[operator]
                    break
                found.append(bytes(key))  # type: ignore[arg-type]
            # Ids are in order of time, so what is open earlier has been answered meanwhile: next time begin here.
            self._start = found[0] if found else self._start
            values = self._suggestions.get([_RECORD + key[1:] for key in found])
        except Exception as error:
            raise self._failed("to read", error) from error
        return [value for value in values or [] if value is not None]

    def forget(self, before: datetime) -> None:
        """Drop all suggestions from before that time, with what is known of them."""
        try:
            for prefix in (_RECORD, _LAST, _OPEN):
                self._suggestions.delete_range(prefix + b"s-", prefix + _prefix(before))
        except Exception as error:
            raise self._failed("to write", error) from error

    # -- erasure ----------------------------------------------------------------------------------------------------

    def records(self) -> Iterator[bytes]:
        """Every record of a suggestion, oldest first. Of a moment: what comes meanwhile may be missing."""
        try:
            for key, value in self._suggestions.items(from_key=_RECORD):
                if not bytes(key).startswith(_RECORD):  # type: ignore[arg-type]
                    return
                yield bytes(value)
        except Exception as error:
            raise self._failed("to read", error) from error

    def decided(self) -> Iterator[tuple[str, str]]:
        """Every suggestion with an event, and the last one of these."""
        try:
            for key, value in self._suggestions.items(from_key=_LAST):
                if not bytes(key).startswith(_LAST):  # type: ignore[arg-type]
                    return
                yield bytes(key)[1:].decode(), bytes(value).decode()  # type: ignore[arg-type]
        except Exception as error:
            raise self._failed("to read", error) from error

    def erase(self, keys: Iterable[bytes], suggestions: Iterable[str], events: Iterable[tuple[str, str]]) -> int:
        """Forget what stands under keys, but for the fact that they were used, and all of the suggestions named.

        Durable, and gone from the files after `compact`.

        Args:
            events: suggestion and event that is no longer to be known as its last one.

        Returns: how many of the keys were known.
        """
        batch = rocksdict.WriteBatch(raw_mode=True)
        stone = _SEEN.pack(ERASED, micros(datetime.now(UTC)))
        listed = list(keys)
        known = [key for key, seen in zip(listed, self.find(listed), strict=True) if seen is not None]
        try:
            for key in known:
                for other in self._keys.keys(from_key=key):
                    if not bytes(other).startswith(key):  # type: ignore[arg-type]
                        break
                    if len(other) > len(key):  # type: ignore[arg-type]
                        batch.delete(other)
                batch.put(key, stone)
            for suggestion in suggestions:
                for prefix in (_RECORD, _LAST, _OPEN):
                    batch.delete(prefix + suggestion.encode(), self._family)
            for suggestion, event in events:
                if self.last_event(suggestion) == event:
                    batch.delete(_LAST + suggestion.encode(), self._family)
            self._keys.write(batch)
        except Exception as error:
            raise self._failed("to write", error) from error
        self.flush()
        return len(known)

    def compact(self) -> None:
        """Write all files anew, without what was erased or replaced. Others may read and write meanwhile."""
        options = rocksdict.CompactOptions()
        options.set_bottommost_level_compaction(rocksdict.BottommostLevelCompaction.force())
        try:
            for store in (self._keys, self._suggestions):
                store.flush()
            for store in (self._keys, self._suggestions):
                store.compact_range(None, None, options)
            for _ in range(2):  # the list of files is begun anew with a change, and the old one removed with the next
                self._keys.put(_SEALED, self.sealed.encode())
                self._keys.flush()
        except Exception as error:
            raise self._failed("to compact", error) from error

    def close(self) -> None:
        del self._family
        self._suggestions.close()
        self._keys.close()

    def _get(self, store: rocksdict.Rdict, key: bytes) -> bytes | None:
        try:
            value: bytes | None = store.get(key)
        except Exception as error:
            raise self._failed("to read", error) from error
        return value

    def _failed(self, what: str, error: Exception) -> LoopError:
        return LoopError(
            f"{self._folder}: expected {what} the ledger, got {error}; if it is damaged, restore the folder "
            "from a copy, or remove it: made anew from the spool, it knows no key and no suggestion from before"
        )


def _prefix(time: datetime) -> bytes:
    return f"s-{max(micros(time), 0) // 1000:012x}".encode()


def _options() -> rocksdict.Options:
    """Filters and indexes live in the block cache too, so that all memory is bounded; in small parts, for one large
    part would push all others out of its shard of the cache."""
    table = rocksdict.BlockBasedOptions()
    table.set_block_cache(rocksdict.Cache(_CACHE_BYTES))
    table.set_bloom_filter(10, block_based=False)
    table.set_cache_index_and_filter_blocks(True)
    table.set_index_type(rocksdict.BlockBasedIndexType.two_level_index_search())
    table.set_partition_filters(True)
    options = rocksdict.Options(raw_mode=True)
    options.create_if_missing(True)
    options.create_missing_column_families(True)
    options.set_block_based_table_factory(table)
    options.set_write_buffer_size(_MEMTABLE_BYTES)
    options.set_max_total_wal_size(4 * _MEMTABLE_BYTES)
    options.set_max_log_file_size(1 << 20)
    options.set_keep_log_file_num(3)
    options.set_max_manifest_file_size(_MANIFEST_BYTES)
    return options
