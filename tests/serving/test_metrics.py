from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from serving.metrics import Metrics


def page(metrics: Metrics) -> str:
    return metrics.render(claims="ready", champions={"support": ("2", "square_cb")}).decode()


def test_the_weight_of_a_uniform_target_is_counted_for_what_can_be_learned_from(decision_record: Any) -> None:
    """Two actions possible at 0.75 and 0.25, the second drawn: weight (1 / 2) / 0.25 = 2."""
    metrics, record = Metrics(), decision_record("d")
    drawn = replace(record.decision, distribution=(0.75, 0.25, 0.0), propensity=0.25, learnable=True)
    metrics.decided(replace(record, decision=drawn))
    metrics.decided(replace(record, decision=replace(drawn, learnable=False)))
    where = f'moment="{drawn.context.moment}",pack="{drawn.pack}"'
    assert f"nba_uniform_weight_sum_total{{{where}}} 2.0" in page(metrics)
    assert f"nba_uniform_weight_count_total{{{where}}} 1.0" in page(metrics)


def test_each_cause_of_degradation_is_counted(decision_record: Any) -> None:
    metrics, record = Metrics(), decision_record("d")
    metrics.decided(replace(record, decision=replace(record.decision, degraded=("features", "claims"))))
    assert 'nba_decisions_degraded_total{cause="claims"} 1.0' in page(metrics)
    assert 'nba_decisions_degraded_total{cause="features"} 1.0' in page(metrics)


def test_only_what_serves_now_is_shown_as_serving() -> None:
    metrics = Metrics()
    metrics.render(claims="down", champions={"support": ("1", "uniform")})
    assert 'nba_champion_info{kind="square_cb",pack="support",version="2"} 1.0' in page(metrics)
    assert 'version="1"' not in page(metrics)
    assert 'nba_claims_state{state="down"}' not in page(metrics)


def test_two_replicas_in_one_process_do_not_share_their_counters() -> None:
    one, other = Metrics(), Metrics()
    one.rewarded("joined")
    assert 'nba_rewards_total{status="joined"} 1.0' in page(one)
    assert 'nba_rewards_total{status="joined"}' not in page(other)


def test_decisions_are_counted_by_what_was_done_and_by_which_policy(decision_record: Any) -> None:
    metrics, record = Metrics(), decision_record("d")
    drawn = replace(record.decision, policy=replace(record.decision.policy, arm="challenger"))
    metrics.decided(record, replace(record, decision=drawn))
    for arm in ("champion", "challenger"):
        made = f'action="no_action",arm="{arm}",mode="online",moment="tone_tuner",pack="support",version="1"'
        assert f"nba_decisions_total{{{made}}} 1.0" in page(metrics)


def test_the_age_of_features_is_a_histogram_by_view(decision_record: Any) -> None:
    """12 s and 90 s: neither within 10 s, one within a minute, both within five; 102 s together."""
    metrics, record = Metrics(), decision_record("d")
    for age_s in (12.0, 90.0):
        request = replace(record.decision.request, age_s={"customer_history": age_s})
        metrics.decided(replace(record, decision=replace(record.decision, request=request)))
    for bound, n in (("10.0", 0.0), ("60.0", 1.0), ("300.0", 2.0), ("+Inf", 2.0)):
        assert f'nba_feature_age_seconds_bucket{{le="{bound}",view="customer_history"}} {n}' in page(metrics)
    assert 'nba_feature_age_seconds_sum{view="customer_history"} 102.0' in page(metrics)
