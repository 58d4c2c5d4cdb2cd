"""One replica's parts, put together and taken down in order."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from features.consent import ConsentStore
from features.events import EventStore
from features.online import OnlineReader
from features.plan import FeatureStoreError, ReadPlan, load_plan, plan_path
from features.redis_server import nearest_url, redis_url
from nba.errors import LogError
from nba.home import Home
from nba.log import LogWriter
from nba.log.recent import recent_records
from nba.pack import Pack
from serving.answers import policy_answer
from serving.archive import Archive
from serving.champion import ChampionFollower, MlflowRegistry, Registry
from serving.claims import Claims
from serving.consents import Consents
from serving.engine import Engine
from serving.events import Events
from serving.intake import Intake, read_purposes
from serving.metrics import Metrics
from serving.outcomes import Outcomes
from serving.pages import PAGE_S, Pages
from serving.replay import Replayer
from serving.settings import Settings
from serving.shipper import Shipper
from serving.uninterrupted import Uninterrupted
from serving.wire import ReadyAnswer, ServingAnswer

CLAIM_DAYS = 30  # how long after its window closes a decision is kept where a retry finds it at once
CLAIMS_WAIT_S = 5.0  # longest time a start waits for the claims
CLOCKS_S = 3_600.0  # by which this machine's clock and the state store's may differ
UNSETTLED_POLL_S = 0.05
COLLECT_EVERY = (
    10_000  # objects made between two searches for garbage; with Python's 700 they take an eighth of the time
)
NO_REDIS = "redis://127.0.0.1:1/0"  # where nobody listens: claims are down until there is one
_log = logging.getLogger(__name__)


def now() -> datetime:
    """The time, aware, in UTC."""
    return datetime.now(UTC)


class Server:
    """Everything behind the HTTP door of one replica."""

    def __init__(
        self, settings: Settings, *, registry: Registry | None = None, clock: Callable[[], datetime] = now
    ) -> None:
        """Opens log, policies and features; `start` then connects. Raises PackError, LogError, SettingsError."""
        self.settings, self.packs = settings, settings.load_packs()
        self.home = Home(settings.home)
        self.metrics = Metrics()
        self.log = LogWriter(self.home.log, roll_s=settings.log_roll_s)
        self.metrics.log_lag.set_function(lambda: self.log.lag_s)
        self.metrics.log_since_sync.set_function(lambda: self.log.since_sync_s)
        self.pages = Pages(self.home.metrics, self._own_page)
        self.shipper = Shipper(self.home.log, settings.log_archive, poll_s=settings.ship_poll_s, metrics=self.metrics)
        url = nearest_url(self.home, settings.redis_url or redis_url(self.home))
        timeout_s = settings.claim_timeout_ms / 1_000.0
        self._clock, self._claimed_for = clock, timedelta(seconds=_claim_ttl_s(self.packs) + CLOCKS_S)
        self.claims = Claims(url or NO_REDIS, ttl_s=_claim_ttl_s(self.packs), timeout_s=timeout_s)
        self.champions = ChampionFollower(
            self.packs,
            self.home,
            registry or MlflowRegistry(self.home.tracking_uri),
            poll_s=settings.champion_poll_s,
            clock=clock,
        )
        self.feature_trouble: dict[str, str] = {}
        plans = {name: self._plan(name, pack) for name, pack in self.packs.items()}
        self.features = {
            name: OnlineReader(plans[name], url, purposes=read_purposes(pack)) for name, pack in self.packs.items()
        }
        self._consent_store = ConsentStore(url, timeout_s=timeout_s)
        layout = next((plan for plan in plans.values() if plan is not None and plan.features), None)
        self._event_store = EventStore(layout, url, timeout_s=timeout_s)
        self._uninterrupted = Uninterrupted()
        secret, archive = self.home.secret(), Archive(self.home.log)
        self.intake = Intake(self.packs, self.champions, self.home.secret("subject"))
        self.consents = Consents(
            self.packs.values(),
            self._consent_store,
            self.log,
            self.intake.subject,
            uninterrupted=self._uninterrupted,
            clock=clock,
        )
        self.events = Events(self._event_store, self.intake.subject, clock=clock)
        self.engine = Engine(
            self.intake,
            self.features,
            self.claims,
            self.log,
            secret=secret,
            settings=settings,
            metrics=self.metrics,
            uninterrupted=self._uninterrupted,
            clock=clock,
        )
        self.outcomes = Outcomes(
            self.packs,
            self.claims,
            archive,
            self.log,
            metrics=self.metrics,
            uninterrupted=self._uninterrupted,
            clock=clock,
        )
        self.replayer = Replayer(self.home.policies, secret)
        self._claims_settled = asyncio.Event()
        self._started = False
        self._keeping: asyncio.Task[None] | None = None
        self._showing: asyncio.Task[None] | None = None

    def _plan(self, name: str, pack: Pack) -> ReadPlan | None:
        """How the pack's stored features are read; None where it stores none, or where that cannot be known."""
        if not pack.reads_stored:
            return None
        try:
            return load_plan(plan_path(self.home, pack))
        except FeatureStoreError as error:
            self.feature_trouble[name] = error.message
            _log.warning("no stored features for pack %s: %s", name, error)
            return None

    async def start(self) -> None:
        """Starts to follow the champion and to keep the claims in order.

        Returns once the state store is to be trusted, or is down, so that a replica that replaces a dead one does not
        decide without claims; one that takes long to rebuild is not waited for.
        """
        gc.set_threshold(COLLECT_EVERY)
        self.champions.start()
        self._keeping = asyncio.create_task(self._keep_claims())
        self.pages.open()
        self._showing = asyncio.create_task(self._show_metrics())
        self.shipper.start()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLAIMS_WAIT_S):
                await self._claims_settled.wait()
        self._started = True

    async def _keep_claims(self) -> None:
        """Asks the state store, again and again, whether it is there and to be trusted; rebuilds it from the log."""
        while True:
            try:
                await self.claims.ensure(lambda: recent_records(self.home.log, self._clock() - self._claimed_for))
            except LogError:
                _log.exception("the state store cannot be rebuilt")
            settled = self.claims.state in ("ready", "down")  # else another replica is rebuilding, or will
            if settled:
                self._claims_settled.set()
            await asyncio.sleep(self.settings.rebuild_poll_s if settled else UNSETTLED_POLL_S)

    async def _show_metrics(self) -> None:
        """Writes this replica's page, again and again, for the others that are asked for it."""
        while True:
            await asyncio.to_thread(self.pages.write)
            await asyncio.sleep(PAGE_S)

    async def close(self) -> None:
        """Ends everything, after what was claimed is logged."""
        for task in (self._keeping, self._showing):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        await self._uninterrupted.drain()
        await asyncio.to_thread(self.champions.stop)
        await asyncio.to_thread(self.log.close)
        await self.shipper.close()  # last, so that the segments this replica wrote are shipped too
        for reader in self.features.values():
            await reader.close()
        await self._consent_store.close()
        await self._event_store.close()
        await self.claims.close()
        self.pages.close()

    def serving(self) -> list[ServingAnswer]:
        """What serves each pack."""
        return [self._serving(name) for name in self.packs]

    def _serving(self, pack: str) -> ServingAnswer:
        serving = self.champions.serving(pack)
        policy = serving.snapshot.policy if serving.snapshot is not None else None
        return ServingAnswer(
            pack=pack,
            policy=None if policy is None else policy_answer(policy),
            digest=None if policy is None else policy.digest,
            since=serving.since,
            rejected=dict(serving.rejected),
            registry=serving.trouble or ("ok" if serving.asked else "not asked yet"),
        )

    def ready(self) -> ReadyAnswer:
        """Whether decisions can be made, and what is not as it should be."""
        able = self.log.healthy and self._started
        able = able and all(self.champions.snapshot(name) is not None for name in self.packs)
        sound = self.claims.state == "ready" and not self.feature_trouble
        sound = sound and not self.shipper.trouble
        sound = sound and not any(self.champions.serving(name).degraded for name in self.packs)
        return ReadyAnswer(
            status=("ready" if sound else "degraded") if able else "not_ready",
            log="writable" if self.log.healthy else "failing",
            claims=f"{self.claims.state}: {self.claims.reason}" if self.claims.reason else self.claims.state,
            features={name: self.feature_trouble.get(name, "ready") for name in self.packs},
            archive=self.shipper.state,
            policies=self.serving(),
        )

    async def metrics_page(self) -> bytes:
        """What all replicas of this machine have counted, for Prometheus."""
        return await asyncio.to_thread(self.pages.all)

    def _own_page(self) -> bytes:
        served = {s.pack: (s.policy.version, s.policy.kind) for s in self.serving() if s.policy is not None}
        return self.metrics.render(claims=self.claims.state, champions=served)


def _claim_ttl_s(packs: dict[str, Pack]) -> float:
    longest = max(moment.window_s for pack in packs.values() for moment in pack.moments.values())
    return math.ceil(longest + CLAIM_DAYS * 86_400.0)
