"""What a call of a community module brings along, what that opens, and what it never does."""

from __future__ import annotations

import importlib
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import quote

import pytest
from market import error, manifest, new_name, package
from waddlebot.data.database import fetch
from waddlebot.module.package import pack, read_package
from waddlebot.testing.fleet import URL
from waddlebot.testing.module_stub import chat, reply_to
from waddlebot.testing.plugin import eventually
from waddlebot.web.callback import CallToken

STATE = '\npermissions = ["state", "reply_later"]\n'


def tokens():
    return importlib.import_module("apps.marketplace_module.app").service.calls


def ask(market, token, method, path, body=None, **more):
    return market.fleet.request(method, path, body, key=None, headers={"Authorization": f"Bearer {token}"}, **more)


def post(market, token, reply):
    """A late answer, by the token of a call."""
    return ask(market, token, "POST", "/router/responses", reply)


def called(market, name, text=""):
    """What the module was sent for one line of chat."""
    market.answers(name)
    assert market.bot.say(f"#{name} {text}").statuses == ["success"]
    return market.stub.calls[-1]


def test_only_community_modules_are_given_a_token(market):
    name = market.have(more=STATE)
    callback = called(market, name)["callback"]
    assert callback["responses_url"] == f"{URL}/router/responses"
    assert callback["state_url"] == f"{URL}/marketplace/state"
    token = tokens().read(callback["token"])
    assert (token.module_name, token.version, token.permissions) == (name, "1.0.0", ("reply_later", "state"))
    assert token.community_id == market.bot.community_id
    left_s = token.expires_at - datetime.now(UTC).timestamp()
    assert 300 <= left_s <= 310
    # What is only tried leaves nothing behind.
    assert market.bot.submit({**market.bot.event(f"#{name}"), "mode": "simulate"}).statuses == ["success"]
    assert market.stub.calls[-1]["callback"] is None


def test_a_module_remembers_things_in_each_community_for_itself(market):
    name = market.have(more=STATE)
    token = called(market, name)["callback"]["token"]
    note = "/marketplace/state/counter"
    missing = ask(market, token, "GET", note)
    assert (missing.status, error(missing)["code"]) == (404, "no_such_key")
    assert ask(market, token, "PUT", note, {"value": {"n": 1}}).json()["version"] == 1
    assert ask(market, token, "GET", note).json()["value"] == {"n": 1}
    # Counting: whoever comes second reads again.
    assert ask(market, token, "PUT", note, {"value": {"n": 2}, "version": 1}).json()["version"] == 2
    late = ask(market, token, "PUT", note, {"value": {"n": 2}, "version": 1})
    assert (late.status, error(late)["code"]) == (409, "changed_meanwhile")
    assert error(late)["details"]["version"] == 2
    assert ask(market, token, "PUT", "/marketplace/state/new", {"value": 1, "version": 0}).status == 200
    assert [each["key"] for each in ask(market, token, "GET", "/marketplace/state").json()["keys"]] == [
        "counter",
        "new",
    ]
    assert ask(market, token, "DELETE", note).status == 200
    assert ask(market, token, "DELETE", note).status == 200
    assert ask(market, token, "GET", note).status == 404
    # Another module, and this one elsewhere, have notes of their own.
    other = market.have(more=STATE)
    assert ask(market, called(market, other)["callback"]["token"], "GET", "/marketplace/state/new").status == 404


def test_what_is_remembered_is_carried_away_and_of_a_person_shown_and_forgotten(market):
    name, person = market.have(more=STATE), f"rosalind-{market.bot.slug}"
    token = called(market, name)["callback"]["token"]
    market.answers(name)
    market.bot.say(f"#{name}", by=person)
    own_id = market.stub.calls[-1]["user"]["own_id"]
    notes = {
        f"user:{own_id}": {"points": 3},
        f"user:{own_id}:pet": "cat",
        f"user:{own_id}9": {"points": 4},
        f"best.{person}": 1,
        "ranks": {person: 1, "bob": 2, "said": [f"{person.title()} won"]},
        "count": own_id,
    }
    for key, value in notes.items():
        assert ask(market, token, "PUT", f"/marketplace/state/{key}", {"value": value}).status == 200

    # Carried into another community, once.
    query = {"community_id": market.bot.slug}
    export = market.fleet.request("GET", "/marketplace/export", key="portal", query=query).json()
    assert {each["key"] for each in export["items"] if each["kind"] == "note"} == set(notes)
    there = market.fleet.bot()
    for actions in ({"create"}, {"skip"}):
        items = [each for each in export["items"] if each["kind"] == "note"]
        body = {"items": items, "apply": True}
        answer = market.fleet.request(
            "POST", "/marketplace/import", body, key="portal", query={"community_id": there.slug}
        )
        assert {each["action"] for each in answer.json()["plan"]} == actions, answer.body

    who = f"console:{person}"
    shown = market.fleet.request("GET", "/marketplace/people/export", key="portal", query={"identities": who}).json()
    kept = [each["key"] for each in shown["items"] if each["kind"] == "module_state" and each["module_id"] == name]
    assert sorted(set(kept)) == sorted([f"user:{own_id}", f"user:{own_id}:pet", f"best.{person}"])
    erase = {"request_id": new_name(), "identities": [who], "community_id": market.bot.slug}
    assert market.fleet.request("POST", "/marketplace/people/erase", erase, key="portal").status == 200
    left = [each["key"] for each in ask(market, token, "GET", "/marketplace/state").json()["keys"]]
    assert left == sorted([f"user:{own_id}9", "ranks", "count"])
    assert ask(market, token, "GET", "/marketplace/state/ranks").json()["value"] == {
        "•": 1,
        "bob": 2,
        "said": ["• won"],
    }
    with market.fleet.database.transaction() as db:
        elsewhere = fetch(db, "SELECT key FROM module_state WHERE community_id = %s", (there.community_id,))
    assert len(elsewhere) == len(notes), "it was about this community"


