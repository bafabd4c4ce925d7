"""The bytes of the WebSocket: what is written is read again, and what is none of it is told apart."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest

from flowpose.serve import protocol
from flowpose.serve.problems import Refused

ROWS = np.arange(51, dtype=np.float32).reshape(17, 3)


def test_a_pose_comes_out_as_it_went_in() -> None:
    data = protocol.pose(3, 2**32 - 1, ROWS)
    said = protocol.message(data, 17)
    assert isinstance(said, protocol.Posed) and (said.session, said.number) == (3, 2**32 - 1)
    assert np.array_equal(said.rows, ROWS) and len(data) == 8 + 12 * 17


def test_numbers_are_little_endian_in_the_documented_places() -> None:
    assert protocol.pose(3, 7, ROWS)[:8] == bytes([1, 3, 17, 0, 7, 0, 0, 0])
    assert protocol.pose(3, 7, ROWS)[8:16] == struct.pack("<ff", 0, 1)
    assert protocol.ack(2, 258) == bytes([2, 2, 0, 0, 2, 1, 0, 0])
    assert protocol.photo(1, b"xyz") == bytes([3, 1, 0, 0, 0, 0, 0, 0]) + b"xyz"


def test_a_frame_comes_out_as_it_went_in() -> None:
    head = protocol.FrameHead(1, 9, "webp", 5, 4, 88, 128, 0.5, 9.25, 0.125)
    data = protocol.frame(head, b"RIFF")
    assert protocol.read_frame(data) == (head, b"RIFF")
    assert len(data) == 32 + 4 and data[:8] == bytes([4, 1, 1, 0, 9, 0, 0, 0])


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\x01\x00\x11\x00", protocol.pose(0, 0, ROWS)[:-1], protocol.pose(0, 0, ROWS) + b"\0",
        protocol.pose(0, 0, ROWS[:16]), protocol.HEAD.pack(1, 0, 17, 0), protocol.HEAD.pack(9, 0, 0, 0),
    ],
    ids=["empty", "cut head", "short", "long", "another format", "no joints", "unknown kind"],
)  # fmt: skip
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(Refused) as refused:
        protocol.message(data, 17)
    assert refused.value.status == 400 and refused.value.where == "WebSocket message"
    assert refused.value.got is not None and refused.value.expected is not None


@pytest.mark.parametrize(
    "data",
    ["", "{", "[]", "null", '{"type": "open"}', '{"type": "fly"}', '{"type": "open", "session": 256, "sample": "a"}',
     '{"type": "open", "session": "0", "sample": "a"}', '{"type": "view", "encoding": "gif", "quality": 5}',
     '{"type": "view", "encoding": "jpeg", "quality": 0}', '{"type": "close", "session": 0, "more": 1}',
     '{"type": "close", "session": NaN}', "[" * 3000],
)  # fmt: skip
def test_texts_that_are_none_of_the_protocol_are_refused(data: str) -> None:
    with pytest.raises(Refused) as refused:
        protocol.text(data, 4096)
    assert refused.value.status == 400 and "docs/serving.md" in str(refused.value.expected)


def test_a_text_that_is_too_long_is_not_parsed() -> None:
    with pytest.raises(Refused, match="too long, got 5000 characters, expected at most 4096"):
        protocol.text(json.dumps({"type": "open", "session": 0, "sample": "a"}).ljust(5000), 4096)


def test_the_three_texts_are_read() -> None:
    assert protocol.text('{"type": "open", "session": 1, "sample": "plaid"}', 99) == protocol.Open(
        type="open", session=1, sample="plaid"
    )
    view = protocol.text('{"type": "view", "encoding": "webp", "quality": 80}', 99)
    assert isinstance(view, protocol.View) and (view.encoding, view.quality) == ("webp", 80)
    assert isinstance(protocol.text('{"type": "close", "session": 1}', 99), protocol.Close)
