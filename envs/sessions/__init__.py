"""Sessions that simulated customers play, one a file: what moves (`variables`) and what comes of an action (`logits`).

Levels are counted from 0. Traits are the latent ones of `envs.people`, in three levels. All constants are chosen, not
fitted, so that what pays now and what pays later differ, and so that the figures named in each file hold.
"""

from __future__ import annotations

from envs.session_law import SessionSpec
from envs.sessions import month_of_contacts, service_conversation, shopping_journey
from nba.errors import UnknownMomentError

SESSIONS: dict[str, SessionSpec] = {
    file.SESSION.moment: file.SESSION for file in (service_conversation, shopping_journey, month_of_contacts)
}


def session_spec(name: str) -> SessionSpec:
    """The session of that name, whichever pack it stands in. Raises UnknownMomentError."""
    try:
        return SESSIONS[name]
    except KeyError:
        raise UnknownMomentError(
            f"session {name!r} is not simulated", help=f"these are: {', '.join(SESSIONS)}", field="moment"
        ) from None
