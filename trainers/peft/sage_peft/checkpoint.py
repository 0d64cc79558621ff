"""Checkpoints: everything that training needs to go on as if it had never stopped.

checkpoints/step-N holds tensors as safetensors and the rest as JSON. Nothing that is read can run code.
"""

import copy
import json
import os
import re
import shutil
from dataclasses import asdict, dataclass, field

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from .events import TrainingError

STATE = "trainer_state.json"
OPTIMIZER = "optimizer.safetensors"
ADAPTER = "adapter_model.safetensors"
MODEL = "model.safetensors"
MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass
class State:
    """Where training stands. The order of the examples follows from seed and epoch, the rate from the step."""

    step: int = 0
    epoch: int = 0
    # Examples of the epoch that were trained on.
    position: int = 0
    loss: float | None = None
    validation_loss: float | None = None
    # Step and loss of the checkpoint with the lowest validation loss so far.
    best: dict | None = None
    # Of 16-bit training without bfloat16.
    loss_scale: dict | None = None
    # What has to be the same for the numbers to be the same. Micro-batches and GPUs only divide a step's work.
    identity: dict = field(default_factory=dict)


def folder(output: str) -> str:
    return os.path.join(output, "checkpoints")


def of_step(output: str, step: int) -> str:
    return os.path.join(folder(output), f"step-{step}")


def trained(model) -> dict[str, torch.nn.Parameter]:
    """The trained parameters by their names in files."""
    return {name.replace(".default", ""): p for name, p in model.named_parameters() if p.requires_grad}


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """On the host, gathered from the processes that share it."""
    tensor = tensor.detach()
    tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return tensor.cpu().contiguous()


def put(into: torch.Tensor, tensor: torch.Tensor):
    if hasattr(into, "device_mesh"):
        from torch.distributed.tensor import distribute_tensor

        shared = distribute_tensor(tensor.to(into.device, into.dtype), into.device_mesh, into.placements)
        into.to_local().copy_(shared.to_local())
    else:
        into.copy_(tensor)


def write(output: str, model, optimizer, state: State, group, keep: int) -> str:
    """Writes checkpoints/step-N and drops the oldest beyond `keep`, the best one excepted.

    All processes call it; the first one writes.
    """
    path = of_step(output, state.step)
    parameters = trained(model)
    tensors = {name: whole(p) for name, p in parameters.items()}
    moments = {
        f"{name}.{moment}": whole(optimizer.state[p][moment])
        for name, p in parameters.items()
        for moment in MOMENTS
        if p in optimizer.state
    }
    if group.rank == 0:
        unfinished = f"{path}.tmp"
        shutil.rmtree(unfinished, ignore_errors=True)
        os.makedirs(unfinished)
        write_trained(unfinished, model, tensors)
        _save(moments, os.path.join(unfinished, OPTIMIZER))
        with open(os.path.join(unfinished, STATE), "w") as file:
            json.dump(asdict(state), file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        shutil.rmtree(path, ignore_errors=True)
        os.rename(unfinished, path)
        for step, old in found(output)[:-keep]:
            if not state.best or step != state.best["step"]:
                shutil.rmtree(old)
    group.wait()
    return path


def write_trained(into: str, model, tensors: dict[str, torch.Tensor]):
    """An adapter in PEFT's layout, or a model's weights."""
    if hasattr(model, "peft_config"):
        _save(tensors, os.path.join(into, ADAPTER))
        config = copy.copy(model.peft_config["default"])
        config.inference_mode, config.target_modules = True, sorted(config.target_modules)
        config.save_pretrained(into)
    else:
        _save(tensors, os.path.join(into, MODEL))


def _save(tensors: dict[str, torch.Tensor], path: str):
    """Whole or not at all."""
    save_file(tensors, f"{path}.tmp", metadata={"format": "pt"})
    with open(f"{path}.tmp", "rb") as file:
        os.fsync(file.fileno())
    os.rename(f"{path}.tmp", path)


def found(output: str) -> list[tuple[int, str]]:
    """The complete checkpoints, oldest first."""
    try:
        names = os.listdir(folder(output))
    except FileNotFoundError:
        return []
    steps = (re.fullmatch(r"step-(\d+)", name) for name in names)
    return sorted((int(m[1]), os.path.join(folder(output), m[0])) for m in steps if m)


def resume(output: str, model, optimizer, identity: dict, group) -> State | None:
    """Puts the newest sound checkpoint's numbers in place; none if there is no checkpoint."""
    failure = None
    for step, path in reversed(found(output)):
        try:
            state, tensors, moments = _read(path)
        except (OSError, ValueError, TypeError, SafetensorError) as error:
            # A damaged one: an older one may be sound.
            failure = failure or (path, error)
            continue
        _compare(path, state.identity, identity)
        _put_all(path, model, optimizer, state, tensors, moments)
        # Where a damaged newer one knew a better one, this one's best is gone.
        if state.best and not os.path.isdir(of_step(output, state.best["step"])):
            state.best = None
        # What lies beyond is of a course that is not taken again.
        if group.rank == 0:
            for later, beyond in found(output):
                if later > step:
                    shutil.rmtree(beyond)
        group.wait()
        return state
    if failure:
        path, error = failure
        raise TrainingError(
            "checkpoint-mismatch",
            f"检查点 {path} 已损坏：{error}。删除它即可重新开始",
            f"the checkpoint {path} is damaged: {error}. Delete it to begin afresh",
        )
    return None


def _read(path: str):
    with open(os.path.join(path, STATE)) as file:
        state = State(**json.load(file))
    weights = next(p for p in (os.path.join(path, name) for name in (ADAPTER, MODEL)) if os.path.exists(p))
    return state, load_file(weights), load_file(os.path.join(path, OPTIMIZER))


def _compare(path: str, there: dict, now: dict):
    for what, value in now.items():
        if there.get(what) != value:
            raise TrainingError(
                "checkpoint-mismatch",
                f"检查点 {path} 属于另一次训练：{what} 为 {there.get(what)}，现在是 {value}。改回原值，或删除该检查点重新开始",
                f"the checkpoint {path} is of another training: {what} is {there.get(what)} there and {value} now. "
                "Restore it, or delete the checkpoint to begin afresh",
            )


@torch.no_grad()
def _put_all(path: str, model, optimizer, state: State, tensors, moments):
    parameters = trained(model)
    shapes = {name: tuple(p.shape) for name, p in parameters.items()}
    if shapes != {name: tuple(tensor.shape) for name, tensor in tensors.items()}:
        raise TrainingError(
            "checkpoint-mismatch",
            f"检查点 {path} 的参数与模型不符。换回原来的模型，或删除该检查点重新开始",
            f"the parameters in checkpoint {path} are not those of the model. Take the model it was made with, or "
            "delete the checkpoint to begin afresh",
        )
    for name, p in parameters.items():
        put(p, tensors[name])
        if f"{name}.{MOMENTS[0]}" not in moments:
            continue
        optimizer.state[p] = {"step": torch.tensor(float(state.step), device=_of_step(optimizer, p))}
        for moment in MOMENTS:
            optimizer.state[p][moment] = torch.zeros_like(p)
            put(optimizer.state[p][moment], moments[f"{name}.{moment}"])


def _of_step(optimizer, parameter) -> torch.device:
    """Fused kernels count steps where the parameter is."""
    fused = any(group.get("fused") for group in optimizer.param_groups)
    return parameter.device if fused else torch.device("cpu")
