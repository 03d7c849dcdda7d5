"""What a string rule's pattern matches, what is refused, and that no pattern can make it slow or make it miss."""

from __future__ import annotations

import importlib
import threading
import unicodedata
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from waddlebot.base.text import as_compared

# How long an example takes says more about the machine than about the code.
settings.register_profile("fleet", deadline=None, database=None)
settings.load_profile("fleet")

ACCENT = "\u0301"
DOT_BELOW = "\u0323"
EMOJI_LOOK = "\ufe0f"


@pytest.fixture(scope="module")
def rules(fleet) -> ModuleType:
    """The module under test, as py4web loaded it: importing it by another name would start the service again."""
    return importlib.import_module("apps.router_module.services.rules.string_matcher")


# What matches


def hits(rules: ModuleType, match_type: str, pattern: str, text: str, *, case_sensitive: bool = False) -> bool:
    return rules.Matcher([rules.Pattern(pattern, match_type, case_sensitive)]).match(text) == [0]


@pytest.mark.parametrize(
    ("match_type", "pattern", "text", "expected"),
    [
        ("exact", "hello", " Hello\n", True),
        ("exact", " hello ", "HELLO", True),
        ("exact", "hello", "hello you", False),
        ("exact", "straße", "STRASSE", True),
        ("exact", "ΣΊΣΥΦΟΣ", "σίσυφος", True),
        ("exact", "café", "CAFE" + ACCENT, True),
        ("exact", "İ", "i\u0307", True),
        ("exact", "İ", "i", False),
        ("exact", ".", "x", False),
        ("contains", "spam", "xSPAMx", True),
        ("contains", "strasse", "Hauptstraße 5", True),
        ("contains", "straße", "HAUPTSTRASSE", True),
        ("contains", "a.c", "abc", False),
        ("contains", "\\d", "5", False),
        ("contains", "\\Q.\\E", "\\q.\\e", True),
        ("contains", "İ", "xİx", True),
        ("contains", "x", "İİİx", True),
        ("contains", "e", "é", False),
        ("contains", "e", "e" + ACCENT, False),
        ("contains", "é", "cafe" + ACCENT, True),
        ("contains", "q", "q" + DOT_BELOW, False),
        ("contains", "q", "q" + DOT_BELOW + "q", True),
        ("contains", "q" + DOT_BELOW, "xq" + DOT_BELOW, True),
        ("contains", "가", "각", False),
        ("contains", "❤", "❤" + EMOJI_LOOK, True),
        ("contains", "👍", "👍🏽", True),
        ("contains", "x" * 100, "x" * 99 + "y" + "x" * 100, True),
        ("contains", "x" * 100, "x" * 99 + "y" + "x" * 99, False),
        ("word", "ass", "you ASS!", True),
        ("word", "ass", "class", False),
        ("word", "ass", "assess", False),
        ("word", "ass", "class ass", True),
        ("word", "ass", "ass_", False),
        ("word", "ass", "4ass", False),
        ("word", "ass", "٤ass", False),
        ("word", "ass", "éass", False),
        ("word", "ass", "assé", False),
        ("word", "ass", "ass" + DOT_BELOW, False),
        ("word", "ass", "—ass…", True),
        ("word", "ass", "²ass½", True),
        ("word", "ass", "❤" + EMOJI_LOOK + "ass", True),
        ("word", "straße", "die STRASSE dort", True),
        ("word", "été", "l’été !", True),
        ("word", "été", "étés", False),
        ("word", "идиот", "ты ИДИОТ", True),
        ("word", "идиот", "идиотка", False),
        ("word", "c++", "I like C++.", True),
        ("word", "c++", "c+++", True),
        ("word", "c++", "c++11", False),
        ("word", "c++", "xc++", False),
        ("word", ":)", "hi :)", True),
        ("word", ":)", "hi:)", False),
        ("word", ":)", ":)", True),
        ("word", "two words", "Two words?", True),
        ("word", "x" * 100, "x" * 100, True),
        ("word", "x" * 100, "x" * 101, False),
        ("regex", r"buy.*viewers", "Buy our\nVIEWERS", True),
        ("regex", r"^hi$", "hi", True),
        ("regex", r"^hi$", "hi\n", False),
        ("regex", r"(?m)^hi$", "ho\nhi\nho", True),
        ("regex", r"^\w+$", "naïve", True),
        ("regex", r"^\w+$", "नमस्ते", True),
        ("regex", r"^\w+$", "❤", False),
        ("regex", r"^\W+$", "❤!", True),
        ("regex", r"^\W+$", "é", False),
        ("regex", r"^\d+$", "٤5", True),
        ("regex", r"^\d+$", "½", False),
        ("regex", r"^\D+$", "aé½", True),
        ("regex", r"^\D+$", "٤", False),
        ("regex", r"^[\w-]+$", "é-٤", True),
        ("regex", r"^[^\w]+$", "é", False),
        ("regex", r"^[^\w]+$", "—", True),
        ("regex", r"^[^\W\d_]+$", "éa", True),
        ("regex", r"^[^\W\d_]+$", "é4", False),
        ("regex", r"^[^\W\d_]+$", "é٤", False),
        ("regex", r"^[^\W\d_]+$", "—", False),
        ("regex", r"^[a\W]+$", "a—", True),
        ("regex", r"^[a\W]+$", "aé", False),
        ("regex", r"^[\D]+$", "٤", False),
        ("regex", r"^[^\D]+$", "٤", True),
        ("regex", r"^[]\w]+$", "é]", True),
        ("regex", r"^[^]\w]+$", "é", False),
        ("regex", r"^[[:alpha:]\d]+$", "a٤", True),
        ("regex", r"^\Q\w\E$", r"\w", True),
        ("regex", r"^\\w$", r"\w", True),
        ("regex", r"^[\\w]$", "é", False),
        ("regex", r"\bhi\b", "oh hi!", True),
        ("regex", r"\bhi\b", "ohi", False),
        ("regex", "café", "CAFE" + ACCENT, True),
        ("regex", "cafe" + ACCENT, "café", True),
        ("regex", "a|b", "xb", True),
        ("regex", r"x\Q(", "x(", True),
        ("regex", r"(a+)+$", "a" * 1000 + "!", False),
        ("*", "whatever", "x", True),
        ("*", "", "", True),
        ("contains", "*", "x", True),
        ("regex", "*", "x", True),
    ],
)
def test_what_a_pattern_matches(rules, match_type, pattern, text, expected):
    if pattern:
        rules.check_pattern(rules.Pattern(pattern, match_type))
    assert hits(rules, match_type, pattern, text) is expected


