//! AMD and Intel cards, on the files that their kernel drivers show (`trees/`).

use std::path::{Path, PathBuf};

use domain::{Clocks, DeviceKind, DeviceState, Inventory, TaskId};
use gpu::{Options, detect};
use jiff::Timestamp;

const GIB: u64 = 1 << 30;

fn tree(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/trees").join(name)
}

fn sweep(root: PathBuf) -> Inventory {
    let home = Some("/home/ana/.sage".into());
    let options = Options { disable_nvml: true, root: Some(root), home, ..Options::default() };
    detect(&options).sweep(Timestamp::UNIX_EPOCH)
}

fn code(inventory: &Inventory, device: usize) -> Option<&str> {
    match &inventory.devices[device].state {
        DeviceState::Usable => None,
        DeviceState::Unusable { code, .. } => Some(code),
    }
}

#[test]
fn amd_cards_with_their_processes() {
    let inventory = sweep(tree("amd"));
    let [gaming, instinct] = &inventory.devices[..] else {
        panic!("graphics in a processor is no device: {inventory:#?}")
    };

    assert_eq!((gaming.device.kind, gaming.device.id.0.as_str()), (DeviceKind::Amd, "AMD-0000:03:00.0"));
    assert_eq!(gaming.device.name, "Radeon RX 7900 XT/7900 XTX/7900 GRE/7900M");
    assert!(gaming.is_usable());
    let memory = gaming.memory.unwrap();
    assert_eq!((memory.total, memory.used, memory.free), (25_753_026_560, 3 * GIB, 25_753_026_560 - 3 * GIB));
    assert_eq!((gaming.utilisation, gaming.temperature, gaming.power), (Some(42), Some(61), Some(251.0)));
    assert_eq!(gaming.clocks, Some(Clocks { graphics: 2304, memory: Some(1249) }));
    let [training] = &gaming.processes[..] else { panic!("{gaming:#?}") };
    assert_eq!((training.pid, training.bytes), (5100, Some(3 * GIB / 2)), "a client with two files counts once");
    assert_eq!(training.task, Some(TaskId::new(1_700_000_000, 4)));
    assert_eq!(training.command.as_deref(), Some("python train.py"));
    assert_eq!(gaming.unattributed, Some(3 * GIB / 2));

    assert_eq!(
        (instinct.device.id.0.as_str(), instinct.device.name.as_str()),
        ("AMD-9f2c1b7a55e0d34c", "AMD Instinct MI210")
    );
    assert_eq!((instinct.temperature, instinct.power), (Some(55), Some(180.0)));
    assert_eq!(instinct.health.uncorrected_ecc_errors, Some(2));
    let [server] = &instinct.processes[..] else { panic!("{instinct:#?}") };
    assert_eq!((server.pid, server.bytes, server.service.as_deref()), (5200, Some(12 * GIB), Some("llama.cpp")));
    assert_eq!(instinct.unattributed, Some(4 * GIB));
}

#[test]
fn an_amd_card_that_one_may_not_compute_on_is_unusable() {
    // A copy, without the device file.
    let copy = tempfile::tempdir().unwrap();
    let root = copy.path().join("amd");
    let status = std::process::Command::new("cp").arg("-r").arg(tree("amd")).arg(copy.path()).status().unwrap();
    assert!(status.success());
    std::fs::remove_file(root.join("dev/dri/renderD128")).unwrap();
    std::fs::remove_file(root.join("sys/class/drm/card1/device/mem_info_vram_used")).unwrap();
    let inventory = sweep(root);
    assert_eq!(code(&inventory, 0), Some("gpu-no-permission"));
    assert!(inventory.devices[0].memory.is_some(), "what is known is shown");
    assert_eq!((code(&inventory, 1), inventory.devices[1].memory), (Some("gpu-memory-unknown"), None));
}

#[test]
fn an_intel_card_counts_what_processes_use_where_the_driver_does_not() {
    let inventory = sweep(tree("intel"));
    let [card] = &inventory.devices[..] else { panic!("graphics in a processor is no device: {inventory:#?}") };
    assert_eq!((card.device.kind, card.device.id.0.as_str()), (DeviceKind::Intel, "INTEL-0000:03:00.0"));
    assert!(card.is_usable());
    let memory = card.memory.unwrap();
    let kernel = GIB / 2;
    assert_eq!((memory.total, memory.free), (12 * GIB, 8 * GIB - kernel), "what the driver keeps is not known");
    assert_eq!(card.unattributed, Some(kernel));
    assert_eq!(card.processes[0].service.as_deref(), Some("Ollama"));
    assert_eq!((card.temperature, card.clocks.unwrap().graphics), (Some(48), 2850));
}

#[test]
fn an_intel_card_whose_driver_has_the_sum_or_knows_nothing() {
    let known = sweep(tree("intel-i915"));
    let memory = known.devices[0].memory.unwrap();
    assert_eq!((memory.total, memory.free), (17_079_205_888, 14 * GIB));
    assert_eq!(known.devices.len(), 1);

    let unknown = sweep(tree("intel-unknown"));
    assert_eq!(code(&unknown, 0), Some("intel-memory-unknown"));
    assert_eq!(unknown.devices[1].device.kind, DeviceKind::Cpu, "tasks can still run");
    assert!(unknown.devices[1].is_usable());
}