def test_notes_have_bounds(market):
    name = market.have(more=STATE)
    token = called(market, name)["callback"]["token"]
    put = lambda key, value: ask(market, token, "PUT", f"/marketplace/state/{key}", {"value": value})  # noqa: E731
    assert put("big", "x" * 8190).status == 200
    assert put("big", "x" * 8191).status == 413
    assert put("nothing", None).status == 200
    for key in ("a b", "ü", "x" * 101):
        assert put(quote(key), 1).status == 422, key
    assert ask(market, token, "PUT", "/marketplace/state/deep", b'{"value": ' + b"[" * 60_000).status == 400
    for number in range(98):
        assert put(f"k{number}", number).status == 200
    full = put("one-more", 1)
    assert (full.status, error(full)["code"]) == (409, "too_many_keys")
    assert put("k5", "again").status == 200


def test_a_token_opens_nothing_else_and_no_key_opens_notes(market):
    name = market.have(more=STATE)
    call = called(market, name)
    token = call["callback"]["token"]
    for method, path in (("GET", "/marketplace"), ("GET", "/inventory"), ("GET", "/router/commands")):
        assert ask(market, token, method, path).status == 401
        assert market.fleet.request(method, path, key=token).status == 401
    for key in ("admin", "console", "router"):
        assert market.fleet.request("GET", "/marketplace/state/x", key=key).status == 403
    for bad in (token[:-4] + "AAAA", "wbcall_", "wbcall_" + "A" * 400, "wbcall_é", "nonsense", ""):
        assert ask(market, bad.encode().decode("latin-1"), "GET", "/marketplace/state/x").status == 401
    known = tokens().read(token)
    over = tokens().issue(replace(known, expires_at=int(datetime.now(UTC).timestamp()) - 1))
    assert ask(market, over, "GET", "/marketplace/state/x").status == 401


def test_a_late_answer_is_taken_for_its_own_execution_only(market):
    name = market.have(more=STATE)
    market.stub.behaviour = lambda call: reply_to(call, module_name=name, later_s=20)
    event = market.bot.event(f"#{name}")
    assert market.bot.submit(event).statuses == ["pending"]
    call = market.stub.calls[-1]
    other = called(market, market.have(more=STATE))
    reply = reply_to(call, chat("here it is"), module_name=name)
    refused = post(market, other["callback"]["token"], reply)
    assert (refused.status, error(refused)["message"]) == (403, "That token is of another execution.")
    theirs = reply_to(other, chat("mine now"), module_name=name)
    assert ask(market, call["callback"]["token"], "POST", "/router/responses", theirs).status == 403
    assert (
        ask(
            market, call["callback"]["token"], "POST", "/router/responses", {**reply, "module_name": "inventory"}
        ).status
        == 403
    )
    taken = ask(market, call["callback"]["token"], "POST", "/router/responses", reply)
    assert taken.status == 200, taken.body
    eventually(lambda: market.bot.submit(event).chat == "here it is")
    # Once: the same is known, anything else comes too late.
    assert ask(market, call["callback"]["token"], "POST", "/router/responses", reply).json()["duplicate"] is True
    again = ask(
        market, call["callback"]["token"], "POST", "/router/responses", reply_to(call, chat("x"), module_name=name)
    )
    assert again.status == 409


@pytest.mark.parametrize(
    ("response", "permission"),
    [
        ({"response_action": "ticker", "response_data": {"text": "look"}}, "overlays"),
        (chat("psst", private=True), "private"),
    ],
)
def test_what_a_module_may_not_is_left_out(market, response, permission):
    name = market.have()
    market.stub.behaviour = lambda call: reply_to(call, chat("hello"), response, module_name=name)
    said = market.bot.say(f"#{name}")
    assert (said.statuses, said.chat) == (["failed"], "hello")
    assert said.answer["executions"][0]["error"]["code"] == "not_permitted"
    assert len(said.answer["responses"]) == 1
    market.publish(name, version="1.1.0", more=f'permissions = ["{permission}"]')
    assert market.install(name, consent=True).status == 200
    said = market.bot.say(f"#{name}")
    assert (said.statuses, len(said.answer["responses"])) == (["success"], 2)


