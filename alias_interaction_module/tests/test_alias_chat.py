"""!alias as a community meets it: what is typed, and what the bot says."""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from waddlebot.collecting.streams import StreamNews, Streams
from waddlebot.data.database import fetch
from waddlebot.testing.fleet import Bot, Fleet, Heard
from waddlebot.testing.plugin import eventually


def add(bot: Bot, name: str, template: str) -> Heard:
    return bot.say(f"!alias add {name} {template}", by="mia", level="moderator")


def uses_of(bot: Bot, name: str) -> int:
    path = "/alias/list"
    found = bot.fleet.request("GET", path, query={"community_id": bot.community_id}).json()["aliases"]
    return next(each["usage_count"] for each in found if each["prefix"] + each["alias"] == name)


USAGE = (
    "Usage: !alias add <alias_name> <command> | edit <alias_name> <command> | remove <alias_name> | set <alias_name>"
    " [cooldown=30] [person=60] [exempt=vip] [level=vip] [label=regular] [live=yes] | list [page] | stats [alias_name]"
)
# Commands


def test_an_alias_runs_its_command_with_the_callers_words(bot):
    bot.say('!inventory add "Blue Sword" shiny', level="moderator")
    assert add(bot, "!where", '"!inventory status {arg1}"').chat == (
        "Added !where; it stands for “!inventory status {arg1}”."
    )
    heard = bot.say('!where "blue sword"')
    assert heard.statuses == ["success", "success"]
    assert heard.chat == "“Blue Sword” is available – shiny."


def test_without_a_placeholder_the_words_come_after_the_command_as_in_a_shell(bot):
    bot.say('!inventory add "Blue Sword" shiny', level="moderator")
    add(bot, "where", '"!inventory status"')
    assert bot.say('!where "Blue Sword"').chat == "“Blue Sword” is available – shiny."
    assert bot.say("!where").chat == "Usage: !inventory status <item_name>"


def test_args_alone_spreads_and_inside_a_word_is_joined(bot):
    add(bot, "lend", '"!inventory checkout {args}"')
    add(bot, "note", '!inventory add {arg1} "about: {all_args}"')
    assert bot.say('!note Lamp "very bright"', level="moderator").chat == "Added “Lamp”."
    assert bot.say("!inventory status Lamp").chat == "“Lamp” is available – about: Lamp very bright."
    assert bot.say("!lend Lamp Bob", level="moderator").chat == "“Lamp” is now with Bob."


def test_the_command_may_be_written_without_quotes_around_it(bot):
    bot.say('!inventory add "Blue Sword" shiny', level="moderator")
    add(bot, "sword", '!inventory status "Blue Sword"')
    assert bot.say("!sword").chat == "“Blue Sword” is available – shiny."
    add(bot, "schwert", "“!inventory status 'Blue Sword'”")
    assert bot.say("!schwert").chat == "“Blue Sword” is available – shiny."


def test_half_a_command_in_quotes_is_not_guessed_at(bot):
    assert "Put quotes around the whole command" in add(bot, "x", '"!inventory status" Lamp').chat


def test_an_alias_gives_nobody_a_right_that_they_lack(bot):
    add(bot, "new", '"!inventory add {arg1} {arg2}"')
    refused = bot.say("!new Lamp bright", level="member")
    assert refused.statuses == ["success", "denied"]
    assert refused.chat == "Only a moderator or above may use !inventory add; you are a member."
    assert bot.say("!inventory list").chat == "The inventory is empty."
    assert bot.say("!new Lamp bright", level="moderator").chat == "Added “Lamp”."


def test_a_missing_word_is_named_and_the_usage_shown(bot):
    add(bot, "lend", '"!inventory checkout {arg1} {arg2}"')
    heard = bot.say("!lend Lamp")
    assert heard.statuses == ["failed"]
    assert heard.chat == (
        "!lend is missing {arg2}. Usage: !lend <arg1> <arg2> – it stands for “!inventory checkout {arg1} {arg2}”"
    )


