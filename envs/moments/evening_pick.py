"""An evening, a screen, and too much to choose from: what does this viewer want to watch now, if anything?"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from envs.moments.parts import YEAR_START, Logits, Made, gaps, locale, steps
from envs.people import Array, People
from envs.seen import Seen
from nba.facts import DAY

ENTRIES = ("home", "search", "link")
PROFILES = ("own", "shared", "kids")
NAMES = {"entry": ENTRIES, "profile": PROFILES}
TOGETHER = ("broadened",)


def situation(people: People, rng: Generator) -> Made:
    """They come at 20:20 and a little by their own hour, +- 2 h; 66 % to browse, 22 % by search, 12 % by a link.

    profile: own 64 %, shared 24 %, kids 12 %;  mood = 0.1 + 0.15 patience + 0.45 noise, missing 30 %
    minutes_free = exp(4.3 + 0.6 noise) (median 74), missing 20 %
    watched_minutes: 42 % have just begun, the others watched for 110 on average
    55 % are in a series, its last episode exp(1.3 + 1.3 noise) days ago (median 4)
    Counts (floors of exponentials, means): browsing_minutes 4.5, genre_streak 1.9 - 0.5 curiosity, new_titles 1.6
    """
    n = len(people)
    noise, chance, curiosity = rng.standard_normal((4, n)), rng.random((3, n)), people.trait("curiosity")
    hour = 20.3 + 0.15 * (people.active_hour - 14.0) + 2.0 * noise[0]
    mood = 0.1 + 0.15 * people.trait("patience") + 0.45 * noise[1]
    free = np.exp(4.3 + 0.6 * noise[2])
    begun = chance[0] < 0.55
    since = np.exp(1.3 + 1.3 * noise[3])
    streak = steps(people, rng, np.maximum(0.4, 1.9 - 0.5 * curiosity))
    seen = np.maximum(rng.standard_exponential(n) * 110.0 - 60.0, 0.0)
    return {
        "local_time": np.asarray(YEAR_START + DAY * rng.integers(0, 364, n) + np.floor(hour % 24.0 * 3_600.0)),
        "locale": locale(people),
        "entry": 1.0 * (chance[1] > 0.66) + (chance[1] > 0.88),
        "profile": 1.0 * (chance[2] > 0.64) + (chance[2] > 0.88),
        "mood": gaps(mood.round(2), rng, 0.3),
        "minutes_free": gaps(free.round(), rng, 0.2),
        "browsing_minutes": steps(people, rng, np.full(n, 4.5)),
        "watched_minutes": seen.round(),
        "days_since_episode": np.where(begun, since.round(), np.nan),
        "genre_streak": streak,
        "new_titles": steps(people, rng, np.full(n, 1.6)),
    }


def logits(x: Seen) -> Logits:
    """An evening before the screen. Who knows what they want is let go; the others differ in what would please them.

    torn     = browsing / (browsing + 4) (missing: 0);     knows = [search or link] (1 - torn)
    tight    = clip((80 - minutes_free) / 50, 0, 1) (missing: 75);    low = max(0, -mood) (missing: 0)
    stale    = streak / (streak + 2);   fresh = new_titles / (new_titles + 2)
    hooked   = 8 / (8 + days since the episode), 0 where there is none;   curious = variety (missing: 0.4)
    tired    = min(1, (0.6 + night) watched / (watched + 120) + 0.3 night)

    enjoyed: silence = -0.6 + 2.6 knows - 0.9 torn - 0.8 tired;  all others - 0.2 - 1.2 knows, and
      series     + 2.6 hooked (1 - 0.4 tight) - 0.4 tired
      familiar   + 2.6 (1 - stale) (1.1 - curious) + 0.5 [kids]
      new genre  + stale (0.4 + 3.0 curious) - 1.2 low - 0.3 [kids]        no adventures in a bad mood
      short      + 1.6 tight (1 + 0.4 [mobile]) - 0.5 (1 - tight)
      mood       + 4.0 low - 0.3
      three      + 2.0 torn (0.8 + 0.8 [detailed] - 0.5 [brief]) - 0.3
      premiere   + fresh (2.2 + 1.8 [mobile]) - 0.7
      wind down  + 3.2 tired - 1.3 (1 - tired)
    broadened = enjoyed - 0.3 with a new genre, - 1.2 with three, - 2 with short and mood, - 2.5 with premiere and
      silence;  never with the others (-40)
    annoyed: silence -9;  all others -4.0 + knows, and mood + 0.8 (1 - low);  premiere + 0.4 + 1.5 night;
      wind down + 1.6 (1 - tired)

    Set so that without a word four visits in ten are enjoyed and with the right pick two in three, one in seven
    something outside of the usual; that 2 to 7 % are annoyed by a suggestion; and that the best answer is one in five
    visits of six. (Four in five hours are said to begin with a recommendation, and who looks for longer than 90 seconds
    is said to leave: Gomez-Uribe and Hunt 2015, https://doi.org/10.1145/2843948.)
    """
    low = np.maximum(0.0, -x.number("mood", 0.0))
    free, browsing = x.number("minutes_free", 75.0), x.number("browsing_minutes", 0.0)
    watched, streak = x.number("watched_minutes", 0.0), x.number("genre_streak", 0.0)
    tight = np.minimum(np.maximum((80.0 - free) / 50.0, 0.0), 1.0)
    night = x.night("local_time")
    torn, stale = browsing / (browsing + 4.0), streak / (streak + 2.0)
    sated = watched / (watched + 120.0)
    tired = np.minimum(1.0, sated * (0.6 + night) + 0.3 * night)
    hooked = 8.0 / (8.0 + x.number("days_since_episode", 1e6))
    curious = x.number("variety", 0.4)
    knows = x.among("entry", "search", "link") * (1.0 - torn)
    kids = x.among("profile", "kids")
    brief, detailed = x.among("style", "brief"), x.among("style", "detailed")
    mobile = x.among("device", "mobile")
    new = x.number("new_titles", 0.0)
    fresh = new / (new + 2.0)
    lift: dict[str, Array] = {
        "continue_series": 2.6 * hooked * (1.0 - 0.4 * tight) - 0.4 * tired,
        "familiar_pick": 2.6 * (1.0 - stale) * (1.1 - curious) + 0.5 * kids,
        "new_genre": stale * (0.4 + 3.0 * curious) - 1.2 * low - 0.3 * kids,
        "short_pick": 1.6 * tight * (1.0 + 0.4 * mobile) - 0.5 * (1.0 - tight),
        "mood_pick": 4.0 * low - 0.3,
        "offer_three": 2.0 * torn * (0.8 + 0.8 * detailed - 0.5 * brief) - 0.3,
        "push_premiere": fresh * (2.2 + 1.8 * mobile) - 0.7,
        "wind_down": 3.2 * tired - 1.3 * (1.0 - tired),
    }
    silent = -0.6 + 2.6 * knows - 0.9 * torn - 0.8 * tired
    disturbed = silent - 0.2 - 1.2 * knows
    enjoyed = {"no_action": silent} | {action: disturbed + more for action, more in lift.items()}
    never = np.full(len(x), -40.0)
    broadened = {
        "no_action": silent - 2.5,
        "continue_series": never,
        "familiar_pick": never,
        "new_genre": enjoyed["new_genre"] - 0.3,
        "short_pick": enjoyed["short_pick"] - 2.0,
        "mood_pick": enjoyed["mood_pick"] - 2.0,
        "offer_three": enjoyed["offer_three"] - 1.2,
        "push_premiere": enjoyed["push_premiere"] - 2.5,
        "wind_down": never,
    }
    bother = -4.0 + 1.0 * knows
    annoyed = dict.fromkeys(enjoyed, bother) | {
        "no_action": np.full(len(x), -9.0),
        "mood_pick": bother + 0.8 * (1.0 - low),
        "push_premiere": bother + 0.4 + 1.5 * night,
        "wind_down": bother + 1.6 * (1.0 - tired),
    }
    return {"enjoyed": enjoyed, "broadened": broadened, "annoyed": annoyed}
