"""Nonsense at every endpoint of every module, and after every command: it is refused in the fleet's own words, and is
never a 500."""

from __future__ import annotations

import itertools
import json
import re
from urllib.parse import urlencode

import pytest
from waddlebot.module.service import SERVICES

BODIES = [
    b"",
    b"{",
    b"null",
    b"[]",
    b"{}",
    b'"text"',
    b'{"community_id": 99999999999999999999999, "x": 1}',
    b'{"community_id": "\\u0000", "string": "\\ud800", "action": "warn", "command": "\\u0000", "enabled": true}',
    b'{"community_id": "global", "string": ["x"], "action": {}, "command": 7, "enabled": "perhaps", "limit": -1}',
    json.dumps({"community_id": "global", "enabled": True, "config": {"x" * 1000: ["\ud800"]}}).encode(),
]
PARTS = ["0", "-1", "9" * 30, "%00", "..", "%ff", "'; DROP TABLE users; --", "x" * 3000, "twitch::%F0%9F%90%A7"]
QUERIES = ["", "?limit=-1", "?limit=x&offset=99999999999999999999", "?entity_id=%00&community_id=%ff", "?x=1&x=2"]


@pytest.fixture
def endpoints(fleet):
    return [(each.method, each.path) for service in SERVICES for each in service._mount.endpoints]


def paths_of(path: str):

    if "<" not in path:
        return [path + query for query in QUERIES]
    return [re.sub(r"<[^>]+>", part, path) for part in PARTS]


@pytest.mark.parametrize("key", ["console", "twitch", "inventory", None])
def test_nonsense_is_refused_and_never_breaks_anything(fleet, endpoints, key):
    broken = []
    for method, path in endpoints:
        bodies = BODIES if method in ("POST", "PUT") else [None]
        for target, body in itertools.product(paths_of(path), bodies):
            answer = fleet.request(method, target.replace(" ", "%20"), body, key=key)
            if answer.status >= 500 and answer.status != 503:
                broken.append((method, target[:80], body, answer.body[:200]))
            if b"Traceback" in answer.body:
                broken.append((method, target[:80], body, "a traceback"))

    assert broken == []


# What people type, and what they paste.
WORDS = [
    "",
    "o’neil",
    "vip\u200b-guest",
    "@nobody \u202ebob\x1b[31m",
    "\u2060 \u200b",
    "-1",
    f"{'9' * 30} {'9' * 30}",
    f"list {'x' * 3000}",
    "{user} {args} {random:",
    "〇️⃣ ！＃ «a» “b” ‘c’",
    "\ud800\x00 %s %(x)s \\ ''",
    "https://[::1 http://127.0.0.1:1/ youtu.be/",
    "1 2 3 4 5 6 7 8",
]


def test_whatever_follows_a_command_is_answered_in_words(fleet, bot):
    listed = fleet.request("GET", "/router/commands?limit=1000").json()["commands"]
    lines = [
        f"{each['command']} {sub} {words}".strip()
        for each in listed
        if each["trigger_type"] != "event" and each["module_name"] != "stub"
        for sub in ("", *(known["name"] for known in each["subcommands"]))
        for words in WORDS
    ]
    wrong = []
    for n, line in enumerate(lines):
        heard = bot.say(line, by=f"p{n}", level="owner")
        codes = [each["error"]["code"] for each in heard.answer["executions"] if each["error"]]
        if "went wrong" in heard.chat or {"upstream_refused", "upstream", "bad_reply"} & {*codes}:
            wrong.append((line[:80], codes, heard.chat[:120]))

    assert len(lines) > 500
    assert wrong == []


TEXTS = ["x" * 3000, "\0", "’\u200b\u202e", "-1", "9" * 30, "%", "a:b:c"]


def test_nonsense_in_any_parameter_of_a_query_is_refused_or_answered(fleet, bot):
    broken = []
    for service in SERVICES:
        document = fleet.request("GET", f"{service.manifest.prefix}/openapi.json").json()
        for path, methods in document["paths"].items():
            named = [each["name"] for each in methods.get("get", {}).get("parameters", ()) if each["in"] == "query"]
            for name, text in itertools.product(
                named, ["x" * 3000, "\0", "’\u200b\u202e", "-1", "9" * 30, "%", "a:b:c"]
            ):
                asked = {"community_id": bot.slug, name: text}
                target = f"{re.sub(r'{[^}]+}', '1', path)}?{urlencode(asked)}"
                answer = fleet.request("GET", target, key="admin")
                if answer.status >= 500 and answer.status != 503:
                    broken.append((target[:120], answer.body[:200]))

    assert broken == []
