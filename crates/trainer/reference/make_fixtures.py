"""Writes ../tests/fixtures: models, batches, and PyTorch's loss and LoRA gradients for them.

Usage: make_fixtures.py   (needs torch, transformers, peft, safetensors)
"""

import json
import shutil
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import (
    AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM,
)

OUT = Path(__file__).parent.parent / "tests" / "fixtures"
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
SHAPE = dict(
    vocab_size=160, hidden_size=48, intermediate_size=80, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=256,
)


def qwen2():
    """Tied head, biases, f32, rope_theta where transformers 5 writes it."""
    config = Qwen2Config(**SHAPE, tie_word_embeddings=True, rope_parameters={"rope_type": "default", "rope_theta": 1e6})
    return Qwen2ForCausalLM(config), torch.float32, {}


def qwen3():
    """Head norms, heads wider than hidden / heads, a head of its own, bf16, several shards."""
    config = Qwen3Config(
        **SHAPE, head_dim=16, tie_word_embeddings=False, rope_parameters={"rope_type": "default", "rope_theta": 1e6}
    )
    return Qwen3ForCausalLM(config), torch.bfloat16, {"max_shard_size": "60KB"}


def llama():
    """No biases, llama3 rope scaling, f16, rope where transformers 4 wrote it."""
    scaling = dict(
        rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64
    )
    config = LlamaConfig(**SHAPE, tie_word_embeddings=False, rope_parameters={"rope_theta": 10000.0, **scaling})
    return LlamaForCausalLM(config), torch.float16, {}


def as_transformers_4(path):
    config = json.loads(path.read_text())
    scaling = config.pop("rope_parameters")
    config["rope_theta"] = scaling.pop("rope_theta")
    config["rope_scaling"] = scaling
    config["torch_dtype"] = config.pop("dtype")
    path.write_text(json.dumps(config, indent=2) + "\n")


def spread(model):
    """Weights wide enough that every part matters."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.normal_(1.0, 0.2)
            elif name.endswith("bias"):
                parameter.normal_(0.0, 0.2)
            else:
                parameter.normal_(0.0, parameter.shape[-1] ** -0.5)


def batch(generator):
    """Three sequences of different lengths, each with a prompt, one with two answers."""
    examples = []
    for length, answers in [(70, [(20, 70)]), (33, [(5, 9), (21, 33)]), (12, [(1, 12)])]:
        ids = torch.randint(0, SHAPE["vocab_size"], (length,), generator=generator).tolist()
        answer = [any(a <= i < b for a, b in answers) for i in range(length)]
        examples.append({"ids": ids, "answer": answer})
    return examples


def padded(examples):
    width = max(len(e["ids"]) for e in examples)
    rows = [
        (
            e["ids"] + [0] * (width - len(e["ids"])),
            [i if a else -100 for i, a in zip(e["ids"], e["answer"])] + [-100] * (width - len(e["ids"])),
            [1] * len(e["ids"]) + [0] * (width - len(e["ids"])),
        )
        for e in examples
    ]
    return [torch.tensor(column) for column in zip(*rows)]


def main():
    for make in [qwen2, qwen3, llama]:
        torch.manual_seed(0)
        out = OUT / make.__name__
        shutil.rmtree(out, ignore_errors=True)
        model, dtype, options = make()
        spread(model)
        model.to(dtype).save_pretrained(out, **options)
        # The weights as they are in the files, widened.
        model = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32, attn_implementation="eager")
        lora = LoraConfig(r=4, lora_alpha=6, target_modules=TARGETS, task_type="CAUSAL_LM", bias="none")
        model = get_peft_model(model, lora)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_" in name:
                    parameter.normal_(0.0, 0.1)
        model.save_pretrained(out / "adapter")
        path = out / "adapter" / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": None}, indent=2) + "\n")
        for unneeded in [out / "generation_config.json", out / "adapter" / "README.md"]:
            unneeded.unlink(missing_ok=True)
        if make is llama:
            as_transformers_4(out / "config.json")

        examples = batch(torch.Generator().manual_seed(1))
        (out / "batch.json").write_text(json.dumps(examples) + "\n")
        ids, labels, mask = padded(examples)
        model.train()
        result = model(input_ids=ids, labels=labels, attention_mask=mask)
        result.loss.backward()
        expected = {
            name.replace(".default", ""): parameter.grad.contiguous()
            for name, parameter in model.named_parameters() if parameter.requires_grad
        }
        expected["loss"] = result.loss.detach().reshape(1)
        save_file(expected, out / "expected.safetensors")
        print(make.__name__, "loss", result.loss.item(), "gradients", len(expected) - 1)


main()
