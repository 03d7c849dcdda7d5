"""String rules, as people meet them: what is said, what is done about it, and who may say so (contracts §7)."""

from __future__ import annotations

import hashlib
import hmac
import importlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from waddlebot.base.logs import AAALog
from waddlebot.base.settings import Settings
from waddlebot.data.cache import Bus, open_redis
from waddlebot.data.database import fetch
from waddlebot.testing.module_stub import ModuleStub
from waddlebot.testing.plugin import eventually


def rows(fleet, sql, *parameters):
    with fleet.database.transaction() as db:
        return fetch(db, sql, parameters)


@pytest.mark.parametrize(
    ("match_type", "string", "hit", "missed"),
    [
        ("exact", "good bot", "  Good Bot ", "a good bot"),
        ("contains", "strasse", "In der STRAßE", "In der Gasse"),
        ("word", "cat", "the Cat sat", "concatenate"),
        ("regex", r"^\d+ apples$", "12 apples", "twelve apples"),
        ("*", "*", "anything at all", None),
        ("contains", "*", "anything at all", None),
    ],
)
def test_each_way_of_matching_warns(bot, rule, match_type, string, hit, missed):
    made = rule(string, "warn", match_type=match_type, warning_message="Careful.")

    heard = bot.say(hit)

    assert heard.answer["moderation"] == {"action": "warn", "rule_id": made["id"], "message": "Careful."}
    assert heard.chat == "Careful."
    assert heard.answer["responses"][0]["execution_id"] is None
    if missed:
        assert bot.say(missed).answer["moderation"] is None


def test_case_counts_where_the_rule_says_so(bot, rule):
    rule("LOUD", "warn", case_sensitive=True)

    assert bot.say("so LOUD").answer["moderation"]
    assert bot.say("so loud").answer["moderation"] is None


def test_who_has_an_exempt_label_is_neither_warned_nor_blocked(fleet, bot, rule):
    made = rule("spam", "block", exempt_labels=["Trusted", "other"])
    rule("spam", "command", command_to_execute="!help")
    bot.say("hello", by="bob")
    label = {"label": "trusted", "subject_type": "user", "subject_id": "console:bob", "community_id": bot.slug}
    assert made["exempt_labels"] == ["trusted", "other"]
    assert bot.say("spam", by="bob").answer["moderation"]
    assert fleet.request("POST", "/labels/apply", label).status == 200
    heard = bot.say("spam", by="bob")
    # The rest of the rules holds for everybody.
    assert (heard.answer["moderation"], heard.statuses) == (None, ["success"])
    assert bot.say("spam", by="alice").answer["moderation"]
    changed = fleet.request("PUT", f"/router/string-rules/{made['id']}", {"exempt_labels": []})
    assert changed.json()["rule"]["exempt_labels"] == []
    assert bot.say("spam", by="bob").answer["moderation"]


def test_a_block_says_where_it_cannot_be_performed(bot, rule):
    rule("spam", "block", block_message="No spam.")

    heard = bot.say("buy spam now")

    assert heard.answer["moderation"]["action"] == "block"
    assert heard.answer["moderation"]["message"] == "No spam."
    assert heard.chat == "No spam. (I cannot remove messages on console.)"


def test_a_moderator_may_quote_what_a_rule_blocks_unless_it_exempts_nobody_or_others(bot, fleet, rule):
    made = rule("secret", "warn")
    command = rule("secret", "command", command_to_execute="!help")
    assert bot.say("the secret").answer["moderation"]["action"] == "warn"
    for level in ("moderator", "admin", "owner"):
        heard = bot.say("the secret", level=level)
        assert heard.answer["moderation"] is None
        assert [each["command"] for each in heard.answer["executions"]] == ["!help"]
    change = f"/router/string-rules/{made['id']}"
    for exempt, moderated in ((None, ["member", "owner"]), ("vip", ["subscriber"]), ("owner", ["admin"])):
        assert fleet.request("PUT", change, {"exempt_level": exempt}).json()["rule"]["exempt_level"] == exempt
        assert all(bot.say("the secret", level=level).answer["moderation"] for level in moderated)
    assert bot.say("the secret", level="owner").answer["moderation"] is None
    assert command["exempt_level"] == "moderator"
    assert fleet.request("PUT", change, {"exempt_level": "king"}).status == 422


