"""The AI over HTTP, by an unmodified OpenAI client and by hand: answers, streams, settings, who may."""

from __future__ import annotations

import importlib
import itertools
import time
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture
def openai():
    """The client's library. Loading it takes seconds, and each worker collects this file."""
    return importlib.import_module("openai")


@pytest.fixture
def client(openai, front, key):
    with openai.OpenAI(api_key=key, base_url=f"{front}/api/ai/v1", max_retries=0, timeout=15) as client:
        yield client


def get(bot, path, *, key, **query):
    return bot.fleet.request("GET", path, key=key, query=query)


def test_an_unmodified_client_gets_answers_and_an_honest_bill(client, openai_server):
    openai_server.script.say = lambda messages: "Forty-two."
    messages = [{"role": "system", "content": "Be brief."}, *HELLO]
    answer = client.chat.completions.create(model="default", messages=messages, temperature=0.1, max_tokens=9, user="u")
    sent = openai_server.script.requests[-1]
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("Forty-two.", "stop")
    assert sent["messages"] == messages
    assert (sent["temperature"], sent["max_tokens"], sent["model"]) == (0.1, 9, "gpt-5.6-terra")
    assert answer.model == "gpt-5.6-terra-2026-01-01"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (11, 2, 13)
    parts = [{"type": "text", "text": "hel"}, {"type": "text", "text": "lo"}]
    client.chat.completions.create(model="gpt-5.6-mini", messages=[{"role": "user", "content": parts}])
    assert openai_server.script.requests[-1]["messages"] == HELLO
    assert openai_server.script.requests[-1]["model"] == "gpt-5.6-mini"


def test_an_answer_is_streamed_as_it_is_written(client, openai_server):
    openai_server.script.say = lambda messages: "One two three."
    options = {"stream": True, "stream_options": {"include_usage": True}}
    chunks = list(client.chat.completions.create(model="default", messages=HELLO, **options))
    texts = [each.choices[0].delta.content for each in chunks if each.choices]
    assert texts == ["One ", "two ", "three.", None]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert (chunks[-1].choices, chunks[-1].usage.completion_tokens) == ([], 3)
    assert len({each.id for each in chunks}) == 1


def test_the_first_word_comes_at_once_and_the_last_when_it_is_written(client, openai_server):
    openai_server.script.say = lambda messages: "One two three four."
    openai_server.script.word_s = 0.3
    list(client.chat.completions.create(model="default", messages=HELLO, stream=True))
    came = []
    for each in client.chat.completions.create(model="default", messages=HELLO, stream=True):
        came += [time.perf_counter()] if each.choices[0].delta.content else []
    gaps = [after - before for before, after in itertools.pairwise(came)]
    assert len(came) == 4
    assert min(gaps) > 0.15, gaps


def test_a_stream_that_fails_says_so_in_the_clients_words(openai, client, openai_server, ollama_server, bot):
    openai_server.script.say = lambda messages: "One two three four."
    openai_server.script.fail_next("stops")
    heard = []
    with pytest.raises(openai.APIError, match="OpenAI does not answer"):
        for each in client.chat.completions.create(model="default", messages=HELLO, stream=True):
            heard.append(each.choices[0].delta.content)
    assert heard == ["One ", "two "]
    # Nothing was said yet, so the next one is asked.
    ollama_server.script.say = lambda messages: "Instead of it."
    openai_server.script.fail_next(500, times=2)
    said = [
        each.choices[0].delta.content
        for each in client.chat.completions.create(model="default", messages=HELLO, stream=True)
    ]
    assert "".join(each or "" for each in said) == "Instead of it."


def test_sixty_four_slow_readers_leave_everybody_else_alone(front, bot, fleet, openai_server):
    """Each reads nothing for a while; they are more than may be answered at once."""
    openai_server.script.say = lambda messages: "word " * 300
    keys = [fleet.make_key(f"{bot.slug}-{n}", "api-users", community_id=bot.community_id) for n in range(4)]

    def begin(number):
        http = httpx2.Client(timeout=30)
        request = http.build_request(
            "POST",
            f"{front}/api/ai/v1/chat/completions",
            json={"messages": HELLO, "stream": True},
            headers={"Authorization": f"Bearer {keys[number % 4]}"},
        )
        return http, http.send(request, stream=True)

    with ThreadPoolExecutor(16) as threads:
        readers = list(threads.map(begin, range(64)))
        assert {response.status_code for _, response in readers} == {200}
        took = []
        for _ in range(20):
            began = time.perf_counter()
            assert httpx2.post(f"{front}/twitch/webhook", content=b"{}").status_code in (403, 503)
            took.append(time.perf_counter() - began)
        assert sorted(took)[10] < 0.5
        texts = list(threads.map(lambda reader: "".join(reader[1].iter_text()), readers))
    for http, response in readers:
        response.close()
        http.close()
    assert {text[-200:] for text in texts if not text.endswith("data: [DONE]\n\n")} == set()


