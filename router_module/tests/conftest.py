"""What the router's tests share: string rules, and a place on the other end of their webhooks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Rule = Callable[..., dict[str, Any]]


@pytest.fixture
def rule(bot, fleet) -> Rule:
    """Add a string rule to the bot's community: `rule("spam", "block", match_type="contains")`."""

    def add(string: str, action: str, **fields: Any) -> dict[str, Any]:
        body = {"community_id": bot.slug, "match_type": "contains", "string": string, "action": action, **fields}
        made = fleet.request("POST", "/router/string-rules", body)
        assert made.status == 200, made.body
        return made.json()["rule"]

    return add