def test_a_blocked_command_does_not_run(bot, rule):
    rule("secret", "block", exempt_level=None)
    bot.say('!inventory add "A" "b"', level="moderator")

    heard = bot.say('!inventory add "secret" "b"', level="moderator")

    assert heard.statuses == ["denied"]
    assert heard.answer["executions"][0]["error"]["code"] == "blocked"
    assert bot.say("!inventory list").chat == "1 item: A"


def test_other_rules_do_not_see_commands_that_are_known(bot, rule):
    rule("inventory", "warn")

    assert bot.say("!inventory list").answer["moderation"] is None
    assert bot.say("!inventorx list").answer["moderation"] is None
    assert bot.say("the inventory").answer["moderation"]["action"] == "warn"


def test_unknown_commands_are_seen_by_every_rule(bot, rule):
    rule("!discord", "command", match_type="exact", command_to_execute="!help", command_parameters=["inventory"])

    heard = bot.say("!discord")

    assert heard.statuses == ["success"]
    assert "How to use !inventory" in heard.chat
    assert "There is no" not in heard.chat


def test_the_lowest_number_decides_and_later_actions_still_run(bot, rule, stub):
    rule("bad", "warn", priority=20)
    first = rule("bad", "block", priority=10)
    rule("bad", "command", priority=30, command_to_execute="stub", command_parameters=["{user}", "said: {message}"])

    heard = bot.say("a bad {user} word")

    assert heard.answer["moderation"]["rule_id"] == first["id"]
    assert heard.statuses == ["success"]
    assert stub.calls[0]["trigger"]["args"] == ["Alice", "said: a bad {user} word"]
    assert stub.calls[0]["trigger"]["raw"] == "a bad {user} word"


def test_a_rule_says_how_often_it_was_hit(bot, rule, stub):
    made = rule("deaths", "warn", warning_message="Died {count} times.")
    rule("deaths", "command", command_to_execute="stub", command_parameters=["{count}", "{count}"])

    assert "remarks" not in made or made["remarks"] == []
    assert bot.say("deaths", mode="simulate").answer["moderation"]["message"] == "Died 1 times."
    first = bot.event("deaths")
    assert bot.submit(first).answer["moderation"]["message"] == "Died 1 times."
    assert bot.submit(first).answer["duplicate"] is True
    assert bot.say("deaths").answer["moderation"]["message"] == "Died 2 times."
    assert [call["trigger"]["args"] for call in stub.calls][-1] == ["2", "2"]


def test_every_hit_is_counted(bot, rule, fleet):
    first, second = rule("ping", "warn"), rule("pin", "warn")
    for _ in range(3):
        bot.say("ping")

    def counted():
        found = fleet.request("GET", "/router/string-rules", query={"community_id": bot.slug}).json()["rules"]
        return {each["id"]: each["match_count"] for each in found} == {first["id"]: 3, second["id"]: 3}

    eventually(counted)


def test_what_a_rule_runs_is_allowed_to_who_said_it_and_no_more(bot, rule):
    rule("gimme", "command", command_to_execute="!inventory", command_parameters=["add", "Gift", "x"])

    assert bot.say("gimme", level="moderator").chat == "Added “Gift”."
    refused = bot.say("gimme", level="member")
    assert refused.statuses == ["denied"]
    assert refused.chat == ""


def test_what_rules_run_cannot_go_round_for_ever(bot, rule, fleet):
    bot.say('!alias add !one "!two"', level="owner")
    bot.say('!alias add !two "!one"', level="owner")
    rule("go", "command", command_to_execute="!one")

    heard = bot.say("go")

    assert heard.statuses[-1] == "failed"
    assert len(heard.statuses) <= 4


def test_a_rule_holds_only_where_it_is_meant_to(bot, rule, fleet):
    bot.say("hello")
    rule("spoiler", "warn", enabled_entity_ids=[f"console:{bot.slug}:general"])

    assert bot.say("a spoiler").answer["moderation"]
    assert bot.say("a spoiler", channel="off-topic").answer["moderation"] is None
    assert fleet.bot().say("a spoiler").answer["moderation"] is None


def test_a_rule_without_a_community_holds_everywhere(bot, fleet):
    made = fleet.request("POST", "/router/string-rules", {"string": "fleetwide-zzz", "action": "warn"}).json()
    try:
        assert bot.say("fleetwide-zzz").answer["moderation"]["rule_id"] == made["rule_id"]
        assert fleet.bot().say("fleetwide-zzz").answer["moderation"]["rule_id"] == made["rule_id"]
    finally:
        assert fleet.request("DELETE", f"/router/string-rules/{made['rule_id']}").status == 200
    assert bot.say("fleetwide-zzz").answer["moderation"] is None


