from __future__ import annotations

import hmac

from hypothesis import given
from hypothesis import strategies as st

from nba.keyed import keyed_digest


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_it_is_the_standard_librarys_hmac(key: bytes, message: bytes) -> None:
    assert keyed_digest(key, message) == hmac.digest(key, message, "sha256")


def test_a_key_is_not_used_up_by_a_message() -> None:
    assert keyed_digest(b"key", b"one") != keyed_digest(b"key", b"two")
    assert keyed_digest(b"key", b"one") == keyed_digest(b"key", b"one")
