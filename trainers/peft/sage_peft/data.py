"""From conversations to tokens, and which of them are answers. Masks the same tokens as the built-in trainer.

The studio has read the user's file, whatever its format, and hands over one JSON object per line:
`{"messages": […]}`, or for preferences `{"prompt": [messages], "chosen": "…", "rejected": "…"}`.
"""

import hashlib
import json
import random
import struct
from dataclasses import dataclass

import torch

from .events import TrainingError

# For models that have no template of their own.
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content']"
    " + '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


@dataclass
class Sequence:
    ids: list[int]
    # Which tokens belong to an answer, its end token included.
    answer: list[bool]

    def truncate(self, length: int) -> bool:
        """Cuts off what is beyond; false when no answer token remains to be predicted."""
        del self.ids[length:], self.answer[length:]
        return self.targets > 0

    @property
    def targets(self) -> int:
        """Tokens that are predicted: those of answers, but not the very first of all."""
        return sum(self.answer[1:])

    @property
    def needed_length(self) -> int | None:
        """The least max_length with which something of the answer remains."""
        return next((i + 1 for i in range(1, len(self.answer)) if self.answer[i]), None)


@dataclass
class Example:
    """What one row of the data set becomes: one sequence, or the chosen and the rejected one."""

    sequences: list[Sequence]
    # Of a preference: how likely the untrained model finds the two answers (log of the probability).
    reference: tuple[float, float] | None = None

    @property
    def length(self) -> int:
        return max(len(s.ids) for s in self.sequences)

    @property
    def tokens(self) -> int:
        return sum(len(s.ids) for s in self.sequences)

    @property
    def weight(self) -> int:
        """Its share in a step's mean loss: its answer tokens, or one preference."""
        return self.sequences[0].targets if len(self.sequences) == 1 else 1


class Encoder:
    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.added = set(tokenizer.added_tokens_decoder)
        try:
            self.template = tokenizer.get_chat_template()
        except ValueError:
            self.template = CHATML

    def example(self, row: dict, number: int) -> Example:
        """`number` names the row in errors, from 1."""
        try:
            if "messages" in row:
                return Example([self.encode(row["messages"])])
            answers = [{"role": "assistant", "content": row[which]} for which in ("chosen", "rejected")]
            return Example([self.encode([*row["prompt"], answer], first=len(row["prompt"])) for answer in answers])
        except ValueError as error:
            raise TrainingError(
                "chat-template",
                f"第 {number} 个样本无法套用模型的对话模板：{error}。请调整样本或换一个模型",
                f"example {number} does not work with the model's chat template: {error}. Change it or the model",
            ) from error

    def encode(self, messages: list[dict], first: int = 0) -> Sequence:
        """Answers before message `first` are not learnt from."""
        text = self.render(messages, False)
        answers = self.answers(messages, text, first)
        encoding = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, truncation=False)
        ids, offsets = encoding["input_ids"], encoding["offset_mapping"]
        answer = [any(a <= start and end <= b and start < b for a, b in answers) for start, end in offsets]
        for _, end in answers:
            # The token that ends the turn, if one follows with nothing but space between.
            after = next((i for i, (start, _) in enumerate(offsets) if start >= end), None)
            if after is not None and ids[after] in self.added and not text[end : offsets[after][0]].strip():
                answer[after] = True
        return Sequence(ids, answer)

    def render(self, messages: list[dict], prompt: bool) -> str:
        import jinja2

        try:
            return self.tokenizer.apply_chat_template(
                messages, chat_template=self.template, tokenize=False, add_generation_prompt=prompt
            )
        except jinja2.TemplateError as error:
            raise ValueError(str(error)) from error

    def answers(self, messages: list[dict], text: str, first: int) -> list[tuple[int, int]]:
        """Where the answers are: from where the model would be asked for one to its last character."""
        found = []
        for i, message in enumerate(messages):
            if message["role"] != "assistant" or i < first:
                continue
            prompt = self.render(messages[:i], True)
            if not text.startswith(prompt):
                raise ValueError(f"turn {i + 1} does not begin where the model would be asked for it")
            # Templates trim answers, and drop the reasoning of earlier ones.
            content = message["content"]
            visible = content.rsplit("</think>", 1)[-1].strip()
            for part in (content, content.strip(), visible):
                at = text.find(part, len(prompt))
                if at >= 0:
                    found.append((len(prompt), at + len(part)))
                    break
            else:
                raise ValueError(f"the answer in turn {i + 1} is not in the rendered text")
        return found


