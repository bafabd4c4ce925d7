"""Inputs and outputs of what PyTorch runs: their forms, and tensors that stay in one place on the device."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowpose.errors import BackendError
from flowpose.runtime.backend import Held, Tensors
from flowpose.runtime.device_copies import DeviceCopies
from flowpose.runtime.machine import driver_identity

ABOUT = "flowpose"  # the entry of a file's metadata
CPU, CUDA = "cpu", "cuda"
NO_ROOM = "close what else uses the GPU's memory"


@dataclass(frozen=True)
class Port:
    """An input or output: its name, NumPy's name of its type, its sizes."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.dtype}{list(self.shape)}"


@dataclass(frozen=True)
class About:
    """What a file that was built for PyTorch says of itself.

    Attributes:
        inputs, outputs: in the order in which the code takes and gives them.
        device: cpu or cuda.
        threads: CPU threads that the code was made for; a GPU's code has none.
        torch: version that it was built with.
    """

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    device: str
    threads: int
    torch: str

    def text(self) -> str:
        """Returns it as JSON."""
        return json.dumps(asdict(self))


def read_about(path: Path, metadata: Mapping[str, Any]) -> About:
    """Returns what the metadata of a file say; BackendError where flowpose has not written them."""
    if ABOUT not in metadata:
        fix = f"make it again on this machine: flowpose compile {path.parent}"
        raise BackendError(
            path, "was not built by flowpose", got=", ".join(metadata) or "no metadata", fix=fix
        )
    fields = json.loads(metadata[ABOUT])
    for each in ("inputs", "outputs"):
        fields[each] = tuple(Port(it["name"], it["dtype"], tuple(it["shape"])) for it in fields[each])
    return About(**fields)


class Inputs:
    """Tensors on the device that every run reads; they are filled, never replaced.

    Attributes:
        tensors: in the ports' order.
        sent: how many arrays have been copied from the CPU's memory into them.
    """

    def __init__(self, path: Path, ports: Sequence[Port], device: str) -> None:
        self._path, self._ports, self.sent = path, {port.name: port for port in ports}, 0
        pinned = device == CUDA  # page-locked memory is what a GPU reads while the CPU goes on
        self._host = {port.name: _tensor(port, CPU, pinned) for port in ports}
        self._device = {name: host.to(device) for name, host in self._host.items()}
        self.tensors = list(self._device.values())
        self._held, self._copies = Held(), DeviceCopies[Tensor]()

    def give(self, inputs: Tensors) -> None:
        """Copies every input, but a read-only array that is the one given last under its name: that is there already.

        A GPU keeps such arrays of earlier runs, too (`DeviceCopies`): people may take turns.

        Raises:
            BackendError: other names, types or sizes.
        """
        self._check(inputs)
        with self._held.missing(inputs) as missing:
            for name, value in missing.items():
                if self._device[name] is self._host[name] or value.flags.writeable:
                    self._send(name, value)
                else:
                    self._device[name].copy_(self._copies.of(value, partial(self._sent_copy, name)))

    def _send(self, name: str, value: NDArray[Any]) -> None:
        np.copyto(self._host[name].numpy(), value)
        if self._device[name] is not self._host[name]:
            self._device[name].copy_(self._host[name], non_blocking=True)
        self.sent += 1

    def _sent_copy(self, name: str, value: NDArray[Any]) -> Tensor:
        self._send(name, value)
        return self._device[name].clone()

    def _check(self, inputs: Tensors) -> None:
        if set(inputs) != set(self._ports):
            got, expected = ", ".join(sorted(inputs)), ", ".join(sorted(self._ports))
            raise BackendError(self._path, "the graph has other inputs", got=got, expected=expected)
        for name, port in self._ports.items():
            value: Any = inputs[name]
            form = (str(value.dtype), value.shape) if isinstance(value, np.ndarray) else None
            if form != (port.dtype, port.shape):
                got = f"{form[0]}{list(form[1])}" if form else type(value).__name__
                raise BackendError(self._path, f"wrong input '{name}'", got=got, expected=str(port))


def _tensor(port: Port, device: str, pinned: bool) -> Tensor:
    return torch.zeros(port.shape, dtype=getattr(torch, port.dtype), device=device, pin_memory=pinned)


def copies(path: Path, ports: Sequence[Port], made: Sequence[Tensor]) -> dict[str, NDArray[Any]]:
    """Returns the outputs by name, in arrays of their own and in their ports' types.

    Raises:
        BackendError: other sizes than the ports'.
    """
    found = {}
    for port, tensor in zip(ports, made, strict=True):
        value = tensor.detach().to(getattr(torch, port.dtype)).cpu().numpy()
        if value.shape != port.shape:
            got = f"{value.dtype}{list(value.shape)}"
            raise BackendError(path, f"another output '{port.name}'", got=got, expected=str(port))
        found[port.name] = np.array(value)
    return found


def gpu_identity() -> dict[str, str]:
    """Returns what code for a GPU depends on.

    The keys: `gpu`, its name; `sm`, `8.7`; `sms`, multiprocessors switched on; `cuda`, the newest that the driver runs;
    `driver`, its version, where the kernel tells it.

    Raises:
        BackendError: there is no GPU, or PyTorch is a build for the CPU.
    """
    if not torch.cuda.is_available():
        raise BackendError("torch", "sees no GPU", fix="install the driver, and a build of torch for CUDA")
    found = torch.cuda.get_device_properties(0)
    newest = int(torch._C._cuda_getDriverVersion())  # type: ignore[attr-defined]  # 12060 is 12.6
    return {
        "gpu": found.name,
        "sm": f"{found.major}.{found.minor}",
        "sms": str(found.multi_processor_count),
        "cuda": f"{newest // 1000}.{newest % 1000 // 10}",
        **driver_identity(),
    }


def open_fix(error: RuntimeError, otherwise: str) -> str:
    """Returns what mends that torch could not open a file: memory where the GPU has none left, else what is given."""
    return NO_ROOM if isinstance(error, torch.OutOfMemoryError) else otherwise


@contextmanager
def exact_products() -> Iterator[None]:
    """Within the block cuBLAS and cuDNN compute fp32 products in fp32, as the other backends do; never in TF32.

    For whatever compiles or records work for a GPU: kernels are chosen then, and a replay chooses none. The switches
    are the process's own, so they are put back.
    """
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = False
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before
