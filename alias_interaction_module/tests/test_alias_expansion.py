"""What a template becomes, whatever is in it and whatever is said: nothing is parsed twice, nothing breaks."""

from __future__ import annotations

import importlib
from contextlib import suppress
from types import ModuleType

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from waddlebot.base.chat import join_words, parse_command, quote_word
from waddlebot.base.errors import UserError
from waddlebot.base.text import as_seen
from waddlebot.base.variables import names, read

# How long an example takes says more about the machine than about the code.
settings.register_profile("fleet", deadline=None, database=None)
settings.load_profile("fleet")

PLACEHOLDERS = ["{user}", "{args}", "{all_args}", *(f"{{arg{n}}}" for n in range(1, 10))]
# What a caller can say: any text, and more often what might be taken for something else.
VALUES = st.text(max_size=30) | st.sampled_from(
    [*PLACEHOLDERS, "", " ", "!ban x", "#x", '"', "'", "\\", '" "', "a b", "“", "–x", "{", "}", "{{args}}", "\\1", "%s"]
)
WORDS = st.lists(VALUES, max_size=12)
LITERALS = st.text(max_size=12).filter(lambda text: "{" not in text and "}" not in text)


@pytest.fixture(scope="module")
def template(fleet) -> ModuleType:
    """The module under test, as py4web loaded it: importing it by another name would start the service again."""
    return importlib.import_module("apps.alias_interaction_module.services.template")


@example(written="\x1b#0")
@example(written="！so")
@given(
    written=st.text(max_size=60) | st.lists(st.sampled_from([*PLACEHOLDERS, "!so", '"', "'", " ", "x"])).map("".join)
)
def test_reading_a_template_fails_only_with_words_for_the_user(template, written):
    with suppress(UserError):
        parsed = template.parse_template(written)
        assert (parsed.line is None) is (as_seen(written).lstrip()[:1] not in ("!", "#", "！", "＃"))
        assert parsed.text == written.strip()


@given(rest=st.text(max_size=60), args=WORDS, user=VALUES)
def test_calling_fails_only_with_words_for_the_user(template, rest, args, user):
    for written in (f"!so {rest}", f"x{rest}"):
        with suppress(UserError):
            expanded = template.parse_template(written).expand("!x", template.Values(user, args))
            if isinstance(expanded, str):
                assert expanded.strip()
            else:
                assert (expanded.prefix, expanded.command) == ("!", "so")


@given(
    words=st.lists(LITERALS | st.sampled_from(["{args}", "{all_args}", "{user}"]), max_size=8), args=WORDS, user=VALUES
)
def test_each_word_stays_one_and_args_alone_spreads(template, words, args, user):
    assume(any(word in ("{args}", "{all_args}") for word in words))
    expanded = template.parse_template("!so " + " ".join(map(quote_word, words))).expand(
        "!x", template.Values(user, args)
    )
    expected: list[str] = []
    for word in words:
        if word in ("{args}", "{all_args}"):
            expected += args
        else:
            expected.append(user if word == "{user}" else word)
    assert expanded.args == expected


@given(words=st.lists(LITERALS | st.just("{user}"), max_size=8), args=WORDS, user=VALUES)
def test_without_a_placeholder_the_callers_words_are_appended(template, words, args, user):
    expanded = template.parse_template("!so " + join_words(words)).expand("!x", template.Values(user, args))
    assert expanded.args == [user if word == "{user}" else word for word in words] + args


@given(before=LITERALS, after=LITERALS, args=st.lists(VALUES, min_size=2, max_size=12), user=VALUES)
def test_inside_a_word_values_are_put_in_once_and_never_looked_at_again(template, before, after, args, user):
    assume(before or after)
    word = f"{before}{{arg1}}{{arg2}}{{user}}{{args}}{after}"
    expected = f"{before}{args[0]}{args[1]}{user}{' '.join(args)}{after}"
    assert template.parse_template("!so " + quote_word(word)).expand("!x", template.Values(user, args)).args == [
        expected
    ]


@given(number=st.integers(1, 9), args=WORDS)
def test_a_missing_word_is_named_and_only_then(template, number, args):
    parsed = template.parse_template(f"!so {{arg{number}}}")
    if number <= len(args):
        assert parsed.expand("!x", template.Values("u", args)).args == [args[number - 1]]
    else:
        with pytest.raises(template.MissingArgument, match=rf"^!x is missing \{{arg{number}\}}\. Usage: !x <arg1>"):
            parsed.expand("!x", template.Values("u", args))


@given(before=LITERALS, after=LITERALS, args=WORDS, user=VALUES)
def test_a_text_keeps_its_spacing_and_takes_no_words_that_it_did_not_ask_for(template, before, after, args, user):
    written = f"Well {before}{{user}}  {after}."
    expanded = template.parse_template(written).expand("!x", template.Values(user, args))
    assert expanded == f"Well {before}{user}  {after}."


@given(name=st.text(max_size=10), placeholder=st.sampled_from(PLACEHOLDERS), rest=st.text(max_size=10))
def test_no_placeholder_gets_into_a_commands_name(template, name, placeholder, rest):
    written = f"!x{name}{placeholder}{rest}"
    try:
        parsed = template.parse_template(written)
    except UserError:
        return
    assert parsed.line == parse_command(written.strip())
    assert not read(parsed.line.command).names & set(names())


@given(count=st.integers(0, 60), length=st.integers(0, 2000))
def test_an_expansion_has_a_limit(template, count, length):
    for written in ("!so " + "{args} " * count, "x" + "{args} " * count):
        try:
            expanded = template.parse_template(written).expand("!x", template.Values("u", ["y" * length] * 3))
        except template.TooLong:
            assert count * length > 10_000
            continue
        assert len(expanded if isinstance(expanded, str) else " ".join(expanded.args)) <= 40_000


def test_the_usage_follows_from_the_template(template):
    for written, usage in (
        ("!so {arg1}", "!x <arg1>"),
        ("!so {arg2} {args}", "!x <arg1> <arg2> [words…]"),
        ("!so", "!x [words…]"),
        ("!so {user}", "!x [words…]"),
        ("hello", "!x"),
        ("hello {user} {arg1}", "!x <arg1>"),
    ):
        assert template.parse_template(written).usage("!x") == usage
