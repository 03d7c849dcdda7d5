"""!inventory as a community meets it: what is typed, and what the bot says."""

from __future__ import annotations

import pytest
from waddlebot.testing.fleet import Bot, Heard


def mod(bot: Bot, text: str) -> Heard:
    return bot.say(f"!inventory {text}", by="mia", level="moderator")


def see(bot: Bot, text: str) -> str:
    return bot.say(f"!inventory {text}").chat


@pytest.fixture
def sword(bot: Bot) -> Bot:
    """A community that owns one thing."""
    assert mod(bot, 'add "Blue Sword" "A shiny sword" weapons,rare').statuses == ["success"]
    return bot


def test_an_item_goes_round(bot):
    assert mod(bot, 'add "Blue Sword" "A shiny sword" weapons,rare').chat == "Added “Blue Sword” (weapons, rare)."
    assert see(bot, "list") == "1 item: Blue Sword"
    assert mod(bot, 'checkout "Blue Sword" @Bob').chat == "“Blue Sword” is now with Bob."
    assert see(bot, 'status "Blue Sword"').startswith("“Blue Sword” is with Bob since ")
    assert see(bot, "list") == "1 item: Blue Sword (with Bob)"
    assert mod(bot, 'checkin "Blue Sword"').chat == "“Blue Sword” is back from Bob."
    assert see(bot, 'status "Blue Sword"') == "“Blue Sword” is available – A shiny sword (weapons, rare)."
    assert bot.say('!inventory delete "Blue Sword"', level="admin").chat == "Deleted “Blue Sword”."
    assert see(bot, "list") == "The inventory is empty."


# add


def test_an_item_needs_no_labels(bot):
    assert mod(bot, "add Lamp bright").chat == "Added “Lamp”."


@pytest.mark.parametrize("labels", ["a,b", "a, b", "a , b", '"a, b"', ",a,,b,", "A,b,B"])
def test_labels_are_split_at_commas_however_they_are_spaced(bot, labels):
    assert mod(bot, f"add Lamp bright {labels}").chat == "Added “Lamp” (a, b)."


def test_a_description_whose_quotes_were_forgotten_is_not_taken_for_labels(bot):
    assert mod(bot, "add Lamp a very bright one").chat.startswith("Usage: !inventory add <item_name> <description>")
    asked = mod(bot, "add Blue Sword shiny").chat
    assert '"Blue Sword" shiny' in asked and '"Blue" "Sword" shiny' in asked
    assert see(bot, "list") == "The inventory is empty."
    assert mod(bot, 'add "Blue" Sword shiny').chat == "Added “Blue” (shiny)."


@pytest.mark.parametrize("typed", ["[sword] <shiny> [rare,old]", "<sword> <shiny> rare,old", "sword shiny [rare, old]"])
def test_brackets_copied_from_the_usage_are_no_part_of_what_is_said(bot, typed):
    assert mod(bot, f"add {typed}").chat == "Added “sword” (rare, old)."
    assert see(bot, "status <sword>") == "“sword” is available – shiny (rare, old)."
    assert mod(bot, "checkout [sword] <Big Bob>").chat == "“sword” is now with Big Bob."
    assert mod(bot, "labels <sword> <add> [new]").chat == "“sword” now has rare, old, new."
    assert "!inventory – " not in bot.say("!help <inventory>").chat


def test_an_item_has_at_most_five_labels(bot):
    assert mod(bot, "add Lamp bright a,b,c,d,e,f").chat == "An item can have 5 labels; these are 6."
    assert see(bot, "list") == "The inventory is empty."
    assert mod(bot, "add Lamp bright a,b,c,d,e,E").chat == "Added “Lamp” (a, b, c, d, e)."
    assert mod(bot, "labels Lamp add f").chat == "An item can have 5 labels; these are 6."
    assert mod(bot, "labels Lamp remove a").chat == "“Lamp” now has b, c, d, e."
    assert mod(bot, "labels Lamp add f").chat == "“Lamp” now has b, c, d, e, f."


@pytest.mark.parametrize(
    "again", ["Blue Sword", "blue sword", "BLUE  SWORD", " Blue Sword ", "Ｂｌｕｅ Ｓｗｏｒｄ", "Blue\u00a0Sword"]
)
def test_the_same_name_in_another_form_is_the_same_item(sword, again):
    heard = mod(sword, f'add "{again}" other')
    assert (heard.statuses, heard.chat) == (["failed"], "There is already an item called “Blue Sword”.")
    assert see(sword, f'status "{again}"').startswith("“Blue Sword” is available – A shiny sword")


