"""One person's player: devices, what plays, and what comes next. Time passes by itself, or by `pass_ms`."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any

from .catalogue import Track, made_id


@dataclass(slots=True)
class Device:
    name: str
    id: str
    type: str = "Computer"
    is_active: bool = False
    is_restricted: bool = False
    volume_percent: int | None = 50

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "name": self.name,
            "type": self.type,
            "is_active": self.is_active,
            "is_private_session": False,
            "is_restricted": self.is_restricted,
            "volume_percent": self.volume_percent,
            "supports_volume": self.volume_percent is not None,
        }


@dataclass(slots=True)
class Player:
    devices: list[Device] = field(default_factory=list)
    current: Track | None = None
    is_playing: bool = False
    # What people queued, and what the context plays after that.
    queue: list[Track] = field(default_factory=list)
    context: list[Track] = field(default_factory=list)
    skipped: int = 0
    played: list[Track] = field(default_factory=list)
    _progress_ms: float = 0
    _since: float = 0
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def add_device(self, name: str, *, active: bool = False, **more: Any) -> Device:
        device = Device(name, made_id(name)[:16] + "0" * 24, **more)
        self.devices.append(device)
        if active:
            self.activate(device)
        return device

    @property
    def active(self) -> Device | None:
        return next((each for each in self.devices if each.is_active), None)

    def activate(self, device: Device | None) -> None:
        for each in self.devices:
            each.is_active = each is device

    @property
    def progress_ms(self) -> int:
        with self._lock:
            self._advance()
            return int(self._progress_ms)

    def play(self, *tracks: Track) -> None:
        """Play these, the last ones as the context."""
        with self._lock:
            self._start(tracks[0] if tracks else None)
            self.context = list(tracks[1:])

    def resume(self) -> None:
        with self._lock:
            self._since, self.is_playing = time.monotonic(), self.current is not None

    def pause(self) -> None:
        with self._lock:
            self._advance()
            self.is_playing = False

    def next(self) -> None:
        with self._lock:
            self._advance()
            self.skipped += 1
            self._start_next()

    def pass_ms(self, passed_ms: float) -> None:
        """Let so much time pass at once."""
        with self._lock:
            self._advance()
            self._since -= passed_ms / 1000

    def coming(self) -> list[Track]:
        with self._lock:
            self._advance()
            return [*self.queue, *self.context]

    def _advance(self) -> None:
        if not self.is_playing or self.current is None:
            return
        now = time.monotonic()
        self._progress_ms += (now - self._since) * 1000
        self._since = now
        while self.is_playing and self.current is not None and self._progress_ms >= self.current.duration_ms:
            left_ms = self._progress_ms - self.current.duration_ms
            self._start_next()
            self._progress_ms = left_ms if self.is_playing else 0

    def _start_next(self) -> None:
        coming = self.queue or self.context
        self._start(coming.pop(0) if coming else None)

    def _start(self, track: Track | None) -> None:
        self.current, self.is_playing = track, track is not None
        self._progress_ms, self._since = 0, time.monotonic()
        if track is not None:
            self.played.append(track)
