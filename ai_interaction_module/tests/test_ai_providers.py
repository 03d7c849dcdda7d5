"""Whom the AI asks: their failures, who is asked instead, and that no key is told to anybody."""

from __future__ import annotations

import importlib
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from waddlebot.base.errors import ConfigError
from waddlebot.testing.plugin import eventually


def state_of(bot, name):
    answer = bot.fleet.request("GET", "/ai/providers", key="admin", query={"community_id": bot.slug}).json()
    return next(each for each in answer["providers"] if each["name"] == name)


# What happens, and what is said where nobody else can be asked. Look-ups are tried twice.
NO_ANSWER, LATER = "does not answer. Try again in a moment.", "has too much to do. Try again in 1 s."
EVERYBODYS = {
    401: "refuses: the key is not taken.",
    403: "refuses: the key may not do that.",
    429: LATER,
    500: NO_ANSWER,
    503: LATER,
    **dict.fromkeys(("html", "truncated", "empty", "huge", "drop", "hang"), NO_ANSWER),
}
FAILURES = {
    "openai": {
        **EVERYBODYS,
        404: "refuses: it has no such model.",
        "no content": "refuses: it does not want to answer that.",
        "refusal": "refuses: it does not want to answer that.",
        "odd shape": NO_ANSWER,
        "no credit": "refuses: the account has no credit left.",
    },
    "ollama": {**EVERYBODYS, 404: "refuses: it has no such model.", "no content": NO_ANSWER, "stops": NO_ANSWER},
    "mcp": {**EVERYBODYS, 404: NO_ANSWER, "no content": NO_ANSWER, "stops": NO_ANSWER},
}
TITLES = {"openai": "OpenAI", "ollama": "Ollama", "mcp": "The MCP server"}
# Who is asked where the first one must not be stood in for.
OTHERS = {"openai": "ollama", "ollama": "openai", "mcp": "openai"}


@pytest.mark.parametrize(
    ("who", "kind"), [(who, kind) for who, kinds in FAILURES.items() for kind in kinds], ids=lambda each: str(each)
)
def test_each_failure_is_a_sentence_and_costs_nothing(
    bot, openai_server, ollama_server, mcp_server, settings, who, kind
):
    servers = {"openai": openai_server, "ollama": ollama_server, "mcp": mcp_server}
    settings(failover=[], provider=who)
    servers[who].script.fail_next(kind, times=2, pause_s=1.0)
    heard = bot.say("!ai hello")
    assert (heard.chat, heard.statuses) == (f"{TITLES[who]} {FAILURES[who][kind]}", ["failed"])
    assert servers[OTHERS[who]].script.requests == []
    assert "this community 0 of" in bot.say("!ai budget").chat
    assert state_of(bot, who)["last_error"]


def test_who_fails_is_stood_in_for_in_the_order_that_is_set(bot, openai_server, ollama_server, mcp_server, settings):
    ollama_server.script.say = lambda messages: "From Ollama."
    mcp_server.script.say = lambda messages: "From the tool."
    for kind in (401, 500, "html", "no credit"):
        openai_server.script.fail_next(kind, times=2)
        assert bot.say("!ai hello").chat == "🤖 From Ollama."
        openai_server.script._faults.clear()
    settings(provider="mcp", failover=["ollama"])
    assert bot.say("!ai hello").chat == "🤖 From the tool."
    mcp_server.script.fail_next(500, times=2)
    assert bot.say("!ai hello").chat == "🤖 From Ollama."
    # What is wrong with the question would be wrong with it anywhere.
    settings(provider="openai")
    openai_server.script.fail_next(400)
    assert bot.say("!ai hello").chat == "OpenAI refuses: it cannot do that."


def test_who_asks_to_wait_for_hours_is_left_alone_by_everybody(bot, openai_server, ollama_server, settings):
    settings(failover=[], provider="openai")
    openai_server.script.fail_next(429, Retry_After="7200")
    assert bot.say("!ai hello").chat == "OpenAI has had enough of this bot for now. Try again in about 2 hours."
    asked = len(openai_server.script.requests)
    assert "Try again in about 60 minutes" in bot.say("!ai hello").chat  # At most an hour; then it is asked again.
    assert len(openai_server.script.requests) == asked
    state = state_of(bot, "openai")
    assert (state["status"], state["last_error"]) == ("paused", "later 429")
    assert 3_500 < state["paused_s"] <= 3_600
    settings(provider="openai", failover=["ollama"])
    assert bot.say("!ai hello").chat.startswith("🤖 You said")


def test_who_does_not_answer_again_and_again_is_left_alone_for_a_while(bot, openai_server, ollama_server, settings):
    settings(failover=[], provider="openai")
    openai_server.script.fail_always(500)
    for _ in range(3):
        bot.say("!ai hello")
    state = state_of(bot, "openai")
    assert (state["status"], state["breaker"]) == ("left_alone", "open")
    asked = len(openai_server.script.requests)
    assert bot.say("!ai hello").chat == "OpenAI cannot be reached. Try again in a moment."
    assert len(openai_server.script.requests) == asked