@pytest.mark.parametrize(
    ("name", "other_form"),
    [
        ("Straße", "STRASSE"),
        ("Café", "cafe\u0301"),
        ("Меч", "МЕЧ"),
        ("青い剣", "青い剣"),
        ("سيف أزرق", "سيف أزرق"),
        ("नीली तलवार", "नीली तलवार"),
        ("파란 검", "파란 검"),
        ("🗡️ of 🔥", "🗡️ of 🔥"),
        ("👩‍👩‍👧", "👩‍👩‍👧"),
        ("ﬁre", "FIRE"),
    ],
)
def test_names_are_in_any_script(bot, name, other_form):
    assert mod(bot, f'add "{name}" things').chat == f"Added “{name}”."
    assert see(bot, f'status "{other_form}"') == f"“{name}” is available – things."
    assert see(bot, f'search "{other_form}"') == f"1 item: {name}"


@pytest.mark.parametrize(
    "text",
    [
        "'; DROP TABLE inventory_items; --",
        "<script>alert(1)</script>",
        "%s %(name)s {0} {user}",
        "100% _wild%",
        "$(id) `id` \\n",
        "!inventory delete x",
        "{{7*7}} [[=7*7]]",
    ],
)
def test_whatever_is_in_a_field_stays_data(bot, text):
    word = '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    assert mod(bot, f"add {word} {word} {word}").chat == f"Added “{text}” ({text.lower()})."
    assert see(bot, f"status {word}") == f"“{text}” is available – {text} ({text.lower()})."
    assert see(bot, f"search {word}") == f"1 item: {text}"
    assert mod(bot, f"checkout {word} {word}").chat == f"“{text}” is now with {text}."
    assert mod(bot, f"labels {word} remove {word}").chat == f"“{text}” now has no labels."
    said = bot.say(f"!inventory delete {word}", level="admin").chat
    assert said == f"Deleted “{text}”. {text} still has it."


def test_percent_and_underscore_are_letters_to_a_search(sword):
    assert see(sword, "search %") == "Nothing matches “%”."
    assert see(sword, "search B_ue") == "Nothing matches “B_ue”."


@pytest.mark.parametrize("name", ['""', '" "', '"\u200b"', '"\u2060\u00ad"'])
def test_a_name_that_nobody_sees_is_no_name(bot, name):
    heard = mod(bot, f"add {name} things")
    assert (heard.statuses, heard.chat) == (["failed"], "An item's name cannot be empty.")


def test_very_long_words_are_refused_with_their_length(bot):
    long = "x" * 10_000
    assert mod(bot, f"add {long} d").chat == "An item's name can have 255 characters; this has 10000."
    assert mod(bot, f"add Lamp {long}").chat == "A description can have 2000 characters; this has 10000."
    assert mod(bot, f"add Lamp d {long}").chat == "A label can have 50 characters; this has 10000."
    assert see(bot, f"status {long}") == "An item's name can have 255 characters; this has 10000."
    assert see(bot, f"search {long}") == "A search can have 255 characters; this has 10000."
    assert mod(bot, f"add {'x' * 255} {'d' * 2000} {'l' * 50}").statuses == ["success"]
    assert mod(bot, f"checkout {'x' * 255} {long}").chat == "A username can have 255 characters; this has 10000."


def test_letters_that_stand_for_many_do_not_get_past_the_limit(bot):
    # U+FDFA is eighteen letters when compared: more than an index of PostgreSQL takes, were there 255 of them.
    mixed = "".join("ﷺ" + chr(0x4E00 + n) for n in range(127))
    assert mod(bot, f'add "{mixed}" d').chat == "An item's name cannot have that many letters that stand for several."
    assert mod(bot, f'add "{mixed[:40]}" d').statuses == ["success"]
    assert mod(bot, "add " + "".join(chr(0x1F300 + n) for n in range(255)) + " d").statuses == ["success"]


def test_nul_and_lone_surrogates_in_chat_become_visible(bot):
    assert mod(bot, "add La\x00mp bright\ud800").chat == "Added “La\ufffdmp”."
    assert see(bot, "status La\x00mp") == "“La\ufffdmp” is available – bright\ufffd."


