"""How unlikely a model finds the tokens that it should predict, without ever holding all logits."""

import torch
import torch.nn.functional as F

from .data import Batch

# Tokens whose logits are held at once.
CHUNK = 256


class LinearCrossEntropy(torch.autograd.Function):
    """Cross-entropy (nats) of `hidden @ weight.T` against `targets`, one figure per row, a few hundred rows at a time.

    A frozen weight's gradient for `hidden` is made on the way forward, so its logits are computed once. For a trained
    weight they are computed again on the way back, because its gradient needs to know how each row is weighted.
    """

    @staticmethod
    def forward(ctx, hidden, weight, targets, grad_enabled):
        losses = torch.empty(len(targets), dtype=torch.float32, device=hidden.device)
        trained = ctx.needs_input_grad[1]
        early = grad_enabled and not trained and ctx.needs_input_grad[0]
        gradient = torch.empty_like(hidden) if early else None
        for start in range(0, len(targets), CHUNK):
            rows = slice(start, start + CHUNK)
            logits = _logits(hidden[rows], weight)
            normaliser = logits.logsumexp(-1)
            losses[rows] = normaliser - logits.gather(1, targets[rows, None]).squeeze(1)
            if early:
                gradient[rows] = _of_logits(logits, normaliser, targets[rows]).to(weight.dtype) @ weight
            del logits
        ctx.early = early
        if early:
            ctx.save_for_backward(gradient)
        else:
            ctx.save_for_backward(hidden, weight, targets)
        return losses

    @staticmethod
    def backward(ctx, of_losses):
        if ctx.early:
            (gradient,) = ctx.saved_tensors
            # In 32 bits, because one factor applies to all rows and its error would not average out.
            return (gradient * of_losses[:, None]).to(gradient.dtype), None, None, None
        hidden, weight, targets = ctx.saved_tensors
        of_hidden = torch.empty_like(hidden)
        of_weight = torch.zeros_like(weight)
        for start in range(0, len(targets), CHUNK):
            rows = slice(start, start + CHUNK)
            logits = _logits(hidden[rows], weight)
            gradient = _of_logits(logits, logits.logsumexp(-1), targets[rows])
            gradient = gradient.mul_(of_losses[rows, None]).to(weight.dtype)
            of_hidden[rows] = gradient @ weight
            of_weight.addmm_(gradient.T, hidden[rows].to(weight.dtype))
            del logits, gradient
        return of_hidden, of_weight, None, None


def _logits(hidden, weight):
    return (hidden.to(weight.dtype) @ weight.T).float()


def _of_logits(logits, normaliser, targets):
    """Probabilities, less 1 where the target is; in place."""
    probabilities = logits.sub_(normaliser[:, None]).exp_()
    probabilities.scatter_add_(1, targets[:, None], probabilities.new_full((len(targets), 1), -1.0))
    return probabilities


def chunks_well(model) -> bool:
    """The logits are the last layer's product and nothing else."""
    head, config = model.get_output_embeddings(), model.config
    scaled = [getattr(config, name, None) for name in ("final_logit_softcapping", "logit_scale", "logits_scaling")]
    plain_weight = isinstance(head, torch.nn.Linear) and type(head.weight) is torch.nn.Parameter
    return plain_weight and head.bias is None and all(factor in (None, 1, 1.0) for factor in scaled)


class TokenLosses(torch.nn.Module):
    """A causal model that answers the loss of each learnt token of a batch."""

    def __init__(self, model, kind: str):
        super().__init__()
        self.model = model
        self.chunked = kind == "chunked"

    @property
    def base(self):
        """The transformers model, below the adapters if it has some."""
        return self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model

    def forward(self, batch: Batch) -> torch.Tensor:
        base = self.base
        if not self.chunked:
            logits = base(input_ids=batch.ids, use_cache=False).logits.flatten(0, 1)
            return F.cross_entropy(logits[batch.rows].float(), batch.targets, reduction="none")
        decoder = getattr(base, base.base_model_prefix)
        hidden = decoder(input_ids=batch.ids, use_cache=False).last_hidden_state.flatten(0, 1)[batch.rows]
        return LinearCrossEntropy.apply(
            hidden, base.get_output_embeddings().weight, batch.targets, torch.is_grad_enabled()
        )
