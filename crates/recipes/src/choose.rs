//! Which trainer a fine-tune gets, and why.

use domain::{DeviceKind, FineTune, Inventory, Method, Objective, TrainerKind};

use crate::estimate::ModelShape;

/// Up to so many parameters the built-in trainer is ready before Python has started.
pub(crate) const SMALL: u64 = 100_000_000;

/// A decision with its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    pub trainer: TrainerKind,
    pub zh: String,
    pub en: String,
}

/// The trainer that a recipe asks for, else the one that suits it, the devices and the model.
pub fn trainer(recipe: &FineTune, inventory: &Inventory, shape: Option<&ModelShape>) -> Choice {
    if let Some(trainer) = recipe.trainer {
        return choice(trainer, "配方中已指定".into(), "the recipe asks for it".into());
    }
    if let Some((zh, en)) = beyond_builtin(recipe) {
        let zh = format!("内置训练器不支持{zh}");
        return choice(TrainerKind::Peft, zh, format!("the built-in trainer does not do {en}"));
    }
    if let Some(shape) = shape.filter(|shape| shape.parameters() <= SMALL) {
        let millions = (shape.parameters() as f64 / 1e6).ceil();
        return choice(
            TrainerKind::Builtin,
            format!("模型只有约 {millions} 百万参数，内置训练器启动最快"),
            format!("the model has only about {millions} million parameters, which need no Python"),
        );
    }
    let trains_torch = |kind: DeviceKind| matches!(kind, DeviceKind::Nvidia | DeviceKind::Amd);
    let card = inventory.devices.iter().find(|reading| reading.is_usable() && trains_torch(reading.device.kind));
    match card {
        Some(card) => {
            let name = &card.device.name;
            choice(TrainerKind::Peft, format!("在 {name} 上训练"), format!("it trains on the {name}"))
        }
        None => choice(
            TrainerKind::Builtin,
            "没有可用的 NVIDIA 或 AMD GPU，内置训练器在 CPU 上训练".into(),
            "there is no usable NVIDIA or AMD GPU; the built-in trainer works on the processor".into(),
        ),
    }
}

/// What of a recipe the built-in trainer cannot do.
pub(crate) fn beyond_builtin(recipe: &FineTune) -> Option<(&'static str, &'static str)> {
    match recipe {
        FineTune { method: Method::Full, .. } => Some(("全参数微调", "full fine-tuning")),
        FineTune { objective: Objective::Dpo, .. } => Some(("DPO", "DPO")),
        FineTune { load_in_4bit: true, .. } => Some((" 4 位量化", "4-bit weights")),
        FineTune { gpus: 2.., .. } => Some(("多 GPU 训练", "training on several GPUs")),
        _ => None,
    }
}

fn choice(trainer: TrainerKind, zh: String, en: String) -> Choice {
    Choice { trainer, zh, en }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue;
    use domain::{Device, DeviceMemory, Reading};

    fn inventory(kind: DeviceKind) -> Inventory {
        let memory = DeviceMemory { total: 24 << 30, reserved: None, used: 0, free: 24 << 30 };
        let now = jiff::Timestamp::UNIX_EPOCH;
        let reading = Reading::usable(Device::new("X", kind, 0, "RTX 4090"), memory, now);
        Inventory { taken_at: now, devices: vec![reading], findings: Vec::new(), detection_error: None }
    }

    #[test]
    fn the_chosen_one_wins_then_need_then_size_then_device() {
        let decide = |recipe: FineTune, kind, shape| trainer(&recipe, &inventory(kind), shape).trainer;
        let plain = FineTune::default();
        let large = catalogue::shape("Qwen/Qwen2.5-0.5B");
        let small = ModelShape { layers: 2, vocab: 1024, hidden: 128, intermediate: 384, ..large.unwrap().clone() };
        use DeviceKind::*;
        use TrainerKind::*;
        assert_eq!(decide(plain.clone(), Nvidia, large), Peft);
        assert_eq!(decide(plain.clone(), Nvidia, None), Peft);
        assert_eq!(decide(plain.clone(), Amd, large), Peft);
        assert_eq!(decide(plain.clone(), Nvidia, Some(&small)), Builtin);
        for kind in [Cpu, Simulated, Intel] {
            assert_eq!(decide(plain.clone(), kind, large), Builtin);
            assert_eq!(decide(FineTune { method: Method::Full, ..plain.clone() }, kind, Some(&small)), Peft);
        }
        assert_eq!(decide(FineTune { load_in_4bit: true, ..plain.clone() }, Cpu, None), Peft);
        assert_eq!(decide(FineTune { objective: Objective::Dpo, ..plain.clone() }, Cpu, None), Peft);
        assert_eq!(decide(FineTune { gpus: 2, ..plain.clone() }, Cpu, None), Peft);
        assert_eq!(decide(FineTune { trainer: Some(Builtin), ..plain }, Nvidia, large), Builtin);
    }
}
