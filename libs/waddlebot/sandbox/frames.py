"""What host and module say to each other over a socket: a kind, the id of the call, and a body.

Only the standard library is imported: this is loaded inside the fence, too.
"""

from __future__ import annotations

import struct

HEAD = struct.Struct("!c16sI")
MAX_BODY_BYTES = 6 * 1024 * 1024  # As Lambda has it.
NO_CALL = bytes(16)

# To the module: a call, and what came of asking for state.
CALL, STATE_ANSWER = b"C", b"S"
# From the module: it is imported, or cannot be; a result; an error; it asks for state; it will take longer.
READY, INIT_ERROR, RESULT, ERROR, STATE, LATER = b"Y", b"I", b"R", b"E", b"s", b"L"


def pack(kind: bytes, call_id: bytes, body: bytes = b"") -> bytes:
    return HEAD.pack(kind, call_id, len(body)) + body