@pytest.mark.parametrize(
    ("match_type", "pattern", "text", "expected"),
    [
        ("exact", "Hi", " Hi ", True),
        ("exact", "Hi", "hi", False),
        ("exact", "ß", "ss", False),
        ("exact", "É", "E" + ACCENT, True),
        ("contains", "Hi", "oh Hi", True),
        ("contains", "Hi", "oh hi", False),
        ("word", "Hi", "Hi!", True),
        ("word", "Hi", "hi!", False),
        ("regex", r"H\w", "Hé", True),
        ("regex", r"H\w", "hé", False),
        ("regex", r"(?i)h", "H", True),
    ],
)
def test_a_pattern_may_be_case_sensitive(rules, match_type, pattern, text, expected):
    assert hits(rules, match_type, pattern, text, case_sensitive=True) is expected


def test_all_patterns_that_hit_are_named_in_order(rules):
    pattern = rules.Pattern
    patterns = [
        pattern("no", "word"),
        pattern(r"s\w+m", "regex"),
        pattern("*", "exact"),
        pattern("SPAM", "exact", case_sensitive=True),
        pattern("spam", "exact"),
        pattern("spam", "exact"),
        pattern("spam", "word"),
        pattern("PA", "contains"),
        pattern("pa", "contains", case_sensitive=True),
        pattern("", "*"),
    ]
    assert rules.Matcher(patterns).match("spam") == [1, 2, 4, 5, 6, 7, 8, 9]


def test_without_patterns_nothing_hits(rules):
    assert rules.Matcher([]).match("anything") == []


def test_half_a_surrogate_pair_in_a_message_is_only_a_character(rules):
    matcher = rules.Matcher(
        [rules.Pattern("a", "word"), rules.Pattern("^.a.$", "regex"), rules.Pattern("\ufffd", "word")]
    )
    assert matcher.match("\ud800a\udfff") == [0, 1]
    assert matcher.match("\ud800") == [2]


