"""The AI with a model that really writes: what it says nobody knows, but that it is said, counted and streamed."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.interop
CHAT = "/api/ai/v1/chat/completions"


@pytest.mark.parametrize("provider", ["openai", "ollama"])
def test_a_question_is_answered_in_chat_and_over_http_with_honest_usage(bot, fleet, provider):
    body = {"enabled": True, "config": {"provider": provider}}
    assert fleet.request("PUT", f"/router/communities/{bot.slug}/modules/ai", body).status == 200
    said = bot.say("!ask What colour is the sky? One word.").chat
    assert said and "🤖" in said, said
    asked = {"messages": [{"role": "user", "content": "Count: one, two,"}], "max_tokens": 16, "community_id": bot.slug}
    answer = fleet.request("POST", CHAT, asked, key="admin")
    assert answer.status == 200, answer.body
    whole = answer.json()
    assert whole["choices"][0]["message"]["content"].strip()
    usage = whole["usage"]
    assert usage["prompt_tokens"] > 0
    assert 0 < usage["completion_tokens"] <= 16
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_an_answer_is_streamed_as_openai_streams_it(fleet, bot):
    asked = {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 16, "stream": True}
    answer = fleet.request("POST", CHAT, {**asked, "community_id": bot.slug}, key="admin")
    assert answer.status == 200, answer.body
    lines = [each.removeprefix(b"data: ") for each in answer.body.split(b"\n\n") if each.startswith(b"data: ")]
    assert lines[-1] == b"[DONE]"
    pieces = [json.loads(each)["choices"] for each in lines[:-1]]
    assert "".join(each[0]["delta"].get("content") or "" for each in pieces if each).strip()
