"""The Ray Serve application: the one module here that speaks to Ray, beside `launch` which starts it.

serve run serving.app:app              settings from the environment (NBA_HOME, NBA_PACKS, ...)
serve deploy serving/config.yaml       settings from its `args`

The replica's own listener (`serving.lane`) is there in all of these. How fast Serve's own route is depends on the
environment that Ray was started with (`python -m serving.launch` prints it): no application can set it later.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import Any

import ray
from ray import serve
from ray.serve import Application
from ray.serve.schema import LoggingConfig
from starlette.types import ASGIApp

from serving.settings import Settings

NAME = "nba"
LOOPBACK = "127.0.0.1"
LOGGING = LoggingConfig(log_level="WARNING", enable_access_log=False)


class Replica:
    """One replica: decides, claims, logs; one deployment, so that no request hops to another process."""

    def __init__(self, settings: Settings) -> None:
        _keep_internal_server_on_loopback()
        self._settings = settings

    async def __serve_build_asgi_app__(self) -> ASGIApp:
        """The application; what is behind it starts and ends with the replica."""
        from serving.api import Api
        from serving.server import Server

        logging.getLogger("serving").setLevel(logging.INFO)
        return Api(Server(self._settings))


def _keep_internal_server_on_loopback() -> None:
    """Serve's own server between replicas binds all interfaces, without a setting; on a one-machine Ray it need not."""
    module: Any = import_module("ray.serve._private.replica")
    bind = module.add_port_to_grpc_server
    if ray.util.get_node_ip_address() == LOOPBACK:  # type: ignore[no-untyped-call]
        module.add_port_to_grpc_server = lambda server, address: bind(server, address.replace("[::]", LOOPBACK))


_deployment = serve.deployment(
    name=NAME,
    max_ongoing_requests=256,  # above the replica's own limit, so that it sheds, in the contract's words
    health_check_period_s=1.0,
    health_check_timeout_s=10.0,
    graceful_shutdown_wait_loop_s=0.1,
    graceful_shutdown_timeout_s=20.0,  # the ingress's draining, then the fast lane's, then the log
    max_surge_percent=100,  # a redeploy starts the new replica before the old one goes
    logging_config=LOGGING,
)(serve.ingress()(Replica))


def app(arguments: dict[str, Any] | None = None) -> Application:
    """The application with the settings of the environment, and over them the arguments, named as in Settings.

    Raises SettingsError, PackError.
    """
    return build(Settings.from_environment(arguments))


def build(settings: Settings) -> Application:
    """The application with these settings. Raises PackError, SettingsError."""
    settings.load_packs()  # a wrong pack is found here, not in a replica that cannot start
    settings.load_keys()
    actor = {"num_cpus": settings.cpus}
    return _deployment.options(num_replicas=settings.replicas, ray_actor_options=actor).bind(settings)
