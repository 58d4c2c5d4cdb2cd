"""The pack that `nba pack new NAME` writes: small, sound, and every line explained."""

from __future__ import annotations

_TEXT = """\
# Pack `{name}`. Check it with: nba pack check {name}.yaml
# Wording (titles, descriptions, messages) is free to change. Everything else is part of what policies learn:
# raise `version` when it changes, and train again.
pack: {name}
version: 1
reward_version: 1            # raise it when a reward formula below changes
title: What the pack is about
languages: [en]              # the first is the fallback of every message
# locale_field: locale       # a category field that holds the customer's language

# Facts a decision may use. A fact that is missing takes its `default`, or stays missing, which is normal.
fields:
  local_time: {{type: time, description: the customer's own clock; conditions read .hour and .weekday}}
  device: {{type: category, values: [mobile, desktop]}}
  basket_value: {{type: number, range: [0, 500], default: 0, description: EUR; the range also scales it}}
  returning: {{type: boolean}}
  # From the feature store instead of the request, and treated as missing when older than `max_age`:
  # visits_30d: {{type: number, range: [0, 50], feature: "customer_history:visits_30d", max_age: 30d}}

# Situations in which the app asks.
moments:
  abandoned_basket:
    title: Abandoned basket
    fields: [local_time, device, basket_value, returning]
    actions: [remind, offer_help]          # besides no_action, which is always possible
    reward: {{bought: 1.0, annoyed: -0.5}}   # a decision's reward: the sum of weight * outcome, less the action's cost
    window: 24h                            # how long outcomes count; 90s, 15m, 24h, 7d
    default_reward: 0.0                    # where no outcome came
    # heterogeneous: true                  # a claim: whoever looks at the customer earns 10 % more than who does not
    rules:                                 # what you would do without learning: the first that holds acts
      - {{when: basket_value >= 50 and returning, action: offer_help}}
      - {{when: basket_value > 0, action: remind}}

# What the app can do. Without its `trigger` an action makes no sense; `always` is a trigger too.
# Conditions: field < value, ==, !=, in ("a", "b"), and, or, not, missing(field), a boolean field by itself.
actions:
  remind:
    layer: procedural                      # cognitive, emotional or procedural
    channel: app
    trigger: basket_value > 0
    cost: 0.01                             # in units of the reward, each time
    metric: bought                         # the outcome it is meant to raise
    guardrail_metric: annoyed              # the one it must not
    treatments:                            # phrasings; one is drawn for the customer
      friendly: {{en: "You left something behind."}}
  offer_help: {{layer: emotional, channel: chat, trigger: always, cost: 0.05, metric: bought}}
  # no_action: {{layer: procedural, channel: none, trigger: always, cost: 0.0}}   # only to describe it yourself

# Where a condition holds, actions are out, whatever a policy would have liked.
guardrails:
  night_rest:
    when: local_time.hour < 7 or local_time.hour >= 22
    remove: [remind]
    why: no message wakes a customer

# Facts that come back to POST /v1/decisions/ID/rewards, from 0 to 1 unless a range is given.
outcomes:
  bought: {{description: "0 or 1, when the visit ends", closes_window: true}}
  annoyed: {{description: "muted, or complained"}}
"""


def skeleton(name: str) -> str:
    """A commented pack of this name, as YAML; whether the name may be one shows when it is loaded."""
    return _TEXT.format(name=name)
