"""pywebpush as its documentation shows it, with a session, so that it keeps its connection."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pywebpush
import requests

from benchmarks.peers.measured import measure_blocking, read_task


def main(task: dict[str, Any]) -> None:
    """Send."""
    session = requests.Session()
    session.trust_env, session.verify = False, task["ca"]
    browsers = json.loads(Path(task["subscriptions"]).read_text())
    text = json.dumps({"title": task["title"], "body": task["body"]})
    key = task["vapid_private"]

    def one(n: int) -> bool:
        browser = browsers[n % len(browsers)]
        claims: dict[str, str | int] = {"sub": task["subject"]}
        answer = pywebpush.webpush(browser, text, key, claims, ttl=60, requests_session=session, timeout=10)
        return cast(requests.Response, answer).status_code == 201

    measure_blocking(task, lambda count: sum(not one(n) for n in range(count)))


if __name__ == "__main__":
    main(read_task())
