"""A tiny random model and its data, made by the studio once per run."""

import functools
import json
import os
import subprocess
import tempfile

SAGE = os.environ["SAGE_BIN"]
FOLDER = tempfile.TemporaryDirectory(prefix="sage-peft-tests-")

PAIRS = [
    ("What is a plan?", "A plan says which tasks start now."),
    ("What is a grant?", "The devices and bytes promised to an attempt."),
    ("什么是任务？", "任务是用户请求的一次微调。"),
    ("What is a reading?", "What was measured of a device at one moment."),
    ("Who writes the exit record?", "The supervisor does."),
    ("什么是适配器？", "适配器是训练得到的低秩矩阵。"),
    ("Which cards are used?", "Those that were granted, and no other."),
    ("When does a task wait?", "When there is not enough free memory. The reason says how much is missing."),
    ("What is kept?", "The two newest checkpoints."),
    ("What does a trainer do?", "It trains one recipe, tells how it goes, and saves when it is asked to stop."),
]


def path(name: str) -> str:
    return os.path.join(FOLDER.name, name)


@functools.cache
def model() -> str:
    subprocess.run([SAGE, "model", "make-tiny", path("model")], check=True, stdout=subprocess.DEVNULL)
    return path("model")


def write(name: str, rows: list[dict]) -> str:
    with open(path(name), "w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return path(name)


@functools.cache
def examples() -> str:
    """As `sage peft` hands them over."""
    turns = [[{"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a in PAIRS]
    return write("examples.jsonl", [{"messages": pair} for pair in turns])


@functools.cache
def alpaca() -> str:
    return write("alpaca.jsonl", [{"instruction": q, "input": "", "output": a} for q, a in PAIRS])


@functools.cache
def preferences() -> str:
    others = PAIRS[1:] + PAIRS[:1]
    rows = [{"prompt": q, "chosen": a, "rejected": b} for (q, a), (_, b) in zip(PAIRS, others, strict=True)]
    return write("preferences.jsonl", rows)
