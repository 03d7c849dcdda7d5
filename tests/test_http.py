"""Outbound HTTP: limits hold, and a URL from outside leads to no private address, however it is disguised."""

from __future__ import annotations

import contextlib
import inspect
import os
import re
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from waddlebot.base.errors import (
    ConfigError,
    EgressDenied,
    UpstreamError,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from waddlebot.web import http
from waddlebot.web.http import EgressGuard, HTTPClient, with_retries


class Target(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hang = threading.Event()
    leads_to = ""
    paths: list[str] = []  # noqa: RUF012 - one server per test run

    def do_GET(self):
        Target.paths.append(self.path)
        if self.path in ("/redirect", "/elsewhere"):
            self.send_response(302)
            secret = f"http://127.0.0.1:{self.server.server_address[1]}/secret"
            self.send_header("Location", secret if self.path == "/redirect" else Target.leads_to)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.path == "/hang":
            Target.hang.wait(5)
        body = b"x" * (3_000_000 if self.path == "/large" else 5)
        self.send_response(200)
        self.send_header("X-Thing", "yes")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server():
    made = ThreadingHTTPServer(("127.0.0.1", 0), Target)
    made.daemon_threads = True
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield f"127.0.0.1:{made.server_address[1]}"
    Target.hang.set()
    made.shutdown()
    made.server_close()
    thread.join()


@pytest.fixture
def guarded():
    return HTTPClient(EgressGuard())


def test_without_a_guard_the_fleets_own_addresses_are_reached(server):
    response = HTTPClient().request("GET", f"http://{server}/", keep_headers=True)

    assert (response.status, response.body, response.headers["x-thing"]) == (200, b"xxxxx", "yes")


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"],
)
def test_a_guarded_client_does_not_reach_this_machine(server, guarded, host):
    port = server.split(":")[1]
    with pytest.raises((EgressDenied, UpstreamError)) as caught:
        guarded.request("GET", f"http://{host}:{port}/secret-{host}", timeout_s=2)

    assert not isinstance(caught.value, UpstreamTimeout)
    assert f"/secret-{host}" not in Target.paths


def test_an_address_that_is_allowed_by_name_is_reached_but_its_redirects_are_not_followed(server):
    client = HTTPClient(EgressGuard([server]))

    assert client.request("GET", f"http://{server}/").status == 200
    assert client.request("GET", f"http://{server}/redirect").status == 302
    assert "/secret" not in Target.paths


def test_a_range_can_be_allowed(server):
    assert HTTPClient(EgressGuard(["127.0.0.0/8"])).request("GET", f"http://{server}/").status == 200


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("93.184.216.34", True),
        ("10.0.0.1", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fc00::1", False),
        ("::ffff:10.0.0.1", False),
        ("::10.0.0.1", False),
        ("64:ff9b::10.0.0.1", False),
        ("64:ff9b::93.184.216.34", True),
        ("64:ff9b:1::1", False),
        ("2002:a00:1::1", False),
        ("2002:5db8:d822::1", True),
        ("fec0::1", False),
        ("192.0.0.192", False),
        ("192.0.0.9", False),
        ("192.88.99.1", False),
        ("168.63.129.16", False),
        ("168.63.129.17", True),
        ("100.100.100.200", False),
        ("198.19.255.255", False),
        ("192.175.48.6", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("3fff::1", False),
        ("5f00::1", False),
        ("100::1", False),
        ("2001::1", False),
        ("2001:2::1", False),
        ("2001:20::1", False),
        ("2001:db8::1", False),
        ("2620:4f:8000::1", False),
        ("4000::1", False),
        ("ff02::1", False),
        ("::ffff:192.0.0.1", False),
        ("::ffff:a8:3f81", False),
        ("::ffff:a83f:8110", False),
        ("0:0:0:0:0:ffff:7f00:1", False),
        ("::ffff:93.184.216.34", True),
        ("::ffff:0:127.0.0.1", False),
        ("::ffff:0:5db8:d822", False),
        ("::93.184.216.34", False),
        ("2002:c058:6301::1", False),
        ("2001:200::1", True),
        ("::", False),
        ("2606:2800:220:1::1", True),
    ],
)
def test_the_guard_knows_which_addresses_are_public(address, allowed):
    assert EgressGuard().allows(address) is allowed


def test_the_guard_asks_no_table_that_changes_with_pythons_version():
    source = inspect.getsource(http)

    assert not re.search(r"\.is_(global|private|reserved|multicast|link_local)\b", source)


def test_a_redirect_leads_only_to_what_the_guard_allows(server):
    # The start is allowed by its range, and the place that it leads to is another address of this machine.
    client = HTTPClient(EgressGuard(["127.0.0.1/32"]))
    elsewhere = f"http://127.0.0.2:{server.split(':')[1]}/secret-elsewhere"
    Target.leads_to = elsewhere

    with pytest.raises(EgressDenied) as caught:
        client.request("GET", f"http://{server}/elsewhere")
    assert "127.0.0" not in caught.value.message.replace("127.0.0.1", "", 1)
    assert "/secret-elsewhere" not in Target.paths


def test_nobody_learns_from_an_error_where_a_name_leads(guarded, server):
    said = []
    for name in ("changed.localhost", "nothing.invalid"):
        with pytest.raises((EgressDenied, UpstreamError)) as caught:
            guarded.request("GET", f"http://{name}:{server.split(':')[1]}/", timeout_s=2)
        said.append(caught.value.message.replace(name, "NAME"))

    assert said == ["NAME is not reached: no public address answers there."] * 2


@pytest.mark.parametrize("url", ["http://example.org:99999/", "http://example.org:²/"])
def test_a_port_that_is_none_is_refused(guarded, url):
    with pytest.raises(UpstreamError):
        guarded.request("GET", url, timeout_s=1)


def test_a_bad_entry_of_egress_allow_is_named():
    with pytest.raises(ConfigError, match="not-a-range"):
        EgressGuard(["not-a-range"])


@pytest.mark.parametrize("url", ["file:///etc/passwd", "gopher://127.0.0.1/", "ftp://127.0.0.1/"])
def test_other_protocols_are_refused(url):
    with pytest.raises(UpstreamError):
        HTTPClient().request("GET", url)


def test_an_answer_that_is_too_large_is_refused(server):
    with pytest.raises(UpstreamRefused, match="larger"):
        HTTPClient(max_response_bytes=1_000_000).request("GET", f"http://{server}/large")


def test_an_answer_that_does_not_come_times_out(server):
    with pytest.raises(UpstreamTimeout):
        HTTPClient().request("GET", f"http://{server}/hang", timeout_s=0.2)


def test_a_connection_that_is_refused_is_worth_another_try():
    with pytest.raises(UpstreamUnreachable) as caught:
        HTTPClient().request("GET", "http://127.0.0.1:9/", timeout_s=1)
    assert caught.value.retryable


def test_what_must_not_be_sent_twice_is_not_sent_again_by_the_library():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        heard: list[bytes] = []
        thread = threading.Thread(target=_answer_once_a_connection, args=(listener, heard), daemon=True)
        thread.start()
        client, url = HTTPClient(), f"http://127.0.0.1:{listener.getsockname()[1]}/"

        client.request("POST", url, body=b"first")
        client.request("POST", url, body=b"again")  # Sent over the kept connection, which breaks, and then anew.
        assert [body for body in heard if b"again" in body] == [b"again"] * 2
        assert client.request("POST", url, body=b"once", fresh=True).status == 200
        assert heard.count(b"once") == 1
        listener.shutdown(socket.SHUT_RDWR)  # Ends the accept() of the thread.
    thread.join(5)


def _answer_once_a_connection(listener: socket.socket, heard: list[bytes]) -> None:
    """Answer the first request of each connection, hang up at the second."""
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_hang_up_at_the_second, args=(connection, heard), daemon=True).start()


