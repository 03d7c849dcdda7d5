"""Chat text: what is a command, what is a word, what may be said back."""

from __future__ import annotations

import unicodedata
from contextlib import suppress

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from waddlebot.base.chat import (
    COMMAND_STARTS,
    NEUTRAL,
    CommandLine,
    UnbalancedQuotes,
    closest,
    join_words,
    neutralise,
    parse_command,
    quote_word,
    rest_after,
    shorten,
    split_words,
)
from waddlebot.base.text import as_compared, as_seen, fold, skeleton
from waddlebot.base.wire import for_chat

# How long an example takes says more about the machine than about the code.
settings.register_profile("fleet", deadline=None, database=None)
settings.load_profile("fleet")

QUOTES = "\"'“”„‟«»＂‘’‚‛´"
# What chat is made of, with what a parser trips over made likely. Even lone surrogates must not break it.
# Soft hyphen, zero-width space, word joiner, joiner of graphemes, a tag, BOM, directions, an emoji's style, a blank.
UNSEEN = ["\u00ad", "\u200b", "\u2060", "\u034f", "\U000e0000", "\ufeff", "\u200f", "\u200e", "\ufe0f", "\u2800"]
TEXTS = st.text(st.characters() | st.sampled_from(QUOTES + "\\–—−!# \t\n\u00a0\u3000\x00\ud800"), max_size=60)
WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30) | st.text(
    st.sampled_from(QUOTES + "\\–- ab"), max_size=12
)


# Commands


@pytest.mark.parametrize(
    ("text", "prefix", "command", "rest"),
    [
        ("!help", "!", "help", ""),
        ("#weather", "#", "weather", ""),
        ("  !Help  me  ", "!", "help", "me"),
        ('!Inventory add "Blue Sword"', "!", "inventory", 'add "Blue Sword"'),
        ("!so\n@bob\nnow", "!", "so", "@bob\nnow"),
        ("!so\u3000@bob", "!", "so", "@bob"),
        ("!8ball will it?", "!", "8ball", "will it?"),
        ("!don't", "!", "don't", ""),
        ("!привет мир", "!", "привет", "мир"),
        ("!ПРИВЕТ", "!", "привет", ""),
        ("!STRASSE", "!", "strasse", ""),
        ("!straße", "!", "strasse", ""),
        ("!cafe\u0301", "!", "café", ""),
        ("!挨拶 今", "!", "挨拶", "今"),
        ("!नमस्ते", "!", "नमस्ते", ""),
        ("!مرحبا", "!", "مرحبا", ""),
        ("!٣", "!", "٣", ""),
        ("!" + "x" * 64, "!", "x" * 64, ""),
        *[(f"!rules{unseen}", "!", "rules", "") for unseen in UNSEEN],
        *[(f"{unseen}!{unseen}ru{unseen}les now", "!", "rules", "now") for unseen in UNSEEN if unseen != "\u2800"],
        ("！help", "!", "help", ""),
        ("＃weather", "#", "weather", ""),
        ("!what’s up", "!", "what's", "up"),
        ("!what´s up", "!", "what's", "up"),
    ],
)
def test_a_command_is_a_prefix_and_a_name_in_any_script(text, prefix, command, rest):
    assert parse_command(text) == CommandLine(prefix, command, rest)


@pytest.mark.parametrize(
    "text",
    [
        *["", " ", "!", "#", "!!!", "! help", "# heading", "#1!", "!?", "!_x", "!😀", "hello !help", "/help", "!\x00"],
        *["!a!b", "!a#b", '!a"b"', "!“help”", "！ help", "\u200b! help", "!" + "x" * 65],
    ],
)
def test_everything_else_is_plain_chat(text):
    assert parse_command(text) is None


@pytest.mark.parametrize("alike", ["bаdword", "ｂａｄｗｏｒｄ", "𝒷𝒶𝒹𝓌ℴ𝓇𝒹", "ВАDWОRD", "b\u0336ádword", "ⓑadword"])
def test_look_alikes_have_one_skeleton(alike):
    assert skeleton(alike) == skeleton("badword") == "badword"
    assert skeleton("beautiful") != skeleton("b3autiful")