def test_rules_can_be_changed_and_switched_off_at_once(bot, rule, fleet):
    made = rule("old", "warn")

    changed = fleet.request("PUT", f"/router/string-rules/{made['id']}", {"string": "new", "priority": 5}).json()

    assert changed["rule"]["string"] == "new"
    assert bot.say("old").answer["moderation"] is None
    assert bot.say("new").answer["moderation"]
    assert fleet.request("DELETE", f"/router/string-rules/{made['id']}").status == 200
    assert bot.say("new").answer["moderation"] is None
    assert fleet.request("DELETE", f"/router/string-rules/{made['id']}").status == 404
    listed = fleet.request("GET", "/router/string-rules", query={"community_id": bot.slug, "is_active": "false"}).json()
    assert [each["id"] for each in listed["rules"]] == [made["id"]]


def test_a_reading_that_began_before_a_change_and_ends_after_it_does_not_hide_it(bot, rule, fleet, monkeypatch):
    rule_book = importlib.import_module("apps.router_module.services.rules.rule_book")
    settings = Settings.load()
    bus = Bus(open_redis(settings), open_redis(settings, blocking=True))
    book = rule_book.RuleBook(fleet.database, bus, AAALog("router", "1"))
    has_read, may_go_on = threading.Event(), threading.Event()
    read = rule_book.list_active_rules

    def read_slowly(db, community_id):
        found = read(db, community_id)
        has_read.set()
        assert may_go_on.wait(10)
        return found

    monkeypatch.setattr(rule_book, "list_active_rules", read_slowly)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(book.compile, bot.community_id)
        assert has_read.wait(10)
        monkeypatch.setattr(rule_book, "list_active_rules", read)
        rule("duck", "warn")
        assert book.compile(bot.community_id).size == 1
        may_go_on.set()
        assert slow.result(10).size == 1
    assert book.counts()["rules"] == 1


def test_the_same_message_again_has_the_same_verdict(bot, rule):
    rule("again", "warn")
    event = bot.event("again")

    first, second = bot.submit(event), bot.submit(event)

    assert second.answer["duplicate"]
    assert second.answer["moderation"] == first.answer["moderation"]
    assert second.answer["responses"] == first.answer["responses"]


def test_why_names_the_rule(bot, rule):
    made = rule("naughty", "block", block_message="No.")
    bot.say("how naughty")

    said = bot.say("!why").chat

    assert f"rule {made['id']} blocked it (“No.”)" in said


def test_a_dry_run_shows_what_a_rule_would_have_hit(bot, fleet):
    for text in ("nice weather", "buy now", "!inventory list", "please buy"):
        bot.say(text)

    found = fleet.request(
        "POST",
        "/router/string-rules/dry-run",
        {"community_id": bot.slug, "string": "buy", "match_type": "word", "action": "block"},
    ).json()

    assert (found["scanned"], found["matched"]) == (4, 2)
    assert [each["message"] for each in found["examples"]] == ["please buy", "buy now"]
    assert bot.say("buy").answer["moderation"] is None