def test_what_a_viewer_says_never_becomes_another_word_or_placeholder(bot):
    add(bot, "look", '"!inventory search {arg1}"')
    add(bot, "find", '"!inventory status {arg1}"')
    for nasty in ("a b", 'a" "b', "{arg2}", "{args}", "{user}", "!ban x", "'; DROP TABLE alias_commands; --", "$(id)"):
        word = '"' + nasty.replace('"', '\\"') + '"'
        assert bot.say(f"!find {word}").chat == f"There is no item called “{nasty}”."
        assert bot.say(f"!look {word}").chat == f"Nothing matches “{nasty}”."


def test_up_to_three_steps_are_followed(bot):
    bot.say("!inventory add Lamp bright", level="moderator")
    add(bot, "c", '"!inventory status"')
    add(bot, "b", '"!c"')
    add(bot, "a", '"!b"')
    heard = bot.say("!a Lamp")
    assert heard.statuses == ["success"] * 4
    assert heard.chat == "“Lamp” is available – bright."
    assert "!d → !a → !b → !c → !inventory would be more than 3 steps." in add(bot, "d", "!a").chat
    assert bot.say("!d").statuses == []


def test_a_chain_that_grows_at_its_end_is_refused_too(bot):
    for name, target in (("a", "!b"), ("b", "!c"), ("c", "!d")):
        assert add(bot, name, target).chat.startswith("Added")
    assert "!a → !b → !c → !d → !help would be more than 3 steps." in add(bot, "d", "!help").chat
    assert add(bot, "d", "the end").chat.startswith("Added")
    assert bot.say("!a").chat == "the end"


def test_an_alias_of_a_command_that_is_not_there_says_so(bot):
    assert add(bot, "a", "!nothing {arg1}").chat.endswith("There is no !nothing yet.")
    heard = bot.say("!a x")
    assert heard.statuses == ["success", "failed"]
    assert heard.chat == "!a → !nothing: there is no !nothing."


def test_words_that_would_multiply_without_end_are_refused(bot):
    add(bot, "b", '"!inventory search ' + "{args} " * 50 + '"')
    heard = bot.say("!b " + "x" * 1000)
    assert heard.chat == "!b with these words would become longer than 40000 characters."
    assert heard.statuses == ["failed"]


# Texts


def test_a_text_is_said_as_it_was_written(bot):
    add(bot, "rules", "Be   kind,  {user}. It's “6\" or less”, don't ask.")
    assert bot.say("!rules", by="zoë").chat == "Be   kind,  Zoë. It's “6\" or less”, don't ask."
    assert bot.say("!rules of the house").chat == "Be   kind,  Alice. It's “6\" or less”, don't ask."


def test_a_text_takes_words_where_it_asks_for_them(bot):
    add(bot, "hug", '"{user} hugs {all_args}!"')
    assert bot.say("!hug all of you").chat == "Alice hugs all of you!"
    add(bot, "slap", '"{user} slaps {arg1} with {arg2}"')
    assert "is missing {arg2}" in bot.say("!slap Bob").chat


def test_a_viewer_cannot_make_the_bot_command_another_bot(bot):
    add(bot, "echo", '"{args}"')
    for said in ("!ban bob", "/ban bob", ".ban bob", "#ban bob", '"  !ban bob"'):
        response = bot.say(f"!echo {said}").answer["responses"][0]
        assert response["response_data"]["message"].startswith("› ")
    assert bot.say("!echo hello !ban").answer["responses"][0]["response_data"]["message"] == "hello !ban"


def test_a_text_that_would_be_empty_shows_its_usage(bot):
    add(bot, "echo", '"{args}"')
    assert (
        bot.say("!echo").chat
        == "!echo has nothing to say without words. Usage: !echo [words…] – it stands for “{args}”"
    )
    assert bot.say("!echo hi").chat == "hi"


def test_a_mistyped_placeholder_is_pointed_out(bot):
    assert "{target} is said as it stands" in add(bot, "hug", '"hugs {target}"').chat
    assert bot.say("!hug").chat == "hugs {target}"


# Names


