"""What Twitch's library does wrong (twitchAPI 4.5) does not reach us: each of its traps, met on purpose."""

from __future__ import annotations

import asyncio
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from pydantic import SecretStr
from test_twitch_api import moderate
from test_twitch_oauth import query
from waddlebot.base.errors import UpstreamError
from waddlebot.testing.plugin import eventually
from waddlebot.web.twitch_app import TwitchApp


@pytest.fixture
def helix(fleet):
    """The module's own, as the fleet has loaded it."""
    import importlib

    return importlib.import_module("apps.twitch_module.services.helix")


def version_of(fleet, owner):
    return query(fleet, "SELECT version FROM twitch_tokens WHERE owner_id = %s", owner)[0]["version"]


@pytest.mark.parametrize("status", [400, 403, 404, 409, 422, 429, 500, 503])
def test_no_refusal_is_slept_through_or_taken_for_an_empty_answer(fleet, twitch, status):
    eventually(
        lambda: fleet.request("GET", "/twitch/info", key="admin").json()["bot"]["login"]
    )  # Asks by itself, once.
    far_away = str(int(time.time()) + 60)
    twitch.fail_next(status, at="users", Ratelimit_Reset=far_away, Ratelimit_Remaining="0")
    started = time.monotonic()
    answer = fleet.request("GET", "/twitch/api/user/7", key="admin")
    assert time.monotonic() - started < 30
    assert answer.status == 502
    assert f"HTTP {status}" in answer.json()["error"]["message"]
    assert fleet.request("GET", "/twitch/api/user/7", key="admin").status == 200


def test_an_ended_app_token_renews_the_apps_and_leaves_peoples_alone(fleet, joined, twitch):
    before = version_of(fleet, joined.id)
    for access in [access for access, token in twitch.tokens.items() if token.is_app]:
        del twitch.tokens[access]
    assert fleet.request("GET", "/twitch/api/user/7", key="admin").status == 200
    assert moderate(joined, "ban")["state"] == "sent"
    assert version_of(fleet, joined.id) == before


def test_a_renewal_that_hangs_holds_nobody_up_for_good(fleet, joined, twitch):
    twitch.oauth.expire(twitch.accounts.get(joined.id))
    twitch.fail_next_token("hang")
    assert moderate(joined, "ban")["state"] == "pending"
    eventually(lambda: moderate(joined, "ban")["state"] == "sent", within_s=30)
    assert version_of(fleet, joined.id) == 2


def test_a_renewal_that_twitch_breaks_off_is_no_lost_consent(fleet, joined, twitch):
    twitch.oauth.expire(twitch.accounts.get(joined.id))
    twitch.fail_next_token(500)
    assert moderate(joined, "ban")["state"] == "pending"
    state = query(fleet, "SELECT state FROM twitch_tokens WHERE owner_id = %s", joined.id)
    assert state == [{"state": "ok"}]
    assert moderate(joined, "ban")["state"] == "sent"


def test_many_calls_with_an_ended_token_renew_it_once(fleet, joined, twitch):
    twitch.oauth.expire(twitch.accounts.get(joined.id))
    twitch.requests.clear()
    results = []
    threads = [threading.Thread(target=lambda: results.append(moderate(joined, "ban")["state"])) for _ in range(12)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert set(results) == {"sent"}
    assert version_of(fleet, joined.id) == 2


def test_a_missing_scope_is_no_reason_to_renew(fleet, browser, streamer, twitch):
    browser.consent(streamer.login, start="/twitch/auth/login")
    assert "missing scope" in moderate(streamer, "ban")["detail"].lower()
    assert version_of(fleet, streamer.id) == 1


def test_requests_share_connections_and_survive_their_end(fleet, twitch):
    twitch.hang_up()
    twitch.requests.clear()
    for _ in range(20):
        assert fleet.request("GET", "/twitch/api/user/7", key="admin").status == 200
    assert len(twitch.requests) >= 20
    assert 1 <= len([each for each in twitch.connections if not each.is_closing()]) <= 3
    for _ in range(5):
        twitch.hang_up()
        time.sleep(0.05)
        assert fleet.request("GET", "/twitch/api/user/7", key="admin").status == 200


def test_a_connection_is_free_again_after_a_refusal(fleet, joined, twitch):
    for _ in range(120):  # More than may be open at once.
        twitch.fail_next(400, at="moderation/bans")
        assert moderate(joined, "ban")["state"] == "dropped"
    assert moderate(joined, "ban")["state"] == "sent"


class Redirector(BaseHTTPRequestHandler):
    def do_POST(self):
        self.send_response(307)
        self.send_header("Location", f"http://127.0.0.1:9/stolen?{self.path.partition('?')[2]}")
        self.end_headers()

    def log_message(self, *_):
        pass


def test_a_redirect_tells_no_secret_to_log_or_caller(helix, twitch):
    server = HTTPServer(("127.0.0.1", 0), Redirector)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    here = f"http://127.0.0.1:{server.server_port}/"
    consents = helix.Consents(TwitchApp("the-id", SecretStr("the-secret"), here, here))
    try:
        with pytest.raises(UpstreamError) as raised:
            asyncio.run(consents.exchange("the-code", redirect_uri="https://waddlebot.test/back"))
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert "the-secret" not in raised.value.message
    assert "the-code" not in raised.value.message
