"""The events of EventSub, field by field as documented.

Source: https://dev.twitch.tv/docs/eventsub/eventsub-reference/
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from .accounts import Account, Ban, Stream
from .wire import timestamp

Event = dict[str, Any]


def person(prefix: str, account: Account | None) -> Event:
    """Somebody's three fields; all null for somebody who wants to stay unknown."""
    return {
        f"{prefix}user_id": account.id if account else None,
        f"{prefix}user_login": account.login if account else None,
        f"{prefix}user_name": account.name if account else None,
    }


def mention(account: Account) -> Event:
    """Somebody who is called by name in a message."""
    return person("", account)


def broadcaster(channel: Account) -> Event:
    return person("broadcaster_", channel)


def chat_message(
    channel: Event,
    chatter: Event,
    text: str,
    *,
    badges: Sequence[str] = (),
    message_id: str = "",
    bits: int = 0,
    mentioned: Mapping[str, Event] | None = None,
    emotes: Sequence[str] = (),
) -> Event:
    """`channel.chat.message`; `channel`, `chatter` and who is `mentioned`, by login, are their three fields each. Words
    that are `emotes` are emotes wherever they stand."""
    plain: Event = {"cheermote": None, "emote": None, "mention": None}
    named = mentioned or {}

    def fragment(part: str) -> Event:
        if part.startswith("@") and part[1:].lower() in named:
            return {"type": "mention", "text": part, **plain, "mention": named[part[1:].lower()]}
        if part in emotes:
            emote = {"id": "25", "emote_set_id": "0", "owner_id": "0", "format": ["static"]}
            return {"type": "emote", "text": part, **plain, "emote": emote}
        return {"type": "text", "text": part, **plain}

    words = "|".join([r"@\w+", *(rf"(?<!\S){re.escape(each)}(?!\S)" for each in emotes)])
    fragments = [fragment(part) for part in re.split(f"({words})", text) if part]
    if bits:
        head, _, rest = text.partition(" ")
        cheermote = {"prefix": "cheer", "bits": bits, "tier": 1}
        fragments = [{"type": "cheermote", "text": head, **plain, "cheermote": cheermote}]
        fragments += [{"type": "text", "text": f" {rest}", **plain}] if rest else []
    return {
        **channel,
        **chatter,
        "message_id": message_id or str(uuid.uuid4()),
        "message": {"text": text, "fragments": fragments},
        "color": "#00FF7F",
        "badges": [{"set_id": badge, "id": "1", "info": ""} for badge in badges],
        "message_type": "text",
        "cheer": {"bits": bits} if bits else None,
        "reply": None,
        "channel_points_custom_reward_id": None,
        "channel_points_animation_id": None,
        "source_broadcaster_user_id": None,
        "source_broadcaster_user_login": None,
        "source_broadcaster_user_name": None,
        "source_message_id": None,
        "source_badges": None,
        "is_source_only": None,
    }


def reply_to(parent: Mapping[str, Any]) -> Event:
    """The `reply` of a message that answers another."""
    thread = parent.get("reply") or {}
    return {
        "parent_message_id": parent["message_id"],
        "parent_message_body": parent["message"]["text"],
        "parent_user_id": parent["chatter_user_id"],
        "parent_user_name": parent["chatter_user_name"],
        "parent_user_login": parent["chatter_user_login"],
        "thread_message_id": thread.get("thread_message_id", parent["message_id"]),
        "thread_user_id": thread.get("thread_user_id", parent["chatter_user_id"]),
        "thread_user_name": thread.get("thread_user_name", parent["chatter_user_name"]),
        "thread_user_login": thread.get("thread_user_login", parent["chatter_user_login"]),
    }


def follow(channel: Account, user: Account, followed_at: str) -> Event:
    return {**person("", user), **broadcaster(channel), "followed_at": followed_at}


def subscribe(channel: Account, user: Account, *, tier: str, is_gift: bool) -> Event:
    return {**person("", user), **broadcaster(channel), "tier": tier, "is_gift": is_gift}


def resub(channel: Account, user: Account, text: str, *, tier: str, months: int, streak: int | None) -> Event:
    return {
        **person("", user),
        **broadcaster(channel),
        "tier": tier,
        "message": {"text": text, "emotes": None},
        "cumulative_months": months,
        "streak_months": streak,
        "duration_months": 1,
    }


def gift(channel: Account, giver: Account | None, total: int, *, tier: str) -> Event:
    """Of somebody anonymous where there is no giver."""
    return {
        **person("", giver),
        **broadcaster(channel),
        "total": total,
        "tier": tier,
        "cumulative_total": total if giver else None,
        "is_anonymous": giver is None,
    }


def cheer(channel: Account, user: Account | None, bits: int, text: str) -> Event:
    return {"is_anonymous": user is None, **person("", user), **broadcaster(channel), "message": text, "bits": bits}


def raid(to: Account, raider: Account, viewers: int) -> Event:
    return {**person("from_broadcaster_", raider), **person("to_broadcaster_", to), "viewers": viewers}


def ban(channel: Account, user: Account, moderator: Account, made: Ban) -> Event:
    return {
        **person("", user),
        **broadcaster(channel),
        **person("moderator_", moderator),
        "reason": made.reason,
        "banned_at": timestamp(),
        "ends_at": None if made.until is None else timestamp(made.until),
        "is_permanent": made.until is None,
    }


def unban(channel: Account, user: Account, moderator: Account) -> Event:
    return {**person("", user), **broadcaster(channel), **person("moderator_", moderator)}


def online(channel: Account, stream: Stream) -> Event:
    return {"id": stream.id, **broadcaster(channel), "type": "live", "started_at": stream.started_at}


def channel_update(channel: Account) -> Event:
    return {
        **broadcaster(channel),
        "title": channel.title,
        "language": "en",
        "category_id": "",
        "category_name": channel.game,
        "content_classification_labels": [],
    }


def moderator(channel: Account, user: Account) -> Event:
    return {**person("", user), **broadcaster(channel)}


def message_deleted(channel: Account, target: Event, message_id: str) -> Event:
    return {**broadcaster(channel), **target, "message_id": message_id}


def warning(channel: Account, user: Account, by: Account, reason: str) -> Event:
    return {
        **broadcaster(channel),
        **person("moderator_", by),
        **person("", user),
        "reason": reason,
        "chat_rules_cited": None,
    }


def shoutout(channel: Account, to: Account, by: Account) -> Event:
    viewers = channel.stream.viewers if channel.stream else 0
    return {
        **broadcaster(channel),
        **person("to_broadcaster_", to),
        **person("moderator_", by),
        "viewer_count": viewers,
        "started_at": timestamp(),
    }


def authorization(client_id: str, user: Account, *, is_removed: bool = False) -> Event:
    """For `user.authorization.grant` and `.revoke`. Of an account that is gone only the id is left."""
    known = person("", user)
    return {"client_id": client_id, **(known | {"user_login": None, "user_name": None} if is_removed else known)}
