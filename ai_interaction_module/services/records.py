"""Where people stand in this module's tables."""

from __future__ import annotations

from waddlebot.module.people import IN_COMMUNITY, Personal

PEOPLE = [
    Personal(
        "ai_conversations",
        where="own_id = ANY(%(own_ids)s)",
        within=IN_COMMUNITY,
        mentions=("question", "answer"),
        shown="community_id, entity_id, question, answer, created_at",
    ),
    Personal(
        "ai_usage",
        where="own_id = ANY(%(own_ids)s)",
        # The sums stay, under nobody's name.
        become="own_id = NULL",
        within=IN_COMMUNITY,
        shown="community_id, at, asked_as, provider, model, prompt_tokens, completion_tokens",
    ),
]