def test_a_dry_run_goes_through_more_messages_than_it_has_in_hand_at_once(bot, fleet):
    bot.say("buy first")
    for n in range(23):
        batch = [bot.event(f"hello {n} {m}", by=f"p{m}") for m in range(100)]
        assert fleet.request("POST", "/router/events/batch", batch).status == 200
    body = {"community_id": bot.slug, "string": "buy", "match_type": "word", "action": "warn"}

    found = fleet.request("POST", "/router/string-rules/dry-run", body).json()

    assert (found["scanned"], found["matched"]) == (2301, 1)
    assert [each["message"] for each in found["examples"]] == ["buy first"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"match_type": "regex", "string": "(?=a)"}, "string"),
        ({"match_type": "regex", "string": r"(a)\1"}, "string"),
        ({"match_type": "regex", "string": "a{1001}"}, "string"),
        ({"match_type": "regex", "string": "((a{1,100}){1,100}){1,100}"}, "string"),
        ({"match_type": "regex", "string": "("}, "string"),
        ({"string": "x" * 100_000}, "string"),
        ({"string": ""}, "string"),
        ({"action": "explode"}, "action"),
        ({"match_type": "fuzzy"}, "match_type"),
        ({"priority": 2**31}, "priority"),
        ({"priority": "high"}, "priority"),
        ({"enabled_entity_ids": "x"}, "enabled_entity_ids"),
        ({"command_parameters": [1]}, "command_parameters.0"),
        ({"action": "command", "command_to_execute": ""}, "command_to_execute"),
        ({"action": "command", "command_to_execute": "!help me"}, "command_to_execute"),
        ({"action": "webhook", "webhook_url": ""}, "webhook_url"),
        ({"action": "webhook", "webhook_url": "ftp://example.com/"}, "webhook_url"),
        ({"action": "webhook", "webhook_url": "http://127.0.0.1/"}, "webhook_url"),
        ({"action": "webhook", "webhook_url": "http://169.254.169.254/latest"}, "webhook_url"),
        ({"brand_new": 1}, "brand_new"),
    ],
)
def test_a_rule_that_cannot_work_is_refused_when_it_is_saved(bot, fleet, fields, field):
    body = {"community_id": bot.slug, "string": "x", "action": "warn", **fields}

    refused = fleet.request("POST", "/router/string-rules", body)

    assert refused.status == 422
    error = refused.json()["error"]
    assert error["details"].get("field", "") == field or error["message"].startswith(field)


def test_rules_of_another_community_are_not_there(bot, rule, fleet):
    made = rule("mine", "warn")
    stranger = fleet.bot()
    key = fleet.make_key(f"rules-{stranger.slug}", "api-users", community_id=stranger.community_id)
    path = f"/router/string-rules/{made['id']}"

    assert fleet.request("GET", path, key=key).status == 404
    assert fleet.request("PUT", path, {"string": "x"}, key=key).status == 404
    assert fleet.request("DELETE", path, key=key).status == 404
    assert fleet.request("GET", "/router/string-rules", key=key).json()["rules"] == []
    there = {"community_id": bot.slug, "string": "x", "action": "warn"}
    assert fleet.request("POST", "/router/string-rules", there, key=key).status == 403
    elsewhere = {"string": "x", "action": "warn", "enabled_entity_ids": [f"console:{bot.slug}:general"]}
    assert fleet.request("POST", "/router/string-rules", elsewhere, key=key).status == 404
    own = fleet.request("POST", "/router/string-rules", {"string": "x", "action": "warn"}, key=key).json()
    assert own["rule"]["community_id"] == stranger.community_id
    assert fleet.request("GET", "/router/string-rules", key="inventory").status == 403


@pytest.mark.parametrize("number", ["0", "-1", "x", "9" * 18, "9" * 19, "9" * 5000])
def test_a_rule_that_cannot_be_is_not_there(fleet, number):
    assert fleet.request("GET", f"/router/string-rules/{number}").status == 404
    assert fleet.request("DELETE", f"/router/string-rules/{number}").status == 404


def test_the_2001st_rule_is_one_too_many(bot, rule, fleet):
    rows(
        fleet,
        "INSERT INTO stringmatch (community_id, string, match_type, action)"
        " SELECT %s, 'w' || n, 'word', 'warn' FROM generate_series(1, 1999) n",
        bot.community_id,
    )
    rule("the last one", "warn")

    refused = fleet.request(
        "POST", "/router/string-rules", {"community_id": bot.slug, "string": "one more", "action": "warn"}
    )

    assert refused.status == 409
    assert refused.json()["error"]["code"] == "too_many_rules"
    assert bot.say("w1500").answer["moderation"]


# Webhooks


@pytest.fixture
def hook(module_stub_server: ModuleStub) -> ModuleStub:
    """The other end of a webhook; EGRESS_ALLOW names it."""
    module_stub_server.reset(lambda call: (200, b""))
    return module_stub_server


def test_a_webhook_gets_the_message_signed(bot, rule, hook):
    made = rule("call me", "webhook", webhook_url=hook.url)
    heard = bot.say("please call me")

    assert heard.statuses == ["success"]
    sent, headers = hook.calls[0], hook.headers[0]
    assert (sent["type"], sent["rule_id"], sent["message_content"]) == ("string_match", made["id"], "please call me")
    assert sent["user"] == {"id": "alice", "name": "Alice"}
    assert sent["context"]["entity_id"] == f"console:{bot.slug}:general"
    assert headers["Idempotency-Key"] == heard.answer["executions"][0]["execution_id"]
    signed = headers["X-WaddleBot-Timestamp"].encode() + b"." + hook.bodies[0]
    wanted = hmac.new(made["webhook_secret"].encode(), signed, hashlib.sha256).hexdigest()
    assert headers["X-WaddleBot-Signature"] == f"sha256={wanted}"


