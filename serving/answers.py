"""From a decision to what the app is told, and to the record that holds both.

An answer is made from its record alone, so that a stored decision gives the same answer again, field by field.
"""

from __future__ import annotations

from datetime import timedelta

from msgspec import UNSET
from msgspec.structs import replace

from nba.decision import Decision, PolicyRef
from nba.errors import NbaError
from nba.pack import Pack
from nba.records import DecisionRecord, Shown
from serving.errors import UnavailableNowError
from serving.wire import (
    ActionAnswer,
    DecideAnswer,
    ErrorAnswer,
    ErrorDetail,
    FeaturesAnswer,
    PolicyAnswer,
    WindowAnswer,
)

NO_CLAIM = "claims"  # what `degraded` calls a decision that no claim guards against being made twice


def shown(pack: Pack, decision: Decision) -> Shown:
    """The words and the reward window that go with a decision of this pack."""
    action, moment = pack.action(decision.action_id), pack.moment(decision.context.moment)
    return Shown(
        layer=action.layer,
        channel=action.channel,
        message=_message(pack, decision),
        delay_ms=action.delay_ms,
        closes_at=decision.decided_at + timedelta(seconds=moment.window_s),
        default_reward=moment.default_reward,
    )


def _message(pack: Pack, decision: Decision) -> str | None:
    """The treatment's text in the customer's language where the pack has it, else in the pack's first."""
    if decision.treatment_id is None:
        return None
    messages = pack.action(decision.action_id).treatments[decision.treatment_id]
    language = decision.context.values.get(pack.locale_field) if pack.locale_field is not None else None
    return messages.get(str(language), messages[pack.languages[0]])


def without_claim(decision: Decision) -> Decision:
    """The decision as it is made where no claim could be taken: it may have been made twice, so it teaches nothing."""
    return replace(decision, degraded=(*decision.degraded, NO_CLAIM), learnable=False)


def answer(record: DecisionRecord, *, replayed: bool, dry_run: bool = False) -> DecideAnswer:
    """What the app is told."""
    decision, told = record.decision, record.shown
    request = decision.request
    return DecideAnswer(
        decision_id=decision.decision_id,
        action=ActionAnswer(
            action_id=decision.action_id,
            layer=told.layer,
            channel=told.channel,
            treatment_id=decision.treatment_id,
            message=told.message,
            delay_ms=told.delay_ms,
        ),
        propensity=decision.propensity,
        distribution={a: p for a, p in zip(decision.candidates, decision.distribution, strict=True) if p > 0.0},
        policy=policy_answer(decision.policy),
        features=FeaturesAnswer(
            missing=request.missing, defaulted=request.defaulted, ignored=request.ignored, age_s=request.age_s
        ),
        funnel={**decision.funnel, "removed": decision.removed},
        degraded=decision.degraded,
        reward=WindowAnswer(closes_at=told.closes_at, default=told.default_reward),
        replayed=replayed,
        dry_run=True if dry_run else UNSET,
    )


def policy_answer(policy: PolicyRef) -> PolicyAnswer:
    """A policy as the app is told of it."""
    return PolicyAnswer(name=policy.name, version=policy.version, kind=policy.kind, arm=policy.arm)


def error_answer(error: NbaError) -> ErrorAnswer:
    """What the app is told where there is no result."""
    detail = ErrorDetail(
        code=error.code, message=error.message, help=error.help, field=UNSET if error.field is None else error.field
    )
    fallback = error.fallback_action if isinstance(error, UnavailableNowError) else UNSET
    return ErrorAnswer(error=detail, fallback_action=fallback)
