"""How a long answer is cut, and what stands for a slash command. Pure functions, no fleet."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.discord.rest import check_commands

MODULE = Path(__file__).resolve().parents[1]


def load(name: str) -> ModuleType:
    """A file of the module's services, without the module's app."""
    package = "discord_pieces"
    if package not in sys.modules:
        for each, path in ((package, MODULE), (f"{package}.services", MODULE / "services")):
            made = sys.modules[each] = ModuleType(each)
            made.__path__ = [str(path)]
    full = f"{package}.services.{name}"
    if full in sys.modules:
        return sys.modules[full]
    spec = importlib.util.spec_from_file_location(full, MODULE / "services" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = sys.modules[full] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


text = load("text")
slash = load("slash_commands")
translation = load("translation")


def blocks_are_whole(part):
    return part.count("```") % 2 == 0


def test_a_short_answer_is_one_part():
    assert text.split_message("hello") == ["hello"]


def test_a_long_answer_is_cut_after_a_line_and_between_words():
    parts = text.split_message("\n".join(["word " * 30] * 40))

    assert all(len(part) <= 2000 for part in parts)
    assert all(part.split() == ["word"] * len(part.split()) for part in parts)


def test_a_code_block_that_fits_is_kept_whole():
    block = "```py\n" + "x = 1\n" * 100 + "```"
    parts = text.split_message("intro " * 300 + "\n" + block)

    assert block in parts[-1]
    assert all(blocks_are_whole(part) for part in parts)


def test_a_code_block_that_is_too_long_is_closed_and_opened_again():
    parts = text.split_message("```py\n" + "\n".join(f"line_{n} = {n}" for n in range(400)) + "\n```\nafter")

    assert len(parts) > 1
    assert all(blocks_are_whole(part) for part in parts)
    assert all(part.startswith("```py\n") for part in parts)
    assert all(f"line_{n} = {n}" in "\n".join(parts) for n in range(400))


def test_no_later_part_is_a_command_to_another_bot():
    parts = text.split_message("a" * 1990 + "\n" + "!ban everybody " * 50)

    assert all(not part.startswith(("!", "/", "#", ".")) for part in parts)


@given(st.text(alphabet="ab `\n!é🎉", max_size=6000))
def test_whatever_is_said_fits(said):
    parts = text.split_message(said)

    assert all(len(part) <= 2000 for part in parts)
    assert bool(parts) == bool(said.strip())


@pytest.mark.parametrize(
    ("prefix", "said", "heard"),
    [
        ("!", "!help", ("!help", True)),
        ("?", "?help me", ("!help me", True)),
        ("?", "  ?help", ("!help", True)),
        ("?", "!help", ("!help", False)),
        ("?", "\u200b！help", ("\u200b！help", False)),
        ("?", "#weather", ("#weather", True)),
        ("?", "what?", ("what?", True)),
        ("$$", "$$help", ("!help", True)),
    ],
)
def test_the_prefix_is_the_fleets_from_here_on(prefix, said, heard):
    assert translation.with_fleet_prefix(said, prefix) == heard


def command(name, **fields):
    return slash.FleetCommand(command=name, prefix=name[0], **fields)


def options_of(usage):
    return slash.mirror([command("!x", usage=usage)]).payload[0]["options"]


def test_words_of_a_usage_are_options():
    made = options_of("<item_name> <description> [labels]")

    assert [(each["name"], each["required"]) for each in made] == [
        ("item_name", True),
        ("description", True),
        ("labels", False),
    ]


def test_alternatives_are_choices():
    (made,) = options_of("[all|available|checkedout]")

    assert [each["value"] for each in made["choices"]] == ["all", "available", "checkedout"]


@pytest.mark.parametrize("usage", ["", "anything at all", "[first] <then>", "<same> <same>", "<???>"])
def test_where_no_better_is_known_there_is_free_text(usage):
    (made,) = options_of(usage)

    assert made["name"] == "args"


def test_subcommands_are_subcommands():
    spec = {"name": "add", "usage": "<item>", "description": "add an item"}
    (made,) = slash.mirror([command("!inventory", subcommands=[spec])]).payload

    assert [(each["type"], each["name"]) for each in made["options"]] == [(1, "add")]


def test_of_two_commands_with_one_name_both_get_in():
    names = slash.mirror([command("!weather"), command("#weather")]).names

    assert names == {"weather": "!weather", "community-weather": "#weather"}


@pytest.mark.parametrize("name", ["!Größe", "!c++", "!8ball", "!" + "x" * 60, "!日本", "!a.b"])
def test_every_name_is_one_that_discord_takes(name):
    made = slash.mirror([command(name, description="d" * 500, usage="<a b> [ü]")])

    assert check_commands(made.payload) == {}
    assert list(made.names.values()) == [name]


@given(st.lists(st.text(min_size=1, max_size=40).filter(lambda t: not any(c.isspace() for c in t)), max_size=130))
def test_whatever_the_commands_are_discord_takes_the_list(names):
    made = slash.mirror([command("!" + name, usage=name, description=name) for name in names])

    assert check_commands(made.payload) == {}
    assert len(made.payload) <= 100


@pytest.mark.parametrize(
    "start",
    [
        ["-c", "import dataclasses; dataclasses.fields; import json, inspect; print('fine')"],
        ["-c", "import asyncio, dataclasses; print('fine' if dataclasses.is_dataclass else '')"],
        ["-m", "json.tool", "--help"],
    ],
)
def test_dataclasses_is_the_standard_librarys_wherever_python_starts(start):
    done = subprocess.run([sys.executable, *start], cwd=MODULE, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0, done.stderr


def test_dataclasses_is_the_standard_librarys_for_tests_too():
    script = "import dataclasses, discord; assert dataclasses.dataclass; print(dataclasses.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=MODULE, capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stderr
    assert "discord_module" not in done.stdout