def test_what_a_client_may_not_is_said_in_its_words(openai, front, client, openai_server, bot):
    with (
        pytest.raises(openai.AuthenticationError),
        openai.OpenAI(api_key="wrong", base_url=f"{front}/api/ai/v1", max_retries=0) as wrong,
    ):
        wrong.models.list()
    with pytest.raises(openai.NotFoundError, match="has no such model"):
        client.chat.completions.create(model="gpt-99", messages=HELLO)
    for bad in (
        {"n": 2},
        {"tools": [{"type": "function", "function": {"name": "x"}}]},
        {"temperature": 3},
        {"response_format": {"type": "json_object"}},
    ):
        with pytest.raises(openai.UnprocessableEntityError):
            client.chat.completions.create(model="default", messages=HELLO, **bad)
    picture = {"type": "image_url", "image_url": {"url": "https://a.example/b.png"}}
    with pytest.raises(openai.UnprocessableEntityError, match="only texts"):
        client.chat.completions.create(model="default", messages=[{"role": "user", "content": [picture]}])
    with pytest.raises(openai.UnprocessableEntityError):
        client.chat.completions.create(model="default", messages=[])


def test_a_key_is_a_bearer_below_api_only_and_both_doors_are_one(bot, key, openai_server):
    bearer = {"Authorization": f"Bearer {key}"}
    ask = bot.fleet.request
    assert ask("GET", "/api/ai/v1/models", key=None, headers=bearer).status == 200
    assert ask("GET", "/ai/models", key=None, headers=bearer).status == 401
    assert ask("GET", "/ai/models", key=key).json() == ask("GET", "/api/ai/v1/models", key=key).json()
    assert ask("GET", "/api/ai/v1/health", key=None).json()["success"] is True
    answer = ask("POST", "/ai/generate", {"prompt": "hello"}, key=key).json()
    assert answer["generated_text"].startswith("You said:")
    assert answer["metadata"]["provider"] == "openai"


def test_a_community_that_is_named_in_the_body_counts_as_one_in_the_query(bot, fleet, key, openai_server):
    other = fleet.bot()
    for door in ("/ai/chat/completions", "/api/ai/v1/chat/completions"):
        for refused in (
            {"messages": HELLO, "community_id": other.slug},
            {"messages": HELLO, "community_id": "nowhere"},
        ):
            assert fleet.request("POST", door, refused, key=key).status in (403, 404)
        own = fleet.request("POST", door, {"messages": HELLO, "community_id": bot.slug}, key=key)
        assert own.status == 200
    spent = get(bot, "/api/ai/v1/usage", key="admin", community_id=bot.slug).json()["days"]
    asked = fleet.request("POST", "/ai/chat/completions", {"messages": HELLO, "community_id": bot.slug}, key="admin")
    assert asked.status == 200
    assert get(bot, "/api/ai/v1/usage", key="admin", community_id=bot.slug).json()["days"] != spent, "it paid for it"


def test_models_are_listed_as_openai_lists_them(client, openai_server):
    listed = client.models.list().data
    assert listed[0].id == "gpt-5.6-terra"
    assert {"gpt-5.6-mini", "llama3.2"} <= {each.id for each in listed}
    assert client.chat.completions.create(model="llama3.2", messages=HELLO).model == "llama3.2"


def test_a_budget_that_is_used_up_is_429_and_the_ledger_says_what_was_spent(
    openai, client, openai_server, bot, key, settings
):
    client.chat.completions.create(model="default", messages=HELLO)
    settings(daily_tokens=1)
    with pytest.raises(openai.RateLimitError, match="used up its 1 AI tokens") as refused:
        client.chat.completions.create(model="default", messages=HELLO)
    assert 0 < int(refused.value.response.headers["retry-after"]) <= 86_401
    with pytest.raises(openai.RateLimitError):
        client.chat.completions.create(model="default", messages=HELLO, stream=True)
    usage = get(bot, "/api/ai/v1/usage", key=key).json()
    (day,) = usage["days"]
    assert (day["answers"], day["provider"], day["asked_as"], day["is_estimated"]) == (1, "openai", "api", False)
    assert usage["today"] == day["prompt_tokens"] + day["completion_tokens"]


