"""Files of clients: what is too large, of another kind, damaged or made to hurt is refused before it is decoded."""

from __future__ import annotations

import json
import struct
import zlib
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny_graphs import HEIGHT, WIDTH, standing

from flowpose import image, samples
from flowpose.errors import ImageError, PoseError
from flowpose.serve import uploads
from flowpose.serve.problems import Refused
from flowpose.serve.settings import Limits
from flowpose.serve.uploads import Upload, motion_of, picture_of, pose_of

LIMITS = Limits(photo_mb=1, megapixels=2, poses_mb=0.5, poses=40)
SIZE = (HEIGHT, WIDTH)
PICTURE = samples.source("sweater")


def encoded(suffix: str) -> bytes:
    return image.encode(PICTURE, suffix)


def lossless_webp() -> bytes:
    return bytes(cv2.imencode(".webp", PICTURE, [cv2.IMWRITE_WEBP_QUALITY, 101])[1].tobytes())


def png(width: int, height: int) -> bytes:
    """A few bytes whose header says that it is a picture of that size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    body = zlib.compress(b"\0" * 9)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp", "lossless"])
def test_every_kind_is_read_and_its_size_is_told_by_its_header(
    suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = lossless_webp() if suffix == "lossless" else encoded(suffix)
    assert picture_of(Upload("a", data), LIMITS).shape == PICTURE.shape
    monkeypatch.setattr(image, "decode", None)  # whoever decodes it fails
    with pytest.raises(Refused) as refused:
        picture_of(Upload("a", data), Limits(megapixels=0.04))
    assert refused.value.got == "176 x 256 pixels" and refused.value.status == 413


@pytest.mark.parametrize(
    "data",
    [png(60_000, 60_000), png(2**31 - 1, 2), encoded(".jpg").replace(b"\x01\x00\x00\xb0", b"\xff\xff\xff\xff", 1)],
    ids=["square", "wide", "jpeg"],
)  # fmt: skip
def test_a_bomb_is_never_decoded(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "decode", None)
    with pytest.raises(Refused, match="too many pixels") as refused:
        picture_of(Upload("photo.png", data), LIMITS)
    assert refused.value.status == 413
    assert refused.value.where == "photo.png" and "megapixels" in str(refused.value.expected)


def test_too_many_bytes_are_not_looked_at() -> None:
    with pytest.raises(Refused, match=r"too large, got 1\.5 MB, expected at most 1 MB") as refused:
        picture_of(Upload("a.png", encoded(".png").ljust(3 * 2**19)), LIMITS)
    assert refused.value.status == 413


@pytest.mark.parametrize(
    "data", [b"", b"GIF89a" + bytes(40), b"<svg/>", b"\x89PN", b"RIFF\0\0\0\0WAVE" + bytes(40)]
)
def test_another_kind_of_file_is_told_by_its_bytes_not_its_name(data: bytes) -> None:
    with pytest.raises(Refused, match="not a picture that can be read") as refused:
        picture_of(Upload("photo.png", data), LIMITS)
    assert refused.value.status == 415 and refused.value.expected == "PNG, JPEG, WebP or BMP"


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp", "lossless"])
def test_a_cut_picture_gives_a_typed_error_or_a_picture(suffix: str) -> None:
    """OpenCV fills up a JPEG whose end is missing; nothing else comes out than these two."""
    data, refused = lossless_webp() if suffix == "lossless" else encoded(suffix), 0
    for end in [*range(0, 64, 3), len(data) // 2]:
        try:
            assert picture_of(Upload("a", data[:end]), LIMITS).shape == PICTURE.shape
        except (Refused, ImageError):
            refused += 1
    assert refused >= 20


def test_a_clients_name_is_shown_and_never_a_path(tmp_path: Path) -> None:
    upload = Upload("../../etc/pass\nwd<b>.json", b"nonsense")
    assert upload.shown == "pass_wd_b_.json"
    with pytest.raises(PoseError) as error:
        pose_of(upload, None, SIZE, 0, LIMITS)
    assert error.value.where == "pass_wd_b_.json" and "flowpose-serve" not in str(error.value)
    assert Upload("C:\\me\\a.json", b"").shown == "a.json" and Upload("/", b"").shown == "file"


def rows(count: int = 17) -> list[list[float]]:
    return standing()[:count].tolist()


def test_plain_rows_of_joints_are_a_pose() -> None:
    found = pose_of(Upload("pose.json", json.dumps(rows()).encode()), None, SIZE, 0, LIMITS)
    assert found.format == "coco-17" and found.size == SIZE and np.allclose(found.array(), standing()[:17])


@pytest.mark.parametrize(
    "text", ["[[1,2,3]]", "[[NaN,1,1]]", "[[1e999,1,1]]", "[[1,2],[3]]", "[[true]]", "[[]]", "{}", "[" * 4000]
)
def test_rows_that_are_no_pose_are_a_pose_error(text: str) -> None:
    with pytest.raises(PoseError) as error:
        pose_of(Upload("p.json", text.encode()), None, SIZE, 0, LIMITS)
    assert error.value.where.startswith("p.json")


def npz(**arrays: np.ndarray) -> bytes:
    stream = BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def test_every_kind_of_pose_file_goes_through(tmp_path: Path) -> None:
    one = standing()[:17]
    stack = BytesIO()
    np.save(stack, np.stack([one, one + np.float32([1, 0, 0])]))
    openpose = {"people": [{"pose_keypoints_2d": np.vstack([one, one[:8]]).ravel().tolist()}]}
    kinds = {
        "a.npy": stack.getvalue(), "a.npz": npz(keypoints=np.stack([one, one]), rate=np.array(15.0)),
        "a.json": json.dumps(openpose).encode(), "a.jsonl": (json.dumps(openpose) + "\n").encode() * 2,
    }  # fmt: skip
    lengths = {name: len(motion_of([Upload(name, data)], None, SIZE, LIMITS)) for name, data in kinds.items()}
    assert lengths == {"a.npy": 2, "a.npz": 2, "a.json": 1, "a.jsonl": 2}
    several = [Upload(f"frame{i}.json", kinds["a.json"]) for i in (2, 1)]
    assert len(motion_of(several, None, SIZE, LIMITS)) == 2


def test_several_files_are_taken_in_the_order_of_their_names() -> None:
    def frame(x: float) -> bytes:
        moved = standing()[:17] + np.float32([x, 0, 0])
        return json.dumps(
            {"people": [{"pose_keypoints_2d": np.vstack([moved, moved[:8]]).ravel().tolist()}]}
        ).encode()

    motion = motion_of([Upload("b.json", frame(2)), Upload("a.json", frame(0))], None, SIZE, LIMITS)
    assert [pose.xy[0, 0] for pose in motion.poses] == [5, 7]
    given = [Upload("f_0.json", frame(0)), Upload("f_1.json", b'{"people": [{"pose_keypoints_2d": [1]}]}')]
    with pytest.raises(PoseError, match=r"^f_1\.json"):
        motion_of(given, None, SIZE, LIMITS)
    with pytest.raises(Refused, match="too many files, got 2 files, expected at most 1"):
        motion_of(given, None, SIZE, Limits(files=1))


@pytest.mark.parametrize(
    ("names", "status"),
    [
        (["a.exe"], 415),
        (["a"], 415),
        (["a.json", "b.txt"], 415),
        (["a.npy", "b.npy"], 415),
        (["a.pose.zip"], 415),
    ],
)
def test_files_of_another_kind_are_refused(names: list[str], status: int) -> None:
    with pytest.raises(Refused, match="unknown kind of pose file") as refused:
        motion_of([Upload(name, b"x") for name in names], None, SIZE, LIMITS)
    assert refused.value.status == status


def test_an_archive_that_unpacks_to_too_much_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = npz(keypoints=np.zeros((4000, 17, 3)))
    assert len(bomb) < 20_000
    monkeypatch.setattr(uploads, "read_motion", None)
    with pytest.raises(Refused, match=r"a\.npz, unpacked: too large, got 1\.6 MB, expected at most 0\.5 MB"):
        motion_of([Upload("a.npz", bomb)], None, SIZE, LIMITS)


def test_pose_files_have_a_size_and_motions_a_length() -> None:
    with pytest.raises(Refused, match="too large") as refused:
        motion_of([Upload("a.json", b" " * 300_000), Upload("b.json", b" " * 300_000)], None, SIZE, LIMITS)
    assert refused.value.status == 413
    with pytest.raises(Refused, match="too long, got 41, expected at most 40 poses"):
        motion_of([Upload("a.npz", npz(keypoints=np.stack([standing()[:17]] * 41)))], None, SIZE, LIMITS)


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv", ".txt", ".pose", ".npy", ".npz"])
@pytest.mark.parametrize(
    "data", [b"", b"\0\xff\xfe", b"[[[[", b"PK\x03\x04" + bytes(30), b"\x93NUMPY\x01\x00\xff\xff"]
)
def test_nonsense_is_a_pose_error_that_names_the_file(suffix: str, data: bytes) -> None:
    with pytest.raises(PoseError) as error:
        motion_of([Upload(f"mine{suffix}", data)], None, SIZE, LIMITS)
    assert error.value.where.startswith(f"mine{suffix}") and "/tmp" not in str(error.value)


def test_a_number_of_a_pose_that_is_not_there_is_told() -> None:
    with pytest.raises(PoseError, match="has no such pose, got 3, expected 0 to 1"):
        pose_of(Upload("a.npz", npz(keypoints=np.stack([standing()[:17]] * 2))), None, SIZE, 3, LIMITS)
