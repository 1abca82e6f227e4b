"""SMPP frames cut out of a byte stream, by their command_length (SMPP 3.4 section 3.2). ``wire`` hands these names on."""

from __future__ import annotations

from struct import Struct
from typing import Final

HEADER_LENGTH: Final = 16
_U32: Final = Struct(">I")


class FrameError(ValueError):
    """The stream is not SMPP or breaks its length limits: framing is lost and the connection must end."""


class Splitter:
    """Cuts a byte stream into frames. ``limit`` (octets) may change between calls: it is 512 before a bind, 68 KiB after.

    A length is judged as soon as its four octets are there, so nothing is buffered for a frame that will be refused.
    """

    __slots__ = ("_rest", "fault", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.fault: FrameError | None = None
        self._rest = b""

    @property
    def pending(self) -> int:
        """Octets of an unfinished frame held back."""
        return len(self._rest)

    @property
    def rest(self) -> bytes:
        """The octets that are held back: an unfinished frame, or frames that nobody has asked for yet."""
        return self._rest

    def feed(self, data: bytes, most: int = 1 << 30) -> list[bytes]:
        """The frames completed by ``data``, ``most`` at the most; the rest waits for the next call.

        Framing that can't be right sets ``fault``, which is sticky; frames before it are still returned.
        """
        if self.fault is not None:
            return []
        rest = self._rest
        if rest:
            data = rest + data
        end = len(data)
        at = 0
        frames: list[bytes] = []
        append = frames.append
        read = _U32.unpack_from
        limit = self.limit
        while end - at >= 4 and len(frames) < most:
            length = read(data, at)[0]
            if length < HEADER_LENGTH or length > limit:
                self.fault = FrameError(f"command_length {length} is outside {HEADER_LENGTH}..{limit}")
                self._rest = b""
                return frames
            stop = at + length
            if stop > end:
                break
            append(data[at:stop])
            at = stop
        self._rest = data[at:] if at else data
        return frames
