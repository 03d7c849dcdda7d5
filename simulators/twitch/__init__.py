"""A local Twitch on loopback: OAuth, Helix, and EventSub by webhook and by WebSocket, with Twitch's own words.

with TwitchSimulator(callback="http://127.0.0.1:8002/twitch/webhook") as twitch:
    twitch.say("12826", "!inventory list", chatter="42", badges=["moderator"])
    twitch.messages
"""

from .accounts import Account
from .eventsub import RETRY_PAUSES_S, Subscription
from .oauth import AuthorizePageRefused, Token
from .simulator import BOT_USER_ID, CLIENT_ID, CLIENT_SECRET, WEBHOOK_SECRET, Action, TwitchSimulator
from .wire import Delivery, Fault, Said

__all__ = [
    "BOT_USER_ID",
    "CLIENT_ID",
    "CLIENT_SECRET",
    "RETRY_PAUSES_S",
    "WEBHOOK_SECRET",
    "Account",
    "Action",
    "AuthorizePageRefused",
    "Delivery",
    "Fault",
    "Said",
    "Subscription",
    "Token",
    "TwitchSimulator",
]
