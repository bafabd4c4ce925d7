"""Every error that flowpose raises on purpose.

An error says where it happened, what is wrong, what was got, what was expected, and the command or change that
mends it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from typing_extensions import Self


class FlowposeError(Exception):
    """Base of all flowpose errors.

    Args:
        where: the file, key, argument or stage that is wrong.
        what: the fault, in a few words.
        got: the value found, if there is one to show.
        expected: what would have been right.
        fix: the command or the change that mends it.
    """

    def __init__(
        self,
        where: object,
        what: str,
        *,
        got: object = None,
        expected: object = None,
        fix: str | None = None,
    ) -> None:
        self.where, self.what, self.got, self.expected, self.fix = str(where), what, got, expected, fix
        text = f"{where}: {what}"
        if got is not None:
            text += f", got {got}"
        if expected is not None:
            text += f", expected {expected}"
        super().__init__(f"{text}. Fix: {fix}" if fix else text)

    def at(self, where: object) -> Self:
        """Returns the same error at another place: the file, say, in front of the line."""
        again = type(self).__new__(type(self))
        vars(again).update(vars(self))
        FlowposeError.__init__(again, where, self.what, got=self.got, expected=self.expected, fix=self.fix)
        return again


class SpecError(FlowposeError):
    """A recipe, target, calibration set or manifest that cannot be used; lists every problem at once.

    Attributes:
        problems: one text a problem, each with its path in the file.
    """

    def __init__(self, where: object, problems: Sequence[str], *, fix: str | None = None) -> None:
        self.problems = tuple(problems)
        count = f"{len(self.problems)} problem" + ("s" if len(self.problems) != 1 else "")
        super().__init__(where, "\n  ".join([count, *self.problems]), fix=fix)


class PoseError(FlowposeError):
    """A pose that cannot be used: unknown format, wrong shape, NaN, no person joints, joints far outside."""


class ImageError(FlowposeError):
    """A picture that cannot be read or has the wrong shape or dtype."""


class DataError(FlowposeError):
    """A data set that is missing, broken or too small."""


class ArtifactError(FlowposeError):
    """An artifact that cannot be found, opened or written."""


class IntegrityError(ArtifactError):
    """An artifact whose files are not those that its manifest lists."""


class TargetMismatch(FlowposeError):
    """An engine or a precision that does not fit the target or this machine."""


class BackendError(FlowposeError):
    """A backend that failed, or whose outputs are not those the artifact's golden files hold."""


class DeviceError(FlowposeError):
    """Facts of a machine that cannot be read, or a step of a deployment on it that failed."""


class MissingDependency(FlowposeError):
    """A Python package that this step needs and this environment lacks."""


@contextmanager
def needing(where: str, extras: str) -> Iterator[None]:
    """Makes a package that the block's imports do not find a MissingDependency that names it.

    Args:
        where: the command or stage that needs it.
        extras: of flowpose, that bring it: `train,quantize`.

    Raises:
        MissingDependency: a package is not there; a module of flowpose that is missing is no such error.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if str(error.name).startswith("flowpose"):
            raise
        fix = f"pip install flowpose[{extras}]; in a checkout: make setup"
        raise MissingDependency(where, f"needs the package {error.name}", fix=fix) from error


class ParityError(FlowposeError):
    """An exported graph that does not compute what the model computes."""


class GateFailed(FlowposeError):
    """A measured quality outside the limit that the recipe sets."""


class TrainingError(FlowposeError):
    """A training run that cannot start, resume or go on (a diverged loss, a checkpoint of another run)."""
