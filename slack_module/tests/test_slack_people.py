"""Who somebody in a workspace is, as the portal asks it."""

from __future__ import annotations

import pytest


def ask(channel, user, *, team="", key="portal"):
    return channel.fleet.request("GET", f"/slack/api/user/{team or channel.team}/{user}", key=key)


@pytest.mark.parametrize(
    ("rights", "badges"), [({"is_owner": True}, ["owner"]), ({"is_admin": True}, ["admin"]), ({}, [])]
)
def test_what_somebody_may_there_is_told_as_badges(channel, slack, rights, badges):
    slack.change_user("U7", name="ann", display_name="Ann", is_owner=False, is_admin=False)
    slack.change_user("U7", **rights)
    answer = ask(channel, "U7")
    assert answer.status == 200
    assert answer.json()["user"] == {"name": "ann", "display_name": "Ann", "badges": badges}


def test_it_is_what_slack_says_now(channel, slack):
    slack.change_user("U8", is_admin=True)
    assert ask(channel, "U8").json()["user"]["badges"] == ["admin"]
    slack.state.team(channel.team).users["U8"].is_admin = False  # And Slack has not told us yet.
    assert ask(channel, "U8").json()["user"]["badges"] == []


def test_a_workspace_without_the_app_says_nothing(channel, slack):
    assert ask(channel, "U7", team="T0ELSE").status == 502
    assert ask(channel, "UGONE1").status == 502


def test_only_the_portal_asks_and_for_a_person_only_of_their_own_workspace(channel, fleet):
    for key in ("inventory", "discord", "admin"):
        assert ask(channel, "U7", key=key).status == 403
    path = f"/slack/api/user/{channel.team}/U7"
    elsewhere = fleet.bot().community_id
    refused = fleet.request_for("GET", path, community_id=elsewhere, area="people")
    assert (refused.status, refused.json()["error"]["code"]) == (403, "not_allowed")
