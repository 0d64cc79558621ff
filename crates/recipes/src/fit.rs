//! Whether a fine-tune fits the devices, and what near it would.

mod recommend;

use domain::{DeviceId, Estimate, FineTune, Inventory, Loss, Method, Reading, TrainerKind, gib};

pub use recommend::{MethodKind, Recommendation, recommend};

/// The answer to "will it fit".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub fit: Fit,
    /// One sentence with the numbers.
    pub zh: String,
    pub en: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fit {
    Now,
    /// Once others have given back what they hold.
    WhenFree,
    Never,
    /// The model or the devices are not known.
    Unknown,
}

impl Fit {
    pub fn as_str(self) -> &'static str {
        match self {
            Fit::Now => "fits_now",
            Fit::WhenFree => "fits_when_free",
            Fit::Never => "does_not_fit",
            Fit::Unknown => "unknown",
        }
    }
}

/// Whether so many devices have room for the grant each.
///
/// `promised`: bytes of a device that are free by measurement, but promised to tasks that have not used them yet.
pub fn verdict(
    estimate: Option<&Estimate>,
    gpus: u32,
    inventory: &Inventory,
    promised: &dyn Fn(&DeviceId) -> u64,
) -> Verdict {
    let devices: Vec<&Reading> = inventory.devices.iter().filter(|reading| reading.is_usable()).collect();
    verdict_on(estimate, gpus, &devices, promised)
}

pub(crate) fn verdict_on(
    estimate: Option<&Estimate>,
    gpus: u32,
    devices: &[&Reading],
    promised: &dyn Fn(&DeviceId) -> u64,
) -> Verdict {
    let answer = |fit, zh: String, en: String| Verdict { fit, zh, en };
    let Some(estimate) = estimate else {
        return answer(
            Fit::Unknown,
            "模型下载之前无法估算所需内存".into(),
            "how much the model needs is not known before it is fetched".into(),
        );
    };
    let needed = estimate.grant_bytes;
    // Name, what it could give at most, what it can give now; the most room first.
    let mut rooms: Vec<(&str, u64, u64)> = devices
        .iter()
        .filter_map(|reading| {
            let memory = reading.memory?;
            let free = memory.free.saturating_sub(promised(&reading.device.id));
            Some((reading.device.name.as_str(), memory.allocatable(), free))
        })
        .collect();
    let gpus = gpus.max(1) as usize;
    if rooms.len() < gpus {
        return answer(
            if rooms.is_empty() { Fit::Unknown } else { Fit::Never },
            format!("需要 {gpus} 个设备，可用的只有 {} 个", rooms.len()),
            format!("it needs {gpus} devices, and {} can be used", rooms.len()),
        );
    }
    // With several devices, the last that has to be taken decides.
    rooms.sort_by_key(|(_, _, free)| std::cmp::Reverse(*free));
    let (now_name, now_most, now_free) = rooms[gpus - 1];
    rooms.sort_by_key(|(_, most, _)| std::cmp::Reverse(*most));
    let (name, most, free) = rooms[gpus - 1];
    let need = gib(needed);
    if now_free >= needed {
        let (free, most) = (gib(now_free), gib(now_most));
        answer(
            Fit::Now,
            format!("现在可以运行：需要 {need}，{now_name} 空闲 {free}（共 {most}）"),
            format!("fits now: it needs {need}, and {free} of {most} are free on the {now_name}"),
        )
    } else if most >= needed {
        let (free, most) = (gib(free), gib(most));
        answer(
            Fit::WhenFree,
            format!("显存空出后可以运行：需要 {need}，{name} 共 {most}，目前空闲 {free}"),
            format!("fits when the card is free: it needs {need} of {most} on the {name}, where {free} are free now"),
        )
    } else {
        let (missing, most) = (gib(needed - most), gib(most));
        answer(
            Fit::Never,
            format!("放不下：需要 {need}，{name} 最多只有 {most}，还差 {missing}"),
            format!("does not fit: it needs {need}, and the {name} has {most} at most, {missing} too little"),
        )
    }
}

