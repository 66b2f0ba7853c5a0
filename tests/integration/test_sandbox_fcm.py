"""FCM as the sandbox plays it: token endpoint, messages, topics, and Google's own client."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import firebase_admin
import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from firebase_admin import messaging

from clarion.sandbox.log import content_hash
from clarion.sandbox.sandbox import Sandbox
from tests.support.sandbox import (
    PHONE,
    access_token,
    assertion,
    exchange,
    fcm_url,
)

FCM_ERROR = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
BAD_REQUEST = "type.googleapis.com/google.rpc.BadRequest"
HELLO = {"token": PHONE, "notification": {"title": "Hello", "body": "there"}}


pytestmark = pytest.mark.filterwarnings("ignore:Message.token is deprecated:DeprecationWarning")


@pytest.fixture
async def bearer(sandbox: Sandbox, http: httpx.AsyncClient) -> dict[str, str]:
    """The header with a good access token."""
    return {"authorization": f"Bearer {await access_token(sandbox, http)}"}


@pytest.fixture
def fcm(sandbox: Sandbox, http: httpx.AsyncClient, bearer: dict[str, str]) -> Iterator[httpx.AsyncClient]:
    """httpx with a good access token."""
    http.headers.update(bearer)
    yield http
    del http.headers["authorization"]


async def send(fcm: httpx.AsyncClient, sandbox: Sandbox, message: Any, **more: Any) -> httpx.Response:
    """Send one message, compact as our own sender writes it."""
    body = json.dumps({"message": message, **more}, separators=(",", ":"))
    return await fcm.post(fcm_url(sandbox), content=body, headers={"content-type": "application/json"})


def error(answer: httpx.Response) -> tuple[int, str, str, str | None]:
    """Status, google.rpc status, the detail's type and FcmError's code, if it is one."""
    body = answer.json()["error"]
    detail = body.get("details", [{"@type": ""}])[0]
    assert body["code"] == answer.status_code
    assert body["message"]
    return answer.status_code, body["status"], detail["@type"], detail.get("errorCode")


# ---- the token endpoint


async def test_an_access_token(sandbox: Sandbox, http: httpx.AsyncClient) -> None:
    """An assertion of the service account gives a bearer token for an hour."""
    answer = await exchange(sandbox, http)

    assert answer.status_code == 200
    assert answer.json()["token_type"] == "Bearer"
    assert 3500 < answer.json()["expires_in"] <= 3600


def strange_key() -> str:
    """An RSA key nobody knows, PEM."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


@pytest.mark.parametrize(
    "claims",
    [
        {"key": strange_key()},
        {"iss": "nobody@clarion-sandbox.iam.gserviceaccount.com"},
        {"aud": "https://example.com/token"},
        {"exp": int(time.time()) + 7200},
        {"iat": int(time.time()) - 7200, "exp": int(time.time()) - 3600},
        {"iat": int(time.time()) + 1200},
        {"exp": None},
    ],
)
async def test_invalid_grants(sandbox: Sandbox, http: httpx.AsyncClient, claims: dict[str, Any]) -> None:
    """Another's signature, account or audience, and times that are too long, over or to come: 400."""
    answer = await exchange(sandbox, http, **claims)

    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


async def test_other_refusals_of_the_token_endpoint(sandbox: Sandbox, http: httpx.AsyncClient) -> None:
    """No scope, another grant type, no assertion, nonsense."""
    url = sandbox.credentials.fcm["token_uri"]
    grant = "urn:ietf:params:oauth:grant-type:jwt-bearer"
    forms = [
        {"grant_type": grant, "assertion": assertion(sandbox, scope="")},
        {"grant_type": "password", "assertion": assertion(sandbox)},
        {"grant_type": grant},
        {"grant_type": grant, "assertion": "nonsense"},
    ]
    answers = [await http.post(url, data=form) for form in forms]

    assert [answer.json()["error"] for answer in answers] == [
        "invalid_scope",
        "unsupported_grant_type",
        "invalid_request",
        "invalid_grant",
    ]


# ---- accepted


