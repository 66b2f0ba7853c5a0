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

from clarion.errors import SenderError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class ForbiddenAddress(SenderError):
    """The endpoint's host has an address that is not public."""


class Gatekeeper:
    """`allow`: networks in CIDR notation that are let through beside public addresses."""

    def __init__(self, allow: Sequence[str] = ()) -> None:
        self._allow: list[Network] = [ipaddress.ip_network(text) for text in allow]

    def allows(self, address: str) -> bool:
        """Whether a connection may go there."""
        ip = ipaddress.ip_address(address.split("%", 1)[0])
        mapped = getattr(ip, "ipv4_mapped", None)
        if mapped is not None:
            ip = mapped
        if any(ip.version == network.version and ip in network for network in self._allow):
            return True
        return ip.is_global and not ip.is_multicast

    async def resolve(self, host: str, port: int) -> str:
        """The address to connect to. Raises ForbiddenAddress, or OSError when the name has none."""
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = [str(entry[4][0]) for entry in found]
        if not addresses or not all(self.allows(address) for address in addresses):
            raise ForbiddenAddress
        return addresses[0]
