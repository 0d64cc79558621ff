//! What fits the detected devices: the banner's sentence, base models, warnings before a start.
//!
//! Texts and thresholds are those that clients of the first generation's API know.

use domain::{DeviceKind, DeviceMemory, DeviceState, Estimate, FineTune, Inventory, Reading, Warning};
use serde::Serialize;

const GIB: f64 = (1u64 << 30) as f64;

/// Answer of `GET /api/system/gpu-info`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GpuInfo {
    pub available: bool,
    pub count: usize,
    pub devices: Vec<GpuInfoDevice>,
    pub recommendation: String,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GpuInfoDevice {
    pub id: u32,
    pub name: String,
    /// The board's memory in GiB, to one decimal.
    pub memory_gb: f64,
}

impl GpuInfo {
    /// While detection has not answered yet.
    pub fn detecting() -> GpuInfo {
        GpuInfo::unavailable("正在检测 GPU...".into())
    }

    fn unavailable(recommendation: String) -> GpuInfo {
        GpuInfo { available: false, count: 0, devices: Vec::new(), recommendation }
    }
}

/// Usable GPUs and what to do with them. One that cannot be read is left out, because it can do nothing.
pub fn gpu_info(inventory: &Inventory) -> GpuInfo {
    let gpus: Vec<_> = usable_gpus(inventory).collect();
    let recommendation = match &gpus[..] {
        [] => match failure(inventory) {
            Some(text) => format!("GPU 检测失败: {text}"),
            None => "CPU 模式（不推荐微调）".into(),
        },
        [(gpu, memory)] => {
            let (name, shown, models) = (&gpu.device.name, shown(memory.total), Tier::of(memory).sentence());
            format!("{name} ({shown:.1}GB): {models}")
        }
        several => {
            let (count, total) = (several.len(), several.iter().map(|(_, memory)| memory.total).sum());
            let simulated = several.iter().any(|(gpu, _)| gpu.device.kind == DeviceKind::Simulated);
            let label = if simulated { "（模拟 GPU）" } else { "" };
            format!("检测到 {count} 块 GPU（总显存 {:.1}GB）：支持多卡并行训练{label}", shown(total))
        }
    };
    if gpus.is_empty() {
        return GpuInfo::unavailable(recommendation);
    }
    let device = |(gpu, memory): &(&Reading, DeviceMemory)| GpuInfoDevice {
        id: gpu.device.index,
        name: gpu.device.name.clone(),
        memory_gb: shown(memory.total),
    };
    GpuInfo { available: true, count: gpus.len(), devices: gpus.iter().map(device).collect(), recommendation }
}

fn usable_gpus(inventory: &Inventory) -> impl Iterator<Item = (&Reading, DeviceMemory)> {
    let usable = inventory.gpus().filter(|gpu| gpu.state == DeviceState::Usable);
    usable.filter_map(|gpu| Some((gpu, gpu.memory?)))
}

/// The usable GPU with the most memory; a task runs on one.
fn best_gpu(inventory: &Inventory) -> Option<DeviceMemory> {
    usable_gpus(inventory).map(|(_, memory)| memory).max_by_key(DeviceMemory::allocatable)
}

/// Why there is no GPU although there should be one.
fn failure(inventory: &Inventory) -> Option<&str> {
    let broken = inventory.gpus().find_map(|gpu| match &gpu.state {
        DeviceState::Unusable { zh, .. } => Some(zh.as_str()),
        DeviceState::Usable => None,
    });
    inventory.detection_error.as_deref().or(broken)
}

/// GiB as people see it, to one decimal.
fn shown(bytes: u64) -> f64 {
    (bytes as f64 / GIB * 10.0).round() / 10.0
}

/// Sizes of models that a card trains well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Tier {
    Least,
    From8,
    From12,
    From24,
}

impl Tier {
    /// By the memory on the box and by what of it a process can have.
    ///
    /// A card sold with 24 or 8 GB belongs to that tier although the driver keeps some of it. At 12 GB that would not
    /// do: the 3B model needs 11.5 GiB for 1024 tokens, and of 12 GB about 11.76 GiB can be had, with a desktop less.
    fn of(memory: &DeviceMemory) -> Tier {
        let allocatable = memory.allocatable() as f64 / GIB;
        let fits = |nominal: f64, needed: f64| shown(memory.total) >= nominal && allocatable >= needed;
        if fits(24.0, 22.0) {
            Tier::From24
        } else if fits(12.0, 12.0) {
            Tier::From12
        } else if fits(8.0, 7.0) {
            Tier::From8
        } else {
            Tier::Least
        }
    }

