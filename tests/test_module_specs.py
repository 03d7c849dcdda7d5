"""What a manifest says of settings, credentials, scopes and shared commands, and what is refused at the start."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from waddlebot.base.contracts import CommandSpec
from waddlebot.base.errors import ConfigError, Invalid
from waddlebot.base.manifest import CHECKOUT, Manifest, load_manifest
from waddlebot.base.module_settings import SettingSpec, check_config, check_secrets, defaults_of, fitting
from waddlebot.cli import doctor

HEAD = """
name = "tunes"
title = "Tunes"
kind = "interaction"
version = "1"
port = 8099
host = "tunes"
prefix = "/tunes"
"""

SPECS = [
    SettingSpec(name="loud", type="bool", default=False),
    SettingSpec(name="volume", type="int", default=50, min=0, max=100),
    SettingSpec(name="speed", type="float", default=1, min=0.5, max=2),
    SettingSpec(name="greeting", type="text", default="hello", min=1, max=10),
    SettingSpec(name="mode", type="choice", default="auto", choices=["auto", "manual"]),
    SettingSpec(name="banned", type="list", default=[], max=2),
    SettingSpec(name="points", type="map", default={}, max=100, choices=["follow", "raid"]),
    SettingSpec(name="key", type="secret"),
    SettingSpec(name="announce", type="bool"),
]


def load(tmp_path: Path, text: str) -> Manifest:
    folder = tmp_path / "tunes_module"
    folder.mkdir(exist_ok=True)
    (folder / "manifest.toml").write_text(HEAD + text)
    load_manifest.cache_clear()
    return load_manifest(folder)


def test_every_type_takes_what_fits_and_fills_in_defaults():
    given = {
        "loud": True,
        "volume": 0,
        "speed": 2,
        "greeting": "hi",
        "mode": "manual",
        "banned": ["a", "b"],
        "points": {"follow": 1.5, "twitch.raid": 0},
        "key": "s3cret",
    }
    assert check_config(SPECS, given) == given
    assert check_config(SPECS, {"volume": None}) == {}
    assert defaults_of(SPECS) == {
        "loud": False,
        "volume": 50,
        "speed": 1,
        "greeting": "hello",
        "mode": "auto",
        "banned": [],
        "points": {},
        "announce": None,
    }


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("loud", 1, "true or false"),
        ("volume", True, "whole number"),
        ("volume", "5", "whole number"),
        ("volume", 2**60, "whole number"),
        ("volume", 101, "at most 100"),
        ("volume", -1, "at least 0"),
        ("speed", float("inf"), "number"),
        ("speed", 0.4, "at least 0.5"),
        ("greeting", "", "at least 1 characters"),
        ("greeting", "x" * 11, "at most 10 characters"),
        ("greeting", ["hi"], "a text"),
        ("mode", "off", "one of auto, manual"),
        ("mode", ["auto"], "one of auto, manual"),
        ("banned", ["a", "b", "c"], "at most 2 entries"),
        ("banned", [1], "list of texts"),
        ("banned", "a", "list of texts"),
        ("points", {"folow": 1}, "may not have folow"),
        ("points", {"follow": "1"}, "must be a number"),
        ("points", {"follow": 101}, "at most 100"),
        ("points", [], "an object"),
        ("key", 5, "a text"),
        ("nonsense", 1, "is not a setting of this module"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(name, value, why):
    with pytest.raises(Invalid, match=why) as refused:
        check_config(SPECS, {"greeting": "hi", name: value})
    assert refused.value.details["field"] == f"config.{name}"
    # What was stored before the module changed its mind is left out, and the rest counts.
    assert fitting(SPECS, {"mode": "manual", name: value}).keys() <= {"mode"}


def test_without_specs_anything_goes_but_not_any_amount():
    assert check_config(None, {"a": {"b": [1]}}) == {"a": {"b": [1]}}
    with pytest.raises(Invalid, match="16384"):
        check_config(None, {"a": "x" * 20_000})


def test_secrets_are_all_of_the_fields_and_never_an_address():
    check_secrets(["api_key", "project"], {"api_key": "k", "project": "p"})
    for secrets, why in [
        ({"api_key": "k"}, "secrets.project is missing"),
        ({"api_key": " ", "project": "p"}, "secrets.api_key is missing"),
        ({"api_key": "k", "project": "p", "url": "x"}, "secrets.url is not known"),
        ({"api_key": "https://evil.example", "project": "p"}, "secrets.api_key must not be an address"),
    ]:
        with pytest.raises(Invalid, match=why):
            check_secrets(["api_key", "project"], secrets)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('[[settings]]\nname = "volume"\ntype = "int"\ndefault = "loud"', "the default must be a whole number"),
        ('[[settings]]\nname = "volume"\ntype = "int"\nmaximum = 5', "maximum"),
        ('[[settings]]\nname = "mode"\ntype = "choice"', "a choice needs choices"),
        ('[[settings]]\nname = "key"\ntype = "secret"\ndefault = "x"', "a secret has no default"),
        ('[[settings]]\nname = "a"\ntype = "int"\n[[settings]]\nname = "a"\ntype = "bool"', "two settings"),
        ('[[credentials]]\nprovider = "Open AI"', "provider"),
        ('[[scopes]]\nplatform = "twitch"\nscope = "bits:read"\non = "channel"', "why"),
        ('[[scopes]]\nplatform = "irc"\nscope = "x"\non = "bot"\nwhy = "x"', "platform"),
    ],
)
def test_a_manifest_that_cannot_be_meant_ends_the_process_at_the_start(tmp_path, text, why):
    assert load(tmp_path, '[[settings]]\nname = "volume"\ntype = "int"\ndefault = 5').settings[0].default == 5
    with pytest.raises(ConfigError, match=why):
        load(tmp_path, text)


@pytest.fixture
def check_fleet():
    spec = importlib.util.spec_from_file_location("check_fleet", CHECKOUT / "scripts" / "check_fleet.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_fleet_check_notices_who_takes_anothers_command(tmp_path, check_fleet):
    router = load_manifest(CHECKOUT / "router_module")
    tunes = load(tmp_path, "")

    def problems(**shared: str) -> list[str]:
        taking = [
            tunes.model_copy(update={"name": name, "commands": [CommandSpec(command="Song", shared=group)]})
            for name, group in shared.items()
        ]
        return list(check_fleet.check_commands([router, *taking]))

    assert problems(spotify="music") == []
    assert problems(spotify="music", youtube_music="music") == []
    assert "spotify, other have command !song" in problems(spotify="music", other="")[0]
    assert "spotify, other have command !song" in problems(spotify="", other="")[0]
    assert problems(tunes="music") == ["tunes shares !song, but no setting music of the router can name it"]
    assert problems(spotify="games") == ["spotify shares !song, but no setting games of the router can name it"]


def test_the_doctor_says_what_modules_ask_for(tmp_path):
    tunes = load(
        tmp_path,
        '[[scopes]]\nplatform = "twitch"\nscope = "clips:edit"\non = "channel"\nwhy = "Clips are made with !clip."',
    )
    (found,) = doctor.scopes_of(tunes)
    assert (found.verdict, found.what) == ("ok", "tunes asks for")
    assert found.detail == "clips:edit on twitch, of the channel: Clips are made with !clip."
