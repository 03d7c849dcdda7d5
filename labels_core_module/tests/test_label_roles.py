"""Roles follow labels: given, taken, refused, done by hand, at Discord as it is simulated."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from waddlebot.base.ids import new_id
from waddlebot.community.directory import add_server
from waddlebot.module.service import SERVICES
from waddlebot.testing.plugin import eventually

numbers = itertools.count(77_000)


@dataclass
class Place:
    """A community's Discord server, with somebody in it who has spoken, and a group in which a label brings a role."""

    bot: Any
    guild: Any
    person: str
    role: str
    group_id: int = 0

    @property
    def roles(self) -> list[str]:
        return self.guild.members[self.person].roles

    def label(self, action: str, label: str = "fan") -> None:
        body = {"label": label, "subject_type": "user", "subject_id": f"discord:{self.person}"}
        answer = self.bot.fleet.request("POST", f"/labels/{action}", {**body, "community_id": self.bot.slug})
        assert answer.status == 200, answer.body

    def seen(self, has: bool, **more: Any) -> bool:
        body = {
            "platform": "discord",
            "server_id": self.guild.id,
            "platform_user_id": self.person,
            "role_id": self.role,
            "has": has,
            **more,
        }
        answer = self.bot.fleet.request("POST", "/labels/role-changed", body, key="discord")
        assert answer.status == 200, answer.body
        return answer.json()["changed"]

    def known(self) -> dict[str, Any] | None:
        path = f"/labels/groups/{self.group_id}/roles"
        return next(iter(self.bot.fleet.request("GET", path).json()["roles"]), None)

    def is_settled(self) -> bool:
        known = self.known()
        return known is None or (known["is_wanted"] == known["has_it"])


@pytest.fixture
def place(fleet, bot, discord_simulator) -> Place:
    guild = discord_simulator.add_guild(f"Guild {next(numbers)}")
    person = str(next(numbers))
    discord_simulator.person(guild, person)
    with fleet.database.transaction() as db:
        add_server(db, "discord", "", server_id=guild.id, community=bot.slug)
    event = {**bot.event("hello", by=person), "platform": "discord", "server_id": guild.id, "channel_id": "c1"}
    assert fleet.request("POST", "/router/events", event, key="discord").status == 200
    made = Place(bot, guild, person, guild.add_role("Fans"))
    rule = {"label": "Fan", "entity_id": f"discord:{guild.id}:", "role_id": made.role}
    body = {"name": "Everywhere", "community_id": bot.slug, "entities": [rule["entity_id"]], "rules": [rule]}
    answer = fleet.request("POST", "/labels/groups", body)
    assert answer.status == 200, answer.body
    made.group_id = answer.json()["group"]["id"]
    return made


def test_a_label_brings_a_role_at_once_and_takes_it_along(place):
    place.label("apply")
    eventually(lambda: place.roles == [place.role])
    eventually(place.is_settled)
    place.label("remove")
    eventually(lambda: place.roles == [])


def test_all_accounts_of_a_person_get_it_and_lose_it_when_they_part(place, fleet):
    body = {"label": "fan", "subject_type": "user", "subject_id": "console:pip" + place.person}
    place.bot.say("hello", by="pip" + place.person)
    fleet.request("POST", "/labels/apply", {**body, "community_id": place.bot.slug})
    ids = fleet.database.statement(
        "SELECT user_id FROM platform_identities"
        " WHERE (platform, platform_user_id) IN (('console', %s), ('discord', %s)) ORDER BY platform",
        ("pip" + place.person, place.person),
    )
    pair = {"own_ids": [row["user_id"] for row in ids], "reason": "test"}
    link = fleet.request("POST", "/labels/links", pair, key="admin").json()["link_id"]
    eventually(lambda: place.roles == [place.role])
    eventually(place.is_settled)
    fleet.request("DELETE", f"/labels/links/{link}", key="admin")
    eventually(lambda: place.roles == [])


def test_what_was_given_by_hand_before_stays(place):
    place.roles.append(place.role)
    place.label("apply")
    eventually(lambda: (place.known() or {}).get("has_it"))
    place.label("remove")
    eventually(lambda: place.known() is None)
    assert place.roles == [place.role]


def test_what_is_taken_by_hand_comes_back_thrice_and_is_then_left_alone(place):
    place.label("apply")
    for _ in range(2):
        eventually(lambda: place.roles == [place.role])
        eventually(place.is_settled)
        place.roles.clear()
        before = place.known()
        assert place.seen(False), (before, place.known())
    eventually(lambda: place.roles == [place.role])
    eventually(place.is_settled)
    place.roles.clear()
    # What we caused ourselves is no news, however late it is told.
    assert not place.seen(False, cause_id=new_id())
    assert place.seen(False)
    assert not place.seen(False)
    known = place.known()
    assert (known["error_code"], known["next_try_at"]) == ("taken_by_hand", None)
    assert place.roles == []
    again = place.bot.fleet.request("POST", f"/labels/groups/{place.group_id}/reconcile")
    assert again.json()["roles"] == 1
    eventually(lambda: place.roles == [place.role])


