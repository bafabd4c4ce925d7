"""`bundle.json`: what a bundle holds, size and digest of every file, and how to compile.

The file says the record, and last the sha256 of all that: what a bad disk or cable changes is noticed without a
signature, too. A signature alone tells what somebody changed on purpose.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator, model_validator
from typing_extensions import Self

from .errors import ArtifactError, IntegrityError
from .sealed_files import MEND, refuse
from .spec.base import Spec
from .spec.manifest import Digest
from .spec.recipe import MARGIN

FORMAT: Literal[2] = 2
RECORD, SIGNATURE = "bundle.json", "bundle.sig"
DIGEST = "self_sha256"  # the last field of the file, of those before it
LARGEST_RECORD = 1 << 20  # bytes of bundle.json; the shipped model's has 3,000
LARGEST = 4 << 30  # bytes of all files; a board with 8 GB of memory runs nothing larger

WHEEL_MISSING = "make it again with flowpose's wheel: flowpose bundle MODEL (without --no-wheel)"

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*(/[A-Za-z0-9_][A-Za-z0-9_.+-]*)*")
_NAME_LENGTH = 100  # characters that the plain form of tar holds wherever the slashes are


class BundleFile(Spec):
    """Size and digest of a file."""

    size: NonNegativeInt
    sha256: Digest


class Compiling(Spec):
    """How the device shall compile: the options of `flowpose compile`.

    Attributes:
        precision: `auto` measures all that model and target have.
        margin: times as fast that a reduced precision must be.
        threads: CPU threads of a run; None takes the target's.
    """

    precision: Literal["auto", "fp32", "fp16", "int8", "fp8"] = "auto"
    margin: Annotated[float, Field(ge=1, allow_inf_nan=False)] = MARGIN
    threads: PositiveInt | None = None


class BundleRecord(Spec):
    """What `bundle.json` holds.

    Attributes:
        format: version of this layout.
        name, key: of the model.
        created_by: the flowpose that made the bundle.
        calibration: digest of the pictures that fixed the ranges of INT8 codes; None where there were none.
        left_out: files of the model that only comparisons need.
        targets: targets that it is meant for: name -> file.
        compiling: how to compile.
        wheel: flowpose's own wheel, None where it was left out.
        versions: tool -> version that made the model.
        files: every file but bundle.json and bundle.sig.
    """

    format: Literal[2] = FORMAT
    name: str = Field(min_length=1)
    key: Digest
    created_by: str
    calibration: str | None = None
    left_out: tuple[str, ...] = ()
    targets: dict[str, str] = Field(min_length=1)
    compiling: Compiling = Compiling()
    wheel: str | None = None
    versions: dict[str, str] = {}
    files: dict[str, BundleFile] = Field(min_length=1)

    @field_validator("files")
    @classmethod
    def _inside(cls, files: dict[str, BundleFile]) -> dict[str, BundleFile]:
        above = {str(folder) for name in files for folder in PurePosixPath(name).parents}
        for name in files:
            plain = len(name) <= _NAME_LENGTH and _NAME.fullmatch(name)
            if not plain or name in above or name in (RECORD, SIGNATURE):
                raise ValueError(
                    f"not a file inside the bundle, got {name!r}, expected a plain relative path"
                )
        total = sum(file.size for file in files.values())
        if total > LARGEST:
            raise ValueError(f"too large, got {total} bytes in all, expected {LARGEST} at most")
        return files

    @model_validator(mode="after")
    def _listed(self) -> Self:
        named = {*self.targets.values(), *([self.wheel] if self.wheel else [])}
        missing = sorted(named - set(self.files))
        if missing:
            raise ValueError(f"named as a target or wheel but not among the files, got {missing}")
        return self

    def digest(self) -> str:
        """Returns the sha256 of `bundle.json`, which stands for every byte of the bundle."""
        return hashlib.sha256(rendered(self)).hexdigest()


def rendered(record: BundleRecord) -> bytes:
    """Returns the bytes of `bundle.json`; the only ones that are accepted for this record."""
    fields = record.model_dump(mode="json")
    return _written({**fields, DIGEST: hashlib.sha256(_written(fields)).hexdigest()})


def _written(fields: dict[str, Any]) -> bytes:
    return (json.dumps(fields, indent=1, ensure_ascii=True) + "\n").encode()


def parsed(where: Path, raw: bytes) -> BundleRecord:
    """Returns the record of a `bundle.json`, which must be as flowpose writes it, to the byte.

    Raises:
        ArtifactError: another format version.
        IntegrityError, SpecError: it was changed, or no flowpose wrote it.
    """
    try:
        return _parsed(where, raw)
    except RecursionError as error:  # thousands of brackets in one another
        what = "is nested too deeply, no flowpose wrote it"
        raise IntegrityError(where, what, expected="tables in tables, three deep", fix=MEND) from error


def _parsed(where: Path, raw: bytes) -> BundleRecord:
    try:
        data = json.loads(raw)
    except ValueError as error:
        raise IntegrityError(where, f"is not JSON ({error})", fix=MEND) from error
    if not isinstance(data, dict):
        refuse(where, "holds no table")
    if data.get("format") != FORMAT:
        fix = "install the flowpose that made the bundle, or make it again with this one: flowpose bundle"
        raise ArtifactError(where, "unknown format version", got=data.get("format"), expected=FORMAT, fix=fix)
    data.pop(DIGEST, None)
    record = BundleRecord.parse(data, "bundle", source=where)
    if rendered(record) != raw:
        refuse(where, "the file was changed, it is not as flowpose writes it")
    return record
