"""Webhooks against hostile receivers: nothing inside is reached, and nothing is read or waited for without an end."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import hmac
import importlib
import threading
import time
from collections.abc import Callable
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from waddlebot.base.errors import EgressDenied, Invalid, UpstreamError, UpstreamRefused, UpstreamTimeout
from waddlebot.web.http import EgressGuard, HTTPResponse, retry_after_s

SECRET = "a signing key"
BODY = b'{"message":"quack"}'


class Receiver:
    """Somebody else's server. `behaviour` answers each POST; `requests` holds path, headers and body of each."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.behaviour: Callable[[BaseHTTPRequestHandler], None] = lambda handler: answer(handler, 200, b"{}")
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.requests.append((self.path, headers, body))
                with contextlib.suppress(OSError):
                    receiver.behaviour(self)

            def do_GET(self) -> None:
                receiver.requests.append((self.path, {}, b""))

            def log_message(self, *_) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    @property
    def port(self) -> int:
        return self.server.server_address[1]

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def answer(handler: BaseHTTPRequestHandler, status: int, body: bytes = b"", **headers: str) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@pytest.fixture(scope="module")
def webhooks(fleet):
    """The unit under test, as the fleet has loaded it."""
    return importlib.import_module("apps.router_module.services.engines.webhook_client")


@pytest.fixture
def receiver():
    made = Receiver()
    yield made
    made.stop()


@pytest.fixture
def post(webhooks, receiver):
    """Post to the receiver, which EGRESS_ALLOW names, or to another URL."""
    client = webhooks.WebhookClient(EgressGuard([receiver.address]), max_answer_bytes=100_000)

    def send(url: str = "", *, within_s: float = 5, **options) -> HTTPResponse:
        url = url or f"http://{receiver.address}/hook"
        options = {"secret": SECRET, "idempotency_key": "key-1", **options}
        return client.post(url, BODY, until=time.monotonic() + within_s, **options)

    return send


def test_a_webhook_is_signed_over_its_time_and_body(post, receiver):
    assert post(headers={"X-Theirs": "yes", "X-WaddleBot-Signature": "forged"}).status == 200

    ((path, headers, body),) = receiver.requests
    signed = headers["x-waddlebot-timestamp"].encode() + b"." + body
    assert (path, body) == ("/hook", BODY)
    assert headers["x-waddlebot-signature"] == "sha256=" + hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
    assert abs(int(headers["x-waddlebot-timestamp"]) - time.time()) < 60
    assert (headers["idempotency-key"], headers["x-theirs"]) == ("key-1", "yes")
    assert headers["content-type"] == "application/json"
    assert "x-api-key" not in headers


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_receiver_in_trouble_is_tried_again_under_the_same_key(post, receiver, status):
    troubles = iter([status, status])
    receiver.behaviour = lambda handler: answer(handler, next(troubles, 200))

    assert post().status == 200
    assert [headers["idempotency-key"] for _, headers, _ in receiver.requests] == ["key-1"] * 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 422, 501])
def test_a_clear_refusal_is_not_argued_with(post, receiver, status):
    receiver.behaviour = lambda handler: answer(handler, status)

    assert post().status == status
    assert len(receiver.requests) == 1


def test_a_wait_that_is_asked_for_beyond_the_deadline_ends_it(post, receiver):
    receiver.behaviour = lambda handler: answer(handler, 503, Retry_After="3600")

    assert post(within_s=2).status == 503
    assert len(receiver.requests) == 1


def test_a_wait_that_is_asked_for_is_kept(post, receiver):
    times = []

    def busy_at_first(handler):
        times.append(time.monotonic())
        answer(handler, 200 if times[1:] else 429, Retry_After="1")

    receiver.behaviour = busy_at_first
    assert post().status == 200
    assert times[1] - times[0] >= 1


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7),
        ("", 0),
        ("soon", 0),
        ("-5", 0),
        ("٣", 0),
        ("9" * 5000, 999_999_999),
        ("Fri, 01 Jan 99999999999999999999 00:00:00 GMT", 0),
        (formatdate(0, usegmt=True), 0),
    ],
)
def test_any_retry_after_can_be_read(text, seconds):
    assert retry_after_s(HTTPResponse(429, b"", {"retry-after": text})) == seconds


def test_a_retry_after_may_be_a_date():
    in_a_minute = formatdate(time.time() + 60, usegmt=True)

    assert 50 < retry_after_s(HTTPResponse(429, b"", {"retry-after": in_a_minute})) <= 60


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_into_a_private_address_is_not_followed(post, receiver, status):
    inside = Receiver()
    receiver.behaviour = lambda handler: answer(handler, status, Location=f"http://{inside.address}/secret")
    try:
        assert post().status == status
        assert inside.requests == []
    finally:
        inside.stop()


