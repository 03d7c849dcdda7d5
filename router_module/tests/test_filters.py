"""Filters: rules about how a line is written, and !permit (contracts §7)."""

from __future__ import annotations

import importlib
import time

import pytest


@pytest.mark.parametrize(
    ("match_type", "fields", "hits", "misses"),
    [
        ("caps", {}, ["STOP SHOUTING AT ME", "ПРЕКРАТИ КРИЧАТЬ"], ["OK", "Stop SHOUTING at me please", "漢字" * 20]),
        ("caps", {"number": 3, "share": 0}, ["what is NASA"], ["we see a TV"]),
        ("symbols", {}, ["▓▓▓▓▓▓▓▓▓▓", "!?!?!?!?!? ok"], ["really?!?!", "👍👍👍👍👍👍👍👍👍👍👍", "привет как дела"]),
        ("emotes", {"number": 3}, ["👍 👍🏽 🇩🇪", "😀😀😀"], ["Kappa Kappa Kappa Kappa", "👍 👍"]),
        ("length", {"number": 20}, ["x" * 20], ["x" * 19, "x" * 15 + "\u200b" * 20]),
        (
            "repeats",
            {"number": 4},
            ["heyyyy", "buy now buy now Buy now BUY NOW", "no no no no"],
            ["10000", "now or not now"],
        ),
        ("mentions", {"number": 2}, ["@a and @b"], ["@a", "a@b.org @c", "@@@"]),
        ("zalgo", {}, ["z̸̢̛̑a̷̛̱͝l̶̨͐g̴̛̈́o̷̚"], ["tiếng Việt", "สวัสดีครับ ที่", "שָׁלוֹם", "naïve e\u0301"]),
    ],
)
def test_a_filter_hits_what_is_written_like_that(bot, rule, match_type, fields, hits, misses):
    made = rule("", "warn", match_type=match_type, **fields)

    assert {each: bot.say(each).answer["moderation"]["rule_id"] for each in hits} == dict.fromkeys(hits, made["id"])
    assert [each for each in misses if bot.say(each).answer["moderation"]] == []


LINKS = """
evil.com|go to www.evil.com/x?y=1|https://evil.example/|evil dot com|evil (dot) com|evil[.]com|evil . com|evil .com
hxxps://evil.com|ev\u200bil.c\u200bom|ｅｖｉｌ．ｃｏｍ|evil。com|пример.рф|xn--e1afmkfd.xn--p1ai|203.0.113.7:80|see:evil.com
https://youtube.com@evil.com/|youtube.com.evil.com|уoutube.com|notyoutube.com|twitch.tv/me-not|evil.com.thanks
e v i l . c o m|E V I L . C O M|see e v i l.c o m now|(e v i l . c o m)|e v i l d o t c o m|d i s c o r d . g g / a b c
h t t p s : / / evil|h t t p s : / / e v i l . c o m|evil dot c o m|evil d0t com|evil[d0t]com|evil-dot-com
hxxp://evil|h**p://evil
evil,com|evil•com|evil·com|evil. com|evil..com|evil\\.com|evil "." com|evil,com/x|discord gg/abc|discord.gg/abc
this.is/evil|t.me/evil
ⓔⓥⓘⓛ.ⓒⓞⓜ|🄴🅅🄸🄻.🄲🄾🄼|🅴🆅🅸🅻.🅲🅾🅼|🅔🅥🅘🅛.🅒🅞🅜|⒠⒱⒤⒧.⒞⒪⒨|𝐞𝐯𝐢𝐥.𝐜𝐨𝐦|🇪 🇻 🇮 🇱 . 🇨 🇴 🇲
cheap viewers on s̯t̯r̯e̯a̯m̯b̯o̯o̯ ̯.̯c̯o̯m̯|streamboo .соm (remove the space) @me|evil.ᴄᴏᴍ|例え.みんな
"""
NO_LINKS = """
hello there|3.50 for that|e.g. this|wait...what|connect the dot is|Stop. Come in|version 1.2.3|ok.thanks|one, two
youtube.com|https://www.YouTube.com/watch?v=1|twitch.tv/me|twitch.tv/me/clip/x|the dot is|no. Net worth?|http
y o u t u b e . c o m|youtube dot com|I am a . com fan|the .com boom|polka dot shop|connect the dot online|I use .NET 8
U.S.A.|J.R.R. Tolkien|Ph.D.|a.m. and p.m.|3.5|10.000,50|yes.no|lol.no way|this.is it|a.b|a . b . c|o.o|T.T|. . .|(.)(.)
p o g g e r s|G G . W P|w o w . o m g|24 / 7|and / or|h t t p|don't "dot" me|gross, net and tax|no: net
tips • tools • live|col·lecció
sim. com certeza|Obrigado. Com certeza!|arroz,com leite|Привет.Как дела|你好。我是小明。|We won 🇩🇪🇩🇪 .🇩🇪|Go.🇩🇪
discord gg wp
"""


