"""What other services ask of the collector, how servers are added, and what Discord is told of the commands."""

from __future__ import annotations

import os
import re
from urllib.parse import parse_qsl, urlsplit

import pytest
from waddlebot.base.ids import new_id
from waddlebot.testing.plugin import eventually


@pytest.fixture
def labels():
    """The account of the module for labels, which gives roles."""
    return "labels_core"


def moderate(server, *, key="discord", **asked):
    body = {"guild_id": server.guild.id, **asked}
    return server.fleet.request("POST", "/discord/api/moderation", body, key=key)


def change_role(server, labels, **asked):
    body = {"guild_id": server.guild.id, **asked}
    return server.fleet.request("POST", "/discord/api/roles", body, key=labels)


def test_a_role_is_given_and_taken(server, labels):
    role = server.guild.add_role("Fans")
    server.discord.person(server.guild, "1001")

    answers = [change_role(server, labels, user_id="1001", role_id=role).json() for _ in range(2)]
    assert answers == [{"success": True, "changed": True}, {"success": True, "changed": False}]
    assert server.guild.members["1001"].roles == [role]
    assert change_role(server, labels, user_id="1001", role_id=role, action="remove").status == 200
    assert server.guild.members["1001"].roles == []


def test_what_discord_refuses_is_said_in_words(server, labels):
    bots, role = server.guild.add_role("WaddleBot"), server.guild.add_role("Fans")
    server.discord.person(server.guild, "1002")

    def refused(**asked):
        answer = change_role(server, labels, **{"user_id": "1002", "role_id": role, **asked})
        return answer.status, answer.json()["error"]["code"]

    assert refused(user_id="1999") == (404, "not_there")
    assert refused(role_id="1999") == (404, "not_there")
    server.guild.members[server.discord.world.bot.id].roles.append(bots)
    assert refused() == (409, "hierarchy")
    server.guild.roles[bots]["position"] = 99
    server.guild.lacks.add("manage_roles")
    answer = change_role(server, labels, user_id="1002", role_id=role)
    assert (answer.status, answer.json()["error"]["code"]) == (409, "missing_scope")
    assert "give its role the permission" in answer.json()["error"]["message"]


def test_somebody_is_timed_out_kicked_banned_and_unbanned(server):
    server.discord.person(server.guild, "1003")

    assert moderate(server, action="timeout", user_id="1003", duration_s=60, reason="spam").status == 200
    assert server.guild.members["1003"].timed_out_until is not None
    assert moderate(server, action="unban", user_id="1003").status == 200
    assert server.guild.members["1003"].timed_out_until is None
    assert moderate(server, action="kick", user_id="1003").status == 200
    assert "1003" not in server.guild.members
    assert moderate(server, action="ban", user_id="1003", reason="more spam").status == 200
    assert "1003" in server.guild.bans
    for _ in range(2):
        assert moderate(server, action="unban", user_id="1003").status == 200
    assert "1003" not in server.guild.bans


def test_a_message_is_deleted_once_or_twice(server):
    message_id = server.say("something")
    for _ in range(2):
        done = moderate(server, action="delete", channel_id=server.channel.id, message_id=message_id)
        assert done.status == 200
    assert server.discord.rest.deleted.count(message_id) == 1


@pytest.mark.parametrize("asked", [{"action": "delete"}, {"action": "ban"}, {"action": "dance", "user_id": "1"}, {}])
def test_a_request_that_lacks_something_is_refused(server, asked):
    assert moderate(server, **asked).status == 422


@pytest.mark.parametrize("key", [None, "inventory", "twitch"])
def test_no_other_service_may_ask(server, labels, key):
    role = server.guild.add_role("Fans")
    server.discord.person(server.guild, "1005")

    assert moderate(server, key=key, action="ban", user_id="1005").status in (401, 403)
    assert change_role(server, key, user_id="1005", role_id=role).status in (401, 403)
    assert moderate(server, key=labels, action="ban", user_id="1005").status == 403
    assert server.guild.members["1005"].roles == []


@pytest.mark.parametrize("action", ["add", "remove"])
@pytest.mark.parametrize("key", ["labels_core", "discord", "admin"])
def test_nobody_gives_or_takes_an_administrators_role(server, key, action):
    role = server.guild.add_role("Admins", permissions=0x8)
    server.discord.person(server.guild, "1006")
    refused = change_role(server, key, user_id="1006", role_id=role, action=action)

    assert refused.status == 403
    assert refused.json()["error"]["code"] == "administrators_role"
    assert server.guild.members["1006"].roles == []


