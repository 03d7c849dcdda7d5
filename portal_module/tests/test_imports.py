"""What another bot had, brought into a community by the portal's own API: planned, done as a whole, taken back."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from waddlebot.base.ids import new_id
from waddlebot.base.manifest import CHECKOUT
from waddlebot.data.database import fetch
from waddlebot.module.foreign.nightbot import minutes_between
from waddlebot.testing.fleet import Bot

EXAMPLES = CHECKOUT / "examples" / "imports"
# One of each, as their APIs are documented: api-docs.nightbot.tv and dev.streamelements.com.
RECORDED = CHECKOUT / "tests" / "recorded"
PREFIXES = ("/alias", "/router", "/labels", "/inventory", "/marketplace")


def bring(bot: Bot, source: str, files: dict[str, Any], *, status: int = 200, **more: Any) -> dict[str, Any]:
    sent = [
        {"name": name, "content": each if isinstance(each, str) else json.dumps(each)} for name, each in files.items()
    ]
    body = {"source": source, "files": sent, "community_id": bot.slug, **more}
    answer = bot.fleet.request("POST", "/portal/imports", body, key="admin")
    assert answer.status == status, answer.body
    return answer.json()


def sample(folder: str) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted((EXAMPLES / folder).iterdir())}


def everything(bot: Bot) -> list[Any]:
    """All that a community would export, but points that are earned by talking."""
    answers = [
        bot.fleet.request("GET", f"{prefix}/export", key="portal", query={"community_id": bot.slug})
        for prefix in PREFIXES
    ]
    return [each for answer in answers for each in answer.json()["items"] if each["kind"] != "points"]


def actions(answer: dict[str, Any]) -> set[str]:
    return {each["action"] for each in answer["steps"]}


def why(answer: dict[str, Any], what: str, *, of: str = "left") -> str:
    return " ".join(each["why"] for each in answer[of] if each["what"] == what)


def commands(*named: tuple[str, str]) -> dict[str, Any]:
    return {
        "commands": [{"name": name, "message": text, "coolDown": 5, "userLevel": "everyone"} for name, text in named]
    }


@pytest.fixture
def portal_key(fleet):
    if "portal" not in fleet.keys:
        fleet.keys["portal"] = fleet.make_key("portal", "services", module_name="portal")


def test_a_nightbot_channel_moves_in_and_out_again(bot, portal_key):
    before = everything(bot)
    planned = bring(bot, "nightbot", sample("nightbot"))
    assert (planned["applied"], everything(bot)) == (False, before)
    done = bring(bot, "nightbot", sample("nightbot"), apply=True)
    assert done["counts"] == planned["counts"]
    kinds = [step["kind"] for step in done["steps"]]
    assert kinds.count("timer") == 5
    assert kinds.count("string_rule") == 8, "three phrases, and five filters"
    assert kinds.count("given") == 2
    # Every one of the 40 commands is carried, or it is said why not.
    told = {step["name"] for step in done["steps"] if step["kind"] == "alias"} | {each["what"] for each in done["left"]}
    assert {each["name"] for each in json.loads(sample("nightbot")["commands.json"])["commands"]} <= told
    # What chat sees is what it saw there.
    assert bot.say("!rules").chat == "Be kind. No spoilers. No begging."
    assert bot.say("!lurk", by="pip").chat == "Pip waddles off to lurk. Enjoy!"
    assert bot.say("!say hello there", level="moderator").chat == "They say: hello there"
    assert bot.say("!raid").statuses == ["denied"]
    assert bot.say("!raid", level="moderator").chat == "Waddle raid! Waddle raid!"
    assert bot.say("THIS IS VERY LOUD INDEED").answer["moderation"]["action"] == "block"
    assert bot.say("get CHEAPVIEWERS now").answer["moderation"]["action"] == "block"
    assert bot.say("see https://www.youtube.com/watch").answer["moderation"] is None
    assert bot.say("see evil.com").answer["moderation"]["action"] == "block"
    assert "JavaScript" in why(done, "!dice")
    assert "another server" in why(done, "!api")
    assert "begin with !" in why(done, "gg")
    assert "no youtube" in why(done, "regular tuber")
    rules = [each for each in everything(bot) if each["kind"] == "string_rule" and each["match_type"] == "caps"]
    assert "time-out" in why(done, "caps", of="differs") or rules[0]["escalation"][0]["duration_s"] == 600
    assert bot.say("!hug @bob", by="pip").chat == "Pip hugs bob! (58 hugs so far)", "it goes on from where it was"
    # Again: nothing is changed, and it says so.
    there = everything(bot)
    again = bring(bot, "nightbot", sample("nightbot"), apply=True)
    assert (actions(again), again["applied"], everything(bot)) == ({"skip"}, False, there)
    # One entry takes all of it back.
    with bot.fleet.database.transaction() as db:
        (entry,) = fetch(
            db, "SELECT id, after FROM audit WHERE action = 'imported' AND community_id = %s", (bot.community_id,)
        )
    assert entry["after"]["source"] == "nightbot"
    undone = bot.fleet.request("POST", f"/router/audit/{entry['id']}/undo", key="admin")
    assert undone.status == 200, undone.body
    left = [each for each in everything(bot) if each not in before]
    assert {each["kind"] for each in left} <= {"label"}, "the label's name stays, and nobody has it"
    assert bot.say("!rules").chat != "Be kind. No spoilers. No begging."
    refused = bot.fleet.request("POST", "/portal/imports/undo", {"import_id": done["import_id"]}, key="admin")
    assert refused.status == 404


def test_streamelements_moves_in_with_its_points(bot, portal_key):
    with bot.fleet.database.transaction() as db:
        event = {**bot.event("hi", by="pip"), "platform": "twitch", "server_id": "", "channel_id": bot.slug}
        fetch(
            db,
            "INSERT INTO entities (entity_id, platform, server_id, channel_id, community_id)"
            " VALUES (%s, 'twitch', '', %s, %s)",
            (f"twitch::{bot.slug}", bot.slug, bot.community_id),
        )
    name = "pip" + new_id().replace("-", "")[-9:]
    event["user"] = {"platform_user_id": name, "name": name, "display_name": name, "badges": []}
    assert bot.fleet.request("POST", "/router/events", event, key="twitch").status == 200
    files = sample("streamelements")
    files["leaderboard.csv"] = files["leaderboard.csv"].replace("pip", name)
    done = bring(bot, "streamelements", files, apply=True)
    assert bot.say("!hello").chat == "Hello Alice!"
    assert "rests for" in bot.say("!hello", by="bob").chat
    assert bot.say("!clean").statuses == ["denied"]
    assert "not been seen" in why(done, "nobody_yet").replace("has been seen", "not been seen")
    assert "costs nothing" in why(done, "!gamble", of="differs") or "fills that in" in why(done, "!gamble")
    assert "switched off" in why(done, "!off")

    def points() -> int:
        with bot.fleet.database.transaction() as db:
            (row,) = fetch(
                db,
                "SELECT current_score FROM user_reputation r JOIN platform_identities i USING (user_id)"
                " WHERE platform_user_id = %s AND community_id = %s",
                (name, bot.community_id),
            )
        return row["current_score"]

    had = points()
    assert had > 1200, "added to what they have here"
    again = bring(bot, "streamelements", files, apply=True)
    assert (actions(again), points()) == ({"skip"}, had)
    files["leaderboard.csv"] = f"username,points\n{name},1300\n"
    assert bring(bot, "streamelements", files, apply=True)["applied"]
    assert points() == had + 100
    # Taken back are all points from there, by the import that was last.
    with bot.fleet.database.transaction() as db:
        rows = fetch(
            db, "SELECT id FROM audit WHERE action = 'imported' AND community_id = %s ORDER BY id", (bot.community_id,)
        )
    undone = bot.fleet.request("POST", f"/router/audit/{rows[-1]['id']}/undo", key="admin")
    assert (undone.status, points()) == (200, had - 1200)


def test_plain_csv_makes_aliases_items_and_says_what_quotes_need(bot, portal_key):
    done = bring(bot, "csv", sample("csv"), apply=True)
    assert bot.say("!hello").chat == "Hello, Alice!"
    assert "Blue Sword" in bot.say("!inventory list", level="moderator").chat
    assert "module quote" in why(done, "1 quotes")
    assert actions(bring(bot, "csv", sample("csv"))) == {"skip"}


def test_names_that_nobody_fills_in_are_asked_of_the_engine(bot, portal_key):
    """What the alias module says of a template is what the import goes by, whatever it knows by then."""
    answer = bring(
        bot, "nightbot", {"c.json": commands(("!up", '$(twitch $(channel) "{{uptimeLength}}")'), ("!me", "$(user)"))}
    )
    said = bot.say('!alias add !probe "{uptime} {user}"', level="moderator").chat
    is_filled_in = "is said as it stands" not in said
    assert ("!up" in {step["name"] for step in answer["steps"]}) == is_filled_in
    assert "!me" in {step["name"] for step in answer["steps"]}


@pytest.mark.parametrize(
    ("source", "name", "content", "said"),
    [
        ("nightbot", "c.json", '{"commands": [\n  {"name": "!a",}\n]}', "c.json: line 2, character"),
        ("nightbot", "c.json", "", "c.json is empty"),
        ("nightbot", "c.json", '{"status": 401, "message": "unauthorized"}', "none of Nightbot's lists"),
        (
            "nightbot",
            "c.json",
            commands(("!a", "x")) | {"timers": [{"name": "t", "message": "x", "interval": 5}]},
            "timer 1 (t), interval",
        ),
        (
            "nightbot",
            "c.json",
            {"commands": [{"name": "!a", "message": "x", "userLevel": "king"}]},
            "command 1 (!a), userLevel",
        ),
        ("nightbot", "c.json", {"commands": [{"name": "!a", "message": "x"}, 5]}, "command 2"),
        ("nightbot", "c.csv", "name,message\n!a\n", "line 2 has 1 fields, the header 2"),
        ("nightbot", "c.csv", "name,message,coolDown\n!a,hi,often\n", "line 2, coolDown"),
        ("nightbot", "c.csv", 'name,message\n!a,"hi\n', "line 2"),
        ("streamelements", "l.csv", "who,what\na,b\n", "line 1 has to name the columns"),
        ("streamelements", "l.csv", "username,points\nbob,many\n", "line 2, points"),
        ("streamelements", "c.json", "[1]", "has nothing of StreamElements'"),
        ("csv", "a.csv", "person,points\nbob,1e999\n", "line 2, points"),
        ("csv", "a.csv", "x,y\n", "line 1 has to name the columns"),
        ("nightbot", "c.json", "[" * 100_000, "c.json"),
    ],
)
def test_bad_files_are_named_by_place_and_field_and_change_nothing(bot, portal_key, source, name, content, said):
    before = everything(bot)
    answer = bring(bot, source, {name: content}, status=422, apply=True)
    assert said in answer["error"]["message"], answer["error"]["message"]
    assert everything(bot) == before


def test_limits_and_who_may(fleet, bot, portal_key):
    many = {"commands": [{"name": f"!c{n}", "message": "x"} for n in range(5001)]}
    assert "at most 5,000" in bring(bot, "nightbot", {"c.json": many}, status=422)["error"]["message"]
    bring(bot, "nightbot", {f"{n}.json": "[]" for n in range(21)}, status=422)
    assert "at most 4 MB" in bring(bot, "nightbot", {"c.json": " " * 4_000_001}, status=422)["error"]["message"]
    bring(bot, "nightbot", {"c.json": "[]"}, community_id="nowhere", status=404)
    body = {"source": "nightbot", "files": [{"name": "a", "content": "[]"}], "community_id": bot.slug}
    for right, status in (("editor", 403), ("owner", 200)):
        answer = fleet.request_for(
            "POST", "/portal/imports", body, community_id=bot.community_id, right=right, area="settings"
        )
        assert answer.status == status, answer.body


def test_what_changed_since_is_not_taken_back(bot, portal_key):
    done = bring(bot, "nightbot", {"c.json": commands(("!a", "one"), ("!b", "two"))}, apply=True)
    assert done["counts"]["create"] == 2
    listed = bot.fleet.request("GET", "/alias/list", query={"community_id": bot.slug}).json()["aliases"]
    changed = {"alias_id": listed[0]["id"], "command": "three"}
    assert bot.fleet.request("PUT", "/alias/update", changed).status == 200
    refused = bot.fleet.request("POST", "/portal/imports/undo", {"import_id": done["import_id"]}, key="admin")
    assert (refused.status, refused.json()["error"]["code"]) == (409, "changed_since"), refused.body
    assert bot.say("!b").chat == "two", "all of it or nothing"


@pytest.mark.parametrize(
    ("interval", "minutes"),
    [
        ("*/15 * * * *", 15),
        ("0 * * * *", 60),
        ("5,35 * * * *", 30),
        ("0 */2 * * *", 120),
        ("0 12 * * *", 1440),
        ("*/7 * * * *", None),
        ("0 9 * * 1", None),
        ("nonsense", None),
        ("0 */0 * * *", None),
        ("*/0 * * * *", None),
    ],
)
def test_how_often_a_line_of_cron_comes_round(interval, minutes):
    assert minutes_between(interval) == minutes


# With another value than the recorded one: what is other about the first thing that is made, or what is said of it;
# None where nobody would see a difference; or a question about all of it.
NOTHING = None
Becomes = Mapping[str, Any] | str | Callable[..., bool] | None
WHEN = ("2020-01-01T00:00:00.000Z", NOTHING)
OFF = "It is switched off there."
FIELDS: dict[str, dict[str, tuple[Any, Becomes]]] = {
    "nightbot/commands.json": {
        "_id": ("568a4d15df4510b03deb65fc", NOTHING),
        "createdAt": WHEN,
        "updatedAt": WHEN,
        "name": ("!penguin", {"alias": "!penguin"}),
        "message": ("Waddle", {"command": "Waddle"}),
        "coolDown": (60, {"cooldown_s": 60}),
        "count": (99, lambda bot, *_: bot.say("!waddle", level="moderator").chat == "Waddle number 100"),
        "userLevel": ("soop_vip", {"level": "vip"}),
    },
    "nightbot/default_commands.json": {
        "name": ("!music", "!music"),
        "coolDown": (60, NOTHING),
        "enabled": (False, lambda _, *made_and_said: made_and_said == ([], [])),
        "userLevel": ("moderator", NOTHING),
        "_name": ("poll", "It is one of Nightbot's own."),
        "_description": ("Anything", NOTHING),
        "_docs": ("https://docs.nightbot.tv/commands/poll", NOTHING),
    },
    "nightbot/timers.json": {
        "_id": ("568a4d15df4510b03deb65fc", NOTHING),
        "createdAt": WHEN,
        "updatedAt": WHEN,
        "name": ("Follow", {"name": "follow"}),
        "message": ("Follow us", {"message": "Follow us"}),
        "interval": ("*/30 * * * *", {"minutes": 30}),
        "nextRunAt": WHEN,
        "lines": (9, {"min_lines": 9}),
        "enabled": (False, {"is_active": False}),
    },
    "streamelements/commands.json": {
        "_id": ("568a4d15df4510b03deb65fc", NOTHING),
        "channel": ("568a4d15df4510b03deb65fc", NOTHING),
        "createdAt": WHEN,
        "updatedAt": WHEN,
        "command": ("penguin", {"alias": "!penguin"}),
        "reply": ("Hello ${1}!", {"command": "Hello {arg1}!"}),
        "aliases": ([], lambda _, made, said: ([each["alias"] for each in made], said) == (["!waddle"], [])),
        "keywords": (["penguin"], "It is called by its name only"),
        "regex": ("pengu.n", "It is called by its name only"),
        "cooldown.user": (60, {"cooldown_person_s": 60}),
        "cooldown.global": (60, {"cooldown_s": 60}),
        "cost": (5, "It costs nothing here; there it cost 5 points."),
        "accessLevel": (500, {"level": "moderator"}),
        "type": ("whisper", "It is said in the channel; there its answer was a whisper."),
        "enabled": (False, OFF),
        "enabledOnline": (False, "It works while the stream is live, too."),
        "enabledOffline": (False, {"only_live": True}),
        "hidden": (True, "It is in the list of commands; there it was hidden."),
    },
    "streamelements/timers.json": {
        "_id": ("568a4d15df4510b03deb65fc", NOTHING),
        "channel": ("568a4d15df4510b03deb65fc", NOTHING),
        "createdAt": WHEN,
        "updatedAt": WHEN,
        "name": ("Follow", {"name": "follow"}),
        "message": ("Follow us", {"message": "Follow us"}),
        "enabled": (False, {"is_active": False}),
        "chatLines": (9, {"min_lines": 9}),
        "online.enabled": (False, "It is said only while nobody streams, which timers cannot here."),
        "online.interval": (45, {"minutes": 45}),
        "offline.enabled": (True, {"only_live": False}),
        "offline.interval": (60, NOTHING),
    },
}


def fields_of(entry: Mapping[str, Any], above: str = "") -> set[str]:
    return {
        each
        for name, value in entry.items()
        for each in (fields_of(value, f"{above}{name}.") if isinstance(value, dict) else {above + name})
    }


def entries_of(document: Any) -> list[dict[str, Any]]:
    lists = [document] if isinstance(document, list) else [each for each in document.values() if isinstance(each, list)]
    (found,) = lists
    return found


def imported(bot: Bot, name: str, document: Any) -> tuple[list[Any], list[str]]:
    """What a community has by it, and what is said of what it has not, or not quite."""
    before = everything(bot)
    done = bring(bot, name.partition("/")[0], {name.partition("/")[2]: json.dumps(document)}, apply=True)
    said = [f"{each['what']}: {each['why']}" for each in (*done["left"], *done["differs"])]
    return [each for each in everything(bot) if each not in before], said


@pytest.mark.parametrize("name", [f"{path.parent.name}/{path.name}" for path in sorted(RECORDED.glob("*/*.json"))])
def test_what_was_recorded_has_every_field_of_the_table_and_no_other(name):
    for entry in entries_of(json.loads((RECORDED / name).read_text())):
        assert fields_of(entry) == set(FIELDS[name])


@pytest.mark.parametrize(("name", "field"), [(name, field) for name, fields in FIELDS.items() for field in fields])
@pytest.mark.usefixtures("portal_key")
def test_each_field_becomes_what_the_table_says_or_it_is_said_that_it_cannot(fleet, name, field):
    recorded = json.loads((RECORDED / name).read_text())
    changed = copy.deepcopy(recorded)
    entry, (value, becomes) = entries_of(changed)[0], FIELDS[name][field]
    *above, last = field.split(".")
    for each in above:
        entry = entry[each]
    assert entry[last] != value
    entry[last] = value

    bot = fleet.bot()
    (made, said), (other, said_of_it) = imported(fleet.bot(), name, recorded), imported(bot, name, changed)

    if becomes is None:
        assert (other, said_of_it) == (made, said)
    elif isinstance(becomes, str):
        assert becomes in " ".join(set(said_of_it) - set(said))
    elif callable(becomes):
        assert becomes(bot, other, said_of_it)
    else:
        assert other[0] == {**made[0], **becomes}
        assert becomes.items() - made[0].items()