@pytest.mark.parametrize("text", ['add "Blue Sword d', 'add Blue" "d', "status “Blue", 'labels "x" add "y'])
def test_a_quote_that_is_never_closed_is_pointed_at(bot, text):
    heard = mod(bot, text)
    assert heard.statuses == ["failed"]
    assert heard.chat.endswith("is never closed.")


@pytest.mark.parametrize(
    "typed",
    [
        "add “Blue Sword” “It’s new”",
        "add 'Blue Sword' 'It's new'",
        "add «Blue Sword» „It’s new“",
        'add "Blue Sword" "It’s new"',
    ],
)
def test_phone_quotes_are_quotes_and_apostrophes_are_not(bot, typed):
    assert mod(bot, typed).chat == "Added “Blue Sword”."
    assert see(bot, 'status "blue sword"').replace("’", "'") == "“Blue Sword” is available – It's new."


def test_inches_and_apostrophes_need_no_quotes(bot):
    assert mod(bot, """add 6" don't""").chat == 'Added “6"”.'
    assert see(bot, 'status 6"') == "“6\"” is available – don't."


# checkout, checkin, delete


def test_an_item_is_with_one_person_at_a_time(sword):
    assert mod(sword, 'checkin "blue sword"').chat == "“Blue Sword” is not checked out."
    assert mod(sword, 'checkout "blue sword" Bob').statuses == ["success"]
    heard = mod(sword, 'checkout "Blue Sword" Carol')
    assert (heard.statuses, heard.chat) == (["failed"], "“Blue Sword” is already with Bob.")
    assert mod(sword, 'checkout "Blue Sword" @').chat == "A username cannot be empty."
    assert sword.say('!inventory delete "blue sword"', level="admin").chat == "Deleted “Blue Sword”. Bob still has it."


def test_an_unknown_item_is_guessed_at(sword):
    for text in ("checkout {} Bob", "checkin {}", "status {}", "labels {} add x"):
        assert mod(sword, text.format('"blu sword"')).chat == (
            "There is no item called “blu sword”. Did you mean “Blue Sword”?"
        )
    assert mod(sword, "status zzz").chat == "There is no item called “zzz”."


# list, search, stats


def test_lists_are_filtered(sword):
    mod(sword, "add Lamp bright")
    assert see(sword, "list checkedout") == "Nothing is checked out."
    mod(sword, "checkout Lamp Bob")
    for which in ("checkedout", "checked_out", "CheckedOut"):
        assert see(sword, f"list {which}") == "1 item: Lamp (with Bob)"
    assert see(sword, "list available") == "1 item: Blue Sword"
    assert see(sword, "list all") == see(sword, "list") == "2 items: Blue Sword, Lamp (with Bob)"
    mod(sword, 'checkout "Blue Sword" Bob')
    assert see(sword, "list available") == "Nothing is available."
    assert see(sword, "list everything") == (
        "“everything” is not a list. Usage: !inventory list [all|available|checkedout]"
    )


def test_a_long_list_says_how_much_more_there_is(bot):
    for n in range(17):
        mod(bot, f"add item{n:02} d")
    assert see(bot, "list").startswith("17 items: item00, item01, ")
    assert see(bot, "list").endswith("item14 … and 2 more; !inventory search finds them")


def test_a_search_looks_at_names_descriptions_and_labels_whatever_their_case(sword):
    mod(sword, 'add Lampe "ОЧЕНЬ яркая" Licht')
    for query in ("BLUE", "shiny SWORD", '"a shiny"', "Weapon"):
        assert see(sword, f"search {query}") == "1 item: Blue Sword"
    for query in ("очень", "LICHT", "amp"):
        assert see(sword, f"search {query}") == "1 item: Lampe"
    assert see(sword, "search nothing") == "Nothing matches “nothing”."
    assert see(sword, 'search ""') == "A search cannot be empty."
    assert see(sword, "search") == "Usage: !inventory search <query>"


def test_stats_are_never_behind(sword):
    assert see(sword, "stats") == "1 item: 1 available, 0 checked out; labels: rare (1), weapons (1)."
    mod(sword, 'checkout "Blue Sword" Bob')
    assert see(sword, "stats") == (
        "1 item: 0 available, 1 checked out; labels: rare (1), weapons (1); most lent: “Blue Sword”."
    )
    mod(sword, "add Lamp d rare")
    assert see(sword, "stats").startswith("2 items: 1 available, 1 checked out; labels: rare (2), weapons (1)")
    sword.say("!inventory delete Lamp", level="admin")
    assert see(sword, "stats").startswith("1 item: 0 available")