async def test_accepted(sandbox: Sandbox, fcm: httpx.AsyncClient) -> None:
    """200 with the message's name, over HTTP/2 and HTTP/1.1, by project id and number."""
    answer = await send(fcm, sandbox, HELLO)
    async with httpx.AsyncClient(verify=sandbox.authority.client_context(), headers=fcm.headers) as old:
        url = fcm_url(sandbox, "/v1/projects/100000000001/messages:send")
        older = await old.post(url, json={"message": HELLO})

    assert (answer.http_version, older.http_version) == ("HTTP/2", "HTTP/1.1")
    assert (answer.status_code, older.status_code) == (200, 200)
    assert answer.json()["name"].startswith("projects/clarion-sandbox/messages/")


RICH = {
    "token": PHONE,
    "data": {"collapse_key": "kept", "notification": "on paper only", "n": "9007199254740993"},
    "notification": {"title": "Hello", "body": "there", "image": "https://example.com/i.png"},
    "android": {
        "collapseKey": "c",
        "priority": "high",
        "ttl": "3.5s",
        "restricted_package_name": "com.example.app",
        "directBootOk": True,
        "notification": {
            "tag": "t1",
            "color": "#ff8800",
            "channel_id": "news",
            "body_loc_key": "k",
            "body_loc_args": ["a"],
            "notification_priority": "PRIORITY_HIGH",
            "visibility": "PUBLIC",
            "notification_count": 3,
            "event_time": "2026-11-25T10:00:00.5Z",
            "vibrate_timings": ["0.1s", "1s"],
            "light_settings": {
                "color": {"red": 1, "green": 0.5, "blue": 0, "alpha": 1},
                "light_on_duration": "1s",
                "light_off_duration": "1s",
            },
            "proxy": "DENY",
        },
        "fcm_options": {"analytics_label": "label-1"},
    },
    "webpush": {
        "headers": {"TTL": "60"},
        "notification": {"title": "x"},
        "fcm_options": {"link": "https://a.b/"},
    },
    "apns": {"headers": {"apns-priority": "5"}, "payload": {"aps": {"badge": 1}}, "live_activity_token": "x"},
    "fcm_options": {"analytics_label": "a~b%c"},
}


async def test_everything_a_message_may_hold(sandbox: Sandbox, fcm: httpx.AsyncClient) -> None:
    """Every part at once, in both spellings; null is as absent."""
    answers = [await send(fcm, sandbox, message) for message in (RICH, RICH | {"data": None})]

    assert [answer.status_code for answer in answers] == [200, 200]


@pytest.mark.parametrize(
    "message",
    [
        {"fid": "c" * 22, "data": {"a": "b"}},
        {"topic": "news-1_~.%", "data": {"a": "b"}},
        {"condition": "'a' in topics && ('b' in topics || !('c' in topics))", "data": {"a": "b"}},
        {"token": PHONE, "android": {"ttl": "0s"}},
        {"token": PHONE, "android": {"ttl": "2419200s"}},
        {"token": PHONE, "data": {"k" * 6: "v" * 4090}},
        {"topic": "news", "data": {"k" * 8: "v" * 2040}},
    ],
)
async def test_just_right(sandbox: Sandbox, fcm: httpx.AsyncClient, message: Any) -> None:
    """Every kind of target, and the limits themselves."""
    assert (await send(fcm, sandbox, message)).status_code == 200


# ---- refused