def test_links_are_found_as_people_write_them_but_for_those_that_are_allowed(bot, rule, fleet):
    made = rule("youtube.com, https://twitch.tv/me", "block", match_type="links")
    body = {"community_id": bot.slug, "match_type": "links", "string": made["string"], "action": "block"}

    def tried(lines: str) -> dict[str, bool]:
        texts = [each for row in lines.strip().splitlines() for each in row.split("|")]
        found = {}
        for at in range(0, len(texts), 20):
            answer = fleet.request("POST", "/router/string-rules/dry-run", {**body, "lines": texts[at : at + 20]})
            found |= {each["text"]: each["hit"] for each in answer.json()["lines"]}
        return found

    assert {text for text, hit in tried(LINKS).items() if not hit} == set()
    assert {text for text, hit in tried(NO_LINKS).items() if hit} == set()
    assert bot.say("evil dot com").answer["moderation"]["action"] == "block"


def test_who_is_permitted_may_post_links_for_a_minute_here_and_nobody_else(bot, rule):
    rule("", "block", match_type="links")
    caps = rule("", "warn", match_type="caps")
    bot.say("hi", by="bob")

    assert bot.say("!permit @bob", by="alice").statuses == ["denied"]
    assert bot.say("!permit @nobody", level="moderator").chat == "Nobody called nobody has written here yet."
    assert bot.say("!permit", level="moderator").chat == "Usage: !permit @who"
    assert "60 seconds" in bot.say("!permit @Bob", level="moderator", mode="simulate").chat
    assert bot.say("evil.com", by="bob").answer["moderation"]["action"] == "block"
    assert bot.say("!permit @Bob", level="moderator").chat == "Bob may post links for 60 seconds."

    assert [bot.say("evil.com", by="bob").answer["moderation"] for _ in range(2)] == [None, None]
    assert bot.say("evil.com LOOK AT THIS EVERYBODY", by="bob").answer["moderation"]["rule_id"] == caps["id"]
    assert bot.say("evil.com", by="alice").answer["moderation"]["action"] == "block"


def test_emotes_are_what_the_platform_says_and_their_letters_are_no_shouting(bot, rule):
    rule("", "warn", match_type="emotes", number=3, warning_message="Fewer emotes.")
    rule("", "warn", match_type="caps", warning_message="Fewer caps.")

    def said(text: str, emotes: object) -> str | None:
        moderation = bot.say(text, data={"emotes": emotes}).answer["moderation"]
        return moderation and moderation["message"]

    assert said("LUL LUL LUL", ["LUL"] * 3) == "Fewer emotes."
    assert said("GOODMORNING YES", ["GOODMORNING"]) is None
    assert said("GOODMORNING YES", []) == "Fewer caps."
    for odd in ("LUL", {"a": 1}, [1, None], 7, None):
        assert said("hello LUL", odd) is None