def test_a_channel_of_another_server_is_not_moderated_by_way_of_ones_own(server, elsewhere):
    message_id = elsewhere.say("something")
    own = {"guild_id": server.guild.id, "channel_id": elsewhere.channel.id}
    refused = moderate(server, **own, action="delete", message_id=message_id)

    assert refused.status == 403
    assert message_id not in server.discord.rest.deleted


def test_info_lists_shards_and_servers(server):
    eventually(lambda: server.fleet.request("GET", "/discord/info", key="discord").json()["shards"])
    info = server.fleet.request("GET", "/discord/info", key="discord", query={"limit": 1000}).json()
    mine = next(each for each in info["guilds"] if each["guild_id"] == server.guild.id)

    assert info["shards"][0]["state"] == "connected"
    assert mine["name"] == server.guild.name
    assert mine["served_channels"] == [""]


def test_events_and_activities_are_listed(server):
    server.say("hello", user="1004")
    eventually(lambda: server.points_of("1004"))
    asked = {"guild_id": server.guild.id}
    events = server.fleet.request("GET", "/discord/events", key="discord", query=asked).json()
    activities = server.fleet.request("GET", "/discord/activities", key="discord").json()

    assert [(each["type"], each["state"]) for each in events["events"]] == [("MESSAGE_CREATE", "forwarded")]
    assert activities["activities"][0]["platform_user_id"] == "1004"


def test_a_server_gets_its_communitys_commands_once(server):
    eventually(lambda: server.guild.commands, within_s=30)
    names = [each["name"] for each in server.guild.commands]
    (inventory,) = [each for each in server.guild.commands if each["name"] == "inventory"]

    assert "help" in names
    assert "add" in [each["name"] for each in inventory["options"]]
    path = f"/guilds/{server.guild.id}/commands"
    assert len([each for each in server.discord.rest.requests if path in each.path]) == 1


def test_an_alias_is_a_slash_command_too(server):
    eventually(lambda: server.guild.commands, within_s=30)
    server.say('!alias add greet "Hello there"', user=server.guild.owner_id)

    eventually(lambda: "greet" in [each["name"] for each in server.guild.commands], within_s=60)
    used = server.slash("greet")
    eventually(lambda: server.answers_to(used) == ["Hello there"])


def test_what_is_installed_is_a_slash_command_until_it_is_removed(server):
    """In the version that was chosen, for a module whose code is a webhook that never answers."""
    name = "m" + new_id().replace("-", "")[-14:].translate(str.maketrans("0123456789abcdef", "bcdfghjkmnpqstvx"))
    community = f"discord-{server.guild.id}"
    place = {"module_id": name, "community_id": community}

    def post(path, body):
        answer = server.fleet.request("POST", f"/marketplace/{path}", body, key="admin")
        assert answer.status == 200, answer.body
        # Discord is told at most every fifteen seconds.
        server.fetch("UPDATE discord_guilds SET commands_retry_at = now() WHERE guild_id = %s", server.guild.id)

    def publish(version, usage):
        url = f"http://{os.environ['EGRESS_ALLOW'].split(',')[0]}/run"
        manifest = (
            f'name = "{name}"\ntitle = "Dice"\nversion = "{version}"\ndescription = "Rolls"\n'
            f'runtime = {{ type = "webhook", url = "{url}" }}\n'
            f'commands = [{{ command = "{name}", description = "Roll", usage = "{usage}" }}]\n'
        )
        post("modules", {"manifest": manifest})

    def options():
        return [each["options"][0]["name"] for each in server.guild.commands if each["name"] == name]

    eventually(lambda: server.guild.commands, within_s=30)
    publish("1.0.0", "[sides]")
    publish("1.1.0", "[dice]")
    post("install", {**place, "version": "1.0.0"})
    eventually(lambda: options() == ["sides"], within_s=30)
    server.slash(name, {"sides": "2d6"})
    used = "SELECT 1 FROM command_executions WHERE command = %s AND module_name = %s"
    eventually(lambda: server.fetch(used, f"#{name}", name))
    post("install", {**place, "version": "1.1.0"})
    eventually(lambda: options() == ["dice"], within_s=30)
    post("uninstall", place)
    eventually(lambda: options() == [], within_s=30)


