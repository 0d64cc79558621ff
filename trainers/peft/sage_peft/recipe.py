"""recipe.json, as the studio writes it."""

import json
from dataclasses import dataclass, field, fields

from .events import TrainingError


@dataclass
class Recipe:
    """The fields of a fine-tune that matter here; the studio has checked their ranges."""

    method: str = "lora"
    objective: str = "sft"
    num_epochs: int = 3
    batch_size: int = 1
    gradient_accumulation_steps: int = 16
    learning_rate: float = 5e-5
    max_length: int = 1024
    load_in_8bit: bool = True
    load_in_4bit: bool = False
    gradient_checkpointing: bool = True
    loss: str | None = None
    lora_rank: int = 8
    lora_alpha: float = 16.0
    lora_targets: list[str] = field(default_factory=list)
    warmup_ratio: float = 0.03
    schedule: str = "cosine"
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    seed: int = 42
    validation_split: float = 0.0
    checkpoint_every_steps: int | None = None
    keep_checkpoints: int | None = None
    parallelism: str = "ddp"

    @classmethod
    def read(cls, path: str) -> "Recipe":
        try:
            with open(path, encoding="utf-8") as file:
                given = json.load(file)
            if given.get("kind") != "fine_tune":
                raise ValueError("it is not a fine-tune")
        except (OSError, ValueError) as error:
            raise TrainingError(
                "recipe-invalid", f"{path} 不是有效的配方：{error}", f"{path} is not a valid recipe: {error}"
            ) from error
        known = {f.name for f in fields(cls)}
        return cls(**{name: value for name, value in given.items() if name in known})

    @property
    def quantization_bits(self) -> int | None:
        if self.method == "full":
            return None
        return 4 if self.load_in_4bit else 8 if self.load_in_8bit else None

    @property
    def examples_per_step(self) -> int:
        """Over all GPUs: several share the work of a step, they do not make it larger."""
        return self.batch_size * self.gradient_accumulation_steps