    fn sentence(self) -> &'static str {
        match self {
            Tier::From24 => "推荐 Qwen 2.5 Coder 7B 或 3B",
            Tier::From12 => "推荐 Qwen 2.5 Coder 3B 或 1.5B",
            Tier::From8 => "推荐 Qwen 2.5 Coder 1.5B（最佳平衡）或 0.5B（最快训练）",
            Tier::Least => "推荐 Qwen 2.5 Coder 0.5B",
        }
    }
}

/// Answer of `GET /api/finetune/models/base`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BaseModels {
    /// Those that fit the detected device, whatever it is; the name is what old pages read.
    pub recommended_for_rtx3060: Vec<BaseModel>,
    pub advanced_models: Vec<BaseModel>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BaseModel {
    /// Hub id.
    pub name: &'static str,
    /// Such as `1.5B`.
    pub size: &'static str,
    /// For 1024 tokens and a batch of 1, from chunked to plain loss.
    pub vram_required: &'static str,
    pub description: &'static str,
    pub training_time: &'static str,
    /// The least card for which it is the larger one recommended.
    #[serde(skip)]
    tier: Tier,
}

/// The catalogue, split at what fits the best GPU; the largest first. Without a GPU only the smallest fit.
pub fn base_models(inventory: &Inventory) -> BaseModels {
    let tier = best_gpu(inventory).map_or(Tier::Least, |memory| Tier::of(&memory));
    let (recommended_for_rtx3060, mut advanced_models): (Vec<_>, Vec<_>) =
        CATALOGUE.into_iter().partition(|model| model.tier <= tier);
    advanced_models.reverse();
    BaseModels { recommended_for_rtx3060, advanced_models }
}

const CATALOGUE: [BaseModel; 8] = [
    BaseModel {
        name: "Qwen/Qwen2.5-Coder-7B-Instruct",
        size: "7B",
        vram_required: "19-21GB",
        description: "代码能力最强，适合 24GB 及以上显存",
        training_time: "8-12小时 (1000样本)",
        tier: Tier::From24,
    },
    BaseModel {
        name: "Qwen/Qwen2.5-7B-Instruct",
        size: "7B",
        vram_required: "19-21GB",
        description: "通用对话效果最好，适合 24GB 及以上显存",
        training_time: "8-12小时 (1000样本)",
        tier: Tier::From24,
    },
    BaseModel {
        name: "Qwen/Qwen2.5-Coder-3B-Instruct",
        size: "3B",
        vram_required: "9-12GB",
        description: "代码能力较强，适合 16GB 显存",
        training_time: "4-6小时 (1000样本)",
        tier: Tier::From12,
    },
    BaseModel {
        name: "Qwen/Qwen2.5-3B-Instruct",
        size: "3B",
        vram_required: "9-12GB",
        description: "通用对话，效果与显存兼顾",
        training_time: "4-6小时 (1000样本)",
        tier: Tier::From12,
    },
    BaseModel {
        name: "Qwen/Qwen2.5-Coder-1.5B-Instruct",
        size: "1.5B",
        vram_required: "6-8GB",
        description: "代码专用，8-12GB 显存的最佳平衡",
        training_time: "2-4小时 (1000样本)",
        tier: Tier::From8,
    },
    BaseModel {
        name: "Qwen/Qwen2.5-1.5B-Instruct",
        size: "1.5B",
        vram_required: "6-8GB",
        description: "通用对话，占用显存少",
        training_time: "2-4小时 (1000样本)",
        tier: Tier::From8,
    },
    BaseModel {
        name: "Qwen/Qwen2.5-Coder-0.5B-Instruct",
        size: "0.5B",
        vram_required: "3-6GB",
        description: "代码专用，训练最快",
        training_time: "1-2小时 (1000样本)",
        tier: Tier::Least,
    },
    BaseModel {
        name: "Qwen/Qwen2.5-0.5B-Instruct",
        size: "0.5B",
        vram_required: "3-6GB",
        description: "通用对话，训练最快，适合试验",
        training_time: "1-2小时 (1000样本)",
        tier: Tier::Least,
    },
];