@given(TEXTS)
def test_reading_chat_fails_only_for_an_open_quote(text):
    for said in (text, "!" + text, "!x " + text):
        line = parse_command(said)
        if line is not None:
            assert line.prefix in "!#"
            assert line.command == fold(line.command)
            with suppress(UnbalancedQuotes):
                line.words()
    with suppress(UnbalancedQuotes):
        assert all(isinstance(word, str) for word in split_words(text))
        assert rest_after(text, 0) == text.strip()


@given(st.text(max_size=20))
def test_folding_is_done_after_once(name):
    assert fold(fold(name)) == fold(name)


@given(
    st.text(st.sampled_from("aßİıΣςåÅᾳᾼ각\u0345\u0301\u0323\u0308\u1100\u1161\u11a8") | st.characters(), max_size=20)
)
def test_folding_is_canonical_caseless(name):
    decomposed = unicodedata.normalize("NFD", as_compared(name))
    assert fold(name) == unicodedata.normalize("NFC", decomposed.casefold())


def test_folding_is_full_and_of_any_form():
    assert fold("STRASSE") == fold("straße") == fold("STRAẞE")
    assert fold("CAFÉ") == fold("cafe\u0301") == "café"
    assert fold("ΣΊΣΥΦΟΣ") == fold("σίσυφος")
    assert fold("ΐ") == fold("Ϊ́") == fold("ι\u0308\u0301")
    assert fold("각") == fold("\u1100\u1161\u11a8") == "각"
    assert fold("e") != fold("é")


# Words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("   ", []),
        ("a b", ["a", "b"]),
        ("a\u00a0b\u3000c\nd\te", ["a", "b", "c", "d", "e"]),
        ('add "Blue Sword" x', ["add", "Blue Sword", "x"]),
        ("add 'Blue Sword' x", ["add", "Blue Sword", "x"]),
        ('""', [""]),
        ("''", [""]),
        ('"a""b"', ["a", "b"]),
        ('"a"b', ["a", "b"]),
        ('a"b c"d', ['a"b', 'c"d']),
        (r'"say \"hi\" now"', ['say "hi" now']),
        (r'"C:\temp\\"', [r"C:\temp" + "\\"]),
        (r"a\ b", ["a\\", "b"]),
        # Apostrophes and inches
        ("don't", ["don't"]),
        ("don’t I’m", ["don’t", "I’m"]),
        ('6" by 4"', ['6"', "by", '4"']),
        ("5'11\"", ["5'11\""]),
        ("'tis so", ["'tis", "so"]),
        ("rock 'n roll", ["rock", "'n", "roll"]),
        ("'Bob's sword' x", ["Bob's sword", "x"]),
        ("'a' 'tis", ["a", "'tis"]),
        ("'", ["'"]),
        # What phones make of quotes and dashes
        ("“Blue Sword” x", ["Blue Sword", "x"]),
        ("„Blue Sword“ x", ["Blue Sword", "x"]),
        ("«Blue Sword» x", ["Blue Sword", "x"]),
        ("＂Blue Sword＂ x", ["Blue Sword", "x"]),
        ("‘Blue Sword’ x", ["Blue Sword", "x"]),
        ("“Blue Sword\" x", ["Blue Sword", "x"]),
        ("“It’s new”", ["It’s new"]),
        ('"He said “hi” there"', ["He said “hi” there"]),
        ("'tis the dogs’ x", ["tis the dogs", "x"]),
        ("—force –x −1 – a–b", ["--force", "-x", "-1", "–", "a–b"]),
        ('"–x"', ["–x"]),
        # Nothing that a shell would do
        ("$HOME `id` $(id) ~ * ; a|b &", ["$HOME", "`id`", "$(id)", "~", "*", ";", "a|b", "&"]),
        ("😀 👩‍👩‍👧 नमस्ते", ["😀", "👩‍👩‍👧", "नमस्ते"]),
    ],
)  # fmt: skip
def test_words_are_what_a_person_means(text, words):
    assert split_words(text) == words


