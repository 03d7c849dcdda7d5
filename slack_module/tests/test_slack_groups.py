"""User groups by way of us: read, changed and written by one at a time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest


@pytest.fixture
def group(channel, slack):
    slack.state.team(slack.team_id).groups["S1"] = ["U1"]
    return "S1"


def change(channel, user, group, *, action="add", key="labels_core"):
    body = {"team_id": channel.team, "group_id": group, "user_id": user, "action": action}
    answer = channel.fleet.request("POST", "/slack/api/groups", body, key=key)
    return answer.json()["error"]["code"] if answer.status >= 400 else answer.json()["changed"]


def test_nobody_is_lost_when_many_join_and_leave_at_once(channel, slack, group):
    slack.answer_delay_s = 0.005
    with ThreadPoolExecutor(6) as pool:
        done = list(pool.map(lambda n: change(channel, f"U{n}", group), range(1, 7)))
    assert done == [False, True, True, True, True, True]
    groups = slack.state.team(slack.team_id).groups
    assert sorted(groups[group]) == [f"U{n}" for n in range(1, 7)]
    assert all(change(channel, f"U{n}", group, action="remove") for n in range(1, 7))
    assert groups[group] == []
    assert change(channel, "U1", group)
    assert (groups[group], change(channel, "U1", group)) == (["U1"], False)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ("missing_scope", "missing_scope"),
        ("permission_denied", "hierarchy"),
        ("plan_upgrade_required", "paid_only"),
        ("invalid_users", "not_there"),
        ("subteam_max_users_exceeded", "full"),
    ],
)
def test_what_slack_refuses_has_a_name(channel, slack, group, error, code):
    slack.fail_next(error, method="usergroups.users.update")
    assert change(channel, "U2", group) == code
    assert slack.state.team(slack.team_id).groups[group] == ["U1"]


def test_only_who_gives_roles_may_ask(channel, group):
    assert change(channel, "U2", "S404") == "not_there"
    for key in ("inventory", "discord", "stranger"):
        assert change(channel, "U2", group, key=key) in ("not_allowed", "not_authenticated")