WRONG: list[tuple[str, Any, str]] = [
    ("no target", {"data": {}}, FCM_ERROR),
    ("token", {"token": "bad token"}, FCM_ERROR),
    ("reserved from", {"token": PHONE, "data": {"from": "x"}}, FCM_ERROR),
    ("reserved message_type", {"token": PHONE, "data": {"message_type": "x"}}, FCM_ERROR),
    ("reserved gcm", {"token": PHONE, "data": {"gcm.x": "x"}}, FCM_ERROR),
    ("reserved google", {"token": PHONE, "android": {"data": {"google.y": "x"}}}, FCM_ERROR),
    ("ttl below", {"token": PHONE, "android": {"ttl": "-1s"}}, FCM_ERROR),
    ("ttl above", {"token": PHONE, "android": {"ttl": "2419201s"}}, FCM_ERROR),
    ("package", {"token": PHONE, "android": {"restricted_package_name": "no"}}, FCM_ERROR),
    ("color", {"token": PHONE, "android": {"notification": {"color": "red"}}}, FCM_ERROR),
    ("args alone", {"token": PHONE, "android": {"notification": {"title_loc_args": ["x"]}}}, FCM_ERROR),
    ("link", {"token": PHONE, "webpush": {"fcm_options": {"link": "http://a.b/"}}}, FCM_ERROR),
    ("label", {"token": PHONE, "fcm_options": {"analytics_label": "a b"}}, FCM_ERROR),
    ("4097 bytes", {"token": PHONE, "data": {"k" * 6: "v" * 4091}}, FCM_ERROR),
    ("2049 bytes to a topic", {"topic": "news", "data": {"k" * 8: "v" * 2041}}, FCM_ERROR),
    ("large for iOS", {"token": PHONE, "apns": {"payload": {"aps": {}, "x": "y" * 4090}}}, FCM_ERROR),
    ("topic with its path", {"topic": "/topics/news"}, FCM_ERROR),
    ("condition", {"condition": "'a' in topics &&"}, FCM_ERROR),
    ("six topics", {"condition": " || ".join(f"'{n}' in topics" for n in range(6))}, FCM_ERROR),
    ("two targets", {"token": PHONE, "topic": "news"}, BAD_REQUEST),
    ("number as data", {"token": PHONE, "data": {"n": 21465}}, BAD_REQUEST),
    ("true as data", {"token": PHONE, "data": {"b": True}}, BAD_REQUEST),
    ("object as data", {"token": PHONE, "data": {"o": {"a": 1}}}, BAD_REQUEST),
    ("null as data", {"token": PHONE, "data": {"z": None}}, BAD_REQUEST),
    ("unknown field", {"token": PHONE, "colour": "red"}, BAD_REQUEST),
    ("unknown field below", {"token": PHONE, "android": {"notification": {"txt": "x"}}}, BAD_REQUEST),
    ("priority", {"token": PHONE, "android": {"priority": "urgent"}}, BAD_REQUEST),
    ("ttl of no form", {"token": PHONE, "android": {"ttl": "3600"}}, BAD_REQUEST),
    ("ttl as a number", {"token": PHONE, "android": {"ttl": 3600}}, BAD_REQUEST),
    ("title as a number", {"token": PHONE, "notification": {"title": 1}}, BAD_REQUEST),
    ("text as a flag", {"token": PHONE, "android": {"direct_boot_ok": "true"}}, BAD_REQUEST),
    ("a count", {"token": PHONE, "android": {"notification": {"notification_count": "x"}}}, BAD_REQUEST),
    ("time", {"token": PHONE, "android": {"notification": {"event_time": "noon"}}}, BAD_REQUEST),
    ("list as a message", [], BAD_REQUEST),
    ("no message", None, BAD_REQUEST),
]  # fmt: skip


@pytest.mark.parametrize(("message", "detail"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
async def test_wrong_messages(sandbox: Sandbox, fcm: httpx.AsyncClient, message: Any, detail: str) -> None:
    """400 INVALID_ARGUMENT, with field violations for the schema and FcmError for the rules."""
    answer = await send(fcm, sandbox, message)

    code = "INVALID_ARGUMENT" if detail == FCM_ERROR else None
    assert error(answer) == (400, "INVALID_ARGUMENT", detail, code)


async def test_the_words_of_a_violation(sandbox: Sandbox, fcm: httpx.AsyncClient) -> None:
    """Field and description as Google writes them; the bad token has its own words."""
    schema = await send(fcm, sandbox, {"token": PHONE, "data": {"a": "b", "n": 21465}})
    token = await send(fcm, sandbox, {"token": "bad"})

    assert schema.json()["error"]["details"][0]["fieldViolations"] == [
        {
            "field": "message.data[1].value",
            "description": "Invalid value at 'message.data[1].value' (TYPE_STRING), 21465",
        }
    ]
    assert token.json() == {
        "error": {
            "code": 400,
            "message": "The registration token is not a valid FCM registration token",
            "status": "INVALID_ARGUMENT",
            "details": [{"@type": FCM_ERROR, "errorCode": "INVALID_ARGUMENT"}],
        }
    }


async def test_what_is_remembered_of_a_body_is_not_its_token(
    sandbox: Sandbox, fcm: httpx.AsyncClient
) -> None:
    """The same body for other registrations is judged alike, and a wrong token still is one; a field that
    only looks like the token changes nothing."""
    other = PHONE.replace("d", "e")
    tricky = {"data": {"token": PHONE}, "token": other}
    sandbox.bury({"provider": "fcm", "tokens": [other]})
    answers = [
        (await send(fcm, sandbox, HELLO | {"token": token})).status_code
        for token in (PHONE, other, "short", PHONE, other)
    ]

    assert answers == [200, 404, 400, 200, 404]
    assert [(await send(fcm, sandbox, tricky)).status_code for _ in range(2)] == [404, 404]


async def test_dead_registrations(sandbox: Sandbox, fcm: httpx.AsyncClient) -> None:
    """UNREGISTERED, SENDER_ID_MISMATCH and the others, each with its status and FcmError."""
    names = {
        "UNREGISTERED": (404, "NOT_FOUND"),
        "SENDER_ID_MISMATCH": (403, "PERMISSION_DENIED"),
        "THIRD_PARTY_AUTH_ERROR": (401, "UNAUTHENTICATED"),
        "INVALID_ARGUMENT": (400, "INVALID_ARGUMENT"),
    }
    for name in names:
        sandbox.bury({"provider": "fcm", "tokens": [PHONE], "reason": name})
        status, rpc = names[name]
        assert error(await send(fcm, sandbox, HELLO)) == (status, rpc, FCM_ERROR, name)

    sandbox.bury({"provider": "fcm", "tokens": ["c" * 22]})
    dead = await send(fcm, sandbox, {"fid": "c" * 22})
    assert error(dead) == (404, "NOT_FOUND", FCM_ERROR, "UNREGISTERED_FID")


async def test_who_may_not_send(sandbox: Sandbox, fcm: httpx.AsyncClient) -> None:
    """No token, one that nobody gave, one that is over: 401 without FcmError; another project: 403."""
    url, body = fcm_url(sandbox), {"message": HELLO}
    none = await fcm.post(url, json=body, headers={"authorization": ""})
    unknown = await fcm.post(url, json=body, headers={"authorization": "Bearer ya29.x"})
    project = await fcm.post(fcm_url(sandbox, "/v1/projects/other/messages:send"), json=body)
    narrow = await exchange(sandbox, fcm, scope="https://www.googleapis.com/auth/datastore")
    scope = await fcm.post(
        url, json=body, headers={"authorization": f"Bearer {narrow.json()['access_token']}"}
    )
    sandbox.change({"clock": 3700})
    over = await fcm.post(url, json=body)

    for answer in (none, unknown, over):
        assert error(answer)[:2] == (401, "UNAUTHENTICATED")
        assert error(answer)[3] is None
    assert over.json()["error"]["details"][0]["reason"] == "ACCESS_TOKEN_EXPIRED"
    assert error(project)[:2] == error(scope)[:2] == (403, "PERMISSION_DENIED")


async def test_paths_and_methods(sandbox: Sandbox, fcm: httpx.AsyncClient) -> None:
    """Anything else at Google is a page that says 404."""
    answers = [
        await fcm.get(fcm_url(sandbox)),
        await fcm.post(fcm_url(sandbox, "/fcm/send"), json={"message": HELLO}),
        await fcm.post(fcm_url(sandbox, "/batch"), json={}),
    ]

    assert {answer.status_code for answer in answers} == {404}
    assert all(answer.text.startswith("<!DOCTYPE html>") for answer in answers)


async def test_a_quota(sandbox: Sandbox, fcm: httpx.AsyncClient) -> None:
    """So many messages a minute, then QUOTA_EXCEEDED with Retry-After; the bucket refills at once."""
    sandbox.change({"fcm_quota": 2})
    answers = [await send(fcm, sandbox, HELLO) for _ in range(3)]
    sandbox.change({"clock": 61})
    later = await send(fcm, sandbox, HELLO)

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert error(answers[2]) == (429, "RESOURCE_EXHAUSTED", FCM_ERROR, "QUOTA_EXCEEDED")
    assert 0 < int(answers[2].headers["retry-after"]) <= 60
    assert later.status_code == 200


async def test_validate_only(sandbox: Sandbox, fcm: httpx.AsyncClient) -> None:
    """It is checked like any other and reaches nobody."""
    token = PHONE.replace("d", "f")
    good = await send(fcm, sandbox, HELLO | {"token": token}, validate_only=True)
    bad = await send(fcm, sandbox, {"token": token, "data": {"from": "x"}}, validateOnly=True)

    assert (good.status_code, bad.status_code) == (200, 400)
    assert await sandbox.shown(token) == []


async def test_the_key_and_the_content(sandbox: Sandbox, fcm: httpx.AsyncClient) -> None:
    """The log names the notification's tag, else data.clarion_id; a phone shows one of two with one tag."""
    token = PHONE.replace("d", "g")
    android = {"notification": {"tag": "k1", "title": "Servus"}}
    for _ in range(2):
        await send(fcm, sandbox, HELLO | {"token": token, "android": android})
    data = {"clarion_id": "k2", "title": "Data", "body": "only"}
    await send(fcm, sandbox, {"token": token, "data": data})
    first, second = await sandbox.shown(token)

    assert (first["key"], first["times"], first["content"]) == ("k1", 2, content_hash("Servus", "there"))
    assert (second["key"], second["title"], second["body"]) == ("k2", "Data", "only")


# ---- topics


async def test_topics_by_batch(sandbox: Sandbox, fcm: httpx.AsyncClient) -> None:
    """batchAdd and batchRemove: a result per registration, in order; then the topic reaches who is left."""
    dead, other = "dead" * 8, PHONE.replace("d", "h")
    sandbox.bury({"provider": "fcm", "tokens": [dead]})
    headers = {"access_token_auth": "true"}
    body = {"to": "/topics/news", "registration_tokens": [PHONE, dead, "x", other]}
    added = await fcm.post(fcm_url(sandbox, "/iid/v1:batchAdd"), json=body, headers=headers)
    removed = await fcm.post(
        fcm_url(sandbox, "/iid/v1:batchRemove"),
        json={"to": "/topics/news", "registration_tokens": [PHONE]},
        headers=headers,
    )
    await send(fcm, sandbox, {"topic": "news", "notification": {"title": "To", "body": "all"}})

    assert added.json() == {"results": [{}, {"error": "NOT_FOUND"}, {"error": "INVALID_ARGUMENT"}, {}]}
    assert removed.json() == {"results": [{}]}
    assert [shown["title"] for shown in await sandbox.shown(other)] == ["To"]
    assert "To" not in [shown["title"] for shown in await sandbox.shown(PHONE)]


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({}, {"to": "/topics/news", "registration_tokens": [PHONE]}, 401),
        ({"access_token_auth": "true"}, {"to": "news", "registration_tokens": [PHONE]}, 400),
        ({"access_token_auth": "true"}, {"to": "/topics/n", "registration_tokens": []}, 400),
        ({"access_token_auth": "true"}, {"to": "/topics/n", "registration_tokens": ["x"] * 1001}, 400),
        ({"access_token_auth": "true"}, {"to": "/topics/n"}, 400),
    ],
)
async def test_wrong_batches(
    sandbox: Sandbox, fcm: httpx.AsyncClient, headers: dict[str, str], body: Any, status: int
) -> None:
    """The whole request is refused with one word."""
    answer = await fcm.post(fcm_url(sandbox, "/iid/v1:batchAdd"), json=body, headers=headers)

    assert answer.status_code == status
    assert isinstance(answer.json()["error"], str)


async def test_topic_subscriptions(sandbox: Sandbox, fcm: httpx.AsyncClient) -> None:
    """The newer resource: create, create again, get, list, subscribe and delete without minding."""
    base = fcm_url(sandbox, f"/v1/projects/clarion-sandbox/registrations/{'i' * 40}/topicSubscriptions")
    made = await fcm.post(base, params={"topicName": "a"})
    again = await fcm.post(base, params={"topicName": "a"})
    patched = await fcm.patch(f"{base}/b", params={"allowMissing": "true"})
    listed = await fcm.get(base, params={"pageSize": "1"})
    rest = await fcm.get(base, params={"pageToken": listed.json()["nextPageToken"]})
    got = await fcm.get(f"{base}/a")
    deleted = [await fcm.delete(f"{base}/a"), await fcm.delete(f"{base}/a")]
    calm = await fcm.delete(f"{base}/a", params={"allowMissing": "true"})

    assert made.json()["name"].endswith(f"/registrations/{'i' * 40}/topicSubscriptions/a")
    assert error(again)[:2] == (409, "ALREADY_EXISTS")
    assert patched.json()["topicName"] == "b"
    assert [page.json()["topicSubscriptions"][0]["topicName"] for page in (listed, rest)] == ["a", "b"]
    assert got.json()["createTime"].endswith("Z")
    assert [answer.status_code for answer in deleted] == [200, 404]
    assert calm.status_code == 200


