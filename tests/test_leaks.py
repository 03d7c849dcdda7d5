"""What nobody should come to know: tokens by the log, names by health, files by their modes, addresses by a form."""

from __future__ import annotations

import json
import logging

import psycopg2
import pytest
from waddlebot.base.errors import UpstreamError
from waddlebot.base.ids import new_id
from waddlebot.base.logs import AAAFormatter, redact
from waddlebot.data.migrate import migrate
from waddlebot.data.roles import ensure_owner
from waddlebot.fleet.embedded import OWNER, PostgresServer
from waddlebot.fleet.home import open_private
from waddlebot.module.service import SERVICES
from waddlebot.testing.fleet import FAST
from waddlebot.web.http import has_dot_segments, is_below

TOKEN = "tkn" + "Ab3_-" * 8


# Logs


def test_a_browsers_report_does_not_bring_its_overlays_token_into_the_log(fleet, caplog):
    report = {
        "document-uri": f"https://bot.example/browser/source/{TOKEN}/ticker",
        "referrer": f"https://bot.example/browser/source/{TOKEN}/ticker",
        "violated-directive": "img-src",
        "blocked-uri": f"https://evil.example/{TOKEN}.png?{TOKEN}",
        "source-file": f"https://bot.example/browser/source/{TOKEN}/ticker",
    }
    with caplog.at_level(logging.INFO, logger="waddlebot"):
        sent = json.dumps({"csp-report": report}).encode()
        assert fleet.request("POST", "/browser/source/csp-report", sent, key=None).status == 200

    lines = [AAAFormatter().format(each) for each in caplog.records if hasattr(each, "aaa")]
    assert any("overlay_policy_violated" in each and "https://evil.example" in each for each in lines)
    assert not any(TOKEN in each for each in lines)


@pytest.mark.parametrize("report", [b"", b"[]", b"{}", b'{"csp-report": 1}', b'{"csp-report": {}}', b"\xff"])
def test_a_report_that_makes_no_sense_is_taken(fleet, report):
    assert fleet.request("POST", "/browser/source/csp-report", report, key=None).status == 200


@pytest.mark.parametrize("path", ["/browser/source/{}/ticker", "/ws/{}/media", "/browser/form/{}"])
def test_addresses_that_open_something_are_starred_wherever_they_are_quoted(path):
    said = redact(f"Error at https://bot.example{path.format(TOKEN)}:12")

    assert TOKEN not in said
    assert "https://bot.example" in said


# Health


@pytest.fixture
def service_with_trouble(fleet):
    service = next(each for each in SERVICES if each.name == "inventory")

    def check():
        raise UpstreamError("1 deaf", names="a-secret-channel")

    service.check("channels", check)
    service._checked._until = 0.0
    yield service
    del service.checks["channels"]
    service._checked._until = 0.0


def test_health_names_channels_to_those_only_who_may_know(fleet, bot, service_with_trouble):
    member = fleet.make_key(f"leak-{bot.slug}", "api-users", community_id=bot.community_id)
    for key in (None, "wbot_" + "x" * 59, member):
        health = fleet.request("GET", "/inventory/health", key=key).json()
        assert health["checks"]["channels"] == {"ok": False, "detail": "1 deaf"}

    named = fleet.request("GET", "/inventory/health").json()
    assert named["checks"]["channels"]["detail"] == "1 deaf: a-secret-channel"


# Files


def test_what_is_appended_to_is_private_even_where_it_was_not(tmp_path):
    log = tmp_path / "postgres.log"
    log.write_text("before\n")
    log.chmod(0o644)
    with open_private(log) as file:
        file.write(b"after\n")

    assert log.stat().st_mode & 0o777 == 0o600
    assert log.read_text() == "before\nafter\n"


# Addresses


@pytest.mark.parametrize(
    "path",
    [
        "/../router",
        "/x/..",
        "/./x",
        "/%2e%2e/router",
        "/.%2E/x",
        "/%252e%252e/x",
        "/x\\..\\y",
        "/%2e%2e%2frouter",
        "/..?",
    ],
)
def test_no_dot_segment_leads_out_of_a_prefix(path):
    url = "http://127.0.0.1:8000/inventory" + path

    assert has_dot_segments(url)
    assert not is_below(url, ["http://127.0.0.1:8000/inventory"])


@pytest.mark.parametrize("path", ["", "/execute", "/a..b", "/...", "/x?back=/../y", "/x#/../y"])
def test_what_is_below_a_prefix_is_found_there(path):
    assert is_below("http://127.0.0.1:8000/inventory" + path, ["http://127.0.0.1:8000/inventory"]) or "?" in path


def test_a_form_that_would_lead_out_of_its_module_is_refused(fleet, bot):
    form = {
        "form_title": "x",
        "form_fields": [{"type": "text", "name": "a", "label": "A"}],
        "form_submit_url": "http://waddlebot.test/inventory/%2e%2e/router/events",
    }
    body = {
        "item_id": new_id(),
        "community_id": bot.community_id,
        "source_type": "general",
        "response_action": "form",
        "response_data": form,
        "session_id": new_id(),
        "mode": "live",
    }
    answer = fleet.request("POST", "/browser/source/display", body, key="router")

    assert answer.status == 422
    assert "form_submit_url" in answer.json()["error"]["message"]


# The database's role


def test_the_fleets_role_owns_its_database_and_nothing_else(fleet, stack):
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        fleet.database.statement("COPY (SELECT 1) TO PROGRAM 'true'")
    rows = fleet.database.statement(
        "SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls AS may_more FROM pg_roles"
        " WHERE rolname = current_user"
    )
    assert rows == [{"may_more": False}]


@pytest.mark.timeout(120)
def test_a_home_of_before_changes_hands_in_place(tmp_path):
    server = PostgresServer(tmp_path / "postgres", new_id(), FAST, owner_password=new_id())
    server.start()
    try:
        migrate(server.url, post=True)
        with psycopg2.connect(server.url) as before, before.cursor() as cursor:
            cursor.execute("INSERT INTO communities (slug, name) VALUES ('kept', 'Kept')")

        assert ensure_owner(server.url, server.owner_url) > 50
        assert ensure_owner(server.url, server.owner_url) == 0
        assert migrate(server.owner_url, post=True) == []
        with psycopg2.connect(server.owner_url) as after, after.cursor() as cursor:
            cursor.execute("SELECT name FROM communities WHERE slug = 'kept'")
            assert cursor.fetchall() == [("Kept",)]
            cursor.execute("ALTER TABLE communities ADD COLUMN later int; CREATE TABLE another (id int)")
            cursor.execute(
                "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relowner <> %s::regrole",
                (OWNER,),
            )
            assert cursor.fetchall() == [(0,)]
        before.close()
        after.close()
    finally:
        server.stop()