@pytest.mark.parametrize(
    ("made", "typed"),
    [
        ("hi", "!hi"),
        ("!hi", "!HI"),
        ("#hi", "#hi"),
        ("STRASSE", "!straße"),
        ("café", "!cafe\u0301"),
        ("привет", "!ПРИВЕТ"),
        ("挨拶", "!挨拶"),
        ("नमस्ते", "!नमस्ते"),
        ("مرحبا", "!مرحبا"),
        ("1up", "!1UP"),
        ("a'b-c_d.e", "!A'B-C_D.E"),
        ("ß" * 25, "!" + "SS" * 25),
    ],
)
def test_a_name_in_any_script_is_compared_by_case_folding(bot, made, typed):
    assert add(bot, made, "hello").chat.startswith("Added")
    assert bot.say(typed).chat == "hello"
    assert "already stands for “hello”" in add(bot, typed, "other").chat
    assert bot.say(f"!alias remove {typed}", level="moderator").chat.startswith("Removed")
    assert bot.say(typed).statuses == []


def test_the_two_prefixes_are_two_names(bot):
    add(bot, "!hi", "exclaimed")
    add(bot, "#hi", "tagged")
    assert (bot.say("!hi").chat, bot.say("#hi").chat) == ("exclaimed", "tagged")


@pytest.mark.parametrize(
    "name", ['"two words"', "a!b", "a#b", "!", "#", "!!", "_x", "🎉", '""', '"a\\"b"', "x\x00y", "a“b"]
)
def test_what_could_never_be_typed_is_no_name(bot, name):
    heard = add(bot, name, "hello")
    assert heard.statuses == ["failed"], heard.chat
    assert "name" in heard.chat


def test_a_name_has_at_most_fifty_characters(bot):
    assert add(bot, "x" * 51, "hello").chat == "An alias's name can have 50 characters; this has 51."
    assert "this has 10000" in add(bot, "x" * 10_000, "hello").chat
    assert "this has 52" in add(bot, "ß" * 26, "hello").chat
    assert add(bot, "x" * 50, "hello").chat.startswith("Added")
    assert bot.say("!" + "X" * 50).chat == "hello"


@pytest.mark.parametrize("name", ["inventory", "!HELP", "alias", "#alias"])
def test_an_alias_cannot_hide_a_command(bot, name):
    assert "is a command already; choose another name." in add(bot, name, "hello").chat


# What it may stand for


@pytest.mark.parametrize("template", ['"!{arg1} x"', '"!so{user}"', '"#{args}"', '"!x{arg9}y z"', '"!SO{ARG1}"'])
def test_the_name_of_a_command_cannot_be_filled_in(bot, template):
    assert "The name of a command cannot be filled in" in add(bot, "x", template).chat


@pytest.mark.parametrize("template", ["!!!", '"# heading"', '"!"', '"! so x"', "!_x"])
def test_what_looks_like_a_command_and_is_none_is_refused(bot, template):
    assert "cannot be a command, and a text cannot begin with ! or #" in add(bot, "x", template).chat


def test_a_template_is_checked_for_length_and_quotes(bot):
    assert add(bot, "x", '" "').chat == "An alias needs a command or a text to stand for."
    assert "can stand for 500 characters; this has 501" in add(bot, "x", "y" * 501).chat
    assert "never closed" in add(bot, "x", r'"!inventory status \"Blue"').chat
    assert "never closed" in add(bot, "x", '"Blue').chat
    assert add(bot, "x", "y" * 500).chat.startswith("Added")


def test_markup_and_sql_stay_what_they_are(bot):
    text = "<script>alert('x')</script>'; DELETE FROM alias_commands; -- %s {} \\ 😀"
    add(bot, "x", text)
    assert bot.say("!x").chat == text


# Loops


def test_a_loop_is_refused_and_named(bot):
    assert add(bot, "a", "!A {args}").chat == "!a → !a would never end."
    add(bot, "a", "!b")
    assert add(bot, "b", "!a").chat == "!b → !a → !b would never end."
    add(bot, "b", "!c")
    assert add(bot, "c", "!a x").chat == "!c → !a → !b → !c would never end."
    assert add(bot, "c", "#a").chat.startswith("Added")
    assert bot.say("!c").statuses == ["success", "failed"]


def test_another_communitys_aliases_make_no_loop(fleet, bot):
    other = fleet.bot()
    add(other, "b", "!a")
    assert add(bot, "a", "!b").chat.startswith("Added")


