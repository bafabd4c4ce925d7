"""One process's share of a batch, and numbers of the whole batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from flowpose.errors import TrainingError
from flowpose.ranks.connection import connected

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

Rows = TypeVar("Rows", "Tensor", "NDArray[Any]")


@dataclass(frozen=True)
class Share:
    """Which examples of a whole batch are this process's: number `rank`, and every `world`-th after it."""

    rank: int = 0
    world: int = 1

    @property
    def main(self) -> bool:
        """Whether this process writes and shows."""
        return self.rank == 0

    def of(self, whole: Rows, group: int = 1) -> Rows:
        """The own rows of all; `group` consecutive ones stay together."""
        if self.world == 1:
            return whole
        units = whole.reshape((len(whole) // group, group, *whole.shape[1:]))[self.rank :: self.world]
        return units.reshape((len(units) * group, *whole.shape[1:]))

    def after(self, first: int) -> Share:
        """The share of the examples from number `first` on."""
        return Share((self.rank - first) % self.world, self.world)

    def count(self, whole: int) -> int:
        """How many of the first `whole` examples are this process's."""
        return len(range(self.rank, whole, self.world))

    def weight(self, whole: int) -> float:
        """What a mean over the own ones of `whole` examples counts beside other processes' means; 1 in the mean."""
        return self.count(whole) * self.world / whole

    def mean(self, own: Tensor) -> Tensor:
        """The mean over all processes of a tensor, without gradient.

        Raises:
            TrainingError: the other processes were lost.
        """
        own = own.detach()
        if self.world == 1:
            return own
        import torch.distributed as dist

        total = own.float().clone()
        with connected():
            dist.all_reduce(total)
        return total / self.world

    def gathered(self, own: Tensor, group: int = 1) -> Tensor:
        """The rows of all processes in the batch's order; all have equally many.

        The own ones have `world` times their gradient: a loss of all rows is then the same number everywhere, and the
        mean of what every process makes of its own rows is its gradient.

        Raises:
            TrainingError: the other processes were lost.
        """
        if self.world == 1:
            return own
        import torch
        import torch.distributed as dist

        plain = own.detach().contiguous()
        parts = [torch.empty_like(plain) for _ in range(self.world)]
        with connected():
            dist.all_gather(parts, plain)
        parts[self.rank] = plain + self.world * (own - plain)
        units = torch.stack([part.reshape(-1, group, *own.shape[1:]) for part in parts], dim=1)
        return units.flatten(0, 2)

    def even(self, where: str, batch: int, group: int = 1) -> None:
        """Nothing.

        Raises:
            TrainingError: the batch does not divide by the number of processes.
        """
        if max(1, batch // group) % self.world:
            raise TrainingError(
                where, "the batch does not divide by the processes", got=f"{self.world} processes",
                expected=dividing(batch, group), fix="start another number of processes",
            )  # fmt: skip


WHOLE = Share()
"""All of a batch: the share of a process that is alone."""


def dividing(batch: int, group: int = 1) -> str:
    """The numbers of processes that a batch can be divided by, `group` examples staying together, as a text."""
    units = max(1, batch // group)
    fitting = ", ".join(str(number) for number in range(1, units + 1) if units % number == 0)
    together = f" in groups of {group}" if group > 1 else ""
    return f"one of {fitting} for a batch of {batch}{together}"
