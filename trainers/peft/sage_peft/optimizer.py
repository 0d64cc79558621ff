"""AdamW and the course of the learning rate."""

import math

import torch

# Numbers worked on at once, which bounds the 32-bit copies.
PIECE = 1 << 24


def adamw(parameters, weight_decay: float, seed: int) -> torch.optim.Optimizer:
    """torch's own where the parameters have 32 bits, else [RoundingAdamW]. Only matrices decay."""
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if all(p.dtype == torch.float32 for p in parameters):
        # Fused, because the other way works on copies.
        return torch.optim.AdamW(groups, lr=0.0, fused=parameters[0].is_cuda)
    return RoundingAdamW(groups, seed)


class RoundingAdamW(torch.optim.Optimizer):
    """AdamW for parameters of 16 bits that keeps its own numbers in 16 bits too: 4 bytes per parameter.

    A change far smaller than the last bit would be lost by rounding to the nearest number, and training would stand
    still. So the rounding is drawn, up or down in proportion to how near each is, and right on average. The draw
    follows from seed and step, so that a resumed training makes the same one.
    """

    def __init__(self, groups, seed: int):
        super().__init__(groups, {"lr": 0.0, "betas": (0.9, 0.999), "eps": 1e-8})
        self.seed = seed

    @torch.no_grad()
    def step(self, closure=None):
        generators = {}
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in (p for p in group["params"] if p.grad is not None):
                state = self.state[p]
                if not state:
                    state["step"] = torch.tensor(0.0)
                    state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(p), torch.zeros_like(p)
                state["step"] += 1
                step = int(state["step"])
                if p.device not in generators:
                    generators[p.device] = torch.Generator(p.device).manual_seed(self.seed * 1_000_003 + step)
                draw = generators[p.device]
                step_size = group["lr"] / (1 - beta1**step)
                root = math.sqrt(1 - beta2**step)
                keep = 1 - group["lr"] * group["weight_decay"]
                tensors = (_flat(t) for t in (p, p.grad, state["exp_avg"], state["exp_avg_sq"]))
                for p_, g_, m_, v_ in zip(*(t.split(PIECE) for t in tensors), strict=True):
                    g = g_.float()
                    m = m_.float().lerp_(g, 1 - beta1)
                    v = v_.float().mul_(beta2).addcmul_(g, g, value=1 - beta2)
                    round_into(m_, m, draw)
                    round_into(v_, v, draw)
                    change = m.div_(v.sqrt_().div_(root).add_(group["eps"]))
                    round_into(p_, p_.float().mul_(keep).sub_(change, alpha=step_size), draw)


def _flat(tensor):
    """The part of a tensor that is on this device, as a view in one dimension."""
    tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return tensor.view(-1)


def round_into(target, value, draw: torch.Generator):
    """Rounds 32-bit numbers up or down at random, right on average."""
    if target.dtype != torch.bfloat16:
        target.copy_(value)
        return
    # bfloat16 is the upper half of the 32 bits: what lies below is the chance to round away from zero.
    bits = value.view(torch.int32)
    noise = torch.randint(0, 1 << 16, bits.shape, dtype=torch.int32, device=bits.device, generator=draw)
    target.copy_(bits.add_(noise).bitwise_and_(-1 << 16).view(torch.float32))


def learning_rate(recipe, done: int, total: int) -> float:
    """Of the step after `done` of `total`."""
    warmup = math.ceil(recipe.warmup_ratio * total)
    if done < warmup:
        return recipe.learning_rate * (done + 1) / warmup
    progress = (done - warmup) / max(total - warmup, 1)
    falls = {
        "cosine": 0.5 * (1 + math.cos(math.pi * progress)),
        "linear": 1 - progress,
        "constant": 1.0,
    }
    return recipe.learning_rate * falls[recipe.schedule]
