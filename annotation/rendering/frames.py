"""What the server and the child process that renders say to each other: frames of JSON on a socket.

A frame is a length of four bytes, big-endian, and then that many bytes.
"""

from __future__ import annotations

import json
import socket
import struct

CPU_SECONDS = 1.0
"""Processor time that one text may take."""
LONGEST_FRAME = 64 * 1024 * 1024


def receive(connection: socket.socket) -> dict[str, object] | None:
    """The next frame; None at the end of the input. Raises ValueError for a frame that is too long, OSError."""
    head = _receive_exactly(connection, 4)
    if head is None:
        return None
    (length,) = struct.unpack(">I", head)
    if length > LONGEST_FRAME:
        raise ValueError(f"a frame of {length} bytes")
    body = _receive_exactly(connection, length)
    if body is None:
        return None
    frame: dict[str, object] = json.loads(body)
    return frame


def send(connection: socket.socket, frame: dict[str, object]) -> None:
    """Writes one frame. Raises OSError where the other side is gone."""
    body = json.dumps(frame).encode()
    connection.sendall(struct.pack(">I", len(body)) + body)


def _receive_exactly(connection: socket.socket, length: int) -> bytes | None:
    pieces = []
    while length:
        piece = connection.recv(min(length, 1 << 20))
        if not piece:
            return None
        pieces.append(piece)
        length -= len(piece)
    return b"".join(pieces)