/// What the user should know before a fine-tune starts on these devices.
///
/// `estimate`: of the recipe, where its model is known to the estimator; else a guess by the model's name has to do.
pub fn preflight(recipe: &FineTune, inventory: &Inventory, estimate: Option<&Estimate>) -> Vec<Warning> {
    let Some(memory) = best_gpu(inventory) else {
        return vec![warning(
            "no-gpu",
            "⚠️ 未检测到 GPU，训练将非常缓慢".into(),
            "⚠️ No GPU was detected; training will be very slow".into(),
        )];
    };
    let have = memory.allocatable() as f64 / GIB;
    // What could never be granted is told by what would have to be.
    let known = estimate.map(|estimate| match estimate.grant_bytes > memory.allocatable() {
        true => (estimate.grant_bytes as f64 / GIB, true),
        false => (estimate.footprint_bytes as f64 / GIB, false),
    });
    let Some((need, too_large)) = known.or_else(|| Some((needed_gib(recipe)?, false))) else { return Vec::new() };
    if too_large || need > have * 0.9 {
        vec![
            warning(
                "oom-risk-high",
                format!("⚠️ OOM 风险高：预计需要 {need:.1}GB，但只有 {have:.1}GB 可用"),
                format!(
                    "⚠️ High risk of running out of memory: about {need:.1} GB needed, only {have:.1} GB available"
                ),
            ),
            warning(
                "oom-advice",
                "建议：减小 batch_size 或 max_length，或选择更小的模型".into(),
                "Use a smaller batch_size or max_length, or a smaller model".into(),
            ),
        ]
    } else if need > have * 0.7 {
        vec![warning(
            "oom-risk-medium",
            format!("⚠️ OOM 风险中：预计需要 {need:.1}GB，可用 {have:.1}GB"),
            format!("⚠️ Some risk of running out of memory: about {need:.1} GB needed, {have:.1} GB available"),
        )]
    } else {
        Vec::new()
    }
}

fn warning(code: &str, zh: String, en: String) -> Warning {
    Warning { code: code.into(), zh, en }
}

/// The first generation's guess: 4 GB per thousand million parameters, half of it in 8 bit, and half a GB for each
/// 1024 tokens of a batch. `None` for a model whose name does not tell its size.
fn needed_gib(recipe: &FineTune) -> Option<f64> {
    let per_billion = if recipe.load_in_8bit { 2.0 } else { 4.0 };
    let tokens = f64::from(recipe.batch_size) * f64::from(recipe.max_length);
    Some(billions(&recipe.model_name)? * per_billion + tokens / 1024.0 * 0.5)
}

