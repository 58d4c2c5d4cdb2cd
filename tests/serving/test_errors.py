from __future__ import annotations

import pytest

from nba.errors import LogError, NbaError, UnknownActionError, UnknownMomentError
from serving import errors
from serving.errors import HttpError, NoPolicyError, UnavailableNowError, status_of


@pytest.mark.parametrize(
    ("kind", "status"), [(UnknownMomentError, 404), (UnknownActionError, 422), (LogError, 503), (NoPolicyError, 503)]
)
def test_an_error_has_the_status_of_the_contract(kind: type[NbaError], status: int) -> None:
    assert status_of(kind("what", help="way out")) == status


def test_503_is_the_only_server_error_and_says_what_to_do_instead() -> None:
    kinds = [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, HttpError)]
    assert {k for k in kinds if k.status >= 500} == {UnavailableNowError, NoPolicyError}
    assert UnavailableNowError("what", help="way out").fallback_action == "no_action"
    assert all(k.retry_after_s for k in kinds if k.status in (429, 503))
