"""The training loop."""

import contextlib
import math
import os
import time

import torch

from . import checkpoint, data, memory, model, optimizer
from .checkpoint import State
from .data import Batch, Example
from .events import Events, Stopped, TrainingError
from .parallel import Group
from .recipe import Recipe

# Of direct preference optimisation: how strongly the model is held near where it began.
BETA = 0.1


class Run:
    """A training with everything loaded.

    The loss of a step is the mean over all its answer tokens (or preferences), however they are divided into
    micro-batches and among processes.
    """

    def __init__(self, arguments, events: Events, stop):
        self.recipe = recipe = Recipe.read(arguments.recipe)
        self.output, self.folder, self.events, self.stop = arguments.output, arguments.model, events, stop
        self.group = Group.join()
        self.device = self.group.device
        if os.environ.get("CUDA_VISIBLE_DEVICES") and self.device.type == "cpu":
            raise TrainingError(
                "peft-gpu-not-usable",
                f"PyTorch {torch.__version__} 用不了分配到的 GPU：多半是驱动太旧。请升级驱动，或用 SAGE_TORCH_INDEX 选择适合旧驱动的 PyTorch",
                f"PyTorch {torch.__version__} cannot use the granted GPU, probably because the driver is too old for "
                "it. Update the driver, or choose an older CUDA with SAGE_TORCH_INDEX",
            )
        memory.enforce_grant(self.device)

        self.tokenizer = model.load_tokenizer(self.folder)
        examples, self.dropped = data.read(arguments.data, data.Encoder(self.tokenizer), recipe.max_length)
        self.examples, self.held_out = data.hold_out(examples, recipe.validation_split, recipe.seed)
        self.stop_here()

        torch.manual_seed(recipe.seed)
        self.dtype = model.precision(recipe, self.device)
        self.losses = model.load(recipe, self.folder, self.device, self.dtype)
        self.stop_here()
        self.sharded = recipe.parallelism == "fsdp" and self.group.count > 1
        if self.sharded:
            model.shard(self.losses, self.device, self.group.count)
        self.parameters = [p for p in self.losses.parameters() if p.requires_grad]
        if not self.sharded or recipe.method == "lora":
            self.group.same([p.data for p in self.parameters])
        self.optimizer = optimizer.adamw(self.parameters, recipe.weight_decay, recipe.seed)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)
        if recipe.objective == "dpo":
            self.refer()
        self.probed = self.probe()
        self.resume()

    def resume(self):
        recipe = self.recipe
        identity = {
            "method": recipe.method,
            "objective": recipe.objective,
            "seed": recipe.seed,
            "lora_rank": recipe.lora_rank,
            "lora_alpha": recipe.lora_alpha,
            "data set": data.digest(self.examples),
        }
        found = checkpoint.resume(self.output, self.losses.model, self.optimizer, identity, self.group)
        self.resumed_from = found.step if found else None
        self.state = found or State(identity=identity)
        # Counted from here on, because a step may have become a few examples larger after memory ran out.
        per_step = recipe.examples_per_step
        this_epoch = math.ceil((len(self.examples) - self.state.position) / per_step)
        later = math.ceil(len(self.examples) / per_step) * (recipe.num_epochs - self.state.epoch - 1)
        self.total_steps = self.state.step + max(0, this_epoch + later)
        if self.state.loss_scale:
            self.scaler.load_state_dict(self.state.loss_scale)

    def train(self):
        recipe, state = self.recipe, self.state
        trainable = sum(p.numel() for p in self.parameters)
        self.events.report(
            "start",
            total_steps=self.total_steps,
            total_epochs=recipe.num_epochs,
            examples=len(self.examples),
            validation_examples=len(self.held_out),
            dropped_examples=self.dropped,
            trainable_parameters=trainable,
            resumed_from_step=self.resumed_from,
        )
        self.events.say(
            f"开始训练：{len(self.examples)} 条样本，{recipe.num_epochs} 轮，{self.total_steps} 步，"
            f"可训练参数 {trainable}，精度 {self.dtype}，设备 {self.device} × {self.group.count}",
            f"training: {len(self.examples)} examples, {recipe.num_epochs} epochs, {self.total_steps} steps, "
            f"{trainable} trainable parameters, {self.dtype} on {self.device} × {self.group.count}",
        )
        if self.resumed_from is not None:
            self.events.say(
                f"从第 {self.resumed_from} 步的检查点继续", f"resumed from the checkpoint of step {self.resumed_from}"
            )
        self.events.report("probe", **self.probed)
        tokens, seconds = self.probed["tokens"], self.probed["seconds_per_step"]
        peak = memory.written(self.probed["peak_bytes"])
        self.events.say(
            f"试运行：最长的批次（{tokens} token）占用 {peak}，每步约 {seconds:.2f} 秒",
            f"probe: the longest batch ({tokens} tokens) takes {peak}; about {seconds:.2f} s a step",
        )
        while state.step < self.total_steps:
            try:
                self.step()
                last = state.step == self.total_steps
                improved = bool(self.held_out) and (last or state.position == 0) and self.evaluate()
            except Stopped:
                if state.step != (self.resumed_from or 0):
                    self.checkpoint()
                self.report_peak()
                self.events.say(f"已在第 {state.step} 步之后停止", f"stopped after step {state.step}")
                raise
            every = recipe.checkpoint_every_steps
            if last or improved or (state.step % every == 0 if every else state.position == 0):
                self.checkpoint()
        self.finish()

    def step(self):
        """Makes an optimizer step; [Stopped] when that is asked before its last micro-batch is done."""
        recipe, state = self.recipe, self.state
        began = self.now()
        order = data.order(len(self.examples), recipe.seed, state.epoch)
        end = min(state.position + recipe.examples_per_step, len(order))
        chosen = [self.examples[i] for i in order[state.position : end]]
        weight = sum(example.weight for example in chosen)

        total = torch.zeros((), device=self.device)
        for examples, counts in self.share(chosen):
            self.stop_here()
            total += self.backward(examples, counts / weight)
        self.gather_gradients()
        self.group.sum([total])
        self.scaler.unscale_(self.optimizer)
        grad_norm = self.clip(recipe.max_grad_norm)
        loss = float(total)
        # A scaled gradient that overflows is left out, and the scale made smaller.
        if not math.isfinite(loss) or not (math.isfinite(grad_norm) or self.scaler.is_enabled()):
            raise TrainingError(
                "loss-diverged",
                f"第 {state.step + 1} 步的 loss 不是有限的数（{loss}）。请减小学习率，或检查数据",
                f"the loss of step {state.step + 1} is not finite ({loss}). Use a smaller learning rate, or check the data",
            )
        rate = optimizer.learning_rate(recipe, state.step, self.total_steps)
        self.update(rate)

        state.step += 1
        state.loss, state.position = loss, end
        if end == len(order):
            state.position, state.epoch = 0, state.epoch + 1
        epoch = state.epoch + state.position / len(order)
        seconds = self.now() - began
        speed = sum(example.tokens for example in chosen) / seconds
        self.events.report(
            "step",
            step=state.step,
            epoch=epoch,
            loss=loss,
            learning_rate=rate,
            grad_norm=grad_norm,
            seconds=seconds,
            tokens_per_second=speed,
            memory_bytes=memory.resident(),
            device_bytes=memory.held(self.device),
        )
        line = (
            f"step {state.step}/{self.total_steps} epoch {epoch:.2f} loss {loss:.4f} lr {rate:.2e} {speed:.0f} tokens/s"
        )
        self.events.say(line, line)

    def share(self, examples: list[Example]) -> list[tuple[list[Example], int]]:
        """This process's micro-batches, each with 1 or, where it only keeps the others company, 0.

        Examples of like length go together, so that little is padded. Every process gets equally many.
        """
        count = self.group.count
        size = self.micro_batch(len(examples))
        by_length = sorted(examples, key=lambda example: example.length, reverse=True)
        batches = [by_length[i : i + size] for i in range(0, len(by_length), size)]
        own = [(batch, 1) for batch in batches[self.group.rank :: count]]
        rounds = math.ceil(len(batches) / count)
        return own + [(batches[-1][:1], 0)] * (rounds - len(own))

    def micro_batch(self, examples: int) -> int:
        """Examples at once on one GPU: no more than gives each something to do."""
        return min(self.recipe.batch_size, math.ceil(examples / self.group.count))

    def backward(self, examples: list[Example], factor: float) -> torch.Tensor:
        """Adds a micro-batch's gradients up and answers its part of the loss."""
        loss = self.loss(examples) * factor
        # Sharded gradients come out as the mean over the processes.
        mean = self.group.count if self.sharded and self.recipe.method == "full" else 1
        self.scaler.scale(loss * mean).backward()
        return loss.detach()

    def loss(self, examples: list[Example]) -> torch.Tensor:
        """Summed over the answer tokens, or over the preferences."""
        losses, batch = self.token_losses(examples)
        if self.recipe.objective == "sft":
            return losses.sum()
        sums = self.likelihoods(losses, batch)
        reference = torch.tensor([e.reference for e in examples], device=self.device).flatten()
        chosen, rejected = (sums - reference).view(-1, 2).unbind(1)
        return -torch.nn.functional.logsigmoid(BETA * (chosen - rejected)).sum()

    def token_losses(self, examples: list[Example]) -> tuple[torch.Tensor, Batch]:
        batch = Batch.of(examples, self.device)
        mixed = self.dtype != torch.float32 and self.recipe.method == "lora"
        with torch.autocast(self.device.type, self.dtype) if mixed else contextlib.nullcontext():
            return self.losses(batch), batch

    def likelihoods(self, losses: torch.Tensor, batch: Batch) -> torch.Tensor:
        """How likely each sequence's answer is, as log of the probability."""
        return losses.new_zeros(len(batch.ids)).index_add(0, batch.sequence, -losses)

    @torch.no_grad()
    def refer(self):
        """Notes how likely the model finds all answers before it is trained."""
        self.events.say("正在计算参考概率", "computing the reference probabilities")
        for examples in (self.examples, self.held_out):
            size = self.recipe.batch_size
            for start in range(0, len(examples), size):
                self.stop_here()
                few = examples[start : start + size]
                losses, batch = self.token_losses(few)
                sums = self.likelihoods(losses, batch).view(-1, 2).tolist()
                for example, pair in zip(few, sums, strict=True):
                    example.reference = tuple(pair)

    def gather_gradients(self):
        """Adds up over the processes what FSDP has not."""
        if not self.sharded or self.recipe.method == "lora":
            self.group.sum([p.grad for p in self.parameters])

    def clip(self, most: float) -> float:
        """Shrinks the gradients to this common norm (0: never) and answers the norm before."""
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, most or math.inf)
        return float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)

    def update(self, rate: float):
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    def probe(self) -> dict:
        """What the training will take: the longest micro-batch is computed twice and the optimizer's state made, which
        changes no parameter."""
        per_step = min(self.recipe.examples_per_step, len(self.examples))
        longest = sorted(self.examples, key=lambda example: example.length, reverse=True)[: self.micro_batch(per_step)]
        for _ in range(2):
            self.stop_here()
            began = self.now()
            self.backward(longest, 0.0)
            seconds = self.now() - began
        began = self.now()
        self.gather_gradients()
        self.optimizer.step()
        rest = self.now() - began
        self.optimizer.zero_grad(set_to_none=True)
        self.optimizer.state.clear()
        tokens = sum(example.tokens for example in longest)
        of_step = sum(example.tokens for example in self.examples) / len(self.examples) * per_step
        expected = seconds / tokens * of_step / self.group.count + rest
        return {"seconds_per_step": expected, "tokens": tokens, **memory.peaks(self.device)}

    def now(self) -> float:
        """When the device has done what it was told."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.monotonic()

    @torch.no_grad()
    def evaluate(self) -> bool:
        """Whether this is the lowest loss so far; a checkpoint has to be written then."""
        total = torch.zeros((), device=self.device)
        for examples, counts in self.share(self.held_out):
            self.stop_here()
            total += self.loss(examples) * counts
        self.group.sum([total])
        loss = float(total) / sum(example.weight for example in self.held_out)
        self.state.validation_loss = loss
        self.events.report("eval", step=self.state.step, loss=loss)
        self.events.say(
            f"验证：第 {self.state.step} 步，loss {loss:.4f}", f"validation: step {self.state.step} loss {loss:.4f}"
        )
        improved = math.isfinite(loss) and (not self.state.best or loss < self.state.best["loss"])
        if improved:
            self.state.best = {"step": self.state.step, "loss": loss}
        return improved

    def checkpoint(self):
        if self.scaler.is_enabled():
            self.state.loss_scale = self.scaler.state_dict()
        # A whole model's takes much room: the newest will do, besides the best.
        keep = self.recipe.keep_checkpoints or (1 if self.recipe.method == "full" else 2)
        path = checkpoint.write(self.output, self.losses.model, self.optimizer, self.state, self.group, keep)
        self.events.report("checkpoint", step=self.state.step, path=path)
        self.events.say(f"已保存检查点 {path}", f"saved checkpoint {path}")

    def finish(self):
        trained = self.losses.model
        tensors = {name: checkpoint.whole(p) for name, p in checkpoint.trained(trained).items()}
        result = self.output
        if self.recipe.method == "full":
            result = os.path.join(self.output, "model")
        if self.group.rank == 0 and self.recipe.method == "lora":
            checkpoint.write_trained(result, trained, tensors)
        elif self.group.rank == 0:
            trained.save_pretrained(result, state_dict=tensors)
            self.tokenizer.save_pretrained(result)
        self.group.wait()
        self.report_peak()
        best = self.state.best and {**self.state.best, "path": checkpoint.of_step(self.output, self.state.best["step"])}
        self.events.report("end", steps=self.state.step, loss=self.state.loss, adapter=result, best=best)
        if best and best["step"] < self.state.step:
            step, loss, path = best["step"], best["loss"], best["path"]
            self.events.say(
                f"验证 loss 最低的检查点在第 {step} 步（{loss:.4f}）：{path}",
                f"the checkpoint with the lowest validation loss is of step {step} ({loss:.4f}): {path}",
            )
        self.events.say(f"训练完成：{result}", f"done: {result}")
        self.group.leave()

    def report_peak(self):
        peaks = memory.peaks(self.device)
        self.events.report("memory", **peaks)
        written = memory.written(peaks["peak_bytes"])
        self.events.say(f"占用峰值 {written}", f"peak memory {written}")

    def stop_here(self):
        if self.group.any(bool(self.stop)):
            raise Stopped
