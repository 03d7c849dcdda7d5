"""Letting the app into a workspace, and what becomes of a workspace that it was taken out of."""

from __future__ import annotations

import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs, urlsplit

import pytest
from waddlebot.testing.plugin import eventually

numbers = itertools.count(1)


class Browser:
    """Somebody's browser: follows to Slack's page, agrees there, and brings its cookies back."""

    def __init__(self, fleet, slack, team):
        self.fleet, self.slack, self.team, self.cookies = fleet, slack, team, {}

    def get(self, path, **query):
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        answer = self.fleet.request("GET", path, key=None, headers=headers, query=query)
        if cookie := answer.headers.get("set-cookie"):
            name, _, rest = cookie.partition("=")
            self.cookies[name] = rest.partition(";")[0]
        return answer

    def start(self, **query):
        """To Slack's page; returns what it was asked with."""
        answer = self.get("/slack/oauth/start", **query)
        assert answer.status == 303, answer.body
        return {name: values[0] for name, values in parse_qs(urlsplit(answer.headers["location"]).query).items()}

    def install(self, *, user="UINSTALLER", **query):
        asked = self.start(**query)
        code = self.slack.pages.make_code(self.team, user, asked["redirect_uri"], asked.get("user_scope", ""))
        return self.get("/slack/oauth/callback", code=code, state=asked["state"])


@pytest.fixture
def team():
    return f"TOAUTH{next(numbers)}X{int(time.time())}"


@pytest.fixture
def browser(fleet, slack, team):
    return Browser(fleet, slack, team)


def state_of(fleet, team):
    rows = fleet.database.statement("SELECT * FROM slack_teams WHERE team_id = %s", (team,))
    return rows[0]["state"] if rows else None


def ask(slack, team, text="!inventory list", **options):
    options.setdefault("user", f"U{team}")
    return slack.say(f"C{team}", text, team=team, **options)


def said(slack, team):
    return [each.text for each in slack.said if each.team == team]


def test_the_page_says_what_is_asked_for(fleet):
    answer = fleet.request("GET", "/slack/install", key=None, query={"community": '"><script>'})
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert b"Add to Slack" in answer.body
    assert b"<script>" not in answer.body


def test_slack_is_asked_for_what_the_bot_needs_and_no_more(browser):
    asked = browser.start()
    assert "chat:write" in asked["scope"].split(",")
    assert "user_scope" not in asked or not asked["user_scope"]
    assert asked["redirect_uri"] == "http://waddlebot.test/slack/oauth/callback"
    assert browser.start(moderate="1")["user_scope"] == "chat:write"


def test_from_nothing_to_an_answering_workspace(browser, fleet, slack, team):
    slack.change_user("UINSTALLER", team=team, name="ina", display_name="Ina")
    answer = browser.install()
    assert answer.status == 200, answer.body
    assert f"Workspace {team}".encode() in answer.body
    assert ask(slack, team) == [200]
    eventually(lambda: said(slack, team) == ["The inventory is empty."])
    row = fleet.database.statement(
        "SELECT c.slug, i.name FROM servers s JOIN communities c ON c.id = s.community_id"
        " JOIN platform_identities i ON i.user_id = c.owner_id WHERE s.server_id = %s",
        (team,),
    )[0]
    assert row == {"slug": f"workspace-{team.lower()}", "name": "ina"}


def test_tokens_are_kept_sealed(browser, fleet, team):
    browser.install()
    kept = fleet.database.statement("SELECT access_token FROM slack_tokens WHERE owner_id = %s", (team,))[0]
    assert kept["access_token"].startswith("test:")
    assert "xoxb" not in kept["access_token"]


def test_a_link_works_once_in_its_own_browser_and_not_for_long(browser, fleet, slack, team):
    asked = browser.start()
    code = slack.pages.make_code(team, "U1", asked["redirect_uri"])
    elsewhere = Browser(fleet, slack, team).get("/slack/oauth/callback", code=code, state=asked["state"])
    assert (elsewhere.status, b"another browser" in elsewhere.body) == (403, True)
    again = browser.get("/slack/oauth/callback", code=code, state=asked["state"])
    assert (again.status, b"was used before" in again.body) == (409, True)
    assert browser.get("/slack/oauth/callback", code=code, state="forged").status == 400
    assert browser.get("/slack/oauth/callback").status == 400
    assert state_of(fleet, team) is None


def test_somebody_who_does_not_agree_changes_nothing(browser, fleet, team):
    asked = browser.start()
    answer = browser.get("/slack/oauth/callback", error="access_denied", state=asked["state"])
    assert b"nothing has changed" in answer.body
    assert state_of(fleet, team) is None


def test_a_code_that_slack_refuses_is_told(browser, slack, team):
    asked = browser.start()
    answer = browser.get("/slack/oauth/callback", code="made.up", state=asked["state"])
    assert answer.status == 422
    assert b"invalid_code" in answer.body


def test_when_slack_is_away_it_is_told_and_may_begin_again(browser, slack):
    slack.fail_next(500, method="oauth.v2.access")
    answer = browser.install()
    assert (answer.status, b"Begin again in a moment" in answer.body) == (502, True)
    assert browser.install().status == 200