@pytest.mark.parametrize("text", ['"', '"a', 'x "a b', '"a\\"', "“a b", "a «b", '"a “b”', "„a b’"])
def test_an_open_quote_is_pointed_at(text):
    with pytest.raises(UnbalancedQuotes, match=r"^The quote before “.*” is never closed\.$"):
        split_words(text)


@given(WORDS)
@example("\\")
@example('\\"')
@example("”")
@example("\\”")
@example("—")
def test_a_quoted_word_is_read_back_exactly(word):
    assert split_words(quote_word(word)) == [word]


@given(st.lists(WORDS, max_size=8))
@example(["'a", "b'"])
@example(["", "–x", '6"', "don't"])
def test_joined_words_are_read_back_exactly(words):
    assert split_words(join_words(words)) == words
    assert split_words(" ".join(map(quote_word, words))) == words


def test_words_are_joined_with_quotes_only_where_they_are_needed():
    assert join_words(["status", "Blue Sword", "don't", '6"', "", "'tis"]) == 'status "Blue Sword" don\'t 6" "" "\'tis"'


@given(words=st.lists(WORDS, max_size=6), count=st.integers(0, 8))
def test_the_rest_after_some_words_is_the_other_words(words, count):
    assert split_words(rest_after(join_words(words), count)) == words[count:]


def test_the_rest_is_as_it_was_written():
    assert rest_after('add  hi   Be  "kind",   {user}. ', 2) == 'Be  "kind",   {user}.'
    assert rest_after('add "two words" x', 2) == "x"
    assert rest_after("add hi", 2) == rest_after("add", 2) == ""


@pytest.mark.parametrize("piece", ["'a ", '"', "\\", '"\\', "' ", "–", "“”", "'a' ", "!"])
def test_splitting_takes_time_in_proportion(piece):
    """A message of 40 000 characters is split in well under a second, whatever it is made of."""
    text = piece * (40_000 // len(piece))
    steps = 0

    class Counted(str):
        __slots__ = ()

        def __getitem__(self, key):
            nonlocal steps
            steps += 1
            return str.__getitem__(self, key)

    with suppress(UnbalancedQuotes):
        split_words(Counted(text))
    assert steps < 20 * len(text)


# What is said back


@pytest.mark.parametrize("start", ["", " ", "\n ", "\u3000"])
@pytest.mark.parametrize("mark", COMMAND_STARTS)
def test_a_reply_never_begins_a_command_of_another_bot(start, mark):
    said = neutralise(f"{start}{mark}ban bob")
    assert not said.lstrip().startswith(COMMAND_STARTS)
    assert said.endswith(f"{start}{mark}ban bob")


@given(st.text(max_size=40).map(for_chat))
def test_neutral_text_stays_as_it_is(text):
    said = neutralise(text)
    assert said.removeprefix(NEUTRAL) == text.removeprefix(NEUTRAL)
    assert not as_seen(said).lstrip().startswith(COMMAND_STARTS)
    assert parse_command(said) is None
    assert neutralise(said) == said


def test_a_mistyped_name_is_guessed_unless_it_is_far_off_or_very_long():
    known = ["inventory", "alias", "help", "x" * 64, "y" * 200]
    assert closest("invntory", known) == "inventory"
    assert closest("zzz", known) is None
    assert closest("x" * 63, known) == "x" * 64
    assert closest("y" * 199, known) is None
    assert closest("", []) is None


@given(text=st.text(max_size=50), limit=st.integers(1, 50))
def test_shortened_text_fits(text, limit):
    short = shorten(text, limit)
    assert len(short) <= limit
    assert short == text or (short.endswith("…") and text.startswith(short[:-1]))
