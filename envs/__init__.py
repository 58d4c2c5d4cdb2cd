"""Customers who respond. Importing this registers the Gymnasium ids; what they name is imported when it is made."""

from __future__ import annotations

from gymnasium.envs.registration import register, registry

# id -> (pack, moment), of one step
IDS = {
    "nba/InstantClarifier-v0": ("support", "instant_clarifier"),
    "nba/ToneTuner-v0": ("support", "tone_tuner"),
    "nba/ProactiveNudge-v0": ("support", "proactive_nudge"),
    "nba/PersonalizedPath-v0": ("support", "personalized_path"),
    "nba/FollowupWhisper-v0": ("support", "followup_whisper"),
    "nba/AbandonedCart-v0": ("retail", "abandoned_cart"),
    "nba/Disruption-v0": ("travel", "disruption"),
    "nba/BalanceCheck-v0": ("banking", "balance_check"),
    "nba/SymptomSearch-v0": ("health", "symptom_search"),
    "nba/EveningPick-v0": ("media", "evening_pick"),
}
# The same, of many steps
SESSION_IDS = {
    "nba/ServiceConversation-v0": ("support", "service_conversation"),
    "nba/ShoppingJourney-v0": ("retail", "shopping_journey"),
    "nba/MonthOfContacts-v0": ("media", "month_of_contacts"),
}

_FORMS = {
    **dict.fromkeys(IDS, ("envs.moment:MomentEnv", "envs.moment_vector:MomentVectorEnv")),
    **dict.fromkeys(SESSION_IDS, ("envs.session:SessionEnv", "envs.session_vector:SessionVectorEnv")),
}
for _id, (_pack, _moment) in (IDS | SESSION_IDS).items():
    if _id not in registry:
        _scalar, _batched = _FORMS[_id]
        _what = {"pack": _pack, "moment": _moment}
        register(_id, entry_point=_scalar, vector_entry_point=_batched, kwargs=_what)
