"""Measures PyTorch + PEFT with gradient checkpointing on a model folder, and prints the same JSON as the example.

Usage: throughput.py MODEL [--tokens 512] [--steps 4] [--threads 2] [--mode f32|bf16]
"""

import argparse
import json
import resource
import time
import warnings

import torch

warnings.filterwarnings("ignore")
from peft import LoraConfig, get_peft_model  # noqa: E402
from transformers import AutoModelForCausalLM  # noqa: E402
from transformers.utils import logging  # noqa: E402

logging.set_verbosity_error()
logging.disable_progress_bar()
parser = argparse.ArgumentParser()
parser.add_argument("model")
parser.add_argument("--tokens", type=int, default=512)
parser.add_argument("--steps", type=int, default=4)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--mode", choices=["f32", "bf16"], default="f32")
args = parser.parse_args()
if args.steps < 2:
    parser.error("--steps has to be 2 or more: the first is not counted")

torch.set_num_threads(args.threads)
torch.manual_seed(0)
dtype = torch.float32 if args.mode == "f32" else torch.bfloat16
model = AutoModelForCausalLM.from_pretrained(args.model, dtype=dtype, attn_implementation="sdpa")
targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
model = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules=targets, task_type="CAUSAL_LM"))
model.train()
model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
model.enable_input_require_grads()
model.config.use_cache = False
parameters = [p for p in model.parameters() if p.requires_grad]
optimizer = torch.optim.AdamW(parameters, lr=2e-4, weight_decay=0.0)
ids = torch.randint(0, model.config.vocab_size, (1, args.tokens))
labels = ids.clone()
labels[:, :16] = -100

seconds, losses, processor = [], [], []
for _ in range(args.steps):
    start = time.monotonic()
    loss = model(input_ids=ids, labels=labels).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    optimizer.zero_grad()
    losses.append(loss.item())
    seconds.append(time.monotonic() - start)
    processor.append(time.process_time())
steady = seconds[1:]
mean = sum(steady) / len(steady)
print(json.dumps({
    "engine": f"torch {torch.__version__} {args.mode}",
    "model": args.model,
    "tokens": args.tokens,
    "steps": args.steps,
    "threads": args.threads,
    "losses": losses,
    "tokens_per_second": args.tokens / mean,
    "seconds_per_step": mean,
    "fastest_step_seconds": min(seconds),
    "cpu_seconds_per_step": (processor[-1] - processor[0]) / (args.steps - 1),
    "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
}))