def test_what_the_platform_refuses_is_shown_and_told_to_the_owner(place):
    place.guild.lacks.add("manage_roles")
    place.label("apply")
    eventually(lambda: (place.known() or {}).get("error_code") == "missing_scope")
    path = f"/router/communities/{place.bot.slug}/notices"
    eventually(lambda: place.bot.fleet.request("GET", path).json()["notices"])
    (notice,) = place.bot.fleet.request("GET", path).json()["notices"]
    assert "cannot be given" in notice["messages"][0]
    place.guild.lacks.clear()
    place.bot.fleet.request("POST", f"/labels/groups/{place.group_id}/reconcile")
    eventually(lambda: place.roles == [place.role])


def test_an_administrators_role_is_never_given(place):
    place.guild.roles[place.role]["permissions"] = "8"
    place.label("apply")
    eventually(lambda: (place.known() or {}).get("error_code") == "administrators_role")
    assert place.roles == []


def test_with_the_group_or_the_rule_its_roles_go(place, fleet):
    place.label("apply")
    eventually(lambda: place.roles == [place.role])
    eventually(place.is_settled)
    path = f"/labels/groups/{place.group_id}"
    assert fleet.request("PUT", path, {"rules": []}).status == 200
    eventually(lambda: place.roles == [])
    entries = fleet.request("GET", "/router/audit", query={"community_id": place.bot.slug, "action": "group_changed"})
    undone = fleet.request("POST", f"/router/audit/{entries.json()['audit'][0]['id']}/undo", {}, key="admin")
    assert undone.status == 200, undone.body
    eventually(lambda: place.roles == [place.role])
    eventually(place.is_settled)
    slug = {"community_id": place.bot.slug}
    its = {"subject_type": "group", "subject_id": str(place.group_id), **slug}
    past = {"label": "over soon", "expires_at": (datetime.now(UTC) + timedelta(seconds=1)).isoformat()}
    for label in ({"label": "partner", "metadata": {"since": 2024}}, past):
        assert fleet.request("POST", "/labels/apply", {**its, **label}).status == 200
    assert fleet.request("DELETE", path).status == 200
    eventually(lambda: place.roles == [])
    assert fleet.request("GET", path).status == 404
    entries = fleet.request("GET", "/router/audit", query={"community_id": place.bot.slug, "action": "group_deleted"})
    undone = fleet.request("POST", f"/router/audit/{entries.json()['audit'][0]['id']}/undo", {}, key="admin")
    assert undone.status == 200, undone.body
    (group,) = fleet.request("GET", "/labels/groups", query={"community_id": place.bot.slug}).json()["groups"]
    assert (group["name"], group["entities"], len(group["rules"])) == ("everywhere", [f"discord:{place.guild.id}:"], 1)
    its["subject_id"] = str(group["id"])
    eventually(
        lambda: (
            [(each["label"], each["metadata"]) for each in fleet.request("GET", "/labels", query=its).json()["labels"]]
            == [("partner", {"since": 2024})]
        )
    )


def test_who_died_between_giving_and_writing_it_down_has_given_it(place, fleet):
    """What is left is a row that was asked for; asked again, Discord has it so already."""
    service = next(each for each in SERVICES if each.name == "labels_core")
    place.label("apply")
    eventually(lambda: place.roles == [place.role])
    eventually(place.is_settled)
    fleet.database.statement(
        "UPDATE label_roles SET is_asked = true, has_it = false, is_ours = false, next_try_at = now()"
        " WHERE community_id = %s",
        (place.bot.community_id,),
    )
    service.bus.invalidate("label_changes", place.bot.community_id)
    eventually(lambda: (place.known() or {}).get("is_ours"))
    place.label("remove")
    eventually(lambda: place.roles == [])


@pytest.mark.parametrize(
    "wrong",
    [
        {"entities": ["discord:404:"]},
        {"entities": ["nonsense"]},
        {"rules": [{"label": "x", "entity_id": "discord:404:", "role_id": "1"}]},
        {"rules": [{"label": "", "entity_id": "here", "role_id": "1"}]},
        {"rules": [{"label": "x", "entity_id": "here", "role_id": ""}]},
        {"name": ""},
    ],
)
def test_a_group_that_makes_no_sense_is_refused(place, fleet, wrong):
    here = f"discord:{place.guild.id}:"
    rules = [{**each, "entity_id": each["entity_id"].replace("here", here)} for each in wrong.get("rules", [])]
    body = {"name": new_id(), "community_id": place.bot.slug, "entities": [here], **wrong, "rules": rules}
    assert fleet.request("POST", "/labels/groups", body).status == 422
    other = fleet.make_key(new_id(), "api-users", community_id=fleet.bot().community_id)
    assert fleet.request("PUT", f"/labels/groups/{place.group_id}", {"name": "x"}, key=other).status == 404