def test_a_communitys_settings_are_changed_here_and_by_the_router_alike(bot, key, openai_server):
    ask = bot.fleet.request
    path = "/api/ai/v1/config"
    before = ask("GET", path, key=key).json()
    assert (before["config"]["provider"], before["decided_by"]["provider"]) == ("openai", "environment")
    changed = ask("PUT", path, {"temperature": 0.1, "system_prompt": "Talk like a pirate."}, key=key)
    assert changed.status == 200, changed.body
    assert changed.json()["own"] == {"temperature": 0.1, "system_prompt": "Talk like a pirate."}
    bot.say("!ai hello")
    assert openai_server.script.requests[-1]["temperature"] == 0.1
    assert openai_server.script.requests[-1]["messages"][0]["content"].startswith("Talk like a pirate.")
    ask("PUT", path, {"config": {"temperature": None, "model": "gpt-5.6-mini"}}, key=key)
    shown = ask("GET", f"/router/communities/{bot.slug}/modules").json()["modules"]
    (own,) = [each["config"] for each in shown if each["module_name"] == "ai"]
    assert own == {"system_prompt": "Talk like a pirate.", "model": "gpt-5.6-mini"}
    for bad in (
        {"temperature": 9},
        {"provider": "skynet"},
        {"event_types": ["nonsense"]},
        {"api_key": "sk-x"},
        {"question_triggers": [""]},
    ):
        refused = ask("PUT", path, bad, key=key)
        assert refused.status == 422, (bad, refused.body)
        assert next(iter(bad)) in refused.body.decode()
    audit = ask("GET", "/router/audit", query={"community_id": bot.slug, "module": "router"}).json()["audit"]
    newest = next(each for each in audit if each["subject"] == "module/ai")
    assert newest["actor_account"] == f"program-{bot.slug}"
    ask("POST", f"/router/audit/{newest['id']}/undo", key="admin")
    assert ask("GET", path, key=key).json()["config"]["temperature"] == 0.1


def test_only_an_admin_changes_what_holds_everywhere(bot, key, fleet, openai_server):
    ask = fleet.request
    assert ask("PUT", "/api/ai/v1/config", {"temperature": 0.2}, key=fleet.make_key(bot.slug, "admins")).status == 200
    try:
        bot.say("!ai hello")
        assert openai_server.script.requests[-1]["temperature"] == 0.2
        assert ask("GET", "/ai/config", key="admin").json()["own"] == {"temperature": 0.2}
        shown = ask("GET", "/ai/config", key=key).json()
        assert (shown["own"], shown["decided_by"]["temperature"]) == ({}, "fleet")
        for bad in ({"answer_questions": True}, {"event_responses": True}, {"event_types": ["raid"]}):
            assert ask("PUT", "/ai/config", bad, key="admin").status == 422
        entry = ask("GET", "/router/audit", query={"module": "ai"}).json()["audit"][0]
        assert (entry["community_id"], entry["after"]) == (None, {"temperature": 0.2})
        assert ask("POST", f"/router/audit/{entry['id']}/undo", key="admin").status == 200
        assert ask("GET", "/ai/config", key="admin").json()["own"] == {}
    finally:
        ask("PUT", "/ai/config", {"temperature": None}, key="admin")


def test_the_portal_acts_for_an_editor_and_their_number_is_on_record(bot, fleet, openai_server):
    body = {"temperature": 0.3, "community_id": bot.community_id}
    put = fleet.request_for("PUT", "/api/ai/v1/config", body, community_id=bot.community_id, area="settings")
    assert put.status == 200, put.body
    audit = fleet.request("GET", "/router/audit", query={"community_id": bot.slug}).json()["audit"]
    assert next(each for each in audit if each["subject"] == "module/ai")["login_id"] == 1
    other = fleet.bot()
    answer = fleet.request_for("PUT", "/api/ai/v1/config", body, community_id=other.community_id, area="settings")
    assert answer.status == 403


def test_no_answer_has_a_key_in_it(bot, key, fleet, openai_server):
    secret = "sk-of-the-community-0123456789"
    openai_server.keys.add(secret)
    path = f"/router/communities/{bot.slug}/credentials/openai"
    assert fleet.request("PUT", path, {"secrets": {"api_key": secret}}).status == 200
    said = b""
    for path in ("config", "providers", "models", "usage"):
        said += get(bot, f"/api/ai/v1/{path}", key=key).body
    said += (
        fleet.request("GET", "/ai/health", key="admin").body + fleet.request("GET", "/api/ai/v1/health", key=None).body
    )
    assert b'"has_own_key":true' in said
    assert b"sk-" not in said