# Against an oracle that is slow and plain

# Few characters, of every kind that folds, combines or ends a word, so that patterns hit often.
CHARACTERS = (
    "aAsSßẞiIİıſkK\u212aΣσςéE" + ACCENT + DOT_BELOW + "\u0345\u0307ᾳ가각\u1100\u1161\u11a8_1٤½ .+:❤😀" + EMOJI_LOOK
)
TEXTS = st.text(st.sampled_from(CHARACTERS), max_size=12) | st.text(max_size=8)
FILLED_TEXTS = TEXTS.filter(str.strip)


def canonical(text: str, case_sensitive: bool) -> str:
    text = "".join(
        "\ufffd" if unicodedata.category(character) == "Cs" else character for character in as_compared(text)
    )
    if not case_sensitive:
        text = unicodedata.normalize("NFD", text).casefold()
    return unicodedata.normalize("NFC", text)


def is_mark(character: str) -> bool:
    return unicodedata.category(character).startswith("M") and character not in "\ufe0e\ufe0f"


def is_word_character(character: str) -> bool:
    return (
        is_mark(character)
        or character == "_"
        or unicodedata.category(character)[:2] in ("Lu", "Ll", "Lt", "Lm", "Lo", "Nd")
    )


def is_expected(match_type: str, pattern: str, text: str) -> bool:
    if match_type == "exact":
        return text.strip() == pattern.strip()
    for start in range(len(text) - len(pattern) + 1):
        end = start + len(pattern)
        before, after = text[start - 1 : start] if start else "", text[end : end + 1]
        if text[start:end] != pattern:
            continue
        if match_type == "contains" and not (after and is_mark(after)):
            return True
        if match_type == "word" and not any(map(is_word_character, before + after)):
            return True
    return False


@settings(max_examples=200)
@given(text=TEXTS, others=st.lists(FILLED_TEXTS, max_size=3), data=st.data())
def test_texts_match_as_a_plain_search_says(rules, text, others, data):
    slices = st.tuples(st.integers(0, len(text)), st.integers(0, len(text))).map(lambda ends: text[ends[0] : ends[1]])
    cut = data.draw(st.lists(slices | slices.map(str.swapcase), max_size=5))
    wanted = [each for each in [*others, *cut] if as_compared(each).strip() and each != "*"]
    patterns = [
        rules.Pattern(canonical(each, True), match_type, case_sensitive)
        for each in wanted
        for match_type in ("exact", "contains", "word")
        for case_sensitive in (False, True)
    ]
    expected = [
        index
        for index, each in enumerate(patterns)
        if is_expected(each.match_type, canonical(each.text, each.case_sensitive), canonical(text, each.case_sensitive))
    ]
    assert rules.Matcher(patterns).match(text) == expected


REGEXES = [
    r"\bs",
    r"s\b",
    r"\Bs",
    r"[a-k]$",
    r"\w\W",
    r"\d.",
    r"[^\W\d_]{2}",
    r"[^a-s]",
    r"\p{Lu}",
    r"i.?\pM",
    "ß",
    "K",
    "(?-i)S",
    "ι",
]


@given(text=TEXTS)
def test_a_regex_finds_the_same_beside_other_patterns(rules, text):
    """Patterns of several kinds share a first search in the folded text, which must not hide what a regex finds."""
    for regex in REGEXES:
        alone = rules.Pattern(regex, "regex")
        beside = [
            alone,
            rules.Pattern("never said", "contains"),
            rules.Pattern("Nor This", "exact", case_sensitive=True),
        ]
        assert rules.Matcher(beside).match(text) == rules.Matcher([alone]).match(text)


@pytest.mark.parametrize(
    ("regex", "is_in"),
    [
        (r"^\w$", is_word_character),
        (r"^[^\W]$", is_word_character),
        (r"^\W$", lambda character: not is_word_character(character)),
        (r"^[\W]$", lambda character: not is_word_character(character)),
        (r"^\d$", str.isdecimal),
        (r"^[\d]$", str.isdecimal),
        (r"^[^\D]$", str.isdecimal),
        (r"^[^\d]$", lambda character: not character.isdecimal()),
        (r"^\D$", lambda character: not character.isdecimal()),
    ],
)
@given(character=st.sampled_from(CHARACTERS) | st.characters(exclude_categories=["Cs", "Cn"]))
def test_classes_are_unicodes(rules, regex, is_in, character):
    # NFC takes a few characters apart, and RE2 counts variation selectors as marks.
    if len(unicodedata.normalize("NFC", character)) == 1 and character not in "\ufe0e\ufe0f":
        assert hits(rules, "regex", regex, character) is is_in(character)


