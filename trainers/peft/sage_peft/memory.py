"""What the training may hold of the device, what it does hold, and how running out is recognised."""

import os

import torch

# The driver's context and the libraries' own memory, which torch does not count.
CONTEXT = 768 << 20


def enforce_grant(device: torch.device):
    """torch fails an allocation beyond the grant instead of taking what others were promised."""
    grant = os.environ.get("SAGE_GRANT_BYTES")
    if grant and device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        share = (int(grant) - CONTEXT) / total
        torch.cuda.set_per_process_memory_fraction(min(max(share, 0.0), 1.0), device)


def held(device: torch.device) -> int | None:
    """Device memory held now, in bytes; on the CPU none."""
    return torch.cuda.memory_reserved(device) + CONTEXT if device.type == "cuda" else None


def peaks(device: torch.device) -> dict:
    """The most ever held where the grant is, and the most that was in use of it; the latter only on a GPU."""
    if device.type == "cuda":
        return {
            "peak_bytes": torch.cuda.max_memory_reserved(device) + CONTEXT,
            "allocated_bytes": torch.cuda.max_memory_allocated(device),
        }
    return {"peak_bytes": _of_process("VmHWM"), "allocated_bytes": None}


def resident() -> int:
    """Host memory of this process, in bytes."""
    return _of_process("VmRSS")


def written(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB" if size >= 1 << 30 else f"{size / (1 << 20):.0f} MiB"


def _of_process(name: str) -> int:
    try:
        with open("/proc/self/status") as file:
            line = next(line for line in file if line.startswith(name + ":"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration, ValueError):
        return 0


def ran_out(error: BaseException) -> str | None:
    """The code of an error that means there was not enough memory."""
    if isinstance(error, torch.OutOfMemoryError):
        return "out-of-device-memory"
    said = str(error)
    if isinstance(error, MemoryError) or "can't allocate memory" in said:
        return "out-of-host-memory"
    # Libraries that allocate past torch's allocator.
    signs = ("CUDA error: out of memory", "CUDA out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "HIP out of memory")
    return "out-of-device-memory" if any(sign in said for sign in signs) else None
