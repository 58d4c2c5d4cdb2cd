"""Customers who respond. Importing this registers the Gymnasium ids; what they name is imported when it is made."""

from __future__ import annotations

from gymnasium.envs.registration import register, registry

IDS = {
    "nba/InstantClarifier-v0": "instant_clarifier",
    "nba/ToneTuner-v0": "tone_tuner",
    "nba/ProactiveNudge-v0": "proactive_nudge",
    "nba/PersonalizedPath-v0": "personalized_path",
    "nba/FollowupWhisper-v0": "followup_whisper",
}

for _id, _moment in IDS.items():
    if _id not in registry:
        register(_id, entry_point="envs.moment:MomentEnv", kwargs={"pack": "support", "moment": _moment})