def test_without_the_permission_there_are_neither_notes_nor_late_answers(market):
    name = market.have()
    token = called(market, name)["callback"]["token"]
    assert ask(market, token, "GET", "/marketplace/state/x").status == 403
    market.stub.behaviour = lambda call: reply_to(call, module_name=name, later_s=20)
    said = market.bot.say(f"#{name}")
    assert said.answer["executions"][0]["error"]["code"] == "not_permitted"
    call = market.stub.calls[-1]
    late = ask(
        market, call["callback"]["token"], "POST", "/router/responses", reply_to(call, chat("x"), module_name=name)
    )
    assert late.status == 403


def test_a_module_that_was_taken_away_remembers_nothing(market):
    name = market.have(more=STATE)
    token = called(market, name)["callback"]["token"]
    ask(market, token, "PUT", "/marketplace/state/x", {"value": 1})
    market.uninstall(name)
    assert ask(market, token, "PUT", "/marketplace/state/x", {"value": 2}).status == 403
    market.install(name)
    assert ask(market, called(market, name)["callback"]["token"], "GET", "/marketplace/state/x").status == 404


def test_a_module_that_keeps_failing_is_parked_where_it_fails(market):
    name = market.have()
    other, elsewhere = market.have(), market.fleet.bot()
    body = {"module_id": name, "community_id": elsewhere.slug}
    assert market.fleet.request("POST", "/marketplace/install", body, key="admin").status == 200
    market.stub.behaviour = lambda _: (500, b"{}")
    statuses = [market.bot.say(f"#{name}", by=f"p{n}").statuses[0] for n in range(10)]
    assert statuses == ["failed"] * 10
    eventually(lambda: market.bot.say(f"#{name}", by="impatient").statuses == ["denied"])
    refused = market.bot.say(f"#{name}")
    assert refused.answer["executions"][0]["error"]["code"] == "parked"
    assert "is parked here" in refused.chat
    (notice,) = [each for each in market.notices() if name in each]
    assert "failed 10 times in a row" in notice
    assert "HTTP 500" in market.installed()[name]["parked_why"]
    # Elsewhere and beside it all goes on.
    market.answers(name)
    assert elsewhere.say(f"#{name}").statuses == ["success"]
    market.answers(other)
    assert market.bot.say(f"#{other}").statuses == ["success"]
    # The owner switches it on again.
    market.answers(name)
    assert market.toggle(name, enabled=True).status == 200
    assert market.bot.say(f"#{name}").statuses == ["success"]
    # What it says of somebody's words is no failure.
    market.stub.behaviour = lambda call: reply_to(call, chat("no such city"), module_name=name, success=False)
    assert {market.bot.say(f"#{name}", by=f"q{n}").statuses[0] for n in range(12)} == {"failed"}
    assert market.installed()[name]["parked_why"] == ""


def test_a_token_says_who_and_for_how_long(market):
    call = CallToken("e", "s", market.bot.community_id, "m", "1.0.0", ("state",), 2_000_000_000)
    assert tokens().read(tokens().issue(call)) == call


def test_a_module_is_told_what_happens_and_what_it_listens_for(market):
    name = new_name()
    heard = '\nevents = ["follow"]\nlisten = [{ match = "contains", pattern = "roll a die" }]\n'
    text = manifest(name, url=market.url) + heard
    assert market.send(pack({"module.toml": text.encode()})).status == 200
    page = market.page(name)["versions"][0]["asks_in_words"]
    assert page[:2] == ["be told of each follow here", "read lines of chat that contain “roll a die”"]
    market.answers(name, "I heard that.")
    assert market.bot.say("please roll a die").chat == ""
    market.install(name)
    assert market.bot.say("please roll a die").chat == "I heard that."
    assert market.stub.calls[-1]["trigger"]["data"]["listen"] == {"match": "contains", "pattern": "roll a die"}
    followed = market.bot.submit({**market.bot.event(""), "message_type": "follow"})
    assert name in [each["module_name"] for each in followed.answer["executions"]]
    assert market.bot.say("something else").answer["executions"] == []
    market.uninstall(name)
    assert market.bot.say("please roll a die").answer["executions"] == []
    followed = market.bot.submit({**market.bot.event(""), "message_type": "follow"})
    assert name not in [each["module_name"] for each in followed.answer["executions"]]


@pytest.mark.parametrize("run", ["lambda", "openwhisk"])
def test_packages_run_as_functions_where_the_operator_says_so(market, run):
    app = importlib.import_module("apps.marketplace_module.app")
    publishing = type(app.publisher)(app.db, app.router, app.log, run=run)
    read = read_package(package("dice", version="1.2.3-rc.1"))
    (spec,) = publishing.registration(read.manifest, read.sha256).commands
    assert (spec.type, spec.location_url, spec.timeout) == (run, "dice-1_2_3-rc_1", 5)
