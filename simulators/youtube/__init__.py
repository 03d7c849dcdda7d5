"""A local YouTube on loopback: the Data API v3 as google-api-python-client asks it, and a player as pages embed it.

with YouTubeSimulator() as youtube:
    youtube.add("Never Gonna Give You Up", channel="Rick Astley", video_id="dQw4w9WgXcQ", duration_s=213)
    youtube.requests
"""

from .simulator import API_KEY, Video, YouTubeSimulator

__all__ = ["API_KEY", "Video", "YouTubeSimulator"]
