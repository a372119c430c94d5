"""A web server to be attacked, as a program: serves 20,000 campaigns, and says what it costs when asked.

``python _attacked.py [WEB_CONFIG]`` prints its address, and for each line on stdin one of JSON. The
garbage collector is off unless the variable COLLECT is set: what is left must not depend on it, for it comes
late where the heap is large. Only Jinja's pages need it.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import threading
import zlib
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))

from exporter.web.server import WebServer
from tests._websites import Exposed, campaign, site, snapshot

TEXT = b"".join(
    b'intarget_campaign_messages_sent_total{account="main",campaign_id="%d"} 1\n' % number
    for number in range(450_000)
)
"""33 MB: what 20,000 campaigns with messages come to."""
GZIP = zlib.compress(TEXT[: 4 << 20], wbits=31)


def exposition(_accept: str | None, encoding: str | None, _now: float) -> Exposed:
    """Answer a scrape as the exporter does: shared bytes and a small part of its own."""
    if encoding and "gzip" in encoding:
        return Exposed((GZIP, bytes(2000)), content_encoding="gzip")
    return Exposed((TEXT, bytes(2000)))


def costs(tasks: int) -> dict[str, int]:
    """Return memory in MiB, descriptors, threads and tasks."""
    status = Path("/proc/self/status").read_text()
    (rss,) = (int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    return {
        "rss": rss // 1024,
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
        "threads": threading.active_count(),
        "tasks": tasks,
    }


async def main() -> None:
    """Serve until stdin ends."""
    found = tuple(campaign(number) for number in range(20_000))
    web_config = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    whole = snapshot(*found)
    built = site(exposition=exposition, snapshot=lambda: whole)
    server = WebServer(built, ["127.0.0.1:0"], web_config)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def answer() -> None:
        for _ in sys.stdin:
            future = asyncio.run_coroutine_threadsafe(count(), loop)
            sys.stdout.write(json.dumps(costs(future.result())) + "\n")
            sys.stdout.flush()
        loop.call_soon_threadsafe(stop.set)

    async def count() -> int:
        return len(asyncio.all_tasks())

    threading.Thread(target=answer, daemon=True).start()
    if "COLLECT" not in os.environ:
        gc.disable()
    await server.serve(stop, lambda addresses: print(addresses[0], flush=True))


asyncio.run(main())
