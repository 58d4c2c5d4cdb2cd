"""Frames, and finding them again after damage."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nba.log.segment import (
    CHUNK,
    MAGIC,
    MAX_PAYLOAD,
    Damage,
    Frame,
    OpenSegment,
    alone,
    frame,
    owned,
    read_frame,
    scan,
    sealed_size,
    segments,
)

HEADER = 13


def scanned(data: bytes) -> list[Frame | Damage]:
    return list(scan(io.BytesIO(data)))


def payloads(data: bytes) -> list[bytes]:
    return [found.payload for found in scanned(data) if isinstance(found, Frame)]


def test_a_frame_is_thirteen_bytes_and_the_payload() -> None:
    """magic ff 4e 42 01, kind 1, length 2 little-endian, CRC32 of 01 02000000 'hi'."""
    assert frame(1, b"hi")[:9] == bytes.fromhex("ff4e42010102000000")
    assert len(frame(1, b"hi")) == HEADER + 2


def test_frames_come_back_in_order_with_their_positions() -> None:
    """15 bytes the first, so the second starts at 15."""
    assert scanned(frame(1, b"hi") + frame(7, b"")) == [Frame(0, 1, b"hi"), Frame(15, 7, b"")]


def test_nothing_is_no_damage() -> None:
    assert scanned(b"") == []


@pytest.mark.parametrize("cut", range(1, 15))
def test_a_cut_last_frame_is_a_tail(cut: int) -> None:
    assert scanned(frame(1, b"ok") + frame(1, b"hi")[:-cut]) == [Frame(0, 1, b"ok"), Damage(15, 15 - cut, tail=True)]


@pytest.mark.parametrize("bit", range(8 * (HEADER + 5)))
def test_any_flipped_bit_loses_one_frame_of_three(bit: int) -> None:
    damaged = bytearray(frame(1, b"first") + frame(1, b"secnd") + frame(1, b"third"))
    damaged[18 + bit // 8] ^= 1 << bit % 8
    assert scanned(bytes(damaged)) == [
        Frame(0, 1, b"first"),
        Damage(18, 18, tail=False),
        Frame(36, 1, b"third"),
    ]


def test_a_length_that_reaches_beyond_the_file_loses_one_frame() -> None:
    lying = bytearray(frame(1, b"lying"))
    lying[5:9] = (MAX_PAYLOAD - 1).to_bytes(4, "little")
    assert payloads(bytes(lying) + frame(1, b"next")) == [b"next"]


def test_frames_far_longer_than_a_read_come_back_whole() -> None:
    long = [bytes([n]) * (MAX_PAYLOAD - n) for n in range(3)]
    assert payloads(b"".join(frame(1, p) for p in long)) == long


def test_damage_longer_than_memory_is_passed() -> None:
    data = frame(1, b"a") + b"\xff" * (3 * MAX_PAYLOAD + 5) + frame(1, b"b")
    assert scanned(data)[1:] == [Damage(14, 3 * MAX_PAYLOAD + 5, tail=False), Frame(3 * MAX_PAYLOAD + 19, 1, b"b")]


@pytest.mark.parametrize("short", range(5))
def test_a_frame_is_found_though_its_first_bytes_end_a_read(short: int) -> None:
    """Damage that ends so many bytes before the second read does."""
    assert payloads(b"?" * (2 * CHUNK - short) + frame(1, b"a")) == [b"a"]


@given(st.lists(st.binary(max_size=40), max_size=20), st.binary(max_size=60), st.integers(0, 20))
def test_garbage_between_frames_costs_no_frame(contents: list[bytes], garbage: bytes, place: int) -> None:
    """Where the garbage holds no magic, not even with the bytes that come after it."""
    frames = [frame(1, content) for content in contents]
    place = min(place, len(frames))
    if MAGIC in garbage + MAGIC[:-1]:
        return
    assert payloads(b"".join([*frames[:place], garbage, *frames[place:]])) == contents


@given(st.binary(max_size=400))
def test_any_bytes_are_scanned_to_their_end(data: bytes) -> None:
    found = scanned(data)
    assert sum(f.length if isinstance(f, Damage) else HEADER + len(f.payload) for f in found) == len(data)


def test_a_segment_is_its_owners_only_and_named_after_its_writer(tmp_path: Path) -> None:
    segment = OpenSegment.create(tmp_path)
    assert stat.S_IMODE(segment.path.stat().st_mode) == 0o600
    host, pid, start, number = segment.path.stem.rsplit("-", 3)
    assert (pid, number) == (str(os.getpid()), "000000")
    assert host
    assert len(start) == 8
    segment.close()


def test_a_name_that_is_taken_is_never_opened_again(tmp_path: Path) -> None:
    first = OpenSegment.create(tmp_path)
    first.commit(b"x")
    first.close()
    second = OpenSegment.create(tmp_path)
    assert second.number == 1
    assert segments(tmp_path) == [first.path, second.path]
    assert first.path.read_bytes() == b"x"
    second.close()


def test_a_segment_is_owned_until_it_is_closed(tmp_path: Path) -> None:
    segment = OpenSegment.create(tmp_path)
    with segment.path.open("rb") as file:
        assert owned(file)
        segment.close()
        assert not owned(file)


def test_a_segment_has_a_length_once_it_is_done(tmp_path: Path) -> None:
    """An empty one never: its writer may be just about to lock it."""
    segment = OpenSegment.create(tmp_path)
    segment.commit(b"synced")
    assert sealed_size(segment.path) is None
    segment.close()
    assert sealed_size(segment.path) == 6
    empty = tmp_path / "empty.seg"
    empty.touch()
    assert sealed_size(empty) is None


def test_segments_that_only_an_archive_has_are_listed_once(tmp_path: Path) -> None:
    for name in ("b.seg", "b.seg.shipped", "a.seg.shipped", "b.seg.idx"):
        (tmp_path / name).touch()
    assert [path.name for path in segments(tmp_path)] == ["a.seg", "b.seg"]


def test_a_frame_is_read_where_it_starts(tmp_path: Path) -> None:
    path = tmp_path / "x.seg"
    path.write_bytes(frame(1, b"hi") + frame(7, b"there"))
    with path.open("rb") as file:
        assert read_frame(file, 15) == Frame(15, 7, b"there")
        assert [read_frame(file, position) for position in (1, 16, 30, 99)] == [None] * 4


def test_a_lock_is_one_holders_at_a_time(tmp_path: Path) -> None:
    with alone(tmp_path / "lock") as first, alone(tmp_path / "lock") as second:
        assert (first, second) == (True, False)
    with alone(tmp_path / "lock") as third:
        assert third


def test_sealing_cuts_what_was_not_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segment = OpenSegment.create(tmp_path)
    segment.commit(b"synced")

    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(OSError, match="Input/output"):
        segment.commit(b"lost")
    segment.seal()
    assert segment.path.read_bytes() == b"synced"


def test_sealing_an_empty_segment_removes_it(tmp_path: Path) -> None:
    OpenSegment.create(tmp_path).seal()
    assert segments(tmp_path) == []