def test_a_webhooks_secret_is_shown_once(bot, rule, hook, fleet):
    made = rule("call me", "webhook", webhook_url=hook.url)

    again = fleet.request("GET", f"/router/string-rules/{made['id']}")

    assert made["webhook_secret"]
    assert made["webhook_secret"].encode() not in again.body


def test_a_webhook_that_is_down_for_a_moment_is_called_again_with_the_same_key(bot, rule, hook):
    answers = iter([(503, b""), (200, b"")])
    hook.behaviour = lambda call: next(answers)
    rule("call me", "webhook", webhook_url=hook.url)

    bot.say("call me")

    eventually(lambda: len(hook.calls) == 2)
    assert len({each["Idempotency-Key"] for each in hook.headers}) == 1


def test_a_webhook_that_refuses_fails_quietly(bot, rule, hook):
    hook.behaviour = lambda call: (403, b"<html>")
    rule("call me", "webhook", webhook_url=hook.url)

    heard = bot.say("call me")

    assert heard.statuses == ["failed"]
    assert heard.answer["executions"][0]["error"]["code"] == "upstream_refused"
    assert heard.chat == ""


def test_a_rehearsal_calls_no_webhook_and_counts_nothing(bot, rule, hook, fleet):
    made = rule("call me", "webhook", webhook_url=hook.url)

    heard = bot.say("call me", mode="simulate")

    assert heard.statuses == ["success"]
    assert hook.calls == []
    assert rows(fleet, "SELECT match_count FROM stringmatch WHERE id = %s", made["id"])[0]["match_count"] == 0


def test_a_thread_has_what_is_set_for_its_channel_unless_it_has_its_own(bot, fleet, rule):
    channel = f"console:{bot.slug}:general"
    bot.say("hello")
    rule("secretword", "warn", enabled_entity_ids=[channel])
    in_thread = {"channel": "thread", "data": {"parent_channel_id": "general"}}
    off = fleet.request("PUT", f"/router/entities/{channel}/modules/inventory", {"enabled": False})
    assert off.status == 200
    assert bot.say("the secretword", channel="elsewhere").answer["moderation"] is None
    assert bot.say("the secretword", **in_thread).answer["moderation"]["action"] == "warn"
    assert bot.say("!inventory list", **in_thread).statuses == ["denied"]
    own = fleet.request("PUT", f"/router/entities/console:{bot.slug}:thread/modules/inventory", {"enabled": True})
    assert own.status == 200
    assert bot.say("!inventory list", **in_thread).statuses == ["success"]
    assert bot.say("!inventory list").statuses == ["denied"]


@pytest.mark.parametrize("again", [{"edited": True}, {"copy": True}, {"shared_from": "777"}])
def test_what_is_not_newly_said_here_is_judged_and_nothing_else(bot, rule, fleet, again):
    rule("spam", "warn")
    rule("spam", "command", command_to_execute="!help")
    assert bot.say("spam", data=again).answer["moderation"]["action"] == "warn"
    assert bot.say("!inventory list", data=again).answer["executions"] == []
    points = fleet.request("GET", f"/router/reputation/{bot.slug}/leaderboard", key="admin").json()
    assert points["leaderboard"] == []


# Escalation


STEPS = [
    {"after": 2, "within_s": 60, "action": "delete"},
    {"after": 3, "within_s": 3600, "action": "timeout", "duration_s": 90},
    {"after": 4, "within_s": 3600, "action": "ban"},
]


