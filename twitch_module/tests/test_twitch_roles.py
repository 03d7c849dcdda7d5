"""VIPs and moderators by way of us, in the broadcaster's name."""

from __future__ import annotations

import pytest


def change(channel, *, key="labels_core", **asked):
    body = {"channel_id": channel.id, **asked}
    answer = channel.fleet.request("POST", "/twitch/api/roles", body, key=key)
    return answer.json()["error"]["code"] if answer.status >= 400 else answer.json()["changed"]


@pytest.mark.parametrize("role", ["vip", "moderator"])
def test_a_role_is_given_and_taken_once(joined, twitch, role):
    person = twitch.user(f"fan{joined.id}{role}").id
    held = joined.twitch.accounts.get(joined.id)
    assert [change(joined, user_id=person, role=role) for _ in range(2)] == [True, False]
    assert person in (held.vips if role == "vip" else held.moderators)
    assert [change(joined, user_id=person, role=role, action="remove") for _ in range(2)] == [True, False]
    assert person not in held.vips | held.moderators


def test_what_twitch_refuses_has_a_name(joined, channel, twitch):
    person = twitch.user(f"fan{joined.id}").id
    account = twitch.accounts.get(joined.id)
    account.moderators.add(person)
    assert change(joined, user_id=person, role="vip") == "hierarchy"
    account.moderators.clear()
    account.vip_slots = 0
    assert change(joined, user_id=person, role="vip") == "full"
    twitch.accounts.strict = True
    assert change(joined, user_id="404404404", role="vip") == "not_there"
    twitch.accounts.strict = False
    assert change(channel, user_id=person, role="vip") == "missing_scope"
    assert change(joined, user_id=person, role="broadcaster") == "invalid"
    assert change(joined, user_id=person, role="vip", key="inventory") == "not_allowed"
