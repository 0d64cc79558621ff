"""This process among those that train together, one per GPU. Without CUDA they run on the CPU."""

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist


@dataclass
class Group:
    """This process among those that train together; alone it is the first of one."""

    rank: int
    count: int
    device: torch.device

    @classmethod
    def join(cls) -> "Group":
        count, rank = int(os.environ.get("SAGE_GPUS", "1")), int(os.environ.get("SAGE_PEFT_RANK", "0"))
        cuda = torch.cuda.is_available()
        device = torch.device("cuda", rank) if cuda else torch.device("cpu")
        if cuda:
            torch.cuda.set_device(device)
        if count > 1:
            if not cuda:
                torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // count))
            # What is agreed on the host must not wait for the GPU.
            backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
            meeting = f"file://{os.environ['SAGE_PEFT_MEETING']}"
            dist.init_process_group(backend, init_method=meeting, rank=rank, world_size=count)
        return cls(rank, count, device)

    def any(self, flag: bool) -> bool:
        """Whether it is so in any of the processes."""
        if self.count == 1:
            return flag
        flags = torch.tensor(int(flag))
        dist.all_reduce(flags, dist.ReduceOp.MAX)
        return bool(flags)

    def sum(self, tensors: list[torch.Tensor]):
        """Adds up what each process has, in place."""
        if self.count > 1:
            for work in [dist.all_reduce(tensor, async_op=True) for tensor in tensors]:
                work.wait()

    def same(self, tensors: list[torch.Tensor]):
        """Gives all processes what the first has."""
        if self.count > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)

    def wait(self):
        if self.count > 1:
            dist.all_reduce(torch.zeros(1))

    def leave(self):
        if self.count > 1:
            dist.destroy_process_group()
