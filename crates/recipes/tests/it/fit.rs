use domain::{Device, DeviceKind, DeviceMemory, Home, Inventory, Method, Parallelism, Reading, TrainerKind};
use jiff::Timestamp;
use recipes::estimate::Context;
use recipes::fit::{Fit, MethodKind, Recommendation, recommend, verdict};
use recipes::models::HubCache;

const GIB: u64 = 1 << 30;

fn card(number: u32, kind: DeviceKind, name: &str, total: u64, free: u64) -> Reading {
    let memory =
        DeviceMemory { total: total * GIB, reserved: Some(GIB / 2), used: (total - free) * GIB, free: free * GIB };
    Reading::usable(Device::new(format!("GPU-{number}"), kind, number, name), memory, Timestamp::UNIX_EPOCH)
}

fn inventory(devices: Vec<Reading>) -> Inventory {
    Inventory { taken_at: Timestamp::UNIX_EPOCH, devices, findings: Vec::new(), detection_error: None }
}

fn with_context<T>(inventory: &Inventory, use_it: impl FnOnce(&Context<'_>) -> T) -> T {
    let folder = tempfile::tempdir().unwrap();
    let (home, cache) = (Home::new(folder.path()), HubCache { root: None });
    use_it(&Context { home: &home, cache: &cache, inventory: Some(inventory), measurements: &[] })
}

fn recommended(inventory: &Inventory) -> Vec<Recommendation> {
    with_context(inventory, |context| recommend(context, Some(1000), &|_| 0))
}

fn find<'a>(all: &'a [Recommendation], model: &str, method: MethodKind) -> &'a Recommendation {
    let name = format!("Qwen/Qwen2.5-{model}-Instruct");
    all.iter().find(|one| one.model_name == name && one.method == method).expect("it is there")
}

#[test]
fn a_verdict_has_the_numbers_and_counts_what_is_promised() {
    let inventory = inventory(vec![card(0, DeviceKind::Nvidia, "RTX 4090", 24, 20)]);
    let all = recommended(&inventory);
    let estimate = &find(&all, "7B", MethodKind::Qlora4).estimate;
    let needed = domain::gib(estimate.grant_bytes);
    let ask = |promised: u64| verdict(Some(estimate), 1, &inventory, &move |_| promised);
    assert_eq!(ask(0).fit, Fit::Now);
    assert_eq!(ask(0).en, format!("fits now: it needs {needed}, and 20.0 GiB of 23.5 GiB are free on the RTX 4090"));
    assert_eq!(ask(19 * GIB).fit, Fit::WhenFree);
    assert_eq!(ask(19 * GIB).zh, format!("显存空出后可以运行：需要 {needed}，RTX 4090 共 23.5 GiB，目前空闲 1.0 GiB"));
    assert_eq!(verdict(Some(estimate), 2, &inventory, &|_| 0).fit, Fit::Never, "there is one card only");
    assert_eq!(verdict(None, 1, &inventory, &|_| 0).fit, Fit::Unknown);
}

#[test]
fn each_recommendation_does_what_it_says() {
    let inventory = inventory(vec![card(0, DeviceKind::Nvidia, "NVIDIA GeForce RTX 3060", 12, 12)]);
    let all = recommended(&inventory);
    assert!(all.windows(2).all(|pair| pair[0].parameters >= pair[1].parameters), "the largest first");
    for one in &all {
        assert_eq!(one.recipe.is_some(), one.verdict.fit == Fit::Now, "{one:?}");
        let Some(recipe) = &one.recipe else { continue };
        assert!(one.estimate.grant_bytes <= 12 * GIB - GIB / 2);
        assert!(recipe.max_length <= one.largest_length.unwrap());
        assert!(one.estimate.total_seconds.unwrap() > one.estimate.seconds_per_step.unwrap());
        let again = with_context(&inventory, |context| context.estimate(recipe, Some(1000))).unwrap();
        assert_eq!(again, one.estimate, "the recipe is what was estimated");
    }
    // Known to train on such a card, and known not to.
    for (model, method) in [("3B", MethodKind::Lora), ("7B", MethodKind::Qlora4), ("0.5B", MethodKind::Full)] {
        assert_eq!(find(&all, model, method).verdict.fit, Fit::Now, "{model} {method:?}");
    }
    for (model, method) in [("7B", MethodKind::Lora), ("3B", MethodKind::Full), ("32B", MethodKind::Qlora4)] {
        assert_eq!(find(&all, model, method).verdict.fit, Fit::Never, "{model} {method:?}");
    }
}

#[test]
fn several_cards_share_what_one_cannot_hold() {
    let card = |number| card(number, DeviceKind::Nvidia, "NVIDIA A100-SXM4-80GB", 80, 79);
    let all = recommended(&inventory((0..4).map(card).collect()));
    let together: Vec<Recommendation> = all.iter().filter(|one| one.device.is_none()).cloned().collect();
    let alone: Vec<Recommendation> = all.into_iter().filter(|one| one.device.is_some()).collect();
    assert_eq!(alone.len(), 4 * together.len());
    let shared = find(&together, "14B", MethodKind::Full);
    let recipe = shared.recipe.as_ref().unwrap();
    assert_eq!((recipe.gpus, recipe.parallelism, recipe.method), (4, Parallelism::Fsdp, Method::Full));
    assert_eq!(find(&alone, "14B", MethodKind::Full).verdict.fit, Fit::Never);
    let copied = find(&together, "1.5B", MethodKind::Lora);
    assert_eq!(copied.recipe.as_ref().unwrap().parallelism, Parallelism::Ddp);
    assert!(copied.estimate.total_seconds < find(&alone, "1.5B", MethodKind::Lora).estimate.total_seconds);
}

#[test]
fn without_a_gpu_the_built_in_trainer_is_recommended_for_what_it_does() {
    let all = recommended(&inventory(vec![card(0, DeviceKind::Cpu, "Some CPU", 16, 12)]));
    assert!(all.iter().all(|one| one.method == MethodKind::Lora && one.estimate.seconds_per_step.is_none()));
    let small = find(&all, "0.5B", MethodKind::Lora);
    assert_eq!(small.verdict.fit, Fit::Now);
    assert_eq!(small.recipe.as_ref().unwrap().trainer, Some(TrainerKind::Builtin));
    assert_eq!(find(&all, "32B", MethodKind::Lora).verdict.fit, Fit::Never);
}

#[test]
fn a_card_without_bf16_trains_whole_models_in_32_bits() {
    let full = |name| {
        let all = recommended(&inventory(vec![card(0, DeviceKind::Nvidia, name, 24, 24)]));
        let (full, adapters) = (find(&all, "0.5B", MethodKind::Full), find(&all, "0.5B", MethodKind::Lora));
        (full.estimate.breakdown.weights, adapters.estimate.breakdown.weights)
    };
    let (new, old) = (full("NVIDIA A10"), full("Tesla T4"));
    assert_eq!(old.0, 2 * new.0);
    assert_eq!(old.1, new.1, "a frozen base has 16 bits on both");
}
