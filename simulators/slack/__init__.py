"""A local Slack on loopback.

with SlackSimulator(events_url="http://127.0.0.1:8004/slack/events") as slack:
    slack.say("C1", "!inventory list", user="U1")
    slack.said
"""

from .simulator import SlackSimulator as SlackSimulator
from .state import Answered as Answered
from .state import Delivery as Delivery
from .state import Said as Said