def test_a_server_that_refuses_commands_says_why(server):
    told = "SELECT 1 FROM discord_guilds WHERE guild_id = %s AND commands_hash <> ''"
    eventually(lambda: server.fetch(told, server.guild.id), within_s=30)
    server.guild.lacks.add("applications.commands")
    server.fetch(
        "UPDATE discord_guilds SET commands_hash = 'other', commands_retry_at = now() WHERE guild_id = %s",
        server.guild.id,
    )

    refused = "SELECT commands_refused FROM discord_guilds WHERE guild_id = %s AND commands_refused <> ''"
    eventually(lambda: server.fetch(refused, server.guild.id), within_s=30)


class Browser:
    """Goes from page to page with its cookies."""

    def __init__(self, fleet):
        self._fleet = fleet
        self.cookies: dict[str, str] = {}

    def get(self, url):
        parts = urlsplit(url)
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        query = dict(parse_qsl(parts.query))
        answer = self._fleet.request("GET", parts.path, key=None, headers=headers, query=query)
        if cookie := answer.headers.get("set-cookie"):
            name, _, value = cookie.split(";")[0].partition("=")
            self.cookies[name] = value
        return answer


@pytest.fixture
def browser(fleet):
    return Browser(fleet)


def consent_to(browser, server, **options):
    """Begin, choose that server on Discord's page, and return where Discord sends the browser."""
    begun = browser.get("/discord/auth/login")
    assert begun.status == 303
    asked = dict(parse_qsl(urlsplit(begun.headers["location"]).query))
    assert asked["scope"] == "bot applications.commands identify"
    return server.discord.rest.consent(
        server.guild, state=asked["state"], redirect_uri=asked["redirect_uri"], **options
    )


def test_whoever_adds_the_bot_gets_a_community_and_answers(unserved, browser):
    assert "Add WaddleBot" in browser.get("/discord/auth").body.decode()
    page = browser.get(consent_to(browser, unserved))

    assert page.status == 200
    assert f"WaddleBot is in {unserved.guild.name}" in page.body.decode()
    unserved.say("!help")
    eventually(lambda: unserved.texts, within_s=40)
    owner = unserved.fetch(
        "SELECT i.platform_user_id FROM servers s JOIN communities c ON c.id = s.community_id"
        " JOIN platform_identities i ON i.user_id = c.owner_id WHERE s.server_id = %s AND s.platform = 'discord'",
        unserved.guild.id,
    )
    assert [row["platform_user_id"] for row in owner] == [unserved.guild.owner_id]


def test_the_server_is_the_one_that_discord_names_not_the_urls(unserved, elsewhere, browser):
    back = consent_to(browser, unserved)
    forged = re.sub(r"guild_id=\d+", f"guild_id={elsewhere.guild.id}", back)
    assert browser.get(forged).status == 200

    served = unserved.fetch("SELECT server_id FROM servers WHERE platform = 'discord' AND is_active")
    assert unserved.guild.id in [row["server_id"] for row in served]
    assert elsewhere.guild.id not in [row["server_id"] for row in served]


def test_a_link_works_once_and_in_its_own_browser(unserved, browser, fleet):
    back = consent_to(browser, unserved)

    assert Browser(fleet).get(back).status == 403
    assert browser.get(back).status == 409


@pytest.mark.parametrize("query", ["", "?state=forged&code=1", "?error=access_denied"])
def test_nonsense_from_a_browser_is_a_page_in_words(discord, browser, query):
    page = browser.get(f"/discord/auth/callback{query}")

    assert page.status == 400
    assert "Begin again" in page.body.decode()


def test_who_says_no_changes_nothing(unserved, browser):
    begun = browser.get("/discord/auth/login")
    state = dict(parse_qsl(urlsplit(begun.headers["location"]).query))["state"]
    page = browser.get(f"/discord/auth/callback?state={state}&error=access_denied")

    assert page.status == 403
    assert "nothing was changed" in page.body.decode()


def test_a_code_that_discord_does_not_know_adds_nothing(unserved, browser):
    back = consent_to(browser, unserved)
    page = browser.get(re.sub(r"code=\w+", "code=other", back))

    assert page.status == 502
    assert unserved.fetch("SELECT 1 FROM servers WHERE server_id = %s", unserved.guild.id) == []