# labels


def test_labels_come_and_go_whatever_their_case(sword):
    assert mod(sword, 'labels "Blue Sword" ADD Old').chat == "“Blue Sword” now has weapons, rare, old."
    assert mod(sword, 'labels "Blue Sword" add OLD').chat == "“Blue Sword” already has the label “old”."
    assert mod(sword, 'labels "Blue Sword" remove oLD').chat == "“Blue Sword” now has weapons, rare."
    assert mod(sword, 'labels "Blue Sword" remove old').chat == "“Blue Sword” has no label “old”."
    assert mod(sword, 'labels "Blue Sword" paint red').chat == (
        "Usage: !inventory labels <item_name> <add|remove> <label>"
    )
    assert mod(sword, 'labels "Blue Sword" add ""').chat == "A label cannot be empty."


# Who may


LEVELS = ["member", "subscriber", "vip", "moderator", "admin", "owner"]
CHANGES = [
    ("moderator", "add Lamp bright"),
    ("moderator", 'checkout "Blue Sword" Bob'),
    ("moderator", "checkin Shield"),
    ("moderator", 'labels "Blue Sword" add old'),
    ("admin", 'delete "Blue Sword"'),
]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("needed", "change"), CHANGES)
def test_changes_are_for_those_who_may(sword, level, needed, change):
    mod(sword, "add Shield round")
    mod(sword, "checkout Shield Carol")
    before = see(sword, "list")
    heard = sword.say(f"!inventory {change}", level=level)
    if LEVELS.index(level) >= LEVELS.index(needed):
        assert heard.statuses == ["success"]
        return
    assert heard.statuses == ["denied"]
    assert f" {needed} or above may use !inventory {change.split()[0]}; you are " in heard.chat
    assert see(sword, "list") == before


@pytest.mark.parametrize("text", ["list", "search sword", 'status "Blue Sword"', "stats"])
def test_everybody_may_look(sword, text):
    assert sword.say(f"!inventory {text}", level="member").statuses == ["success"]


# Words that do not fit


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("add", "Usage: !inventory add <item_name> <description> [labels]"),
        ("add Lamp", "Usage: !inventory add <item_name> <description> [labels]"),
        ("checkout Lamp", "Usage: !inventory checkout <item_name> <username>"),
        (
            "checkout Blue Sword Bob",
            "Usage: !inventory checkout <item_name> <username> – put quotes around what has spaces, like “Blue Sword”.",
        ),
        ("status Blue Sword", 'Usage: !inventory status <item_name> – did you mean !inventory status "Blue Sword"?'),
        ("checkin", "Usage: !inventory checkin <item_name>"),
        ("status", "Usage: !inventory status <item_name>"),
        ("labels Lamp add", "Usage: !inventory labels <item_name> <add|remove> <label>"),
        ("stats now", "Usage: !inventory stats"),
        ("list all of it", "Usage: !inventory list [all|available|checkedout]"),
    ],
)
def test_words_that_do_not_fit_are_answered_with_the_usage(bot, typed, said):
    heard = mod(bot, typed)
    assert (heard.statuses, heard.chat) == (["failed"], said)


def test_the_usage_shows_only_what_one_may_do(bot):
    assert bot.say("!inventory").chat == (
        "Usage: !inventory list [all|available|checkedout] | search <query> | status <item_name> | stats"
    )
    assert "add <item_name>" in bot.say("!inventory", level="moderator").chat
    assert "delete" not in bot.say("!inventory", level="moderator").chat
    assert "delete <item_name>" in bot.say("!inventory", level="owner").chat


def test_a_mistyped_subcommand_is_guessed_at(bot):
    heard = bot.say("!inventory lst")
    assert heard.statuses == ["failed"]
    assert "Did you mean" in heard.chat
    assert "list" in heard.chat
    assert bot.say("!INVENTORY LIST").chat == "The inventory is empty."


def test_the_log_names_the_subcommand_and_never_what_was_typed_instead(bot, caplog):
    caplog.set_level("INFO")
    see(bot, '"my diary" list')
    see(bot, "LIST")
    logged = " ".join(str(vars(each)) for each in caplog.records if "command_executed" in str(vars(each)))
    assert "'subcommand': 'list'" in logged or "subcommand=list" in logged
    assert "diary" not in logged
