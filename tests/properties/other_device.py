"""A second device, made of the processor's own memory: what mixes the two fails as on a GPU.

Tensors on it report torch's device `meta` but hold numbers. An operation on tensors of both devices
raises, a tensor on it has no `numpy()`, and whatever is made `device="meta"` is on it.
"""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

NAME = "meta"


class OnDevice(torch.Tensor):
    """A tensor on the second device; `held` are its numbers."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> "OnDevice":
        made = torch.Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), dtype=held.dtype, device=NAME,
            storage_offset=held.storage_offset(), requires_grad=held.requires_grad,
        )  # fmt: skip
        made.held = held
        return made

    def __repr__(self, *_: Any, **__: Any) -> str:
        return f"OnDevice({self.held})"

    def tolist(self) -> Any:
        """Return the numbers, which torch copies from other devices, too."""
        return self.held.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})


class SecondDevice(TorchDispatchMode):
    """While it is entered, there is a second device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})


def run(func: Any, args: tuple, kwargs: dict) -> Any:
    """Run an operation where its tensors are; raises where they are on both devices."""
    tensors = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, torch.Tensor)]
    there = any(isinstance(x, OnDevice) for x in tensors)
    copies = func is torch.ops.aten.copy_.default
    if (
        there
        and not copies
        and (
            # numbers without dimensions may come from the processor
            lonely := [x for x in tensors if not isinstance(x, OnDevice) and x.dim()]
        )
    ):
        raise RuntimeError(f"{func}: a tensor of {tuple(lonely[0].shape)} is on the processor")
    asked = kwargs.get("device")
    if asked is not None:
        there = torch.device(asked).type == NAME
        kwargs = {**kwargs, "device": torch.device("cpu")}
    if copies:
        there = isinstance(args[0], OnDevice)

    def inner(x: Any) -> Any:
        return x.held if isinstance(x, OnDevice) else x

    found = func(*tree_map(inner, args), **tree_map(inner, kwargs))
    if func._schema.is_mutable and isinstance(args[0] if args else None, OnDevice):
        # written in place: the same tensor comes back
        return args[0] if isinstance(found, torch.Tensor) else found

    def outer(x: Any) -> Any:
        return OnDevice(x) if there and isinstance(x, torch.Tensor) else x

    return tree_map(outer, found)