def test_a_name_that_leads_to_a_private_address_when_it_is_used_is_refused(webhooks, post, receiver):
    # libcurl knows every name under localhost, so this one is a public name that has changed since it was checked.
    url = f"http://changed.localhost:{receiver.port}/secret"
    webhooks.check_webhook_url(url, EgressGuard())

    with pytest.raises(EgressDenied, match=r"changed\.localhost is not reached"):
        post(url)
    assert receiver.requests == []


def test_an_answer_without_an_end_is_cut_off(post, receiver):
    def endless(handler):
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        while True:
            handler.wfile.write(b"1000\r\n" + b"x" * 4096 + b"\r\n")

    receiver.behaviour = endless
    with pytest.raises(UpstreamRefused, match="larger than 100000 bytes"):
        post()
    assert len(receiver.requests) == 1


def test_headers_without_an_end_are_cut_off(post, receiver):
    def endless(handler):
        handler.send_response(200)
        while True:
            handler.send_header("X-More", "x" * 1000)
            handler.flush_headers()

    receiver.behaviour = endless
    with pytest.raises(UpstreamError):
        post(within_s=1)


def test_a_packed_answer_is_left_packed(post, receiver):
    bomb = gzip.compress(b"0" * 10_000_000)
    receiver.behaviour = lambda handler: answer(handler, 200, bomb, Content_Encoding="gzip")

    assert post().body == bomb
    assert "accept-encoding" not in receiver.requests[0][1]


def test_an_answer_that_only_drips_is_given_up_in_time(post, receiver):
    gave_up = threading.Event()

    def drip(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        while not gave_up.wait(0.01):
            handler.wfile.write(b"x")

    receiver.behaviour = drip
    with pytest.raises(UpstreamTimeout):
        post(within_s=0.5)
    gave_up.set()


def test_a_receiver_that_is_not_there_is_tried_until_the_deadline(webhooks):
    gone = Receiver()
    gone.stop()
    client = webhooks.WebhookClient(EgressGuard([gone.address]))

    with pytest.raises(UpstreamError) as caught:
        until = time.monotonic() + 0.5
        client.post(f"http://{gone.address}/", BODY, secret=SECRET, idempotency_key="1", until=until)
    assert caught.value.retryable


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/hook",
        "https://example.com:8443/a?b=c&d=%20#e",
        "http://93.184.216.34/",
        "https://[2606:2800:220:1::1]/x",
        "https://hooks.fc00.example/",
        "HTTPS://EXAMPLE.COM/",
    ],
)
def test_a_public_url_can_be_saved(webhooks, url):
    webhooks.check_webhook_url(url, EgressGuard())


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "plain ASCII"),
        ("/hook", "must begin"),
        ("example.com/hook", "must begin"),
        ("file:///etc/passwd", "must begin"),
        ("gopher://example.com/", "must begin"),
        ("javascript:alert(1)", "must begin"),
        ("https://", "name a host"),
        ("https:///hook", "name a host"),
        ("https://user:pw@example.com/", "password"),
        ("https://example.com@127.0.0.1/", "password"),
        ("https://example.com/" + "x" * 2048, "At most"),
        ("https://exam ple.com/", "plain ASCII"),
        ("https://example.com/\r\nHost: inside", "plain ASCII"),
        ("https://example.com/\x00", "plain ASCII"),
        ("https://example.com\\@127.0.0.1/", "plain ASCII"),
        ("https://münchen.example/", "plain ASCII"),
        ("https://exam%70le.com/", "name a host"),
        ("https://example.com:99999/", "not a URL"),
        ("https://example.com:http/", "not a URL"),
        ("https://[::1", "not a URL"),
        ("https://localhost/", "not a public address"),
        ("https://LocalHost./", "not a public address"),
        ("http://127.0.0.1:8000/", "not a public address"),
        ("http://127.1/", "not a public address"),
        ("http://2130706433/", "not a public address"),
        ("http://0x7f000001/", "not a public address"),
        ("http://0177.0.0.1/", "not a public address"),
        ("http://0/", "not a public address"),
        ("http://10.0.0.1/", "not a public address"),
        ("http://169.254.169.254/latest/meta-data/", "not a public address"),
        ("http://[::1]/", "not a public address"),
        ("http://[::ffff:10.0.0.1]/", "not a public address"),
        ("http://[64:ff9b::a00:1]/", "not a public address"),
        ("http://[fe80::1%25eth0]/", "name a host"),
    ],
)
def test_a_url_that_could_never_be_called_is_refused_when_it_is_saved(webhooks, url, problem):
    with pytest.raises(Invalid, match=problem) as caught:
        webhooks.check_webhook_url(url, EgressGuard(), field="location_url")

    assert caught.value.http_status == 422
    assert caught.value.details["field"] == "location_url"


def test_what_egress_allow_lists_can_be_saved(webhooks):
    guard = EgressGuard(["10.1.0.0/16", "localhost:9000"])

    webhooks.check_webhook_url("http://10.1.2.3/hook", guard)
    webhooks.check_webhook_url("http://localhost:9000/hook", guard)
    with pytest.raises(Invalid):
        webhooks.check_webhook_url("http://localhost:9001/hook", guard)
