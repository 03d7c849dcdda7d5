"""What every endpoint does, whatever it is for."""

from __future__ import annotations

import gc
import io

import pytest


@pytest.mark.parametrize("message_type", ["nonsense", "chatMessage"])
def test_a_request_leaves_nothing_for_the_garbage_collector(fleet, message_type):
    marker = "nobody keeps this"
    event = {"event_id": "e", "message_type": message_type, "platform": "twitch", "channel_id": "not-ours", "user": {}}
    event["user"] = {"platform_user_id": "p", "name": "p", "display_name": marker}
    fleet.request("POST", "/router/events/batch", [event])
    gc.collect()
    gc.disable()
    try:
        for _ in range(10):
            answer = fleet.request("POST", "/router/events/batch", [event])
            assert [each["success"] for each in answer.json()] == [False]
        bodies = [each for each in gc.get_objects() if isinstance(each, io.BytesIO) and marker in str(each.getvalue())]
    finally:
        gc.enable()
    # What this thread served last is still at hand.
    assert len(bodies) <= 2