def _hang_up_at_the_second(connection: socket.socket, heard: list[bytes]) -> None:
    with connection:
        for answer in (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", None):
            request = b""
            while not request.endswith((b"first", b"again", b"once")):
                received = connection.recv(65536)
                if not received:
                    return
                request += received
            heard.append(request.partition(b"\r\n\r\n")[2])
            if answer:
                connection.sendall(answer)


def test_retries_end_with_the_last_answer(server):
    with pytest.raises(UpstreamError):
        with_retries(lambda: HTTPClient().request("GET", "http://127.0.0.1:9/"), until=0, first_wait_s=0.01)


MOVING = """
import http.server, socket, struct, threading, time
from waddlebot.web.http import HTTPClient

address = "127.0.0.1"


def answer_names():
    names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    names.bind(("127.31.5.3", 53))
    while True:
        asked, who = names.recvfrom(512)
        end = asked.index(0, 12) + 5
        found = asked[end - 4:end - 2] == bytes([0, 1])
        record = struct.pack(">HHHIH", 0xC00C, 1, 1, 0, 4) + socket.inet_aton(address) if found else b""
        names.sendto(asked[:2] + struct.pack(">HHHHH", 0x8180, 1, found, 0, 0) + asked[12:end] + record, who)


class Says(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "9")
        self.end_headers()
        self.wfile.write(self.server.server_address[0].encode())

    def log_message(self, *_):
        pass


def serve(host, port=0):
    server = http.server.HTTPServer((host, port), Says)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    return server


threading.Thread(target=answer_names, daemon=True).start()
before = serve(address)
port = before.server_address[1]
client = HTTPClient()
ask = lambda: client.request("GET", f"http://module.example:{port}/", timeout_s=2).body.decode()
print(ask())
before.shutdown()
before.server_close()
address = "127.0.0.2"
serve(address, port)
time.sleep(3)
print(ask())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a process another name server")
def test_who_has_moved_is_found_within_seconds(tmp_path):
    (tmp_path / "resolv.conf").write_text("nameserver 127.31.5.3\n")
    (tmp_path / "ask.py").write_text(MOVING)
    bind = f"mount --bind {tmp_path}/resolv.conf /etc/resolv.conf && exec {sys.executable} {tmp_path}/ask.py"
    done = subprocess.run(["unshare", "--mount", "sh", "-c", bind], capture_output=True, text=True, check=False)

    assert done.stdout.split() == ["127.0.0.1", "127.0.0.2"], done.stderr
