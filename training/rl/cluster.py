"""Ray for as long as a run takes: one of its own on this machine, the one that is there, or a cluster by address."""

from __future__ import annotations

import logging
import os
import secrets
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from nba.errors import UnavailableError

# A Ray of one machine, whatever the name says: all of its servers then listen on loopback only.
_CLOSED = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}


@contextmanager
def cluster(address: str | None = None, *, cpus: int = 1) -> Iterator[None]:
    """Ray, and torch on one thread: small networks learn no faster on more. What runs already is used, and left.

    Raises UnavailableError where there is no cluster at `address`.
    """
    # Ray reads them as it is imported. Its own asks for a token unless told otherwise; nobody else needs to know ours.
    if address is None:
        os.environ.update(_CLOSED)
        if "RAY_AUTH_MODE" not in os.environ:
            os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(16))
    import ray
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with ExitStack() as stack, warnings.catch_warnings():
        stack.callback(torch.set_num_threads, threads)
        warnings.simplefilter("ignore")  # RLlib warns of what it does itself
        if not ray.is_initialized():
            _start(stack, address, cpus)
        import ray.rllib  # which sets the level of its own logger

        for logger in (logging.getLogger("ray"), logging.getLogger("ray.rllib")):
            stack.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.ERROR)
        yield


def _start(stack: ExitStack, address: str | None, cpus: int) -> None:
    import ray

    if address is not None:
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError, RuntimeError) as error:
            told = str(error).splitlines()[0]
            raise UnavailableError(f"no Ray cluster at {address!r}: {told}", help="see `ray status` there") from None
        stack.callback(ray.shutdown)
        return
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="nba-rl-", ignore_cleanup_errors=True))
    ray.init(
        address="local",
        num_cpus=cpus,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _temp_dir=folder,
        _node_ip_address="127.0.0.1",
    )
    stack.callback(ray.shutdown)
