"""!ai and !ask through the router, and what is answered unasked."""

from __future__ import annotations


def test_a_question_is_answered(bot, openai_server):
    openai_server.script.say = lambda messages: "Hello yourself."
    assert bot.say("!ai hello").chat == "🤖 Hello yourself."
    assert bot.say("!ask hello").chat == "🤖 Hello yourself."
