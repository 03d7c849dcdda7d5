"""What the tests of all modules want to know of this one."""

from __future__ import annotations

from typing import Any

from waddlebot.base.ids import new_id

PREFIX = "/labels"


def ask(world: Any, method: str, path: str, body: Any) -> dict[str, Any]:
    answer = world.fleet.request(method, path, body, key="admin")
    assert answer.status == 200, answer.body
    made: dict[str, Any] = answer.json()
    return made


def furnish(world: Any) -> dict[str, Any]:
    """A group, a job and two links, of people of the community; and somebody on Twitch whose label brings a role."""
    community = {"community_id": world.mine.slug}
    who, entity_id = f"9{world.number}", f"twitch::{world.number}"
    event = {**world.mine.event("hello", by=who), "platform": "twitch", "server_id": "", "channel_id": world.number}
    assert world.fleet.request("POST", "/router/events", event, key="twitch").status == 200
    subject = {"subject_type": "user", "subject_id": f"twitch:{who}"}
    ask(world, "POST", "/labels/apply", {"label": "found", **subject, **community})
    rules = [{"label": "found", "entity_id": entity_id, "role_id": "vip"}]
    with_rule = {"name": new_id(), "entities": [entity_id], "rules": rules, **community}
    groups = [
        ask(world, "POST", "/labels/groups", body)["group"]["id"]
        for body in (with_rule, {"name": new_id(), **community})
    ]
    jobs = [
        ask(world, "POST", "/labels/jobs", {"label": "door", "csv": "1", **community})["job"]["id"] for _ in range(2)
    ]
    links = [ask(world, "POST", "/labels/links", link(world)["body"])["link_id"] for _ in range(2)]
    return {
        "group_id": groups[0],
        "group_id_to_end": groups[1],
        "job_id": jobs[0],
        "job_id_to_end": jobs[1],
        "link_id": links[0],
        "link_id_to_end": links[1],
    }


def link(world: Any) -> dict[str, Any]:
    """Two people whom nobody has linked yet."""
    names = new_id(), new_id()
    for name in names:
        world.mine.say("hello", by=name)
    rows = world.fleet.database.statement(
        "SELECT user_id FROM platform_identities WHERE platform_user_id = ANY(%s)", (list(names),)
    )
    return {"body": {"own_ids": [row["user_id"] for row in rows], "reason": "doors"}}


CARRIED = 3


def carry(bot: Any) -> None:
    """A label with a colour that somebody has, and a group; its places are this fleet's."""
    looks = {"community_id": bot.slug, "label": "regular", "colour": "#123456"}
    assert bot.fleet.request("PUT", "/labels", looks).status == 200
    given = {"label": "regular", "subject_type": "user", "subject_id": f"console:robin-{bot.slug}"}
    assert bot.fleet.request("POST", "/labels/apply", {**given, "community_id": bot.slug}).status == 200
    group = {"name": "everywhere", "community_id": bot.slug}
    assert bot.fleet.request("POST", "/labels/groups", group).status == 200


def here(**more: Any) -> Any:
    return lambda world: {"body": {"community_id": world.mine.slug, **more}}


def of_somebody(world: Any) -> dict[str, Any]:
    subject = {"subject_type": "user", "subject_id": world.found["user_id"]}
    return {"body": {"community_id": world.mine.slug, "label": "door", **subject}}


SAMPLES: dict[str, Any] = {
    "GET /labels": lambda w: {"query": {"community_id": w.mine.slug}},
    "PUT /labels": here(label="door", colour="#fff"),
    "POST /labels/apply": of_somebody,
    "POST /labels/remove": of_somebody,
    "GET /labels/search": lambda w: {"query": {"community_id": w.mine.slug, "labels": "found"}},
    "GET /labels/jobs": lambda w: {"query": {"community_id": w.mine.slug}},
    "POST /labels/jobs": here(label="door", csv="1"),
    "GET /labels/groups": lambda w: {"query": {"community_id": w.mine.slug}},
    "POST /labels/groups": lambda w: here(name=new_id())(w),
    "PUT /labels/groups/{group_id}": lambda _: {"body": {"name": new_id()}},
    "POST /labels/links": link,
    "POST /labels/role-changed": lambda w: {
        "body": {
            "platform": "discord",
            "server_id": w.number,
            "platform_user_id": "12",
            "role_id": "13",
            "has": True,
        }
    },
}
