"""A local Spotify on loopback: accounts and their consent, the Web API, and a player for each person.

with SpotifySimulator() as spotify:
    spotify.user("alice", devices=["Studio"])
    spotify.player("alice").current
"""

from .catalogue import Track as Track
from .player import Device as Device
from .simulator import SpotifySimulator as SpotifySimulator
