"""Secrets at rest (contracts §4): what is sealed opens only with its key and for its purpose."""

from __future__ import annotations

import pytest
from waddlebot.base.encryption import CannotOpen, Keyring
from waddlebot.base.errors import ConfigError, NotConfigured
from waddlebot.base.settings import Settings
from waddlebot.fleet.home import make_encryption_key


def keyring(keys: str | None) -> Keyring:
    return Keyring(Settings(DATABASE_URL="postgresql://h/d", WADDLEBOT_ENCRYPTION_KEYS=keys))


OLD, NEW = make_encryption_key("old"), make_encryption_key("new")


def test_a_secret_comes_back_and_its_sealed_form_does_not_show_it():
    ring = keyring(OLD)
    sealed = ring.seal("tøken", purpose="overlay:1:ticker")
    assert "tøken" not in sealed
    assert sealed != ring.seal("tøken", purpose="overlay:1:ticker")
    assert ring.open(sealed, purpose="overlay:1:ticker") == "tøken"


def test_a_secret_copied_elsewhere_does_not_open():
    ring = keyring(OLD)
    with pytest.raises(CannotOpen):
        ring.open(ring.seal("token", purpose="overlay:1:ticker"), purpose="overlay:2:ticker")


def test_a_new_first_key_seals_and_the_old_one_still_opens():
    old = keyring(OLD).seal("token", purpose="p")
    both = keyring(f"{NEW}, {OLD}")
    assert both.open(old, purpose="p") == "token"
    with pytest.raises(CannotOpen):
        keyring(OLD).open(both.seal("token", purpose="p"), purpose="p")


@pytest.mark.parametrize("sealed", ["", "old", "old:", "old:!!", "old:AAAA", "other:AAAA"])
def test_what_was_never_sealed_does_not_open(sealed: str):
    with pytest.raises(CannotOpen):
        keyring(OLD).open(sealed, purpose="p")


@pytest.mark.parametrize(
    "keys",
    ["nonsense", "a:AAAA", f"{OLD},{OLD}", ":" + OLD.partition(":")[2]],
    ids=["no id", "short", "twice the same id", "empty id"],
)
def test_bad_keys_end_the_process(keys: str):
    with pytest.raises(ConfigError, match="WADDLEBOT_ENCRYPTION_KEYS"):
        keyring(keys)


def test_without_keys_nothing_can_be_kept():
    with pytest.raises(NotConfigured):
        keyring(None).seal("token", purpose="p")