/// A configuration near the one asked for that fits.
#[derive(Debug, Clone, PartialEq)]
pub struct Alternative {
    /// What is different.
    pub changes_zh: String,
    pub changes_en: String,
    pub recipe: FineTune,
    pub estimate: Estimate,
}

/// What can be changed, the least harmful first: the first three leave the result as it is and cost time at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Loss,
    Checkpointing,
    MicroBatch,
    Bits8,
    Bits4,
    Length,
    Adapters,
}

impl Change {
    const ALL: [Change; 7] = [
        Change::Loss,
        Change::Checkpointing,
        Change::MicroBatch,
        Change::Bits8,
        Change::Bits4,
        Change::Length,
        Change::Adapters,
    ];

    /// One that alters the result outweighs all that do so less.
    fn harm(self) -> u32 {
        match self {
            Change::Loss => 1,
            Change::Checkpointing | Change::MicroBatch => 2,
            Change::Bits8 => 8,
            Change::Bits4 => 16,
            Change::Length => 32,
            Change::Adapters => 64,
        }
    }

    /// Whether it means anything for this recipe.
    fn applies(self, recipe: &FineTune) -> bool {
        let quantises = recipe.trainer != Some(TrainerKind::Builtin);
        match self {
            Change::Loss => recipe.loss == Some(Loss::Hf),
            Change::Checkpointing => !recipe.gradient_checkpointing,
            Change::MicroBatch => recipe.batch_size > 1,
            Change::Bits8 => quantises && recipe.quantization_bits().is_none(),
            Change::Bits4 => quantises && recipe.quantization_bits() != Some(4),
            Change::Length => recipe.max_length > SHORTEST,
            Change::Adapters => recipe.method == Method::Full,
        }
    }
}

/// Alternatives to offer at most.
const OFFERED: usize = 5;
/// Lengths below are no help to anybody, and lengths go in steps of this.
const SHORTEST: u32 = 128;
const LENGTH_STEP: u32 = 64;
const LONGEST: u32 = 131_072;
const LARGEST_BATCH: u32 = 1024;

/// The nearest configurations whose grant is within the budget (bytes of one device), the least harm first; empty where
/// nothing helps. One that changes more than another needs not is left out.
///
/// `estimate` answers for recipes of the same model.
pub fn nearest(recipe: &FineTune, budget: u64, estimate: &dyn Fn(&FineTune) -> Estimate) -> Vec<Alternative> {
    let mut sets: Vec<(u32, Vec<Change>)> = (1u32..1 << Change::ALL.len())
        .map(|bits| {
            let chosen = Change::ALL.into_iter().enumerate().filter(|(place, _)| bits >> place & 1 == 1);
            let changes: Vec<Change> = chosen.map(|(_, change)| change).collect();
            (changes.iter().map(|change| change.harm()).sum(), changes)
        })
        .filter(|(_, changes)| !(changes.contains(&Change::Bits8) && changes.contains(&Change::Bits4)))
        .collect();
    sets.sort_by_key(|(harm, changes)| (*harm, changes.len()));
    let mut fitting: Vec<Vec<Change>> = Vec::new();
    let mut alternatives = Vec::new();
    for (_, changes) in sets {
        if fitting.iter().any(|fewer| fewer.iter().all(|change| changes.contains(change))) {
            continue;
        }
        if let Some(changed) = changed(recipe, &changes, budget, estimate) {
            alternatives.push(alternative(recipe, changed, estimate));
            fitting.push(changes);
        }
        if alternatives.len() == OFFERED {
            break;
        }
    }
    alternatives
}