def test_who_breaks_a_rule_again_and_again_is_met_by_its_steps(bot, fleet, rule):
    made = rule("fish", "warn", escalation=STEPS, warning_message="No {message}, {user}!")

    def done(**more: object) -> tuple[object, ...]:
        moderation = bot.say("fish", **more).answer["moderation"]
        return moderation["action"], moderation.get("duration_s"), moderation.get("times")

    assert bot.say("fish").chat == "No fish, Alice!"
    assert done(mode="simulate") == ("block", None, 2), "a simulated one says what would be, and counts for nothing"
    assert done() == ("block", None, 2)
    event = bot.event("fish")
    twice = [bot.submit(event).answer["moderation"] for _ in range(2)]
    assert [(each["action"], each["duration_s"], each["times"]) for each in twice] == [("timeout", 90, 3)] * 2
    assert "timed you out the 3. time" in bot.say("!why").chat
    assert "Time 3: timed out for 1 minute" in twice[0]["message"]
    assert done(by="bob") == ("warn", None, None), "everybody counts for themselves"
    pass_time = "UPDATE violations SET created_at = created_at - interval '61 seconds' WHERE rule_id = %s"
    with fleet.database.transaction() as db:
        fetch(db, pass_time, (made["id"],))
    assert done(by="bob") == ("warn", None, None), "what is longer ago than a step looks back is no part of it"
    assert done() == ("ban", None, 4)

    path = f"/router/communities/{bot.slug}/violations"
    listed = fleet.request("GET", path).json()["violations"]
    assert [(each["display_name"], each["times"], each["action"]) for each in listed] == [
        ("Alice", 4, "ban"),
        ("Bob", 2, ""),
    ]
    assert bot.say("!forgive @alice", by="bob").statuses == ["denied"]
    moderator = {"level": "moderator", "by": "mia"}
    assert bot.say("!forgive", **moderator).chat == "Usage: !forgive @who"
    assert "Nobody called nobody" in bot.say("!forgive nobody", **moderator).chat
    assert "4 times" in bot.say("!forgive @alice", **moderator, mode="simulate").chat
    assert bot.say("!forgive @Alice", **moderator).chat == "Forgiven: Alice broke rules 4 times."
    assert "nothing to forgive" in bot.say("!forgive alice", **moderator).chat
    assert done() == ("warn", None, None)
    bob = next(each["user_id"] for each in listed if each["display_name"] == "Bob")
    assert fleet.request("DELETE", f"{path}/{bob}").json()["forgiven"] == 2
    assert fleet.request("DELETE", f"{path}/999999999").status == 404


def test_all_of_somebodys_accounts_count_and_lines_at_once_count_one_after_the_other(bot, fleet, rule):
    rule("fish", "block", escalation=[{"after": 3, "within_s": 60, "action": "ban"}])
    bot.say("hi", by="ann1")
    bot.say("hi", by="ann2")
    with fleet.database.transaction() as db:
        link = (
            "UPDATE users SET head_id = (SELECT user_id FROM platform_identities WHERE platform_user_id = 'ann1')"
            " WHERE id = (SELECT user_id FROM platform_identities WHERE platform_user_id = 'ann2')"
        )
        fetch(db, link)
    importlib.import_module("apps.router_module.app").bus.invalidate("people")
    said: list[dict[str, object]] = []
    threads = [
        threading.Thread(target=lambda who=who: said.append(bot.say("fish", by=who).answer["moderation"]))
        for who in ("ann1", "ann2", "ann1", "ann2")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted((each["action"], each.get("times")) for each in said) == sorted(
        [("block", None), ("block", None), ("ban", 3), ("ban", 4)], key=str
    )
    with fleet.database.transaction() as db:
        fetch(db, "UPDATE users SET head_id = NULL WHERE head_id IS NOT NULL")


@pytest.mark.parametrize(
    "steps",
    [
        [{"after": 0, "action": "ban"}],
        [{"after": 1, "action": "kill"}],
        [{"after": 1, "action": "ban", "duration_s": 5}],
        [{"after": 1, "action": "timeout", "duration_s": 0}],
        [{"after": 1, "action": "timeout", "within_s": 2_592_001}],
        [{"after": 2, "action": "ban"}, {"after": 2, "action": "warn"}],
        [{"after": n + 1, "action": "warn"} for n in range(11)],
        [{"after": 1, "action": "ban", "color": "red"}],
    ],
)
def test_steps_that_cannot_be_are_refused(bot, fleet, steps):
    body = {"community_id": bot.slug, "string": "x", "action": "warn", "match_type": "contains", "escalation": steps}
    assert fleet.request("POST", "/router/string-rules", body).status == 422
    fine = {**body, "escalation": [{"after": 1, "action": "ban"}], "action": "command", "command_to_execute": "!x"}
    assert "escalation" in str(fleet.request("POST", "/router/string-rules", fine).json())
