from __future__ import annotations

import hashlib
import os
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from serving.keys import KeysError, KeysFile, changing, mint, read_keys

NOW = datetime(2026, 11, 21, tzinfo=UTC)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A keys file with one key, `app`."""
    path = tmp_path / "keys.json"
    with changing(path) as keys:
        keys.append(mint("app", ("decide",), now=NOW).key)
    return path


def test_a_token_is_256_random_bits_of_which_only_the_hash_is_kept(tmp_path: Path) -> None:
    """32 bytes are 43 characters of base64."""
    minted = mint("app", ("decide",), now=NOW)
    prefix, key_id, secret = minted.token.split("_", 2)
    assert (prefix, key_id, len(secret)) == ("nba", minted.key.id, 43)
    assert minted.key.sha256 == hashlib.sha256(minted.token.encode()).hexdigest()
    assert mint("app", ("decide",), now=NOW).token != minted.token
    assert minted.token not in repr(minted)


def test_what_is_written_is_read_and_is_its_owners_alone(file: Path) -> None:
    assert [key.name for key in read_keys(file).keys] == ["app"]
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_file_that_others_may_use_is_refused(file: Path, mode: int) -> None:
    file.chmod(mode)
    with pytest.raises(KeysError, match=f"mode {mode:04o}"):
        read_keys(file)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b'{"schema":"nba-keys/2"}',
        b'{"keys":[{"name":"a"}]}',
        b"[" * 100_000,
        b" " * 1_100_000,
        b"\xff",
    ],
)
def test_what_is_no_keys_file_is_refused(file: Path, text: bytes) -> None:
    file.write_bytes(text)
    with pytest.raises(KeysError):
        read_keys(file)


def test_two_keys_of_one_id_are_refused(file: Path) -> None:
    before = file.read_bytes()
    with pytest.raises(KeysError, match="one id"), changing(file) as keys:
        keys.append(keys[0])
    assert file.read_bytes() == before
    key = read_keys(file).keys[0]
    file.write_bytes(msgspec.json.encode(KeysFile(keys=(key, key))))
    with pytest.raises(KeysError, match="one id"):
        read_keys(file)


def test_a_pipe_is_no_file_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "keys.json", 0o600)
    with pytest.raises(KeysError, match="no regular file"):
        read_keys(tmp_path / "keys.json")


@pytest.mark.parametrize("name", ["", "a b", "a\n", "x" * 65, "a/b", 'a"b'])
def test_a_name_is_one_word(name: str) -> None:
    with pytest.raises(KeysError):
        mint(name, ("decide",), now=NOW)


def test_a_change_that_fails_leaves_the_file_and_nothing_else(file: Path) -> None:
    before = file.read_bytes()
    with pytest.raises(KeysError), changing(file) as keys:
        keys[:] = [None]  # type: ignore[list-item]
    assert file.read_bytes() == before
    assert {path.name for path in file.parent.iterdir()} == {"keys.json", ".keys.json.lock"}
