"""The only way out of the fence: a module names a host that it declared, and is handed a socket connected to it.

Names are looked up here, and only those that were declared, so that nothing can be told by asking for a name. What an
address is connected to is what was checked. TLS is the module's own, from end to end.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..web.http import EgressGuard

HTTPS = 443
MAX_QUESTION_BYTES = 1000
CONNECT_TIMEOUT_S = 5.0
MAX_CONNECTIONS = 20
# What one call may ask for, and how many names of what was refused are kept.
MAX_QUESTIONS, KEPT_NAMES = 200, 50
MAX_BYTES = 20 * 1024 * 1024
# struct tcp_info of linux/tcp.h
BYTES_ACKED, BYTES_RECEIVED, TCP_INFO_BYTES = 120, 128, 136


@dataclass(slots=True)
class Traffic:
    """What a module did in the network, and what it tried."""

    connections: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    # How often it asked for what it may not have.
    refused: Counter[str] = field(default_factory=Counter)

    def refuse(self, where: str) -> None:
        """Count it; a module chooses the names, so not all of them are kept."""
        self.refused[where if where in self.refused or len(self.refused) < KEPT_NAMES else "others"] += 1


class Refused(Exception):
    """This connection is not made."""


class Broker:
    """Answers one process. Connections live no longer than the call in which they were made."""

    def __init__(self, end: socket.socket, hosts: Sequence[str], guard: EgressGuard, traffic: Traffic) -> None:
        self._end = end
        self._hosts = {each if ":" in each else f"{each}:{HTTPS}" for each in hosts}
        self._guard = guard
        self._traffic = traffic
        self._open: list[socket.socket] = []
        self._is_calling = False
        self._asked = 0
        end.setblocking(False)

    async def serve(self) -> None:
        """Answer until the process is gone."""
        loop = asyncio.get_running_loop()
        buffered = b""
        while chunk := await loop.sock_recv(self._end, MAX_QUESTION_BYTES):
            *questions, buffered = (buffered + chunk).split(b"\n")
            for question in questions:
                self._asked += 1
                if not self.is_too_much:
                    await self._answer(question)
            if len(buffered) > MAX_QUESTION_BYTES:
                return

    def begin(self) -> None:
        self._is_calling = True
        self._asked = 0

    def end(self) -> None:
        """The call is over, and with it whatever it had open."""
        self._is_calling = False
        sent, received = self.carried()
        self._traffic.sent_bytes += sent
        self._traffic.received_bytes += received
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self._open.clear()

    def close(self) -> None:
        self.end()
        self._end.close()

    @property
    def is_too_much(self) -> bool:
        return self._asked > MAX_QUESTIONS or sum(self.carried()) > MAX_BYTES

    def carried(self) -> tuple[int, int]:
        """Bytes sent and received in this call."""
        totals = [_bytes_of(each) for each in self._open]
        return sum(sent for sent, _ in totals), sum(received for _, received in totals)

    async def _answer(self, question: bytes) -> None:
        try:
            connection = await self._connect(*_read(question))
        except Refused as err:
            # No longer than a module reads at once, or its next question would be answered with the rest.
            with contextlib.suppress(OSError):
                await asyncio.get_running_loop().sock_sendall(self._end, str(err).encode()[:500])
            return
        self._open.append(connection)
        self._traffic.connections += 1
        with contextlib.suppress(OSError):
            socket.send_fds(self._end, [b"ok"], [connection.fileno()])

    async def _connect(self, host: str, port: int) -> socket.socket:
        where = f"{host.lower().rstrip('.')}:{port}"
        if where not in self._hosts:
            self._traffic.refuse(where[:100])
            raise Refused(f"{where[:100]} is not among the hosts that module.toml declares.")
        if not self._is_calling or len(self._open) >= MAX_CONNECTIONS:
            raise Refused(f"A call has at most {MAX_CONNECTIONS} connections, and none is made between calls.")
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                return await self._connect_to_first(where, host, port)
        except TimeoutError as err:
            raise Refused(f"{where} does not answer.") from err

    async def _connect_to_first(self, where: str, host: str, port: int) -> socket.socket:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as err:
            raise Refused(f"{host} is not known.") from err
        is_named = self._guard.names(f"https://{where}")
        for family, kind, protocol, _name, address in found:
            if not is_named and not self._guard.allows(str(address[0])):
                continue
            connection = socket.socket(family, kind, protocol)
            connection.setblocking(False)
            try:
                await loop.sock_connect(connection, address)
            except BaseException as err:
                connection.close()
                if isinstance(err, OSError):
                    continue
                raise
            return connection
        self._traffic.refuse(where)
        raise Refused(f"{where} is not reached: no public address answers there.")


def _read(question: bytes) -> tuple[str, int]:
    """Raises: Refused."""
    try:
        host, port = json.loads(question)
        return str(host), int(port)
    except (ValueError, TypeError, RecursionError) as err:
        raise Refused("That is no host and port.") from err


def _bytes_of(connection: socket.socket) -> tuple[int, int]:
    try:
        told = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_BYTES)
    except OSError:
        return 0, 0
    if len(told) < TCP_INFO_BYTES:
        return 0, 0
    sent, received = struct.unpack_from("=QQ", told, BYTES_ACKED)
    return int(sent), int(received)