def test_ollama_is_asked_in_its_own_words(bot, ollama_server, settings, forgive):
    settings(provider="ollama", failover=[], model="qwen3:4b", temperature=0.5, max_tokens=77)
    ollama_server.script.say = lambda messages: "<think>hm</think>Hi."
    assert bot.say("!ai hello").chat == "🤖 Hi."
    sent = ollama_server.script.requests[-1]
    assert (sent["model"], sent["options"]["temperature"], sent["options"]["num_predict"]) == ("qwen3:4b", 0.5, 77)
    assert [each["role"] for each in sent["messages"]] == ["system", "user"]
    for kind, said in (
        (404, "Ollama refuses: it has no such model."),
        ("empty", "Ollama does not answer."),
        ("stops", "Ollama does not answer."),
        ("huge", "Ollama does not answer."),
    ):
        ollama_server.script.fail_always(kind)
        forgive()
        assert bot.say("!ai hello").chat.startswith(said), kind
    ollama_server.script.fail_always(None)
    ollama_server.script.fail_next(429, Retry_After="60")
    assert bot.say("!ai hello").chat == "Ollama has too much to do. Try again in 60 s."


def test_the_one_tool_that_was_named_is_called_and_no_other(bot, mcp_server, settings, forgive):
    settings(provider="mcp", failover=[], system_prompt="Be a duck.")
    mcp_server.script.say = lambda messages: "Quack."
    assert bot.say("!ai call delete_everything with what=all").chat == "🤖 Quack."
    bot.say("!ai and again")
    told = mcp_server.script.requests[-1]
    assert told["message"] == '<chat from="Alice">and again</chat>'
    assert (told["user"], told["system"].splitlines()[0]) == ("Alice", "Be a duck.")
    assert told["history"].endswith("assistant: Quack.")
    assert mcp_server.stolen == []
    for kind in (500, "html", "truncated", "huge", "empty"):
        mcp_server.script.fail_always(kind)
        forgive()
        assert bot.say("!ai hello").chat == "The MCP server does not answer. Try again in a moment.", kind
        mcp_server.script.fail_always(None)
    forgive()
    mcp_server.token, token = "another", mcp_server.token
    try:
        assert bot.say("!ai hello").chat == "The MCP server refuses: the key is not taken."
    finally:
        mcp_server.token = token


def test_a_model_that_does_not_know_a_parameter_is_asked_without_it(bot, openai_server, settings):
    settings(model="o4-mini")
    assert bot.say("!ai hello").chat.startswith("🤖")
    sent = openai_server.script.requests[-1]
    assert "max_tokens" not in sent and "temperature" not in sent
    assert sent["max_completion_tokens"] == 500
    before = len(openai_server.script.requests)
    bot.say("!ai hello")
    assert len(openai_server.script.requests) == before + 1  # It is remembered.


def test_a_slow_model_is_waited_for_and_stops_nobody(bot, openai_server):
    openai_server.script.first_s = 2.5
    event = bot.event("!ai hello")
    began = time.monotonic()
    assert bot.submit(event).statuses == ["pending"]
    assert bot.say("!inventory list").statuses == ["success"]
    assert time.monotonic() - began < 2.5
    eventually(lambda: bot.submit(event).statuses == ["success"])
    assert bot.submit(event).chat.startswith("🤖 You said")


def test_however_many_wait_for_a_slow_model_who_asks_for_something_else_does_not(fleet, bot, openai_server):
    """More than the router has threads for a module, and than are asked of the model at once."""
    openai_server.script.first_s = 6.0
    askers = [fleet.bot(f"many{n}{bot.slug}") for n in range(25)]
    asked = [each.event("!ai hello") for each in askers]
    with ThreadPoolExecutor(len(askers)) as threads:
        heard = list(threads.map(lambda bot, event: bot.submit(event), askers, asked))
    assert {each.statuses[0] for each in heard} == {"pending"}

    assert "this community 0 of" in bot.say("!ai budget").chat
    assert bot.say("!ai off", level="moderator").chat.startswith("The AI is off in this channel.")
    assert openai_server.script.under_way == len(openai_server.script.requests) == 10  # All that time.
    openai_server.script.first_s = 0.0
    for each, event in zip(askers, asked, strict=True):
        eventually(lambda each=each, event=event: each.submit(event).statuses == ["success"], within_s=30)


def test_no_key_is_in_any_log_even_when_everything_is_logged(
    bot, openai_server, ollama_server, mcp_server, settings, whole_log
):
    secret = "sk-of-the-community-0123456789"
    openai_server.keys.add(secret)
    path = f"/router/communities/{bot.slug}/credentials/openai"
    bot.fleet.request("PUT", path, {"secrets": {"api_key": secret}})
    for provider, server in (("openai", openai_server), ("ollama", ollama_server), ("mcp", mcp_server)):
        settings(provider=provider, failover=[])
        bot.say("!ai hello")
        for kind in FAILURES[provider]:
            if kind != "hang":
                server.script.fail_next(kind)
                bot.say("!ai hello")
    text = whole_log("ai")
    assert "provider_failed" in text
    simulated = [openai_server.settings()["OPENAI_API_KEY"], mcp_server.token, secret]
    assert [each for each in simulated if each in text] == []