# ---- Google's own client


@pytest.fixture
def google_here(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[firebase_admin.App]:
    """firebase-admin, its URLs and its trust pointed at the sandbox, otherwise as it is."""
    base = fcm_url(sandbox, "")
    monkeypatch.setattr(messaging._MessagingService, "FCM_URL", base + "/v1/projects/{0}/messages:send")
    monkeypatch.setattr(messaging._MessagingService, "IID_URL", base)
    for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, str(sandbox.authority.ca_path))
    credential = firebase_admin.credentials.Certificate(sandbox.credentials.fcm)
    app = firebase_admin.initialize_app(credential, name="sandbox")
    service = messaging._get_messaging_service(app)
    service._fcm_topic_url = base + "/v1/projects/clarion-sandbox/registrations"
    yield app
    firebase_admin.delete_app(app)


async def test_firebase_admin(sandbox: Sandbox, google_here: firebase_admin.App) -> None:
    """Its blocking calls: send, several at once, topics; refusals become its own exceptions."""
    dead = "dead" * 8
    sandbox.bury({"provider": "fcm", "tokens": [dead]})
    hello = messaging.Notification(title="Hello", body="there")

    def work() -> Any:
        sent = messaging.send(messaging.Message(token=PHONE, notification=hello), app=google_here)
        several = messaging.send_each(
            [messaging.Message(token=token, notification=hello) for token in (PHONE, dead)],
            app=google_here,
        )
        topics = messaging.subscribe_to_topic([PHONE, dead], "sports", app=google_here)
        left = messaging.unsubscribe_from_topic(PHONE, "sports", app=google_here)
        messaging._get_messaging_service(google_here)._client.close()
        return sent, several, topics, left

    sent, several, topics, left = await asyncio.to_thread(work)

    assert sent.startswith("projects/clarion-sandbox/messages/")
    assert several.responses[0].success
    assert isinstance(several.responses[1].exception, messaging.UnregisteredError)
    assert (topics.success_count, topics.errors[0].index, topics.errors[0].reason) == (1, 1, "NOT_FOUND")
    assert left.success_count == 1


async def test_firebase_admin_asynchronous(sandbox: Sandbox, google_here: firebase_admin.App) -> None:
    """Its other way, httpx over HTTP/2."""
    dead = "dead" * 8
    sandbox.bury({"provider": "fcm", "tokens": [dead], "reason": "SENDER_ID_MISMATCH"})

    async def work() -> messaging.BatchResponse:
        messages = [messaging.Message(token=token, data={"a": "b"}) for token in (PHONE, dead)]
        try:
            return await messaging.send_each_async(messages, app=google_here)
        finally:
            await messaging._get_messaging_service(google_here)._async_client.aclose()

    # Its credentials are fetched by blocking code inside the loop: it gets a loop of its own.
    several = await asyncio.to_thread(lambda: asyncio.run(work()))

    assert several.responses[0].success
    assert isinstance(several.responses[1].exception, messaging.SenderIdMismatchError)