def test_a_filter_has_the_rest_of_a_rule_and_says_what_it_wants(bot, rule, fleet):
    made = rule("no shouting", "warn", match_type="caps", share=50, exempt_level="vip")
    path = f"/router/string-rules/{made['id']}"
    assert (made["number"], made["share"], made["string"]) == (10, 50, "no shouting")
    assert bot.say("GOOD MORNING EVERYBODY", level="vip").answer["moderation"] is None
    assert bot.say("GOOD MORNING EVERYBODY").chat == "Please write with fewer capital letters."
    assert "fewer capital letters" in bot.say("!why").chat
    changed = fleet.request("PUT", path, {"number": 50}).json()["rule"]
    assert (changed["number"], changed["share"]) == (50, 50)
    assert bot.say("GOOD MORNING EVERYBODY").answer["moderation"] is None
    changed = fleet.request("PUT", path, {"match_type": "length"}).json()["rule"]
    assert (changed["number"], changed["share"]) == (400, 0)
    assert fleet.request("PUT", path, {"match_type": "contains"}).json()["rule"]["number"] is None
    for odd, field in (
        ({"number": 0}, "number"),
        ({"share": 101}, "share"),
        ({"match_type": "links", "string": "not an address"}, "string"),
        ({"match_type": "links", "string": "x" * 3000}, "string"),
        ({"match_type": "contains", "string": ""}, "string"),
    ):
        answer = fleet.request("PUT", path, odd)
        assert (answer.status, field in str(answer.json())) == (422, True)


def test_a_dry_run_counts_what_a_filter_would_have_hit(bot, fleet):
    bot.say("LUL LUL LUL LUL LUL LUL", data={"emotes": ["LUL"] * 6})
    bot.say("LUL LUL LUL LUL LUL LUL")
    body = {"community_id": bot.slug, "action": "block"}

    def matched(**fields: object) -> list[str]:
        answer = fleet.request("POST", "/router/string-rules/dry-run", {**body, **fields}).json()
        return [each["message"] for each in answer["examples"]]

    assert matched(match_type="emotes", number=6) == ["LUL LUL LUL LUL LUL LUL"]
    assert len(matched(match_type="caps", number=10)) == 1
    assert matched(match_type="links") == []


@pytest.mark.parametrize(
    "text", ["a", "a.", " ", "( ", "http://", "@", "\u0300", ". ", "a dot ", "😀", "hxxp : / ", "-.", "A", "x@"]
)
def test_no_line_takes_long(fleet, text):
    filters = importlib.import_module("apps.router_module.services.rules.filters")
    line = filters.Line((text * 20_000)[:20_000])
    started = time.process_time()
    for match_type in filters.MEASURES:
        line.measure(match_type)
    assert time.process_time() - started < 1


def test_a_preset_shows_what_it_would_have_done_before_it_is_switched_on(bot, fleet, rule):
    for line in ("hello there", "STOP SHOUTING AT EVERYBODY", "evil.com", "!points EVIL.COM"):
        bot.say(line)
    place = f"/router/communities/{bot.slug}/filter-presets"
    seen = fleet.request("POST", f"{place}/strict/preview", {}).json()
    found = {each["match_type"]: each["matched"] for each in seen["filters"]}
    assert (seen["scanned"], seen["matched"], found["caps"], found["links"]) == (4, 3, 1, 2)
    calm = fleet.request("POST", f"{place}/calm/preview", {}).json()
    assert {each["match_type"]: each["matched"] for each in calm["filters"]}["links"] == 1, "commands are not warned"
    assert fleet.request("POST", f"{place}/wild/preview", {}).json()["error"]["code"] == "unknown_preset"
    assert fleet.request("POST", f"{place}/strict/preview", {"hours": 169}).status == 422
    moderator = {"level": "moderator"}
    assert bot.say("!filters use strict").statuses == ["denied"]
    for odd in ("", "use", "use wild", "preview", "strict"):
        assert bot.say(f"!filters {odd}", **moderator).chat.startswith("Usage: !filters")
    assert "would have hit 3: caps 1, links 2" in bot.say("!filters preview strict", **moderator).chat
    assert "would have hit" in bot.say("!filters use strict", **moderator, mode="simulate").chat
    assert bot.say("evil.com").answer["moderation"] is None
    rule("twitch.tv", "warn", match_type="links")
    said = bot.say("!filters use strict", **moderator).chat
    assert said == (
        "Switched on, strict: caps, symbols, emotes, length, repeats, mentions, zalgo. Kept as they were: links."
    )
    assert bot.say("STOP SHOUTING AT ALL").answer["moderation"]["action"] == "block"
    assert [bot.say("STOP SHOUTING AT ALL").answer["moderation"]["action"] for _ in range(2)] == ["block", "timeout"]
    assert fleet.request("POST", f"{place}/strict").json()["rules"] == []
    assert "caps, emotes, length, links" in bot.say("!filters list", **moderator).chat
