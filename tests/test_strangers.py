"""What strangers send and write: it costs little, fills nothing up, and reaches nobody as something else than text."""

from __future__ import annotations

import inspect
import re

import pytest
from waddlebot.base.chat import neutralise
from waddlebot.base.logs import AAAFormatter, AAALog
from waddlebot.base.wire import for_chat, for_log, for_terminal, is_number
from waddlebot.cli import cli

ESCAPES = ["\x00", "\x01", "\x07", "\x08", "\x0d", "\x1b", "\x7f", "\x85", "\x9b", "\x9d"]
TURNS = ["\u202a", "\u202b", "\u202c", "\u202d", "\u202e", "\u2066", "\u2067", "\u2068", "\u2069"]


@pytest.mark.parametrize("control", ESCAPES + TURNS)
@pytest.mark.parametrize("clean", [for_terminal, for_chat, for_log])
def test_no_control_character_leaves(clean, control):
    assert control not in clean(f"a{control}b")


@pytest.mark.parametrize("clean", [for_terminal, for_chat])
@pytest.mark.parametrize("text", ["two\nlines", "שלום", "naïve 🦆", "👩\u200d👧", "a\u200eb"])
def test_text_that_people_write_stays(clean, text):
    assert clean(text) == text


def test_a_reply_is_no_command_to_the_platform():
    assert neutralise("\x01ACTION dances\x01") == "ACTION dances"


def test_a_control_character_before_it_hides_no_command():
    assert neutralise("\x01!ban bob")[0] == "\u200b"


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