/// Parameters in thousand millions from a name such as `Qwen/Qwen2.5-Coder-1.5B-Instruct` or `SmolLM2-135M`.
fn billions(name: &str) -> Option<f64> {
    let words = name.rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '.');
    words.into_iter().find_map(|word| {
        let (digits, unit) = word.split_at_checked(word.len().checked_sub(1)?)?;
        let factor = match unit {
            "b" | "B" => 1.0,
            "m" | "M" => 1e-3,
            _ => return None,
        };
        let starts_as_number = digits.starts_with(|c: char| c.is_ascii_digit());
        let number: f64 = digits.parse().ok().filter(|_| starts_as_number)?;
        (number > 0.0).then_some(number * factor)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::Device;

    const MIB: u64 = 1 << 20;

    fn gpu(name: &str, total_mib: u64, reserved_mib: u64) -> Reading {
        let (total, reserved) = (total_mib * MIB, reserved_mib * MIB);
        let memory = DeviceMemory { total, reserved: Some(reserved), used: 0, free: total - reserved };
        let device = Device::new(format!("GPU-{name}"), DeviceKind::Nvidia, 0, name);
        Reading::usable(device, memory, jiff::Timestamp::UNIX_EPOCH)
    }

    fn simulated(gib: u64) -> Reading {
        let mut reading = gpu("Simulated GPU 0", gib * 1024, 0);
        reading.device.kind = DeviceKind::Simulated;
        reading.memory.as_mut().unwrap().reserved = None;
        reading
    }

    fn broken(name: &str) -> Reading {
        let state = DeviceState::Unusable { code: "gpu-lost".into(), zh: "已断开。".into(), en: "lost.".into() };
        Reading { state, memory: None, ..gpu(name, 0, 0) }
    }

    fn cpu() -> Reading {
        let mut reading = gpu("Some CPU", 64 * 1024, 0);
        reading.device.kind = DeviceKind::Cpu;
        reading
    }

    fn inventory(devices: Vec<Reading>) -> Inventory {
        Inventory { taken_at: jiff::Timestamp::UNIX_EPOCH, devices, findings: Vec::new(), detection_error: None }
    }

    #[test]
    fn the_documented_example_comes_out_to_the_letter() {
        let info = gpu_info(&inventory(vec![gpu("NVIDIA GeForce RTX 3060", 12288, 245)]));
        let json = serde_json::to_string(&info).unwrap();
        let recommendation =
            "NVIDIA GeForce RTX 3060 (12.0GB): 推荐 Qwen 2.5 Coder 1.5B（最佳平衡）或 0.5B（最快训练）";
        assert_eq!(
            json,
            format!(
                r#"{{"available":true,"count":1,"devices":[{{"id":0,"name":"NVIDIA GeForce RTX 3060","memory_gb":12.0}}],"recommendation":"{recommendation}"}}"#
            )
        );
    }

    #[test]
    fn every_card_gets_the_row_of_the_table_that_its_box_names() {
        let row = |reading| gpu_info(&inventory(vec![reading])).recommendation;
        // Totals and reserved parts as drivers report them.
        for (name, total, reserved, expected) in [
            ("GTX 1060 6GB", 6144, 160, "推荐 Qwen 2.5 Coder 0.5B"),
            ("RTX 3070", 8192, 233, "推荐 Qwen 2.5 Coder 1.5B（最佳平衡）或 0.5B（最快训练）"),
            ("RTX 3080", 10240, 240, "推荐 Qwen 2.5 Coder 1.5B（最佳平衡）或 0.5B（最快训练）"),
            ("Tesla T4", 15360, 440, "推荐 Qwen 2.5 Coder 3B 或 1.5B"),
            ("RTX 4080", 16376, 400, "推荐 Qwen 2.5 Coder 3B 或 1.5B"),
            ("A10", 23028, 480, "推荐 Qwen 2.5 Coder 3B 或 1.5B"),
            ("RTX 3090", 24576, 320, "推荐 Qwen 2.5 Coder 7B 或 3B"),
            ("RTX 4090", 24564, 450, "推荐 Qwen 2.5 Coder 7B 或 3B"),
            ("L40S", 46068, 600, "推荐 Qwen 2.5 Coder 7B 或 3B"),
            ("RTX A6000", 49140, 600, "推荐 Qwen 2.5 Coder 7B 或 3B"),
            ("H100", 81559, 700, "推荐 Qwen 2.5 Coder 7B 或 3B"),
        ] {
            let sentence = row(gpu(name, total, reserved));
            assert!(sentence.ends_with(&format!("GB): {expected}")), "{sentence}");
        }
        // Where nothing is reserved the table's own numbers are the borders.
        for (gib, expected) in [(7, "0.5B"), (8, "1.5B（最"), (11, "1.5B（最"), (12, "3B"), (23, "3B"), (24, "7B")]
        {
            let sentence = row(simulated(gib));
            let start = format!("Simulated GPU 0 ({gib}.0GB): 推荐 Qwen 2.5 Coder {expected}");
            assert!(sentence.starts_with(&start), "{sentence}");
        }
    }

    #[test]
    fn several_gpus_are_added_up_and_simulated_ones_say_so() {
        let mixed = vec![gpu("A", 12288, 245), gpu("B", 24564, 450), broken("C")];
        let info = gpu_info(&inventory(mixed));
        assert_eq!((info.count, info.devices.len()), (2, 2));
        assert_eq!(info.recommendation, "检测到 2 块 GPU（总显存 36.0GB）：支持多卡并行训练");
        let info = gpu_info(&inventory(vec![simulated(24), simulated(24)]));
        assert_eq!(info.recommendation, "检测到 2 块 GPU（总显存 48.0GB）：支持多卡并行训练（模拟 GPU）");
    }

    #[test]
    fn without_a_gpu_it_says_why() {
        let info = gpu_info(&inventory(vec![cpu()]));
        assert_eq!(info, GpuInfo::unavailable("CPU 模式（不推荐微调）".into()));

        let failed = Inventory { detection_error: Some("驱动未加载。".into()), ..inventory(vec![cpu()]) };
        assert_eq!(gpu_info(&failed), GpuInfo::unavailable("GPU 检测失败: 驱动未加载。".into()));

        let info = gpu_info(&inventory(vec![broken("A")]));
        assert_eq!(info, GpuInfo::unavailable("GPU 检测失败: 已断开。".into()));
    }

    #[test]
    fn base_models_follow_the_best_device() {
        let names = |devices| {
            let models = base_models(&inventory(devices));
            let sizes = |models: &[BaseModel]| models.iter().map(|model| model.size).collect::<Vec<_>>();
            (sizes(&models.recommended_for_rtx3060), sizes(&models.advanced_models))
        };
        assert_eq!(names(vec![cpu()]), (vec!["0.5B"; 2], vec!["1.5B", "1.5B", "3B", "3B", "7B", "7B"]));
        let small = gpu("RTX 3060", 12288, 245);
        assert_eq!(names(vec![small.clone()]).0, ["1.5B", "1.5B", "0.5B", "0.5B"]);
        assert_eq!(
            names(vec![small, simulated(24)]),
            (vec!["7B", "7B", "3B", "3B", "1.5B", "1.5B", "0.5B", "0.5B"], vec![],)
        );
    }

    #[test]
    fn warnings_have_the_known_form() {
        let zh = |model: &str, in_8bit, batch_size, devices| {
            let recipe =
                FineTune { model_name: model.into(), load_in_8bit: in_8bit, batch_size, ..FineTune::default() };
            let warnings = preflight(&recipe, &inventory(devices), None);
            warnings.into_iter().map(|warning| warning.zh).collect::<Vec<_>>()
        };
        let seven = "Qwen/Qwen2.5-Coder-7B-Instruct";
        assert_eq!(zh(seven, true, 1, vec![simulated(24)]), [] as [&str; 0]);
        assert_eq!(zh(seven, true, 1, vec![simulated(20)]), ["⚠️ OOM 风险中：预计需要 14.5GB，可用 20.0GB"]);
        assert_eq!(
            zh(seven, true, 1, vec![gpu("RTX 3060", 12288, 245)])[0],
            "⚠️ OOM 风险高：预计需要 14.5GB，但只有 11.8GB 可用"
        );
        assert_eq!(zh(seven, false, 4, vec![simulated(24)])[0], "⚠️ OOM 风险高：预计需要 30.0GB，但只有 24.0GB 可用");
        assert_eq!(zh(seven, true, 1, vec![cpu()]), ["⚠️ 未检测到 GPU，训练将非常缓慢"]);
        assert_eq!(zh("my-model", true, 1, vec![simulated(1)]), [] as [&str; 0], "no guess without a size");
    }

    #[test]
    fn the_estimate_is_believed_before_the_name() {
        let shape = crate::catalogue::shape("Qwen/Qwen2.5-7B-Instruct").unwrap();
        let recipe = FineTune {
            model_name: "my-70b".into(),
            trainer: Some(domain::TrainerKind::Peft),
            load_in_8bit: false,
            ..FineTune::default()
        };
        let configuration = crate::estimate::Configuration::of(&recipe);
        let estimate = crate::estimate::estimate(shape, &configuration, None);
        let (footprint, grant) = (estimate.footprint_bytes as f64 / GIB, estimate.grant_bytes as f64 / GIB);
        let zh = |gib| {
            let warnings = preflight(&recipe, &inventory(vec![simulated(gib)]), Some(&estimate));
            warnings.into_iter().map(|warning| warning.zh).next()
        };
        assert_eq!(zh(80), None);
        let medium = (grant.ceil()) as u64;
        assert!(footprint < medium as f64 * 0.9);
        assert_eq!(zh(medium).unwrap(), format!("⚠️ OOM 风险中：预计需要 {footprint:.1}GB，可用 {medium}.0GB"));
        let small = medium - 2;
        assert_eq!(zh(small).unwrap(), format!("⚠️ OOM 风险高：预计需要 {grant:.1}GB，但只有 {small}.0GB 可用"));
    }

    #[test]
    fn sizes_are_read_from_names() {
        for (name, expected) in [
            ("Qwen/Qwen2.5-Coder-0.5B-Instruct", Some(0.5)),
            ("/cache/models--Qwen--Qwen2.5-1.5B/snapshots/abc", Some(1.5)),
            ("qwen3-4b", Some(4.0)),
            ("HuggingFaceTB/SmolLM2-135M", Some(0.135)),
            ("Qwen/Qwen3-30B-A3B", Some(30.0)),
            ("org/model", None),
            ("Qwen2.5-B", None),
            ("infB", None),
            ("模型", None),
        ] {
            assert_eq!(billions(name), expected, "{name}");
        }
    }
}
