"""Outbound HTTP: one lean client with kept-alive connections, time and size limits, and a guard against SSRF.

Inside the fleet libcurl costs half the CPU of http.client and a fifth of that of requests (docs/adr/0005).
"""

from __future__ import annotations

import ipaddress
import random
import re
import select
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import unquote, urlsplit

import pycurl
from pydantic_core import from_json

from ..base.errors import (
    ConfigError,
    EgressDenied,
    UpstreamError,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from ..base.transactions import check_no_transaction
from ..base.wire import is_number

CONNECT_TIMEOUT_S = 3.0
MAX_RESPONSE_BYTES = 4 * 1024 * 1024
MAX_REDIRECTS = 3
USER_AGENT = "WaddleBot/1"
# Whoever chose a name learns no address from us, nor whether the name is one of a private network.
NO_PUBLIC_ADDRESS = "{} is not reached: no public address answers there."
# A container that was started anew may have another address; libcurl would go to the one before for a minute. Who has
# a connection asks for none.
NAME_KEPT_S = 2
NOT_CONNECTED = (pycurl.E_COULDNT_RESOLVE_HOST, pycurl.E_COULDNT_CONNECT)
# What says that the target, not the request, is the trouble: the same request may do better in a moment.
TARGET_IS_DOWN = frozenset({429, 502, 503, 504})
# Source: the IANA registries of special-purpose IPv4 and IPv6 addresses and of IPv6's address space. They are written
# out, because what Python's is_global says of them changes from version to version.
NOT_PUBLIC = tuple(
    map(
        ipaddress.IPv4Network,
        (
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",
            "127.0.0.0/8",
            "168.63.129.16/32",  # Azure's own services, for every machine there.
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.31.196.0/24",
            "192.52.193.0/24",
            "192.88.99.0/24",
            "192.168.0.0/16",
            "192.175.48.0/24",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/3",
        ),
    )
)
# Everything outside of it is local, reserved, multicast, or another way to write IPv4.
IPV6_UNICAST = ipaddress.IPv6Network("2000::/3")
IPV6_NOT_PUBLIC = tuple(
    map(ipaddress.IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20"))
)
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class HTTPResponse:
    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    def json(self) -> Any:
        """Raises: UpstreamRefused when the body is not JSON."""
        try:
            return from_json(self.body)
        except ValueError as err:
            raise UpstreamRefused(f"The answer (HTTP {self.status}) is not JSON.") from err


class EgressGuard:
    """Says which addresses a URL from outside may lead to: public ones, and what EGRESS_ALLOW lists.

    libcurl asks it for each socket, after name resolution and after each redirect, so a name that changes its address
    between check and use is checked at its use.
    """

    def __init__(self, allow: Sequence[str] = ()) -> None:
        self.networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
        self.hosts: set[tuple[str, int]] = set()
        for entry in allow:
            host, _, port = entry.rpartition(":")
            if is_number(port, digits=5) and host and "/" not in entry:
                self.hosts.add((host.strip("[]").lower(), int(port)))
                continue
            try:
                self.networks.append(ipaddress.ip_network(entry, strict=False))
            except ValueError as err:
                raise ConfigError(f"EGRESS_ALLOW: {entry!r} is neither host:port nor a CIDR range.") from err

    def names(self, url: str) -> bool:
        """Whether EGRESS_ALLOW names the URL's host and port."""
        parts = urlsplit(url)
        try:
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError:
            return False
        return ((parts.hostname or "").lower(), port) in self.hosts

    def allows(self, address: str) -> bool:
        ip = ipaddress.ip_address(address.split("%")[0])
        if isinstance(ip, ipaddress.IPv6Address):
            ip = _ipv4_within(ip) or ip
        return _is_public(ip) or any(ip in network for network in self.networks)


class HTTPClient:
    """Make requests from any thread; each thread keeps its own connections.

    Without a guard only for addresses from the settings. With one for URLs that a user or a module gave.
    """

    def __init__(self, guard: EgressGuard | None = None, *, max_response_bytes: int = MAX_RESPONSE_BYTES) -> None:
        self._guard = guard
        self._max_bytes = max_response_bytes
        self._local = threading.local()

    def request(
        self,
        method: str,
        url: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 30,
        keep_headers: bool = False,
        fresh: bool = False,
    ) -> HTTPResponse:
        """Send one request and return whatever status comes back; its headers only if asked for, because each one
        costs a turn of the interpreter's lock.

        What must never be sent twice goes over a `fresh` connection: when a kept one breaks before a byte is answered,
        libcurl sends the request again by itself, a POST too.

        Raises: UpstreamTimeout; UpstreamUnreachable; UpstreamError when the connection breaks; UpstreamRefused for an
        answer that is too large; EgressDenied for an address that the guard refuses.
        """
        check_no_transaction()
        curl = self._handle()
        received: list[bytes] = []
        found: dict[str, str] = {}
        denied: list[str] = []
        opened: list[socket.socket] = []
        self._prepare(curl, method, url, body, headers or {}, timeout_s)
        if self._guard and not self._guard.names(url):
            curl.setopt(pycurl.OPENSOCKETFUNCTION, _guarded_socket(self._guard, denied, opened))
            if method == "GET":
                curl.setopt(pycurl.FOLLOWLOCATION, 1)
                curl.setopt(pycurl.MAXREDIRS, MAX_REDIRECTS)
        curl.setopt(pycurl.WRITEFUNCTION, self._collector(received))
        if fresh:
            curl.setopt(pycurl.FRESH_CONNECT, 1)
        if keep_headers:
            curl.setopt(pycurl.HEADERFUNCTION, lambda line: _keep_header(found, line))
        try:
            curl.perform()
            response = HTTPResponse(curl.getinfo(pycurl.RESPONSE_CODE), b"".join(received), found)
            if _says_more(curl):
                self._forget_connections()
            return response
        except pycurl.error as err:
            code, text = err.args
            if denied:
                raise EgressDenied(NO_PUBLIC_ADDRESS.format(urlsplit(url).hostname)) from err
            if code == pycurl.E_OPERATION_TIMEDOUT:
                raise UpstreamTimeout(f"No answer within {timeout_s:g} s.") from err
            if code == pycurl.E_WRITE_ERROR:
                raise UpstreamRefused(f"The answer is larger than {self._max_bytes} bytes.") from err
            kind = UpstreamUnreachable if code in NOT_CONNECTED else UpstreamError
            if self._guard and code in NOT_CONNECTED:
                raise kind(NO_PUBLIC_ADDRESS.format(urlsplit(url).hostname)) from err
            raise kind(f"Not reached: {text}") from err
        finally:
            for each in opened:
                each.close()  # libcurl has duplicates of its own.

    def _handle(self) -> pycurl.Curl:
        curl = getattr(self._local, "curl", None)
        if curl is None:
            curl = self._local.curl = pycurl.Curl()
        else:
            curl.reset()  # Forgets the options, keeps the connections.
        return curl

    def _forget_connections(self) -> None:
        self._local.curl.close()
        del self._local.curl

    def _prepare(
        self, curl: pycurl.Curl, method: str, url: str, body: bytes | None, headers: Mapping[str, str], timeout_s: float
    ) -> None:
        curl.setopt(pycurl.URL, url.encode("utf-8", "replace"))
        curl.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
        curl.setopt(pycurl.NOSIGNAL, 1)
        curl.setopt(pycurl.NOPROXY, "*")
        curl.setopt(pycurl.DNS_CACHE_TIMEOUT, NAME_KEPT_S)
        curl.setopt(pycurl.TCP_NODELAY, 1)
        curl.setopt(pycurl.USERAGENT, USER_AGENT)
        curl.setopt(pycurl.CONNECTTIMEOUT_MS, int(min(CONNECT_TIMEOUT_S, timeout_s) * 1000))
        curl.setopt(pycurl.TIMEOUT_MS, max(1, int(timeout_s * 1000)))
        curl.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
        curl.setopt(pycurl.CUSTOMREQUEST, method)
        lines = [f"{name}: {value}" for name, value in headers.items()]
        if body is not None:
            curl.setopt(pycurl.POST, 1)
            curl.setopt(pycurl.POSTFIELDSIZE, len(body))
            curl.setopt(pycurl.COPYPOSTFIELDS, body)
            lines.append("Expect:")  # libcurl would wait for a 100 Continue that WSGI servers do not send.
        curl.setopt(pycurl.HTTPHEADER, lines)

    def _collector(self, received: list[bytes]) -> Callable[[bytes], int]:
        size = 0

        def collect(chunk: bytes) -> int:
            nonlocal size
            size += len(chunk)
            if size > self._max_bytes:
                return -1
            received.append(chunk)
            return len(chunk)

        return collect


def has_dot_segments(url: str) -> bool:
    """Whether a path has `.` or `..` in it, which libcurl would take out: `/a/../b`, `/a/%2E%2e/b`."""
    path = re.split("[?#]", url, maxsplit=1)[0]
    while (decoded := unquote(path)) != path:
        path = decoded
    return any(segment in (".", "..") for segment in re.split(r"[/\\?#]", path))


def is_below(url: str, bases: Iterable[str]) -> bool:
    """Whether a URL is one of these or below it. With the slash no longer name or port can pass for one."""
    return f"{url}/".startswith(tuple(f"{base}/" for base in bases)) and not has_dot_segments(url)


def _ipv4_within(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 address leads to: mapped, 6to4 or NAT64."""
    if ip in NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour


def _is_public(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if isinstance(ip, ipaddress.IPv4Address):
        return not any(ip in network for network in NOT_PUBLIC)
    return ip in IPV6_UNICAST and not any(ip in network for network in IPV6_NOT_PUBLIC)


def _says_more(curl: pycurl.Curl) -> bool:
    """Whether a server goes on after its response. libcurl would take that for the answer to the next request."""
    descriptor = curl.getinfo(pycurl.ACTIVESOCKET)
    if descriptor < 0:
        return False
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    return bool(poller.poll(0))


def _keep_header(found: dict[str, str], line: bytes) -> None:
    name, colon, value = line.decode("latin-1").partition(":")
    if colon:
        found[name.strip().lower()] = value.strip()


def _guarded_socket(guard: EgressGuard, denied: list[str], opened: list[socket.socket]) -> Callable[[int, Any], Any]:
    def open_socket(_purpose: int, address: Any) -> Any:
        host = address.addr[0]
        if not guard.allows(host):
            denied.append(str(host))
            return pycurl.SOCKET_BAD
        opened.append(socket.socket(address.family, address.socktype, address.protocol))
        return opened[-1]

    return open_socket


def with_retries(
    call: Callable[[], HTTPResponse],
    *,
    until: float,
    first_wait_s: float = 0.1,
    most_wait_s: float = 2.0,
    statuses: Collection[int] = TARGET_IS_DOWN,
) -> HTTPResponse:
    """Repeat a call that is safe to repeat while the target is down or answers one of these statuses.

    Waits twice as long each time, with jitter, up to `most_wait_s`, and longer where a Retry-After asks for it; gives
    up at `until` (time.monotonic) with the last answer or error.
    """
    wait_s = first_wait_s
    while True:
        failure: UpstreamError | None = None
        asked_s = 0.0
        try:
            response = call()
            if response.status not in statuses:
                return response
            asked_s = retry_after_s(response)
        except UpstreamError as err:
            if not err.retryable:
                raise
            failure = err
        pause = max(asked_s, wait_s) * random.uniform(1.0, 1.3)  # noqa: S311 - jitter, not a secret
        if time.monotonic() + pause >= until:
            if failure:
                raise failure
            return response
        time.sleep(pause)
        wait_s = min(wait_s * 2, most_wait_s)


def retry_after_s(response: HTTPResponse) -> float:
    """How long an answer asks to be left alone, by a Retry-After in seconds or as a date; 0 when it does not."""
    text = response.headers.get("retry-after", "")
    if is_number(text, digits=len(text)):
        return float(text[:9])
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return 0.0
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
