"""Loads a trained adapter with peft and compares with what the trainer made of it.

Usage: check_adapter.py MODEL ADAPTER LOGITS.json   (LOGITS.json from `cargo run -p trainer --example logits`)

Compares the prompt's tokens, every logit, and the greedily generated answer; fails on a relative error above 1e-4.
"""

import json
import sys

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

model_dir, adapter, logits = sys.argv[1:]
ours = json.load(open(logits))
tokenizer = AutoTokenizer.from_pretrained(model_dir)
base = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
model = PeftModel.from_pretrained(base, adapter).eval()

chat = [{"role": "user", "content": ours["question"]}]
text = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
ids = tokenizer(text, add_special_tokens=False)["input_ids"]
assert ids == ours["ids"], f"prompt tokens differ: {ids} and {ours['ids']}"

with torch.no_grad():
    theirs = model(input_ids=torch.tensor([ids])).logits[0]
    found = torch.tensor(ours["logits"])
    error = ((found - theirs).norm() / theirs.norm()).item()
    with model.disable_adapter():
        change = ((model(input_ids=torch.tensor([ids])).logits[0] - theirs).norm() / theirs.norm()).item()
    generated = model.generate(
        input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long), max_new_tokens=128,
        do_sample=False,
    )[0, len(ids):]
answer = tokenizer.decode(generated, skip_special_tokens=True)
print(json.dumps({
    "tensors": sum("lora_" in name for name, _ in model.named_parameters()),
    "tokens": len(ids),
    "relative_error": error,
    "max_abs_error": (found - theirs).abs().max().item(),
    "largest_logit": theirs.abs().max().item(),
    "change_by_adapter": change,
    "answer": answer,
    "same_answer": answer == ours["answer"],
}, ensure_ascii=False))
assert error < 1e-4 and answer == ours["answer"], "the adapter means something else in peft"