def test_a_loop_made_by_many_at_once_is_still_refused(bot):
    names = [f"r{n}" for n in range(3)]
    replies: list[str] = []

    def make(n: int) -> None:
        replies.append(add(bot, names[n], f"!{names[(n + 1) % 3]}").chat)

    threads = [threading.Thread(target=make, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(reply.startswith("Added") for reply in replies) == 2
    assert sum("would never end" in reply for reply in replies) == 1


# Managing


@pytest.mark.parametrize("level", ["member", "subscriber", "vip"])
@pytest.mark.parametrize("what", ["add x hello", "remove hi"])
def test_only_moderators_change_aliases(bot, level, what):
    add(bot, "hi", "hello")
    heard = bot.say(f"!alias {what}", level=level)
    assert heard.statuses == ["denied"]
    assert "Only a moderator or above may use !alias" in heard.chat
    assert bot.say("!hi").chat == "hello"
    assert bot.say(f"!alias {what}", level="moderator").statuses == ["success"]


def test_an_alias_that_exists_is_not_overwritten(bot):
    add(bot, "hi", "hello")
    assert add(bot, "HI", "bye").chat == "!hi already stands for “hello”. Change it with: !alias edit !hi <command>"
    assert bot.say("!hi").chat == "hello"
    edited = bot.say("!alias edit HI  be kind,  {user}", level="moderator").chat
    assert edited == "Now !hi stands for “be kind,  {user}”; it was “hello”."
    assert bot.say("!hi", by="bob").chat == "be kind,  Bob"
    assert bot.say("!alias edit hi !hi", level="moderator").chat == "!hi → !hi would never end."


def test_help_leaves_out_aliases_of_what_one_may_not_use(bot):
    add(bot, "lend", '"!inventory checkout {args}"')
    add(bot, "give", '"!lend Lamp {args}"')
    add(bot, "look", '"!inventory list"')
    assert bot.say("!help").chat.splitlines()[-1] == "Aliases: !look"
    assert bot.say("!help", level="moderator").chat.splitlines()[-1] == "Aliases: !give !lend !look"


def test_removing_takes_effect_at_once_and_frees_the_name(bot):
    add(bot, "hi", "hello")
    assert bot.say("!alias remove #hi", level="moderator").chat == "There is no alias #hi here. Did you mean !hi?"
    assert bot.say("!alias remove hi", level="moderator").chat == "Removed !hi; it stood for “hello”."
    assert bot.say("!hi").statuses == []
    assert add(bot, "hi", "bye").chat.startswith("Added")
    assert bot.say("!hi").chat == "bye"


def test_a_community_has_its_aliases_in_all_its_channels_and_no_other(fleet, bot):
    add(bot, "hi", "hello")
    assert bot.say("!hi", channel="elsewhere").chat == "hello"
    other = fleet.bot()
    assert other.say("!hi").statuses == []
    assert other.say("!alias list").chat.startswith("There are no aliases here.")


def test_the_list_shows_what_aliases_stand_for_page_by_page(bot):
    assert bot.say("!alias list").chat.startswith("There are no aliases here.")
    add(bot, "hi", "hello")
    bot.say("!hi")
    assert bot.say("!alias list").chat == "1 alias: !hi → hello (used once)"
    for n in range(10):
        add(bot, f"x{n}", "hello")
    assert bot.say("!alias list").chat.endswith(" … and 1 more: !alias list 2")
    assert bot.say("!alias list 2").chat == "11 aliases: !x9 → hello (used 0 times)"
    assert bot.say("!alias list 3").chat == "The last page is !alias list 2."
    for page in ("x", "0", "-1", "99999999", "²"):
        assert bot.say(f"!alias list {page}").chat == "Usage: !alias list [page]"


def test_uses_are_counted_but_not_those_that_failed(bot):
    add(bot, "hug", '"hugs {arg1}"')
    assert bot.say("!alias stats hug").chat == "Alias !hug stands for “hugs {arg1}”. It was never used. Made by Mia."
    bot.say("!hug Bob")
    bot.say("!hug Bob")
    bot.say("!hug")
    assert uses_of(bot, "!hug") == 2
    assert "Used 2 times, last on " in bot.say("!alias stats hug").chat
    assert bot.say("!alias stats").chat == "1 alias; most used: !hug (2 times)."
    assert bot.say("!alias stats nope").chat == "There is no alias !nope here."


def at_once(bot: Bot, text: str, *, people: int) -> list[str | None]:
    """What so many people are told who say the same in one moment."""
    with ThreadPoolExecutor(people) as pool:
        return list(pool.map(lambda n: bot.say(text, by=f"v{n}").chat, range(people)))


def test_64_people_who_use_one_alias_at_once_are_all_counted(bot):
    add(bot, "hi", "hello")
    assert at_once(bot, "!hi", people=64) == ["hello"] * 64
    assert uses_of(bot, "!hi") == 64


def test_64_people_at_once_are_each_told_another_number(bot):
    add(bot, "nth", "{count}")
    assert sorted(map(int, at_once(bot, "!nth", people=64))) == list(range(1, 65))
    assert uses_of(bot, "!nth") == 64


def test_who_uses_an_alias_waits_for_nobody_who_holds_its_row(bot, fleet):
    add(bot, "hi", "hello")
    with fleet.database.session() as other:
        other.run("BEGIN")
        held = "SELECT 1 FROM alias_commands WHERE community_id = %s AND alias = 'hi' FOR UPDATE"
        assert other.run(held, (bot.community_id,))
        assert bot.say("!hi").chat == "hello"
        other.run("ROLLBACK")
    assert bot.say("!alias stats hi").chat.startswith("Alias !hi stands for “hello”. Used once, last on ")


def test_a_use_is_written_within_seconds_without_anybody_asking(bot, fleet):
    add(bot, "hi", "hello")
    bot.say("!hi")
    written = "SELECT 1 FROM alias_commands WHERE community_id = %s AND alias = 'hi' AND usage_count = 1"
    eventually(lambda: fleet.database.statement(written, (bot.community_id,)))


def test_the_same_message_again_is_answered_the_same_and_counted_once(bot):
    add(bot, "hi", "hello")
    event = bot.event("!hi")
    first, second = bot.submit(event), bot.submit(event)
    assert (first.chat, second.chat) == ("hello", "hello")
    assert uses_of(bot, "!hi") == 1


def test_a_simulated_alias_changes_nothing(bot):
    add(bot, "hi", "hello")
    assert bot.say("!hi", mode="simulate").chat == "hello"
    assert bot.say("!alias add bye bye", level="moderator", mode="simulate").chat.startswith("Added !bye")
    assert bot.say("!alias remove hi", level="moderator", mode="simulate").chat.startswith("Removed !hi")
    assert uses_of(bot, "!hi") == 0
    assert bot.say("!bye").statuses == []
    assert bot.say("!hi").chat == "hello"


def test_an_alias_may_make_aliases(bot):
    add(bot, "addcom", '"!alias add {all_args}"')
    assert bot.say("!addcom hi hello there", level="moderator").chat == "Added !hi; it stands for “hello there”."
    assert bot.say('!addcom lamp !inventory status "Blue Lamp"', level="moderator").statuses == ["success"] * 2
    assert bot.say("!lamp").chat == "There is no item called “Blue Lamp”."
    assert bot.say("!addcom x y", level="member").statuses == ["success", "denied"]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (
            "!alias",
            USAGE,
        ),
        ("!alias add", "Usage: !alias add <alias_name> <command>"),
        ("!alias add hi", "Usage: !alias add <alias_name> <command>"),
        ("!alias remove", "Usage: !alias remove <alias_name>"),
        ("!alias remove a b", 'Usage: !alias remove <alias_name> – did you mean !alias remove "a b"?'),
        ("!alias stats a b", "Usage: !alias stats [alias_name]"),
    ],
)
def test_words_that_do_not_fit_are_answered_with_the_usage(bot, typed, said):
    heard = bot.say(typed, level="moderator")
    assert (heard.statuses, heard.chat) == (["failed"], said)


def test_names_too_strange_to_exist_are_simply_not_found(bot):
    for name in ("x" * 10_000, '"a b"', "!", "😀", "<b>", "';--"):
        heard = bot.say(f"!alias remove {name}", level="moderator")
        assert heard.statuses == ["failed"]
        assert heard.chat.startswith("There is no alias ")
        assert len(heard.chat) < 200


def test_everybody_may_see_aliases(fleet: Fleet, bot: Bot):
    add(bot, "hi", "hello")
    assert bot.say("!alias list", level="member").statuses == ["success"]
    assert bot.say("!alias stats", level="member").statuses == ["success"]


# Variables


def test_variables_say_what_the_fleet_knows(bot, fleet):
    """Values that people bring are said as they are and never read again."""
    streamed = f"twitch::{bot.community_id}77"
    with fleet.database.transaction() as db:
        fetch(
            db,
            "INSERT INTO entities (entity_id, platform, channel_id, community_id) VALUES (%s, 'twitch', %s, %s)",
            (streamed, f"{bot.community_id}77", bot.community_id),
        )
    add(bot, "now", "{uptime} / {game} / {title} / {viewers} / {followage}")
    assert bot.say("!now").chat == "not live / not known yet / not known yet / 0 / not known yet"
    started = (datetime.now(UTC) - timedelta(hours=2, minutes=5)).isoformat()
    news = StreamNews(streamed, is_live=True, started_at=started, title="{user} !ban x", game="Chess", viewers=42)
    Streams(fleet.database).note([news])
    assert bot.say("!now").chat == "2 hours, 5 minutes / Chess / {user} !ban x / 42 / not known yet"
    Streams(fleet.database).note([StreamNews(streamed, title="Endgames"), StreamNews("twitch::0", is_live=False)])
    assert "/ Chess / Endgames / 42 /" in bot.say("!now").chat
    Streams(fleet.database).note([StreamNews(streamed, is_live=False)])
    assert bot.say("!now").chat.startswith("not live / Chess / Endgames / 0 /")

    add(bot, "me", "{count}: {user} → {touser} has {points} points, place {rank} in {channel}")
    first, second = bot.say("!me", by="zoe").chat, bot.say("!me @Bob", by="zoe").chat
    assert first.startswith("1: Zoe → Zoe has ")
    assert second.startswith("2: Zoe → Bob has ")
    assert f"in {bot.slug}" in second
    bot.say("!me", by="zoe", mode="simulate")
    assert bot.say("!me", by="zoe").chat.startswith("3: ")

    add(bot, "roll", "{random:1-6}{random:9-9} {random:a|b|c} {time:Europe/Berlin} {arg1:nobody} {args}")
    said = bot.say("!roll {random:1-6} {user}").chat
    assert re.fullmatch(r"[1-6]9 [abc] \d\d:\d\d \{random:1-6\} \{random:1-6\} \{user\}", said), said
    assert " nobody " in bot.say("!roll").chat + " "
    add(bot, "rob", '"!alias stats {arg1:!roll}"')
    assert bot.say("!rob").chat.startswith("Alias !roll stands for")


@pytest.mark.parametrize(
    ("template", "named"),
    [
        ("{gmae}", "{gmae}"),
        ("{random}", "{random}"),
        ("{time:Narnia/Lantern} {time:../../etc/passwd} ok", "{time:Narnia/Lantern}, {time:../../etc/passwd}"),
        ("{random:{user}|b}", "{random:"),
        ("hello {user", "{user"),
        ("{user:x} {count:1}", "{user:x}, {count:1}"),
        ("{arg0}{arg10} x", "{arg0}, {arg10}"),
        ('"!so {random:a b|c}"', "{random:a"),
        ("{" * 400, None),
        ("{user} {random:a|b} {time} {game} {arg9:x}", None),
    ],
)
def test_what_is_no_variable_is_named_when_the_alias_is_made(bot, template, named):
    said = add(bot, "!x", template).chat
    assert ("is said as it stands" in said) is (named is not None), said
    assert named is None or f" {named} is said" in said


# Who may use it, when, and how often


def test_an_alias_rests_for_everybody_and_for_each_person(bot, fleet):
    add(bot, "hug", "{user} hugs")
    terms = "cooldown=30 person=5m exempt=vip"
    assert bot.say(f"!alias set hug {terms}", level="moderator").chat == (
        "Set for !hug: rests 30 s for everybody, rests 300 s for each person, never for vips and above."
    )
    assert bot.say("!hug", by="ann").chat == "Ann hugs"
    refused = bot.say("!hug", by="bob", platform="console")
    assert (refused.statuses, refused.answer["executions"][0]["error"]["code"]) == (["rate_limited"], "cooldown")
    assert re.fullmatch(r"!hug rests for everybody here, 30 s after each use\. Try again in \d+ s\.", refused.chat)
    assert "rests for everybody here" in bot.say("!why", by="bob").chat
    assert bot.say("!hug", by="vic", level="vip").chat == "Vic hugs"
    pass_time(fleet, bot, 31)
    assert "rests for you, 300 s" in bot.say("!hug", by="ann").chat
    assert bot.say("!hug", by="bob").chat == "Bob hugs"
    assert "it rests 30 s for everybody here after that" in bot.say("!why", by="bob").chat
    assert bot.say("!hug", by="cat", channel="pond").chat == "Cat hugs", "another channel rests by itself"


def test_a_cooldown_is_given_back_by_who_did_not_get_anything(bot, fleet):
    add(bot, "greet", "hello {arg1}")
    add(bot, "new", '"!inventory add {arg1} bright"')
    for name in ("greet", "new"):
        bot.say(f"!alias set {name} cooldown=1h exempt=nobody", level="moderator")
    assert bot.say("!greet").statuses == ["failed"]
    assert bot.say("!greet Bob").chat == "hello Bob"
    assert bot.say("!new lamp").statuses == ["success", "denied"]
    assert bot.say("!new lamp", level="owner").statuses == ["success", "success"]
    assert bot.say("!new lamp", level="owner").statuses == ["rate_limited"]
    event = bot.event("!greet Zoe", by="zoe", channel="pier")
    assert [bot.submit(event).chat for _ in range(2)] == ["hello Zoe"] * 2, "a repeat gives nothing back"
    assert bot.say("!greet Zoe", channel="pier").statuses == ["rate_limited"]
    assert bot.say("!greet Zoe", channel="pier", mode="simulate").statuses == ["success"]


def test_of_many_at_once_one_gets_it(bot):
    add(bot, "race", "won by {user}")
    bot.say("!alias set race cooldown=60", level="moderator")
    said: list[str] = []
    threads = [threading.Thread(target=lambda n=n: said.append(bot.say("!race", by=f"p{n}").chat)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([each for each in said if each.startswith("won by")]) == 1, said


def test_an_alias_for_some_and_for_when_the_stream_is_on(bot, fleet):
    add(bot, "secret", "psst")
    bot.say("!alias set secret level=subscriber label=Regular live=yes", level="moderator")
    assert bot.say("!secret").chat == "!secret is for everybody labelled regular."
    assert bot.say("!secret", level="moderator").chat == "!secret is for when the stream is on."
    with fleet.database.transaction() as db:
        fetch(
            db,
            "INSERT INTO coordination (entity_id, platform, is_live) VALUES (%s, 'console', true)",
            (f"console:{bot.slug}:general",),
        )
    eventually(lambda: bot.say("!secret", level="moderator").chat == "psst", within_s=10)
    bot.say("!alias set secret label=none", level="moderator")
    assert "Only a subscriber or above" in bot.say("!secret").chat
    assert bot.say("!secret", level="subscriber").chat == "psst"


@pytest.mark.parametrize(
    "terms",
    [
        *("", "cooldown", "cooldown=", "cooldown=-1", "cooldown=2d", "cooldown=25h", "person=99999"),
        *("level=king", "live=maybe", "exempt=", "color=red", "label=" + "x" * 51),
    ],
)
def test_chat_says_what_can_be_set(bot, terms):
    add(bot, "x", "hello")
    assert "Usage: !alias set" in bot.say(f"!alias set x {terms}", level="moderator").chat
    assert bot.say("!alias set x cooldown=1", level="moderator", mode="simulate").chat.startswith(
        "Set for !x: rests 1 s"
    )
    assert "rests" not in bot.say("!alias stats x").chat


def pass_time(fleet, bot, seconds):
    with fleet.database.transaction() as db:
        sql = "UPDATE cooldowns SET until = until - %s * interval '1 second' WHERE community_id = %s"
        fetch(db, sql, (seconds, bot.community_id))
