"""Several trainers, one batch: rows gathered with their gradients, and decisions taken together.

Each process holds a share of the P×K group. `gather_rows` gives every process the rows of all, so that
batch-hard mining and distance preservation see the whole group. Each then computes the same loss, whose
gradient flows only through its own rows; the sum over processes of these partial gradients is the gradient
of the whole group. DDP averages instead of summing, so a loss must be multiplied by `world_size()` before
`backward`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from accelerate.state import AcceleratorState
from torch import Tensor
from torch import distributed as dist

from vkd.io.errors import VKDError
from vkd.models.inference import resolve_device
from vkd.models.network import Output


def world_size() -> int:
    """Returns how many processes train together; 1 outside a launch."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Returns this process's number from 0; 0 also writes the files."""
    return dist.get_rank() if world_size() > 1 else 0


def gather_rows(rows: Tensor) -> Tensor:
    """Gathers rows (B, …) of each process to (world_size · B, …) in the order of ranks.

    Only this process's rows carry a gradient. Every process must hold the same number of rows.
    """
    if world_size() == 1:
        return rows
    parts = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(world_size())]
    dist.all_gather(parts, rows.detach().contiguous())
    parts[rank()] = rows
    return torch.cat(parts)


def gather_output(output: Output) -> Output:
    """Gathers embeddings and logits of all processes; the views, which no loss uses, stay local."""
    return Output(gather_rows(output.embedding), gather_rows(output.logits), output.views)


def any_rank(flag: bool, device: torch.device) -> bool:
    """Returns the logical OR of the flag over all processes, so that they act at the same step."""
    if world_size() == 1:
        return flag
    raised = torch.tensor(int(flag), device=device)
    dist.all_reduce(raised, op=dist.ReduceOp.MAX)
    return bool(raised.item())


def accelerator(device: str, precision: str, samples: int) -> Accelerator:
    """Sets up device, processes and precision. Raises VKDError for what this machine does not have.

    `device`: auto, cpu or cuda; `precision`: fp32, bf16 or fp16; `samples`: size of the group that the
    processes share.
    """
    cpu = resolve_device(device) == "cpu"
    if precision == "fp16" and cpu:
        raise VKDError("fp16 needs a CUDA device: choose precision bf16 or fp32.")
    forget_device()
    made = Accelerator(
        mixed_precision="no" if precision == "fp32" else precision,
        cpu=cpu,
        # The first process evaluates alone, and on a large benchmark the others wait for long.
        kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(hours=4))],
    )
    if samples % made.num_processes:
        raise VKDError(
            f"{samples} samples cannot be shared evenly by {made.num_processes} processes: change the batch "
            "or the processes."
        )
    return made


@contextmanager
def explain_oom(device: torch.device, doing: str, hint: str) -> Iterator[None]:
    """Raises VKDError for memory that runs out inside: where, doing what, and what to lower."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        words = str(error).lower()
        kinds = (torch.OutOfMemoryError, MemoryError)
        if not isinstance(error, kinds) and not any(word in words for word in _NO_MEMORY):
            raise
        where = "GPU" if device.type == "cuda" else "machine"
        raise VKDError(f"The {where} ran out of memory {doing}: {hint}.") from error


_NO_MEMORY = ("out of memory", "defaultcpuallocator")  # some libraries say it only in words


def device_name(device: torch.device) -> str:
    """Returns the GPU's name, or CPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()


def forget_device() -> None:
    """Resets accelerate, which keeps one device and precision for a process; each run here has its own."""
    AcceleratorState._reset_state(reset_partial_state=world_size() == 1)
