"""Stands in for the HAProxy binary that Ray starts: closes what Ray's configuration leaves open, then becomes it.

Ray 2.60 writes the configuration anew at every reload and has no setting for these:

- the statistics and metrics listeners bind all interfaces: taken out
- the admin socket may be written by every user of the machine: by its owner only
- an answer of HAProxy's own (no replica) is a bare 500: here the contract's 503 with a fallback
- where Ray's HAProxy listens, its replicas and proxies do too: here HAProxy alone may listen on another address

and HAProxy outlives a proxy actor that was killed: here the kernel ends it with its parent.

Runs as `python -I -S haproxy.py BINARY HOST ARGUMENTS...`, with the standard library alone; an empty HOST is Ray's.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from pathlib import Path

_BODY = (
    '{"error":{"code":"unavailable","message":"no replica answers at this moment",'
    '"help":"take fallback_action; retry with the same decision_id"},"fallback_action":"no_action"}'
)
UNAVAILABLE = (
    "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\n"
    f"Content-Length: {len(_BODY)}\r\n\r\n{_BODY}"
)
_CLOSED = ("frontend prometheus", "listen stats")  # sections that are taken out
_SECTION = re.compile(r"^(?:global|defaults|frontend|backend|listen)\b")
_SET_PDEATHSIG, _SIGKILL = 1, 9


def closed(config: str, error_file: str, host: str = "") -> str:
    """The configuration with its open ends closed; HAProxy's own 5xx answers come from `error_file`.

    With a host requests are taken there instead of on the address that Ray told.
    """
    kept, taking_out = [], False
    for line in config.splitlines():
        if _SECTION.match(line):
            taking_out = line.strip() in _CLOSED
        if not taking_out:
            kept.append(line)
    text = "\n".join(kept) + "\n"
    if host:
        text = re.sub(r"^(frontend http_frontend\n\s*bind )\S+(:\d+)$", rf"\g<1>{host}\2", text, flags=re.MULTILINE)
    text = re.sub(r"^(\s*stats socket \S+) mode 666 ", r"\1 mode 600 ", text, flags=re.MULTILINE)
    return re.sub(r"^(\s*errorfile 50[234]) \S+$", rf"\1 {error_file}", text, flags=re.MULTILINE)


def main(binary: str, host: str, arguments: list[str]) -> None:
    """Rewrites the configuration that the arguments name, then becomes HAProxy."""
    config = Path(arguments[arguments.index("-f") + 1])
    error_file = config.with_name("503.http")
    error_file.write_text(UNAVAILABLE, newline="")
    config.write_text(closed(config.read_text(), str(error_file), host))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
    os.execv(binary, [binary, *arguments])  # noqa: S606  # the binary that Ray would have started


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
