"""What a process and all below it use: CPU seconds by role, and memory shared out fairly (PSS)."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from pathlib import Path

import psutil


def tree(pid: int) -> list[psutil.Process]:
    """The process and all below it."""
    with contextlib.suppress(psutil.NoSuchProcess):
        top = psutil.Process(pid)
        return [top, *top.children(recursive=True)]
    return []


def role(process: psutil.Process) -> str:
    """What a process is there for: `replica NAME`, `ingress`, `redis`, or `rest` (of Ray: nothing a request passes)."""
    words = " ".join(process.cmdline())
    if "ServeReplica:" in words:
        return f"replica {words.split('ServeReplica:')[1].split(':')[0]}"
    if "haproxy" in process.name() or "ProxyActor" in words or "HAProxyManager" in words:
        return "ingress"
    return "redis" if "redis-server" in process.name() else "rest"


def cpu_seconds(pids: list[int]) -> dict[str, float]:
    """CPU seconds so far of these trees, by role."""
    used: dict[str, float] = defaultdict(float)
    for pid in pids:
        for process in tree(pid):
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                # Also of children that have ended: Redis writes its file anew in one.
                used[role(process)] += times.user + times.system + times.children_user + times.children_system
    return dict(used)


def pss_mb(pids: list[int]) -> dict[str, float]:
    """Megabytes of these trees by role, pages that several processes share counted in parts."""
    used: dict[str, float] = defaultdict(float)
    for pid in pids:
        for process in tree(pid):
            with contextlib.suppress(psutil.Error, OSError):
                lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
                used[role(process)] += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
    return {name: round(mb, 1) for name, mb in used.items()}
