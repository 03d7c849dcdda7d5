"""A local Discord on loopback; see `DiscordSimulator`."""

from .simulator import DiscordSimulator, Post, Posted
from .world import ADMINISTRATOR, MANAGE_MESSAGES, Channel, Guild, Said

__all__ = ["ADMINISTRATOR", "MANAGE_MESSAGES", "Channel", "DiscordSimulator", "Guild", "Post", "Posted", "Said"]