/// The recipe with exactly these changes, where it fits.
fn changed(
    recipe: &FineTune,
    changes: &[Change],
    budget: u64,
    estimate: &dyn Fn(&FineTune) -> Estimate,
) -> Option<FineTune> {
    let mut changed = recipe.clone();
    // Adapters come first, because full fine-tuning has nothing to quantise.
    for change in changes.iter().rev() {
        if !change.applies(&changed) {
            return None;
        }
        match change {
            Change::Loss => changed.loss = Some(Loss::Fused),
            Change::Checkpointing => changed.gradient_checkpointing = true,
            Change::Bits8 => changed.load_in_8bit = true,
            Change::Bits4 => changed.load_in_4bit = true,
            Change::Adapters => {
                changed.method = Method::Lora;
                (changed.load_in_8bit, changed.load_in_4bit) = (false, false);
            }
            Change::MicroBatch | Change::Length => {}
        }
    }
    if changes.contains(&Change::MicroBatch) {
        changed = smaller_batch(&changed, budget, estimate, changes.contains(&Change::Length));
    }
    if changes.contains(&Change::Length) {
        let shorter = largest_length(&changed, budget, estimate)?;
        if shorter >= recipe.max_length || shorter < SHORTEST {
            return None;
        }
        changed.max_length = shorter;
    }
    (estimate(&changed).grant_bytes <= budget).then_some(changed)
}

/// Half the micro-batch and twice the accumulation until it fits; all the way where it is shortened besides.
fn smaller_batch(recipe: &FineTune, budget: u64, estimate: &dyn Fn(&FineTune) -> Estimate, to_one: bool) -> FineTune {
    let mut made = Vec::new();
    loop {
        made.push(domain::Adjustment::HalveMicroBatch);
        let smaller = crate::ladder::adjusted(recipe, &made);
        if smaller.batch_size == 1 || !to_one && estimate(&smaller).grant_bytes <= budget {
            return smaller;
        }
    }
}

fn alternative(from: &FineTune, to: FineTune, estimate: &dyn Fn(&FineTune) -> Estimate) -> Alternative {
    let mut zh = Vec::new();
    let mut en = Vec::new();
    let mut say = |chinese: String, english: String| {
        zh.push(chinese);
        en.push(english);
    };
    if from.method != to.method {
        say("LoRA（原为全参数）".into(), "LoRA (was full)".into());
    }
    if from.quantization_bits() != to.quantization_bits()
        && let Some(bits) = to.quantization_bits()
    {
        say(format!("{bits} 位权重"), format!("{bits}-bit weights"));
    }
    if from.loss != to.loss {
        say("融合损失".into(), "fused loss".into());
    }
    if from.gradient_checkpointing != to.gradient_checkpointing {
        say("梯度检查点".into(), "gradient checkpointing".into());
    }
    if from.batch_size != to.batch_size {
        let (batch, was, times) = (to.batch_size, from.batch_size, to.gradient_accumulation_steps);
        say(
            format!("batch_size {batch}（原为 {was}），累积 {times} 次"),
            format!("micro-batch {batch} (was {was}), accumulated {times} times"),
        );
    }
    if from.max_length != to.max_length {
        let (length, was) = (to.max_length, from.max_length);
        say(format!("max_length {length}（原为 {was}）"), format!("length {length} (was {was})"));
    }
    Alternative { changes_zh: zh.join("，"), changes_en: en.join(", "), estimate: estimate(&to), recipe: to }
}

/// Tokens per example at most whose grant is within the budget, the rest as in the recipe: a multiple of 64, or `None`
/// where not even 64 fit.
pub fn largest_length(recipe: &FineTune, budget: u64, estimate: &dyn Fn(&FineTune) -> Estimate) -> Option<u32> {
    let fits =
        |steps: u32| estimate(&FineTune { max_length: steps * LENGTH_STEP, ..recipe.clone() }).grant_bytes <= budget;
    largest(LONGEST / LENGTH_STEP, fits).map(|steps| steps * LENGTH_STEP)
}

/// Examples per micro-batch at most whose grant is within the budget, the rest as in the recipe.
pub fn largest_batch(recipe: &FineTune, budget: u64, estimate: &dyn Fn(&FineTune) -> Estimate) -> Option<u32> {
    largest(LARGEST_BATCH, |batch_size| estimate(&FineTune { batch_size, ..recipe.clone() }).grant_bytes <= budget)
}

/// The largest of 1 to `most` that fits, where a smaller one fits too.
fn largest(most: u32, fits: impl Fn(u32) -> bool) -> Option<u32> {
    if !fits(1) {
        return None;
    }
    let (mut low, mut high) = (1, most);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if fits(middle) { low = middle } else { high = middle - 1 }
    }
    Some(low)
}
