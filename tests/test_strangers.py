"""What strangers send and write: it costs little, fills nothing up, and reaches nobody as something else than text."""

from __future__ import annotations

import inspect
import logging
import re

import pytest
from own_log import own_log
from waddlebot.base.chat import neutralise
from waddlebot.base.logs import AAAFormatter, AAALog, configure_logging
from waddlebot.base.settings import Settings
from waddlebot.base.strangers import PerMinute
from waddlebot.base.wire import for_chat, for_log, for_screen, for_terminal, is_number
from waddlebot.cli import cli
from waddlebot.module.service import SERVICES

ESCAPES = ["\x00", "\x01", "\x07", "\x08", "\x0d", "\x1b", "\x7f", "\x85", "\x9b", "\x9d"]
TURNS = ["\u202a", "\u202b", "\u202c", "\u202d", "\u202e", "\u2066", "\u2067", "\u2068", "\u2069"]


@pytest.mark.parametrize("control", ESCAPES + TURNS)
@pytest.mark.parametrize("clean", [for_terminal, for_chat, for_log, for_screen])
def test_no_control_character_leaves(clean, control):
    assert control not in clean(f"a{control}b")


@pytest.mark.parametrize("clean", [for_terminal, for_chat, for_screen])
@pytest.mark.parametrize("text", ["two\nlines", "שלום", "naïve 🦆", "👩\u200d👧", "a\u200eb"])
def test_text_that_people_write_stays(clean, text):
    assert clean(text) == text


def test_a_reply_is_no_command_to_the_platform():
    assert neutralise("\x01ACTION dances\x01") == "ACTION dances"


def test_a_control_character_before_it_hides_no_command():
    assert neutralise("\x01!ban bob") == "› !ban bob"


def test_a_log_line_holds_no_control_character(caplog):
    log = AAALog("test", "1")
    with caplog.at_level("INFO", logger="waddlebot.test"):
        log.audit("thing", what="".join(ESCAPES + TURNS), short="\x9b", plain="a\u202eb")
    line = AAAFormatter().format(caplog.records[0])

    assert not any(control in line for control in ESCAPES + TURNS)
    assert 'short="\\u009b"' in line


@pytest.mark.parametrize("text", ["²", "٣", "１", "", "-1", " 1", "1_0", "9" * 19])
def test_only_what_a_database_takes_is_a_number(text):
    assert not is_number(text)
    assert is_number("9" * 18)


def test_the_terminal_is_given_cleaned_text_only(capsys):
    cli.echo("a server \x1b]0;owned\x07 named \u202ebackwards\nnext line", fg="red")

    assert capsys.readouterr().out == "a server \ufffd]0;owned\ufffd named \ufffdbackwards\nnext line\n"


def test_all_commands_print_through_that_one_place():
    source = inspect.getsource(cli)

    assert len(re.findall(r"click\.s?echo\(|\bprint\(", source)) == 1


# How much they may have us write


def test_so_much_for_each_and_so_much_for_all_in_a_minute():
    now = [0.0]
    gate = PerMinute(2, all=5, clock=lambda: now[0])

    assert [gate.lets("203.0.113.7") for _ in range(3)] == [True, True, False]
    # Whoever has one IPv6 address has 2^64.
    assert [gate.lets(f"2001:db8:1:2::{n}") for n in range(3)] == [True, True, False]
    assert [gate.lets(f"198.51.100.{n}") for n in range(3)] == [True, False, False]
    assert (gate.take_left_out(), gate.take_left_out()) == (4, 0)
    now[0] = 60.0
    assert gate.lets("203.0.113.7")


def test_refused_keys_are_told_with_their_address_and_id_but_not_without_end(fleet, caplog):
    with caplog.at_level(logging.INFO, logger="waddlebot.inventory"):
        for _ in range(100):
            fleet.request("GET", "/inventory/metrics", key="wbot_abcdefgh_" + "x" * 50)

    told = [AAAFormatter().format(each) for each in caplog.records if "key_refused" in each.getMessage()]
    assert 0 < len(told) <= 30
    assert "address=127.0.0.1 key_id=abcdefgh" in told[0]
    assert "xxxx" not in told[0]


def test_reports_of_browsers_fill_no_log(fleet, caplog):
    with caplog.at_level(logging.INFO, logger="waddlebot"):
        statuses = [fleet.request("POST", "/browser/source/csp-report", b"{}", key=None).status for _ in range(100)]

    told = [each for each in caplog.records if "overlay_policy_violated" in each.getMessage()]
    assert len(told) <= 20
    assert statuses[-1] == 429


def test_whoever_begins_to_sign_in_without_end_writes_few_rows(fleet):
    def count():
        return fleet.database.statement("SELECT count(*) AS n FROM oauth_states")[0]["n"]

    before = count()
    answers = [fleet.request("GET", "/twitch/auth/login", key=None) for _ in range(60)]

    assert answers[-1].status == 429
    assert int(answers[-1].headers["retry-after"]) == 60
    assert count() - before <= 30


def test_the_audit_has_a_file_of_its_own(tmp_path, monkeypatch):
    with own_log():
        monkeypatch.setenv("LOG_DIR", str(tmp_path))
        monkeypatch.setenv("DATABASE_URL", "postgresql://u:p@localhost/x")
        configure_logging(Settings.load())
        log = AAALog("thing", "1")
        log.audit("changed")
        log.auth("key_refused", result="FAILED")
        log.authz("request_refused", result="DENIED")
        log.system("talked")
        log.error("failed")

    actions = re.findall(r"action=(\w+)", (tmp_path / "thing.audit.log").read_text())
    assert actions == ["changed", "key_refused", "request_refused"]
    assert len((tmp_path / "thing.log").read_text().splitlines()) == 5


# What is asked again and again


def test_a_second_of_health_is_found_out_once(fleet):
    service = next(each for each in SERVICES if each.name == "inventory")
    calls = []
    service.check("counted", lambda: calls.append(1) or "fine")
    service._checked._until = 0.0
    try:
        for _ in range(50):
            assert fleet.request("GET", "/inventory/health", key=None).status == 200
            assert fleet.request("GET", "/inventory/ready", key=None).status == 200
    finally:
        del service.checks["counted"]
        service._checked._until = 0.0

    assert 1 <= len(calls) <= 10


def test_the_api_document_is_made_once(fleet):
    service = next(each for each in SERVICES if each.name == "router")
    first = fleet.request("GET", "/router/openapi.json", key=None)

    assert first.json()["openapi"] == "3.1.0"
    assert first.headers["cache-control"] == "no-store"
    assert first.headers["x-content-type-options"] == "nosniff"
    assert service._api_document is service._api_document
    assert fleet.request("GET", "/router/openapi.json", key=None).body == first.body
