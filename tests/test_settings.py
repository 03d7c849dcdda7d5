"""Settings: the specification's names, bounds that hold, and one clear line when something is wrong."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import tomllib
from pathlib import Path

import pytest
from pydantic_settings import BaseSettings
from waddlebot.base.errors import ConfigError
from waddlebot.base.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
SPEC_NAMES = {
    module: block["names"]
    for module, block in tomllib.loads((ROOT / "tests/spec_environment.toml").read_text()).items()
}
SPEC = ROOT.parent / "shared/spec/waddlebot-context.md"
BUILT = sorted(path.parent.name for path in ROOT.glob("*/manifest.toml"))


def settings_classes(module: str) -> list[type[BaseSettings]]:
    """The Settings classes of a module's config.py, loaded without the module."""
    name = f"settings_of_{module}"
    spec = importlib.util.spec_from_file_location(name, ROOT / module / "config.py")
    assert spec is not None and spec.loader is not None
    loaded = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return [
        each
        for each in vars(loaded).values()
        if isinstance(each, type) and issubclass(each, Settings) and each is not Settings
    ]


@pytest.mark.parametrize("module", sorted(set(BUILT) & set(SPEC_NAMES)))
def test_a_module_knows_every_name_that_the_specification_gives_it(module):
    known = {field.alias for kind in settings_classes(module) for field in kind.model_fields.values()}

    assert set(SPEC_NAMES[module]) - known == set()


@pytest.mark.parametrize("module", BUILT)
def test_every_setting_says_what_it_is(module):
    for kind in settings_classes(module):
        for name, field in kind.model_fields.items():
            assert field.alias, name
            assert field.description, name


@pytest.mark.skipif(not SPEC.exists(), reason="the client's specification is not beside this checkout")
def test_our_list_of_names_is_the_specifications():
    text = SPEC.read_text()
    section = text[text.index("### Environment Variables") : text.index("## System Components Details")]
    names = set(re.findall(r"^([A-Z][A-Z0-9_]+)=", section, re.MULTILINE))

    assert names == {name for block in SPEC_NAMES.values() for name in block}


@pytest.fixture
def environment(monkeypatch):
    for name in os.environ:
        if name.startswith("INVENTORY_") or name in ("DATABASE_URL", "MAX_WORKERS", "WADDLEBOT_API_KEY"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:secret@localhost:5432/waddlebot")
    return monkeypatch


@pytest.fixture
def inventory_settings():
    return settings_classes("inventory_interaction_module")[0]


def test_a_modules_own_name_wins_over_the_shared_one(environment, inventory_settings):
    environment.setenv("MAX_WORKERS", "7")
    assert inventory_settings.load().max_workers == 7

    environment.setenv("INVENTORY_MAX_WORKERS", "9")
    assert inventory_settings.load().max_workers == 9


def test_the_specifications_database_url_is_one_that_pydal_takes(environment, inventory_settings):
    assert inventory_settings.load().database_url == "postgres3://me:secret@localhost:5432/waddlebot"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "mysql://localhost/x"),
        ("DATABASE_URL", "postgresql://localhost"),
        ("MAX_WORKERS", "many"),
        ("MAX_WORKERS", "0"),
        ("LOG_LEVEL", "LOUD"),
        ("BASE_URL", "ftp://bot.example.org"),
        ("BASE_URL", "bot.example.org"),
        ("CORE_API_URL", "http://"),
        ("WADDLEBOT_API_KEY", "your_api_key"),
    ],
)
def test_a_bad_setting_is_named_in_one_line(environment, inventory_settings, name, value):
    environment.setenv(name, value)

    with pytest.raises(ConfigError) as caught:
        inventory_settings.load()
    assert name in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KONG_ADMIN_PASSWORD", "admin_password"),
        ("SMTP_PASSWORD", "smtp_password"),
        ("BROKER_API_KEY", "wbot_broker_master_key_placeholder"),
        ("BROKER_SECRET_KEY", "waddlebot_broker_secret_key_change_me_in_production"),
    ],
)
def test_a_secret_that_stands_in_the_specification_is_none(environment, name, value):
    environment.setenv(name, value)

    with pytest.raises(ConfigError, match=f"{name}: is still the placeholder"):
        settings_classes("kong_admin_broker")[-1].load()


@pytest.mark.parametrize("module", BUILT)
def test_every_address_is_one(environment, module):
    known = [field.alias for kind in settings_classes(module) for field in kind.model_fields.values()]
    for kind in settings_classes(module):
        kind.load()
    taken = []
    for name in sorted({each for each in known if each.endswith("_URL")}):
        with environment.context() as only:
            only.setenv(name, "ftp://bot.example.org")
            for kind in settings_classes(module):
                try:
                    kind.load()
                except ConfigError as err:
                    if name in err.message:
                        break
            else:
                taken.append(name)

    assert taken == []


def test_a_missing_database_is_named(environment, inventory_settings):
    environment.delenv("DATABASE_URL")

    with pytest.raises(ConfigError, match="DATABASE_URL"):
        inventory_settings.load()


def test_settings_never_change(environment, inventory_settings):
    with pytest.raises(ValueError, match="frozen"):
        inventory_settings.load().max_workers = 3