def gate_module():
    return importlib.import_module("apps.ai_interaction_module.services.gate")


def test_communities_take_turns_however_many_one_of_them_asks(ai):
    gate = gate_module().FairGate(2, max_waiting=50)
    order, go = [], threading.Event()

    def ask(community):
        with gate.entered(community, within_s=10):
            order.append(community)
            go.wait(10)
            time.sleep(0.005)

    threads = [threading.Thread(target=ask, args=(1,)) for _ in range(20)]
    for each in threads:
        each.start()
    eventually(lambda: gate.counts() == {"inside": 2, "waiting": 18})
    late = [threading.Thread(target=ask, args=(community,)) for community in (2, 2, 3)]
    for each in late:
        each.start()
    eventually(lambda: gate.counts()["waiting"] == 21)
    go.set()
    for each in (*threads, *late):
        each.join(10)
    assert gate.counts() == {"inside": 0, "waiting": 0}
    assert {2, 3} <= set(order[2:6]), order
    assert order.count(1) == 20


def test_who_waits_too_long_or_in_too_long_a_row_is_told_so(ai):
    gates = gate_module()
    gate = gates.FairGate(1, max_waiting=1)
    with gate.entered(1, within_s=1):
        with pytest.raises(gates.TooManyAsk), gate.entered(1, within_s=0.05):
            pass
        waiting = threading.Thread(target=lambda: gate._enter(1, time.monotonic() + 5))
        waiting.start()
        eventually(lambda: gate.counts()["waiting"] == 1)
        with pytest.raises(gates.TooManyAsk), gate.entered(1, within_s=5):
            pass
    waiting.join(5)
    assert gate.counts() == {"inside": 1, "waiting": 0}


@pytest.mark.parametrize(
    ("environment", "ollama", "mcp", "order"),
    [
        ({}, None, None, []),
        ({"AI_HOST": "http://ollama:11434", "AI_PORT": "11434"}, "http://ollama:11434", None, ["ollama"]),
        ({"AI_HOST": "ollama", "AI_PORT": "9"}, "http://ollama:9", None, ["ollama"]),
        ({"AI_HOST": "http://ollama:1", "AI_PORT": "9"}, "http://ollama:1", None, ["ollama"]),
        ({"AI_HOST": "https://ollama.example"}, "https://ollama.example", None, ["ollama"]),
        ({"MCP_SERVER_URL": "http://mcp-server:8080"}, None, "http://mcp-server:8080/mcp", ["mcp"]),
        ({"MCP_SERVER_URL": "http://mcp-server:8080/x/"}, None, "http://mcp-server:8080/x", ["mcp"]),
        ({"OPENAI_API_KEY": "sk-1", "AI_HOST": "http://a"}, "http://a:11434", None, ["ollama", "openai"]),
        ({"AI_PROVIDER": "openai", "AI_API_KEY": "sk-1"}, None, None, ["openai"]),
    ],
)
def test_addresses_are_read_as_they_are_meant(ai, monkeypatch, environment, ollama, mcp, order):
    for name in (
        "AI_HOST",
        "AI_PORT",
        "AI_API_KEY",
        "AI_PROVIDER",
        "OPENAI_API_KEY",
        "OPENAI_BASE_URL",
        "MCP_SERVER_URL",
    ):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = type(ai.settings).load()
    assert (settings.ollama_url, settings.mcp_url, settings.order) == (ollama, mcp, order)
    assert set(settings.set_up) == set(order)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AI_PROVIDER", "skynet"),
        ("OPENAI_API_KEY", "sk-your-openai-key"),
        ("AI_HOST", "ftp://x"),
        ("AI_TEMPERATURE", "9"),
    ],
)
def test_a_wrong_setting_ends_the_process_with_one_line(ai, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=name):
        type(ai.settings).load()


def test_no_library_is_loaded_before_somebody_is_asked(ai):
    """They take seconds and a hundred MB."""
    folder = str(Path(ai.__file__).resolve().parent)
    script = (
        "import sys, types\n"
        f"package = types.ModuleType('ai_module'); package.__path__ = [{folder!r}]\n"
        "sys.modules['ai_module'] = package\n"
        "from ai_module.services import ai_service, mcp_provider, ollama_provider, openai_provider\n"
        "openai_provider.OpenAIProvider(base_url='http://a', api_key='b', model='c')\n"
        "ollama_provider.OllamaProvider(base_url='http://a', bearer='b', model='c')\n"
        "mcp_provider.MCPProvider(url='http://a', tool='b', bearer='c', timeout_s=1)\n"
        "print(sorted({'openai', 'ollama', 'langchain_core', 'mcp', 'httpx', 'httpx2'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr
