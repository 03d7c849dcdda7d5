"""Nonsense at every endpoint of every module: it is refused in the fleet's own words, and never a 500."""

from __future__ import annotations

import itertools
import json
import re

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
