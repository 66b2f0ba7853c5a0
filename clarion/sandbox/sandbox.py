"""One sandbox: all the simulators, their ports, their credentials, and one log."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from clarion.http2.server import OverLimit
from clarion.sandbox.apns import Apns
from clarion.sandbox.apns_auth import Keys
from clarion.sandbox.certificates import Authority
from clarion.sandbox.credentials import PROJECT, PROJECT_NUMBER, TOPIC, demo_credentials
from clarion.sandbox.faults import BadRule, Dead, Rule, parse_rule
from clarion.sandbox.fcm import Fcm
from clarion.sandbox.front import Listener
from clarion.sandbox.getui import Getui
from clarion.sandbox.hms import Hms
from clarion.sandbox.honor import Honor
from clarion.sandbox.jpush import JPush
from clarion.sandbox.log import RequestLog
from clarion.sandbox.meizu import Meizu
from clarion.sandbox.oauth import OAuth
from clarion.sandbox.oppo import Oppo
from clarion.sandbox.service import Service, Settings, Shared, Talk
from clarion.sandbox.umeng import Umeng
from clarion.sandbox.vendor import Vendor
from clarion.sandbox.vivo import Vivo
from clarion.sandbox.webpush_dialects import DIALECTS
from clarion.sandbox.webpush_service import WebPush
from clarion.sandbox.xiaomi import Xiaomi

ORIGINS: Final = ("google", "mozilla", "apple")
LOG: Final = "requests.jsonl"
PORTS: Final = "ports.json"
CLOSING: Final = 20  # hundredths of a second for connections to close by themselves
_BOTH: Final = ("h2", "http/1.1")


class Sandbox:
    """Use it as `async with Sandbox(directory) as sandbox`, or `start` and `stop`.

    `port` is the first of many (APNs, FCM, three origins of Web Push, the vendors). 0 takes those of the last
    run in this directory, so that endpoints stay good, and any free ones where another program has come in
    between.
    """

    def __init__(
        self,
        directory: Path,
        *,
        port: int = 0,
        dialects: Sequence[str] = ORIGINS,
        settings: Settings | None = None,
        topics: Sequence[str] = (TOPIC,),
    ) -> None:
        self.directory = directory
        self._port = port
        self._dialects = dialects
        self._settings = settings
        self._topics = topics
        self._numbers = 0
        self._reopening: set[asyncio.Task[None]] = set()
        self.rules: list[Rule] = []

    async def start(self) -> None:
        """Make what is missing and listen."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.authority = Authority(self.directory / "tls")
        self.log = RequestLog(self.directory / LOG)
        self.shared = Shared(self.log, self._settings)
        self.keys = Keys()
        self.oauth = OAuth(self.shared)
        self.apns = Apns(self.shared, self.keys)
        self.fcm = Fcm(self.shared, self.oauth)
        self.webpush = [WebPush(self.shared, n, name) for n, name in enumerate(self._dialects)]
        self.hms = Hms(self.shared)
        self.vendors: dict[str, Vendor] = {
            service.provider: service
            for service in (
                self.hms,
                Xiaomi(self.shared),
                Oppo(self.shared),
                Vivo(self.shared),
                JPush(self.shared),
                Getui(self.shared),
                Umeng(self.shared),
                Honor(self.shared),
                Meizu(self.shared),
            )
        }
        self.listeners = self._listeners()
        await self._open()
        self.credentials = demo_credentials(
            self.directory / "credentials", self.authority, {n: one.port for n, one in self.listeners.items()}
        )
        self.trust(apns=self.credentials.apns, fcm=self.credentials.fcm)
        for name, credential in self.credentials.vendors.items():
            self.vendors[name].trust(credential)
        self.hms.trust(self.credentials.hms_v3)
        self.keys.topics.update(self._topics)
        for service in self.webpush:
            service.listens_at(self.listeners[f"webpush{service.origin}"].port)

    async def stop(self) -> None:
        """Close everything; the log is complete afterwards."""
        for task in list(self._reopening):
            task.cancel()
        for listener in self.listeners.values():
            listener.close()
        await self._hang_up()
        self.log.close()

    async def _hang_up(self) -> None:
        """Close every connection; who does not close its own end at once is cut off."""
        for conn in self._all_connections():
            conn.close()
        for _ in range(CLOSING):
            if not self._all_connections():
                return
            await asyncio.sleep(0.01)
        for conn in self._all_connections():
            conn.abort()
        await asyncio.sleep(0.01)

    def _all_connections(self) -> list[Talk]:
        return [conn for service in self.services for conn in service.connections]

    async def __aenter__(self) -> Sandbox:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def services(self) -> list[Service]:
        """The simulators that have ports."""
        return [self.apns, self.fcm, *self.webpush, *self.vendors.values()]

    @property
    def served(self) -> list[str]:
        """Providers with a port."""
        return ["apns", "fcm", "webpush", *self.vendors]

    def ports(self) -> dict[str, Any]:
        """Where it listens, and what to trust."""
        return {
            "apns": self.listeners["apns"].port,
            "fcm": self.listeners["fcm"].port,
            "webpush": [self._listener_of(service).port for service in self.webpush],
            **{name: self.listeners[name].port for name in self.vendors},
            "ca": str(self.authority.ca_path),
        }

    def _listeners(self) -> dict[str, Listener]:
        both = self.authority.server_context(_BOTH)
        apns = self.authority.server_context(_BOTH[:1], ask_certificate=True)
        listeners = {
            "apns": Listener(self.apns.swift, None, apns),
            "fcm": Listener(self.fcm.swift, self.fcm.plain, both),
        }
        for service in self.webpush:
            listeners[f"webpush{service.origin}"] = Listener(service.swift, service.plain, both)
        for name, vendor in self.vendors.items():
            listeners[name] = Listener(vendor.swift, vendor.plain, both)
        return listeners

    async def _open(self) -> None:
        kept = self.directory / PORTS
        before: dict[str, int] = {}
        with contextlib.suppress(FileNotFoundError, ValueError):
            before = json.loads(kept.read_bytes())
        for place, (name, listener) in enumerate(self.listeners.items()):
            if self._port:
                await listener.open(self._port + place)
            else:
                await listener.open_near(int(before.get(name, 0)))
        kept.write_text(json.dumps({name: listener.port for name, listener in self.listeners.items()}))

    # ---- who is believed

    def trust(self, apns: Mapping[str, Any] | None = None, fcm: Mapping[str, Any] | None = None) -> None:
        """Believe one more APNs key or service account. Raises ValueError or KeyError."""
        if apns is not None:
            pem = apns.get("public_key") or apns["private_key"]
            self.keys.add(
                apns["team_id"],
                apns["key_id"],
                pem,
                environment=apns.get("environment"),
                topics=apns.get("topics"),
            )
            self.keys.topics.update(apns.get("topics") or ())
            self.keys.topics.update([apns["topic"]] if "topic" in apns else ())
        if fcm is not None:
            self.oauth.add(fcm, number=PROJECT_NUMBER if fcm["project_id"] == PROJECT else None)

    # ---- faults

    async def add_rule(self, text: Mapping[str, Any]) -> Rule:
        """Let this happen from now on. Raises BadRule."""
        self._numbers += 1
        rule = parse_rule(self._numbers, text)
        if rule.effect == "refuse_connections" and rule.provider not in self.served:
            raise BadRule("the token endpoint has no port of its own")
        self.rules.append(rule)
        if rule.now:
            for service in self._served(rule):
                service.strike(rule)
        elif rule.effect == "refuse_connections":
            self._refuse_connections(rule, text.get("for"))
        else:
            self.shared.rules[rule.provider].append(rule)
        return rule

    async def clear(self, number: int | None = None) -> None:
        """Faults end, one or all; nothing else does. Whoever was refused connections gets them again."""
        ended = [rule for rule in self.rules if number in (None, rule.number)]
        for rule in ended:
            self.rules.remove(rule)
            rules = self.shared.rules[rule.provider]
            if rule in rules:
                rules.remove(rule)
            if rule.effect == "refuse_connections":
                await self._reopen(rule)

    def bury(self, request: Mapping[str, Any]) -> int:
        """Registrations die: `tokens`, or a `share` of all. Returns how many are known by name.

        Without `provider` they die at all of them (a token is only one provider's anyway).
        """
        dead = Dead(request.get("reason"), request.get("timestamp"))
        names = [request["provider"]] if "provider" in request else self.served
        for name in names:
            graves = self.shared.graves[name]
            if "share" in request:
                graves.bury_share(float(request["share"]), int(request.get("seed", 0)), dead)
            graves.bury([str(token) for token in request.get("tokens", ())], dead)
        return sum(len(self.shared.graves[name]) for name in names)

    def revive(self) -> None:
        """Nobody is dead any more."""
        for graves in self.shared.graves.values():
            graves.clear()

    def change(self, values: Mapping[str, Any]) -> None:
        """Set settings; `dialects` is a list for the Web Push origins. Raises ValueError."""
        known = asdict(self.shared.settings)
        for name, value in values.items():
            if name == "dialects":
                self._speak(value)
            elif name == "over_limit":
                self.shared.settings.over_limit = OverLimit(value)
            elif name not in known or not isinstance(value, int | float):
                raise ValueError(
                    f"no setting {name} of this kind; there are {', '.join((*known, 'dialects'))}"
                )
            else:
                setattr(self.shared.settings, name, type(known[name])(value))

    def _speak(self, dialects: Sequence[str]) -> None:
        if not set(dialects) <= DIALECTS.keys() or len(dialects) != len(self.webpush):
            raise ValueError(f"dialects are one per origin, of {', '.join(DIALECTS)}")
        for service, name in zip(self.webpush, dialects, strict=True):
            if service.dialect.name != name:
                service.speak(name)

    def _served(self, rule: Rule) -> list[Service]:
        return [
            service
            for service in self.services
            if service.provider == rule.provider and rule.origin in (None, service.origin)
        ]

    def _ports_of(self, rule: Rule) -> list[Listener]:
        return [self._listener_of(service) for service in self._served(rule)]

    def _listener_of(self, service: Service) -> Listener:
        suffix = str(service.origin) if service.provider == "webpush" else ""
        return self.listeners[service.provider + suffix]

    def _refuse_connections(self, rule: Rule, seconds: float | None) -> None:
        for listener in self._ports_of(rule):
            listener.close()
        for service in self._served(rule):
            for conn in list(service.connections):
                rule.hits += 1
                conn.abort()
        if seconds is not None:
            task = asyncio.create_task(self._reopen_after(rule, float(seconds)))
            self._reopening.add(task)
            task.add_done_callback(self._reopening.discard)

    async def _reopen_after(self, rule: Rule, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._reopen(rule)

    async def _reopen(self, rule: Rule) -> None:
        for listener in self._ports_of(rule):
            await listener.open()

    # ---- looking

    def counts(self) -> dict[str, Any]:
        """Requests by provider, status and reason, and the most in one second."""
        return {name: tally.counts() for name, tally in self.shared.tallies.items()}

    def reset_counts(self) -> None:
        """Count from 0."""
        for tally in self.shared.tallies.values():
            tally.__init__()  # type: ignore[misc]

    async def shown(self, token: str) -> list[dict[str, Any]]:
        """What this device has on its screen."""
        return await self.log.shown(token) + self.fcm.received.get(token, [])

    def state(self) -> dict[str, Any]:
        """Everything that can be asked about it."""
        settings = asdict(self.shared.settings)
        return {
            **self.ports(),
            "dialects": [service.dialect.name for service in self.webpush],
            "settings": settings,
            "connections": {name: self._connections(name) for name in self.served},
            "listening": {name: listener.is_open for name, listener in self.listeners.items()},
            "faults": [self._rule_state(rule) for rule in self.rules],
            "dead": {name: len(self.shared.graves[name]) for name in self.served},
            "topics": sorted(self.keys.topics),
            "projects": self.oauth.projects,
            "log": str(self.log.path),
        }

    def _connections(self, provider: str) -> int:
        return sum(len(service.connections) for service in self.services if service.provider == provider)

    def _rule_state(self, rule: Rule) -> dict[str, Any]:
        return {"number": rule.number, "hits": rule.hits, "over": rule.over, "rule": rule.text}
