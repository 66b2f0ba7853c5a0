"""Where a stored Web Push endpoint may lead: to a public address, or to one that the credential allows.

Endpoints come from browsers, so anybody can register one. Without this check a push would be a request to
whatever stands inside our network. The name is looked up once a connection, every address it has must be
allowed, and the connection goes to the address that was checked.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from typing import Final

from clarion.errors import SenderError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_UNICAST: Final = ipaddress.IPv6Network("2000::/3")  # all of IPv6 that is given to the public
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")  # an IPv6-only network's way to IPv4 (RFC 6052)


class ForbiddenAddress(SenderError):
    """The endpoint's host has an address that is not public."""


class Gatekeeper:
    """`allow`: networks in CIDR notation that are let through beside public addresses."""

    def __init__(self, allow: Sequence[str] = ()) -> None:
        self._allow: list[Network] = [ipaddress.ip_network(text) for text in allow]

    def allows(self, address: str) -> bool:
        """Whether a connection may go there."""
        ip = ipaddress.ip_address(address.split("%", 1)[0])
        inner = _inner(ip)
        if any(one.version == net.version and one in net for net in self._allow for one in {ip, inner}):
            return True
        return _is_public(inner) and (inner is not ip or ip.version == 4 or ip in _UNICAST)

    async def resolve(self, host: str, port: int, turn: int = 0) -> str:
        """The address to connect to, another one at each turn when the name has several.

        Raises ForbiddenAddress, or OSError when the name has none.
        """
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        if not addresses or not all(self.allows(address) for address in addresses):
            raise ForbiddenAddress
        return addresses[turn % len(addresses)]


def _inner(ip: Address) -> Address:
    """The IPv4 address that an IPv6 address carries, where the packets end; else the address itself."""
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    if ip in _NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or ip


def _is_public(ip: Address) -> bool:
    return ip.is_global and not ip.is_multicast
