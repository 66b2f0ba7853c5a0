"""FCM's topic management: the Instance ID methods (`iid/v1:batchAdd`) and the newer topicSubscriptions."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qs, unquote

import orjson

from clarion.sandbox.answer import JSON_TYPE, Answer
from clarion.sandbox.fcm_message import TOKEN_FORM, TOPIC_FORM, read_condition
from clarion.sandbox.google import NOT_FOUND, bad_request, google_error

BATCH: Final = 1_000
TOPICS_PER_TOKEN: Final = 2_000
BATCH_PATHS: Final = {b"/iid/v1:batchAdd": True, b"/iid/v1:batchRemove": False}
RESOURCE: Final = re.compile(
    r"/v1/projects/([^/]+)/registrations/([^/]+)/topicSubscriptions(?:/([^/?]+))?(?:\?(.*))?"
)
PAGE: Final = 100


@dataclass(frozen=True)
class Subscription:
    """One registration, one topic."""

    project: str
    token: str
    topic: str
    made: float

    def resource(self) -> dict[str, str]:
        """As the API shows it."""
        time = datetime.fromtimestamp(self.made, UTC).isoformat().replace("+00:00", "Z")
        name = f"projects/{self.project}/registrations/{self.token}/topicSubscriptions/{self.topic}"
        return {"name": name, "topicName": self.topic, "createTime": time}


class Topics:
    """Who is subscribed to what, per project."""

    def __init__(self, clock: Callable[[], float], is_dead: Callable[[str], bool]) -> None:
        self._clock = clock
        self._is_dead = is_dead
        self._of: dict[tuple[str, str], dict[str, Subscription]] = {}  # (project, token) → by topic

    def of(self, project: str, token: str) -> set[str]:
        """The topics of a registration."""
        return set(self._of.get((project, token), ()))

    def members(self, project: str, kind: str, target: str) -> list[str]:
        """The registrations that a message to a topic or condition reaches."""
        matches = read_condition(target if kind == "condition" else f"'{target}' in topics")
        return [token for (owner, token), of in self._of.items() if owner == project and matches(set(of))]

    # ---- Instance ID

    def batch(self, project: str, headers: Mapping[bytes, bytes], body: bytes, *, add: bool) -> Answer:
        """batchAdd and batchRemove: one result per registration, in order."""
        if headers.get(b"access_token_auth") != b"true":
            return _iid_error("MissingAuthorization", 401)
        try:
            request = orjson.loads(body)
            topic, tokens = str(request["to"]), request["registration_tokens"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return _iid_error("INVALID_ARGUMENT")
        name = topic.removeprefix("/topics/")
        if not topic.startswith("/topics/") or not TOPIC_FORM.fullmatch(name):
            return _iid_error("InvalidTopicName")
        if not isinstance(tokens, list) or not 0 < len(tokens) <= BATCH:
            return _iid_error("INVALID_ARGUMENT")
        change = self._add if add else self._remove
        results = [change(project, str(token), name) for token in tokens]
        answer = {"results": [{} if error is None else {"error": error} for error in results]}
        return Answer(200, None, [JSON_TYPE], orjson.dumps(answer))

    def _check(self, token: str) -> str | None:
        if not TOKEN_FORM.fullmatch(token):
            return "INVALID_ARGUMENT"
        return "NOT_FOUND" if self._is_dead(token) else None

    def _add(self, project: str, token: str, topic: str) -> str | None:
        if (error := self._check(token)) is not None:
            return error
        topics = self._of.setdefault((project, token), {})
        if topic not in topics and len(topics) >= TOPICS_PER_TOKEN:
            return "TOO_MANY_TOPICS"
        topics.setdefault(topic, Subscription(project, token, topic, self._clock()))
        return None

    def _remove(self, project: str, token: str, topic: str) -> str | None:
        if (error := self._check(token)) is not None:
            return error
        self._of.get((project, token), {}).pop(topic, None)
        return None

    # ---- topicSubscriptions

    def resource(self, method: bytes, path: str, project: str) -> Answer:
        """create, PATCH, DELETE, get and list of one registration's subscriptions."""
        parts = RESOURCE.fullmatch(path)
        if parts is None:
            return NOT_FOUND
        token, topic = unquote(parts[2]), unquote(parts[3]) if parts[3] else None
        # Both spellings: the reference has topicName, Google's own SDK sends topic_name.
        query = {
            name.replace("_", "").lower(): values[0] for name, values in parse_qs(parts[4] or "").items()
        }
        if not TOKEN_FORM.fullmatch(token):
            return google_error(
                "INVALID_ARGUMENT", "The registration token is not a valid FCM registration token"
            )
        if self._is_dead(token):
            return google_error("NOT_FOUND")
        if topic is None:
            return self._collection(method, project, token, query)
        return self._item(method, project, token, topic, allow_missing=query.get("allowmissing") == "true")

    def _collection(self, method: bytes, project: str, token: str, query: Mapping[str, str]) -> Answer:
        topics = self._of.get((project, token), {})
        if method == b"GET":
            return self._list(list(topics.values()), query)
        topic = query.get("topicname", "")
        if method != b"POST":
            return NOT_FOUND
        if not TOPIC_FORM.fullmatch(topic):
            return bad_request("topic_name", "Topic name format is invalid")
        if topic in topics:
            return google_error("ALREADY_EXISTS")
        return self._subscribe(project, token, topic)

    def _item(self, method: bytes, project: str, token: str, topic: str, *, allow_missing: bool) -> Answer:
        found = self._of.get((project, token), {}).get(topic)
        if method == b"PATCH" and allow_missing and TOPIC_FORM.fullmatch(topic):
            return self._subscribe(project, token, topic)
        if method == b"DELETE" and (found is not None or allow_missing):
            self._remove(project, token, topic)
            return _ok({})
        if method not in (b"PATCH", b"DELETE", b"GET"):
            return NOT_FOUND
        return google_error("NOT_FOUND") if found is None else _ok(found.resource())

    def _subscribe(self, project: str, token: str, topic: str) -> Answer:
        if self._add(project, token, topic) is not None:
            return google_error("RESOURCE_EXHAUSTED", "Too many topics")
        return _ok(self._of[project, token][topic].resource())

    def _list(self, found: list[Subscription], query: Mapping[str, str]) -> Answer:
        size, start = query.get("pagesize", str(PAGE)), query.get("pagetoken", "0")
        if not size.isdecimal() or not start.isdecimal():
            return bad_request("page_token", "Invalid page")
        end = int(start) + (int(size) or PAGE)
        page: dict[str, Any] = {"topicSubscriptions": [one.resource() for one in found[int(start) : end]]}
        if end < len(found):
            page["nextPageToken"] = str(end)
        return _ok(page)


def _ok(value: Mapping[str, Any]) -> Answer:
    return Answer(200, None, [JSON_TYPE], orjson.dumps(value))


def _iid_error(name: str, status: int = 400) -> Answer:
    return Answer(status, name, [JSON_TYPE], orjson.dumps({"error": name}))
