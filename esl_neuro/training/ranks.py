"""The processes that train one run together, and what they tell each other.

Each process has a rank, holds the whole network, and computes with its share of every batch. What they tell each other
is added in the order of their ranks, so that sums have the same bits in every process and in every repetition, and
those of one process that adds the shares one after the other. Texts travel as bytes, never as pickles.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from esl_neuro.errors import BadInput, CheckFailed, EslNeuroError, ToldElsewhere, counted
from esl_neuro.launch import launch

T = TypeVar("T")

PATIENCE = timedelta(minutes=10)
"""How long a process waits for the others before it gives up."""


@dataclass(frozen=True)
class Ranks:
    """The place of this process among those that train a run; by default, it is the only one.

    Attributes
    ----------
    rank, count : int
        Its number, from 0, and how many there are.
    local_rank, local_count : int
        The same on its machine.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    local_count: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes the files of the run."""
        return self.rank == 0

    # What they tell each other.

    def each(self, values: Tensor) -> Tensor:
        """Return the values of all processes, shape (processes, *values)."""
        if self.count == 1:
            return values[None]
        rows = [torch.empty_like(values) for _ in range(self.count)]
        with self.talking():
            dist.all_gather(rows, values.contiguous())
        return torch.stack(rows)

    def total(self, values: Tensor) -> Tensor:
        """Return the sum over all processes, of the same shape, added in the order of the ranks.

        Each process adds its part of the numbers, and all exchange their parts: so many bytes as an all-reduce sends,
        whose order would depend on the library and the number of processes.
        """
        if self.count == 1:
            return values
        length = values.numel()
        padded = values.new_zeros(-(-length // self.count) * self.count)
        padded[:length] = values.reshape(-1)
        received = torch.empty_like(padded)
        with self.talking():
            dist.all_to_all_single(received, padded)
            own, *others = received.view(self.count, -1)
            for other in others:
                own += other
            dist.all_gather(list(padded.chunk(self.count)), own)
        return padded[:length].view(values.shape)

    def joint_total(self, values: Tensor) -> Tensor:
        """Return :meth:`total` with gradients: the objective is the sum of those of all processes."""
        if self.count == 1:
            return values
        result: Tensor = _Total.apply(values, self)  # type: ignore[no-untyped-call]
        return result

    def texts(self, text: str) -> list[str]:
        """Return the texts of all processes."""
        content = text.encode()
        lengths = self.each(torch.tensor(len(content)))
        padded = bytearray(content.ljust(int(lengths.max()) + 1))  # a tensor cannot be made of nothing
        rows = self.each(torch.frombuffer(padded, dtype=torch.uint8))
        return [bytes(row[:length].tolist()).decode() for row, length in zip(rows, lengths.tolist(), strict=True)]

    def any(self, flag: bool) -> bool:
        """Return whether the flag of any process is set."""
        return flag if self.count == 1 else bool(self.each(torch.tensor(flag)).any())

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by the sum over all processes."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if self.count == 1 or not gradients:
            return
        total = self.total(torch.cat([gradient.reshape(-1) for gradient in gradients]))
        parts = total.split([gradient.numel() for gradient in gradients])  # type: ignore[no-untyped-call]
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view(gradient.shape))

    # What they do together.

    def together(self, action: Callable[[], T]) -> T:
        """Do something that involves no other process; if it fails in one, it fails in all.

        Raises
        ------
        EslNeuroError
            That of the first process in which it failed; the first process of all tells it.
        """
        result, error = None, None
        try:
            result = action()
        except EslNeuroError as raised:
            error = raised
        if self.count > 1:
            told = self.texts("" if error is None else json.dumps([type(error).__name__, str(error)]))
            failed = next((rank for rank, text in enumerate(told) if text), None)
            if failed is not None:
                error = self._told(failed, *json.loads(told[failed])) if failed or error is None else error
                raise self.agreed(error)
        elif error is not None:
            raise error
        return result  # type: ignore[return-value]  # it was set

    def on_first(self, action: Callable[[], T]) -> T | None:
        """Do something in the first process only, and return its result there; if it fails, it fails in all."""
        return self.together(lambda: action() if self.first else None)

    def agreed(self, error: EslNeuroError) -> EslNeuroError:
        """Return an error that all processes raise: as it is in the first one, which prints it."""
        return error if self.first else ToldElsewhere(error.exit_code)

    def refuse_differing(self, what: Mapping[str, str]) -> None:
        """Reject processes that do not have the same of everything named here.

        Raises
        ------
        CheckFailed
            With the first process that differs from the first one, and in what.
        """
        if self.count == 1:
            return
        first, *others = [json.loads(text) for text in self.texts(json.dumps(dict(what)))]
        for rank, other in enumerate(others, start=1):
            differing = [
                f"{name} ({other.get(name)} and {value})" for name, value in first.items() if other.get(name) != value
            ]
            if differing:
                raise self.agreed(
                    CheckFailed(
                        f"processes 0 and {rank} of this run differ in {', '.join(differing)}; use the same "
                        "installation and files on every machine, and continue from the last checkpoint"
                    )
                )

    def _told(self, rank: int, kind: str, message: str) -> EslNeuroError:
        kinds = {each.__name__: each for each in (CheckFailed, BadInput)}
        return kinds.get(kind, CheckFailed)(f"process {rank}: {message}")

    @contextmanager
    def talking(self) -> Iterator[None]:
        """Report in one line that others have ended during a ``with`` block."""
        try:
            yield
        except RuntimeError as error:
            lost = CheckFailed(
                f"process {self.rank}: another process of this run has ended, or did not answer within "
                f"{PATIENCE.seconds // 60} minutes; continue from the last checkpoint"
            )
            raise self.agreed(lost) from error


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        return ranks.total(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.ranks.total(gradients[0]), None


ALONE = Ranks()


def join_ranks(device: str) -> Ranks:
    """Find the other processes that torchrun started; without it, this process is alone.

    They talk through gloo, and on GPUs, of which each process has its own, through NCCL.

    Parameters
    ----------
    device : str
        Where the run trains, ``"cpu"`` or ``"cuda"``.

    Raises
    ------
    BadInput
        If there are fewer GPUs than processes on this machine.
    """
    here = launch()
    if here.processes == 1:
        return ALONE
    devices = torch.cuda.device_count() if device == "cuda" else None
    if devices is not None and 0 < devices < here.local_processes:
        raise BadInput(
            f"training.device: 'cuda' needs a GPU for each process, but this machine has {counted(devices, 'GPU')} for "
            f"{here.local_processes} processes; start at most {devices} with --nproc-per-node"
        )
    ranks = Ranks(here.rank, here.processes, here.local_rank, here.local_processes)
    if not dist.is_initialized():
        if devices:
            torch.cuda.set_device(here.local_rank)
        with ranks.talking():
            store, *_ = next(rendezvous("env://", timeout=PATIENCE))
            # torch 2.13 keeps the addresses of processes that have ended, to which restarted ones would then connect.
            own = PrefixStore(f"start {here.restarts}", store)
            backend = "cpu:gloo,cuda:nccl" if devices else "gloo"
            dist.init_process_group(backend, store=own, rank=here.rank, world_size=here.processes, timeout=PATIENCE)
    return ranks


def digest(states: Sequence[Mapping[str, Tensor]]) -> str:
    """Return a short name of the exact content of tensors."""
    content = hashlib.blake2b(digest_size=8)
    for state in states:
        for name in sorted(state):
            value = state[name].detach().cpu().contiguous()
            content.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            content.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return content.hexdigest()
