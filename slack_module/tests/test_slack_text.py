"""Slack's way of writing, read and written."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

PATH = Path(__file__).resolve().parents[1] / "services/text.py"
spec = importlib.util.spec_from_file_location("slack_text_under_test", PATH)
text = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = text
spec.loader.exec_module(text)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("a &lt; b &amp;&amp; c &gt; d", "a < b && c > d"),
        ("&amp;lt;", "&lt;"),
        ("<@U1> and <@U2|dora>", "@name-of-U1 and @dora"),
        ("<#C1|general> <#C2>", "#general #C2"),
        ("<!here> <!channel|channel> <!subteam^S1|@devs>", "@here @channel @devs"),
        ("<!date^1392734382^{date}|Feb 18>", "Feb 18"),
        ("<https://example.com/a?b=1&amp;c=2>", "https://example.com/a?b=1&c=2"),
        ("<mailto:a@b.c|a@b.c>", "a@b.c"),
        ("<https://evil.example|my bank>", "my bank https://evil.example"),
        ("1 < 2", "1 < 2"),
    ],
)
def test_what_people_wrote_is_read_as_they_see_it(written, read):
    assert text.read_text(written, lambda user: f"name-of-{user}") == read


@pytest.mark.parametrize(
    ("written", "left"),
    [("<@UBOT> !help", "!help"), ("<@UBOT|waddlebot>: help me", "help me"), ("hi <@UBOT>", "hi <@UBOT>")],
)
def test_the_bots_name_in_front_is_how_it_was_called(written, left):
    assert text.strip_mention(written, "UBOT") == left


def test_a_block_of_code_is_kept_whole_if_it_fits():
    code = "```\n" + "\n".join(f"line {n}" for n in range(60)) + "\n```"
    parts = text.write_parts("word " * 200 + "\n" + code + "\nthe end", limit=1200)
    assert [part for part in parts if "```" in part] == [code + "\nthe end"]


def test_a_block_of_code_that_never_fits_is_closed_and_opened_again():
    parts = text.write_parts("```\n" + "\n".join(f"line {n}" for n in range(500)) + "\n```", limit=1000)
    assert len(parts) > 3
    assert all(part.startswith("```") and part.endswith("```") for part in parts)


@given(st.text(alphabet=st.sampled_from("ab &<>`\n!#/."), max_size=3000), st.integers(60, 200))
def test_parts_are_short_and_escaped_and_never_commands(words, limit):
    for part in text.write_parts(words, limit):
        assert 0 < len(part) <= limit + 5
        assert "<" not in part
        assert ">" not in part
        assert part.count("&") == part.count("&amp;") + part.count("&lt;") + part.count("&gt;")
        assert not part.lstrip().startswith(("!", "#", "/", "."))


def test_help_is_written_to_be_typed_behind_the_slash_command():
    said = "You can use here:\n!alias – Make commands\n#weather\n!item add <name> – Add one\nAliases: !hi"
    assert text.write_help(said, "/waddlebot") == (
        "*You can use here:*\n• `/waddlebot alias` – Make commands\n• `/waddlebot #weather`\n"
        "• `/waddlebot item add <name>` – Add one\nAliases: !hi"
    )