# What is refused


@pytest.mark.parametrize(
    ("regex", "position", "reason"),
    [
        ("a(?=b)", 1, "look-around"),
        ("a(?!b)", 1, "look-around"),
        ("(?<=a)b", 0, "look-around"),
        ("(?<!a)b", 0, "look-around"),
        (r"(a)\1", 3, "back-reference"),
        (r"(?P<n>a)(?P=n)", 8, "back-reference"),
        (r"(?P<n>a)\k<n>", 8, "back-reference"),
        ("(?>a)", 0, "linear time"),
        ("(a)(?(1)b|c)", 3, "condition"),
        ("a(b", None, "never closed"),
        ("a)b", None, "closes nothing"),
        ("a[b", 1, "never closed"),
        ("x*a**", 3, "repeats a repeat"),
        ("*a", 0, "nothing before it"),
        ("[z-a]", 1, "not a class or range"),
        (r"x\p{Klingon}", 1, "not a class or range"),
        (r"a\Z", 1, "no meaning"),
        ("a\\", None, "ends the pattern"),
        ("a{1001}", 1, "1000 repeats"),
        ("(?:a{100}){20}", 10, "1000 repeats"),
        (r"(?:(?:\pL{30}){30})", None, "too large"),
        (r"\w{200}", None, "too large"),
        (".{999}", None, "too large"),
        ("a\0", 1, "no text"),
        ("a\ud800", 1, "no text"),
        ("(a" * 100_000, None, "2000 characters"),
        (" \n", None, "something to look for"),
    ],
)
def test_a_regex_that_cannot_run_is_refused_with_reason_and_place(rules, regex, position, reason):
    with pytest.raises(rules.BadPattern) as refused:
        rules.check_pattern(rules.Pattern(regex, "regex"))
    error = refused.value
    assert (error.http_status, error.code) == (422, "bad_pattern")
    assert (error.details["field"], error.details["position"]) == ("string", position)
    assert reason in error.details["reason"] and error.details["reason"] in error.message


@pytest.mark.parametrize("match_type", ["exact", "contains", "word"])
@pytest.mark.parametrize("text", ["", "  ", "x" * 2001, "\0"])
def test_a_text_that_nobody_can_look_for_is_refused(rules, match_type, text):
    with pytest.raises(rules.BadPattern):
        rules.check_pattern(rules.Pattern(text, match_type))
    rules.check_pattern(rules.Pattern("x" * 2000, match_type))


@pytest.mark.parametrize(
    "regex",
    [r"(a+)+$", r"\w{30,}", r"(?P<site>\S+)\.(com|net)", r"\p{Cyrillic}+", ".{0,200}x", "(?i)a", "[[:upper:]]{10}"],
)
def test_a_regex_that_people_write_is_not_refused(rules, regex):
    rules.check_pattern(rules.Pattern(regex, "regex"))


def test_all_regexes_together_may_be_too_much(rules):
    one = rules.Pattern(".{500}", "regex")
    rules.check_patterns([one] * 10)
    with pytest.raises(rules.BadPattern, match="together"):
        rules.check_patterns([one] * 100)
    rules.check_patterns([rules.Pattern(rf"bad\d+word{n}", "regex") for n in range(2000)])


def test_a_matcher_does_not_take_a_bad_regex(rules):
    with pytest.raises(rules.BadPattern, match="look-around"):
        rules.Matcher([rules.Pattern("a", "word"), rules.Pattern("(?=a)", "regex")])


# Large and hostile


def test_many_exploding_regexes_miss_nothing(rules):
    """Each doubles the states of an automaton with every step, so that their memory runs out again and again."""
    regexes = [rf"[ab]*a[ab]{{100}}{end}" for end in ("x", "y")] * 100
    patterns = [rules.Pattern(regex, "regex") for regex in regexes]
    rules.check_patterns(patterns)
    noise = "abbabaabbbabaaba" * 30
    matcher = rules.Matcher(patterns)
    assert matcher.match("a" + noise[:100] + "x" + noise) == list(range(0, 200, 2))
    assert matcher.match("b" * 101 + "y") == []