def read(path: str, encoder: Encoder, max_length: int) -> tuple[list[Example], int]:
    """The examples that fit, and how many do not."""
    examples, needed, count = [], [], 0
    with open(path, encoding="utf-8") as file:
        for count, line in enumerate(file, 1):
            example = encoder.example(json.loads(line), count)
            needed.append(max((s.needed_length or 0) for s in example.sequences))
            if all([s.truncate(max_length) for s in example.sequences]):
                examples.append(example)
    if count == 0:
        raise TrainingError("dataset-empty", "数据集为空", "the data set is empty")
    if not examples:
        least = min(n for n in needed)
        raise TrainingError(
            "max-length-too-short",
            f"所有 {count} 个样本的回答都被 max_length = {max_length} 截掉了。请至少设为 {least}",
            f"max_length = {max_length} cuts the whole answer off all {count} examples. Use at least {least}",
        )
    return examples, count - len(examples)


def hold_out(examples: list[Example], share: float, seed: int) -> tuple[list[Example], list[Example]]:
    """The examples to train on and those for validation; at least one is left to train on."""
    count = min(max(round(share * len(examples)), 1 if share > 0 else 0), len(examples) - 1)
    held = set(random.Random(f"{seed} validation").sample(range(len(examples)), count))
    kept = [example for i, example in enumerate(examples) if i not in held]
    return kept, [examples[i] for i in sorted(held)]


def order(count: int, seed: int, epoch: int) -> list[int]:
    indices = list(range(count))
    random.Random(f"{seed} epoch {epoch}").shuffle(indices)
    return indices


def digest(examples: list[Example]) -> str:
    """Of the tokens and what of them is learnt."""
    sha = hashlib.sha256()
    for sequence in (s for example in examples for s in example.sequences):
        sha.update(struct.pack("<I", len(sequence.ids)))
        sha.update(struct.pack(f"<{len(sequence.ids)}I", *sequence.ids))
        sha.update(bytes(sequence.answer))
    return sha.hexdigest()[:16]


@dataclass
class Batch:
    """Sequences of a micro-batch, padded on the right, where causal attention keeps the padding from being seen."""

    ids: torch.Tensor
    # Positions in the flattened batch whose next token is learnt, that token, and which sequence it is in.
    rows: torch.Tensor
    targets: torch.Tensor
    sequence: torch.Tensor

    @classmethod
    def of(cls, examples: list[Example], device: torch.device) -> "Batch":
        sequences = [s for example in examples for s in example.sequences]
        longest = max(len(s.ids) for s in sequences)
        # Tensor cores like multiples of 8.
        width = longest if device.type == "cpu" else -(-longest // 8) * 8
        ids = torch.zeros(len(sequences), width, dtype=torch.long)
        learnt = torch.zeros(len(sequences), width, dtype=torch.bool)
        for i, s in enumerate(sequences):
            ids[i, : len(s.ids)] = torch.tensor(s.ids)
            learnt[i, : len(s.ids)] = torch.tensor(s.answer)
        learnt[:, 0] = False
        positions = learnt.flatten().nonzero().squeeze(1)
        parts = ids, positions - 1, ids.flatten()[positions], positions // width
        return cls(*(part.to(device, non_blocking=True) for part in parts))
