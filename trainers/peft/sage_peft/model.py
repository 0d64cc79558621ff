"""From a model's folder to a module that trains as the recipe says."""

import torch

from .events import TrainingError
from .loss import TokenLosses, chunks_well
from .recipe import Recipe


def precision(recipe: Recipe, device: torch.device) -> torch.dtype:
    """Of the weights. 16 bits without bfloat16 need a loss scale and 32-bit trained weights, as adapters have."""
    if device.type == "cpu":
        return torch.float32
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    return torch.float32 if recipe.method == "full" else torch.float16


def load_tokenizer(folder: str):
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise TrainingError(
            "tokenizer",
            f"无法读取 {folder} 的分词器：{error}。请重新下载模型",
            f"the tokenizer in {folder} cannot be read: {error}. Fetch the model again",
        ) from error
    if not tokenizer.is_fast:
        raise TrainingError(
            "tokenizer",
            f"{folder} 没有 tokenizer.json，无法确定哪些词元属于回答。请用 tokenizers 库另存分词器",
            f"{folder} has no tokenizer.json, so answers cannot be told from prompts. Save it with the `tokenizers` library",
        )
    return tokenizer


def load(recipe: Recipe, folder: str, device: torch.device, dtype: torch.dtype) -> TokenLosses:
    """Only safetensors are read, and no code of the model's own is run."""
    from transformers import AutoModelForCausalLM

    sharded = recipe.parallelism == "fsdp" and torch.distributed.is_initialized()
    options = {}
    if recipe.quantization_bits:
        if sharded:
            raise TrainingError(
                "setting-invalid",
                "FSDP 不能切分量化后的模型。请改用 parallelism = ddp，或关闭 load_in_8bit 和 load_in_4bit",
                "FSDP cannot share out a quantised model. Use parallelism = ddp, or switch load_in_8bit and "
                "load_in_4bit off",
            )
        options["quantization_config"] = _quantization(recipe.quantization_bits, dtype)
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            # Shared out layer by layer later: the whole need not fit on one device.
            device_map={"": "cpu" if sharded else device},
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            **options,
        )
    except (ValueError, KeyError) as error:
        raise TrainingError(
            "architecture-not-supported",
            f"无法载入 {folder} 的模型：{error}",
            f"the model in {folder} cannot be loaded: {error}",
        ) from error
    except OSError as error:
        raise TrainingError(
            "model-file-damaged",
            f"无法读取 {folder} 的模型文件：{error}。只接受 safetensors 权重",
            f"the model files in {folder} cannot be read: {error}. Only safetensors weights are accepted",
        ) from error
    if recipe.method == "lora":
        model = _with_adapters(model, recipe)
    if recipe.gradient_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    model.train()
    base = model.get_base_model() if recipe.method == "lora" else model
    # Fused kernels would need a compiler on the machine; chunks need as little memory.
    kind = "hf" if recipe.loss == "hf" or not chunks_well(base) else "chunked"
    return TokenLosses(model, kind)


def _quantization(bits: int, dtype: torch.dtype):
    from transformers import BitsAndBytesConfig

    if bits == 8:
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def _with_adapters(model, recipe: Recipe):
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=recipe.lora_rank,
        lora_alpha=recipe.lora_alpha,
        target_modules=recipe.lora_targets or _projections(model),
        lora_dropout=0.0,
        bias="none",
        task_type="CAUSAL_LM",
    )
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        raise TrainingError(
            "setting-invalid",
            f"该模型没有 lora_targets 中的模块：{error}。留空则使用全部投影层",
            f"the model has no modules as in lora_targets: {error}. Leave it empty to take all projections",
        ) from error


def _projections(model) -> list[str]:
    """Every projection of a layer, whatever the family calls them."""
    head = model.get_output_embeddings()
    linear = (name for name, m in model.named_modules() if isinstance(m, torch.nn.Linear) and m is not head)
    return sorted({name.rsplit(".", 1)[-1] for name in linear})


def shard(losses: TokenLosses, device: torch.device, count: int):
    """Gives each process a part of every layer. Adapters are small: each process keeps them whole."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    mesh = init_device_mesh(device.type, (count,))
    adapters = {p for p in losses.parameters() if p.requires_grad} if hasattr(losses.model, "peft_config") else set()
    for p in adapters:
        p.data = p.data.to(device)
    options = {
        "mesh": mesh,
        "mp_policy": MixedPrecisionPolicy(reduce_dtype=torch.float32),
        "ignored_params": adapters,
    }
    base = losses.base
    for layer in getattr(base, base.base_model_prefix).layers:
        fully_shard(layer, **options)
    # The whole, so that embedding and head are gathered for the loss as well.
    fully_shard(losses, **options)