def test_patterns_beyond_the_memory_of_one_set_are_all_found(rules):
    patterns = [
        rules.Pattern("".join(chr(0x4E00 + (n * k) % 20_000) for k in range(1, 60)), "contains") for n in range(1, 4000)
    ]
    matcher = rules.Matcher(patterns)
    assert [matcher.match(f"x{pattern.text}x") for pattern in patterns[::500]] == [[n] for n in range(0, 3999, 500)]
    assert matcher.match(patterns[7].text + patterns[3998].text) == [7, 3998]


def test_a_long_message_is_read_to_its_end(rules):
    patterns = [
        rules.Pattern("the end", "word"),
        rules.Pattern(r"\w\.$", "regex"),
        rules.Pattern("a" * 50 + "b", "contains"),
    ]
    assert rules.Matcher(patterns).match("aaaa " * 8000 + "é the end.") == [0, 1]


def test_regexes_that_cost_much_reach_less_far_and_say_so(rules):
    cheap, costly = rules.Pattern("x$", "regex"), rules.Pattern(".{500}y", "regex")
    assert rules.Matcher([cheap]).regex_reach > 40_000
    reach = rules.Matcher([cheap] + [costly] * 25).regex_reach
    assert 2_000 <= reach < 40_000
    matcher = rules.Matcher([costly] * 25 + [rules.Pattern("end", "regex"), rules.Pattern("end", "contains")])
    assert matcher.match("x" * (reach - 10) + "end") == [25, 26]
    assert matcher.match("x" * (reach + 10) + "end") == [26]


def test_threads_share_a_matcher(rules):
    words = [f"word{n}" for n in range(300)]
    matcher = rules.Matcher(
        [rules.Pattern(word, "word") for word in words] + [rules.Pattern(rf"{word}\W+é", "regex") for word in words]
    )
    wrong: list[str] = []

    def look(offset: int) -> None:
        for n in range(300):
            number = (n * 7 + offset) % 300
            if matcher.match(f"say word{number} — é") != [number, 300 + number]:
                wrong.append(words[number])

    threads = [threading.Thread(target=look, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# Typed between letters of a word by whoever wants to get past a rule (U+00AD, 200B, 2060, 034F, FEFF, a tag).
BETWEEN = ["\u00ad", "\u200b", "\u2060", "\u034f", "\ufeff", "\U000e0000", "\u200d", "\x02"]


@pytest.mark.parametrize("unseen", BETWEEN)
def test_what_nobody_sees_does_not_count(rules, unseen):
    patterns = [
        rules.Pattern("badword", "contains"),
        rules.Pattern(f"bad{unseen}word", "word", case_sensitive=True),
        rules.Pattern("badword now", "exact"),
        rules.Pattern(r"^bad\w+ now$", "regex"),
        rules.Pattern("now", "ends_with"),
        rules.Pattern(rf"\x{{{ord(unseen):X}}}", "regex"),
    ]
    matcher = rules.Matcher(patterns)
    assert matcher.match(f"b{unseen}ad{unseen}word now{unseen}") == [0, 1, 2, 3, 4, 5]
    assert matcher.match("badword now") == [0, 1, 2, 3, 4]


def test_typographic_quotes_are_plain_ones(rules):
    matcher = rules.Matcher([rules.Pattern("don't", "contains"), rules.Pattern('say "hi"', "exact")])
    assert matcher.match("I don’t") == [0]
    assert matcher.match("Say “Hi”") == [1]


def test_look_alikes_count_where_a_rule_asks_for_them(rules):
    matcher = rules.Matcher(
        [
            rules.Pattern("badword", "word", look_alikes=True),
            rules.Pattern("badword", "word"),
            rules.Pattern("x", "regex"),
        ]
    )
    assert matcher.match("a bаdwоrd here") == [0]
    assert matcher.match("ｂａｄｗｏｒｄ") == [0]
    assert matcher.match("𝒷𝒶𝒹𝓌ℴ𝓇𝒹!") == [0]
    assert matcher.match("BADWORD x") == [0, 1, 2]
    assert matcher.match("bаdwоrds") == []
