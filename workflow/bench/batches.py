"""Images of one size reconstructed together, so that a GPU has enough to do; halved where memory does not suffice."""

import sys
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any

import torch

from bench.errors import UserError
from bench.items import Item, Source

Solve = Callable[[list[Item]], list[dict[str, Any]]]
"""A batch of items → their rows, in the same order; raises OutOfMemory."""


_NO_MEMORY = ("can't allocate memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
_NO_MEMORY += ("CUDNN_STATUS_ALLOC_FAILED", "CUFFT_ALLOC_FAILED")
"""Of a processor, of a GPU that another process has filled, and of its libraries."""


class OutOfMemory(UserError):
    """The device has too little memory for the items that were given at once."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch or the system had no memory left; often only the message says so."""
    return isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)) or any(s in str(error) for s in _NO_MEMORY)


class Batches:
    """Runs items in batches of at most `size`, which is halved, for the rest of the job, when memory runs out."""

    def __init__(self, size: int, solve: Solve) -> None:
        self.size, self.solve = size, solve

    def rows(self, sources: Iterable[Source]) -> Iterator[dict[str, Any]]:
        """The row of every item; with a size above 1 not in their order."""
        for group in self._groups(sources):
            done = 0
            while done < len(group):
                part = group[done : done + self.size]
                if (found := self._tried(part)) is not None:
                    yield from found
                    done += len(part)

    def _groups(self, sources: Iterable[Source]) -> Iterator[list[Item]]:
        """Items that have equal shapes and share an operator; they are made one by one."""
        waiting: dict[Hashable, list[Item]] = {}
        for _, make in sources:
            item = make()
            if item.alike is None or self.size == 1:
                yield [item]
                continue
            key = (item.alike, item.x.shape, item.y.shape, item.sigma)
            waiting.setdefault(key, []).append(item)
            if len(waiting[key]) >= self.size:
                yield waiting.pop(key)
        yield from waiting.values()

    def _tried(self, part: list[Item]) -> list[dict[str, Any]] | None:
        """The rows of a batch, or None if it was too large: the size is then halved."""
        try:
            return self.solve(part)
        except OutOfMemory:
            if len(part) == 1:
                raise
        # Only here the failed call's tensors are gone, which the exception had kept.
        self.size = len(part) // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        print(f"out of memory with {len(part)} images at once: going on with {self.size}", file=sys.stderr, flush=True)
        return None