def test_an_uninstalled_workspace_is_cleaned_up_and_a_new_installation_repairs_it(browser, fleet, slack, team):
    browser.install()
    ask(slack, team)
    eventually(lambda: said(slack, team))
    slack.uninstall(team)
    assert state_of(fleet, team) == "gone"
    assert fleet.database.statement("SELECT 1 FROM slack_tokens WHERE owner_id = %s", (team,)) == []
    ask(slack, team, user="U2")
    rows = fleet.database.statement(
        "SELECT detail FROM slack_events WHERE channel_id = %s ORDER BY id DESC LIMIT 1", (f"C{team}",)
    )
    assert rows[0]["detail"] == "channel not served"
    assert browser.install().status == 200
    assert state_of(fleet, team) == "installed"
    ask(slack, team, user="U3")
    eventually(lambda: said(slack, team) == ["The inventory is empty."] * 2)


def test_the_workspace_of_the_bot_token_is_served_again_when_the_app_is_back(unserved, fleet, slack):
    import apps.slack_module.app as app

    team = slack.team_id
    served = "SELECT is_active FROM servers WHERE platform = 'slack' AND server_id = %s AND channel = ''"
    fleet.database.statement("DELETE FROM servers WHERE platform = 'slack' AND server_id = %s", (team,))
    app.installations._own_is_noted = False  # As after a start.
    app.installations.notice_own_workspace()
    assert fleet.database.statement(served, (team,)) == [{"is_active": True}]
    slack.uninstall()
    assert fleet.database.statement(served, (team,)) == [{"is_active": False}]
    slack.reset()
    app.installations._own_is_noted = False
    app.installations.notice_own_workspace()
    assert fleet.database.statement(served, (team,)) == [{"is_active": True}]
    assert state_of(fleet, team) == "installed"


def test_a_late_word_of_an_old_uninstallation_does_not_undo_a_new_installation(browser, fleet, slack, team):
    browser.install()
    late = slack.event({"type": "app_uninstalled"}, team=team, event_time=int(time.time()) - 120)
    assert slack.deliver(slack.sign("events", late))[0].status == 200
    assert state_of(fleet, team) == "installed"


def test_a_revoked_token_is_noticed_and_named(browser, fleet, slack, team):
    browser.install()
    bot = slack.state.team(team).bot_user_id
    slack.happen({"type": "tokens_revoked", "tokens": {"oauth": [], "bot": [bot]}}, team=team)
    assert state_of(fleet, team) == "gone"
    info = fleet.request("GET", "/slack/info", key=fleet.keys["slack"]).json()
    mine = next(each for each in info["workspaces"] if each["team_id"] == team)
    assert (mine["needs_reauth"], "revoked" in mine["reason"]) == (True, True)

    def is_named(key="admin"):
        health = fleet.request("GET", "/slack/health", key=key).json()
        return f"Workspace {team}" in health["checks"]["workspaces"]["detail"]

    eventually(is_named)
    assert not is_named(key=None)
    assert browser.install().status == 200
    eventually(lambda: not is_named())


def test_a_token_that_ends_is_renewed_once_by_however_many_need_it(browser, fleet, slack, team):
    slack.rotates, slack.token_ttl_s = True, 200  # Within the margin, so the next use renews it.
    browser.install()
    slack.token_ttl_s = 43_200
    with ThreadPoolExecutor(5) as pool:
        list(pool.map(lambda n: ask(slack, team, user=f"U{n}"), range(5)))
    eventually(lambda: len(said(slack, team)) == 5, within_s=20)
    versions = fleet.database.statement("SELECT version, state FROM slack_tokens WHERE owner_id = %s", (team,))
    assert versions == [{"version": 2, "state": "ok"}]
    assert slack.state.requests.count("oauth.v2.access") == 2


def test_a_token_that_cannot_be_renewed_is_told_in_words(browser, fleet, slack, team):
    slack.rotates, slack.token_ttl_s = True, 200
    browser.install()
    slack.state.refresh_tokens.clear()
    ask(slack, team)
    outbox = "SELECT state, detail FROM outbox WHERE entity_id = %s"
    eventually(
        lambda: [each["state"] for each in fleet.database.statement(outbox, (f"slack:{team}:C{team}",))] == ["dropped"]
    )
    assert "grant access again" in fleet.database.statement(outbox, (f"slack:{team}:C{team}",))[0]["detail"]


def test_an_admin_may_let_the_bot_delete_messages(browser, fleet, slack, team):
    slack.change_user("UBOSS", team=team, is_admin=True)
    assert b"may delete messages" in browser.install(user="UBOSS", moderate="1").body
    rule = {
        "community_id": f"workspace-{team.lower()}",
        "string": "badword",
        "match_type": "word",
        "action": "block",
    }
    assert fleet.request("POST", "/router/string-rules", rule).status == 200
    ask(slack, team, "a badword", ts="1700000000.000777")
    eventually(lambda: slack.state.deleted == [(f"C{team}", "1700000000.000777")])


def test_a_workspace_that_never_had_the_app_is_told_in_words(fleet, slack, team):
    from waddlebot.community.directory import add_server

    with fleet.database.transaction() as db:
        add_server(db, "slack", f"C{team}", server_id=team, community=team.lower())
    ask(slack, team)
    outbox = "SELECT detail FROM outbox WHERE entity_id = %s AND state = 'dropped'"
    eventually(lambda: fleet.database.statement(outbox, (f"slack:{team}:C{team}",)))
    assert "install it at /slack/install" in fleet.database.statement(outbox, (f"slack:{team}:C{team}",))[0]["detail"]
