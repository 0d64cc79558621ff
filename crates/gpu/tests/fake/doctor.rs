use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use fakegpu::ExternalProcess;
use gpu::{Check, Options, Status, doctor};
use tempfile::TempDir;

use crate::machine::{GIB, Machine};

const NVRM: &str = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build  (root@host)  Tue Sep 23\n\
                    GCC version:  gcc version 14.2.0\n";

/// The files of a machine with one NVIDIA card and its driver.
fn healthy() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let path = root.path();
    write(path, "proc/version", "Linux version 6.12.48 (build@host)\n");
    write(path, "proc/meminfo", "MemTotal: 1000000 kB\nMemAvailable: 900000 kB\n");
    write(path, "proc/driver/nvidia/version", NVRM);
    write(path, "sys/bus/pci/devices/0000:01:00.0/vendor", "0x10de\n");
    write(path, "sys/bus/pci/devices/0000:01:00.0/class", "0x030200\n");
    for name in ["nvidia0", "nvidiactl", "nvidia-uvm"] {
        write(path, &format!("dev/{name}"), "");
    }
    library(path, "580.95.05");
    root
}

fn library(root: &Path, version: &str) {
    let folder = root.join("lib");
    let _ = fs::remove_dir_all(&folder);
    write(root, &format!("lib/libnvidia-ml.so.{version}"), "");
    symlink(format!("libnvidia-ml.so.{version}"), folder.join("libnvidia-ml.so.1")).unwrap();
}

fn write(root: &Path, path: &str, text: &str) {
    fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
    fs::write(root.join(path), text).unwrap();
}

/// The library is only looked at; the worker gets its own from its command.
fn examine(machine: &Machine, root: &Path) -> Vec<Check> {
    let options = Options { root: Some(root.to_owned()), ..Options::default() };
    let library = Options { nvml_library: Some(root.join("lib/libnvidia-ml.so.1")), ..options.clone() };
    // What the driver answers is one half, what the files say the other.
    let mut checks = doctor(&library, &[], &[]);
    checks.retain(|check| !["detection", "device"].contains(&check.subject));
    let answered = doctor(&options, &machine.command("gpu-worker"), &machine.command("gpu-trial"));
    checks.extend(
        answered
            .into_iter()
            .filter(|check| ["detection", "device", "mig", "persistence", "cuda"].contains(&check.subject)),
    );
    for check in &checks {
        assert!(!check.zh.is_empty() && !check.en.is_empty(), "{check:?}");
        assert_eq!(check.next_zh.is_empty(), check.next_en.is_empty(), "{check:?}");
    }
    checks
}

fn find<'a>(checks: &'a [Check], subject: &str) -> &'a Check {
    checks.iter().find(|check| check.subject == subject).unwrap_or_else(|| panic!("{subject}: {checks:#?}"))
}

#[test]
fn a_machine_that_works_has_no_problem() {
    let machine = Machine::new("2xH100");
    machine.fake.update(|state| assert!(state.gpus[1].split(2)));
    let checks = examine(&machine, healthy().path());
    assert!(checks.iter().all(|check| check.status != Status::Problem), "{checks:#?}");
    assert!(find(&checks, "nvidia-module").en.contains("580.95.05"));
    assert!(find(&checks, "nvidia-library").en.contains("(580.95.05)"));
    assert_eq!(find(&checks, "nvidia-devices").status, Status::Ok);
    assert!(find(&checks, "mig").en.contains("1g.10gb 1g.10gb"));
    assert_eq!(find(&checks, "cuda").status, Status::Ok);
    assert_eq!(checks.iter().filter(|check| check.subject == "device").count(), 3);
}

#[test]
fn each_fault_is_named_with_what_to_do() {
    let machine = Machine::new("1xH100");
    /// What is wrong, how it comes about, who notices, and part of the advice.
    type Case<'a> = (&'a str, &'a dyn Fn(&Path), &'a str, &'a str);
    let cases: &[Case<'_>] = &[
        ("mismatch", &|root| library(root, "575.57.08"), "nvidia-library", "Restart the machine"),
        (
            "a container that is older than the driver",
            &|root| {
                library(root, "575.57.08");
                write(root, ".dockerenv", "");
            },
            "nvidia-library",
            "Restart the container",
        ),
        (
            "no library",
            &|root| fs::remove_dir_all(root.join("lib")).unwrap(),
            "nvidia-library",
            "reinstall the NVIDIA driver",
        ),
        (
            "no module",
            &|root| fs::remove_dir_all(root.join("proc/driver")).unwrap(),
            "nvidia-module",
            "modprobe nvidia",
        ),
        (
            "nouveau",
            &|root| {
                fs::remove_dir_all(root.join("proc/driver")).unwrap();
                write(root, "sys/module/nouveau/refcnt", "1\n");
            },
            "nvidia-module",
            "switches nouveau off",
        ),
        (
            "no device files",
            &|root| fs::remove_file(root.join("dev/nvidia0")).unwrap(),
            "nvidia-devices",
            "sudo nvidia-smi",
        ),
        (
            "no device files in a container",
            &|root| {
                fs::remove_file(root.join("dev/nvidia0")).unwrap();
                write(root, "proc/1/cgroup", "0::/docker/0123\n");
            },
            "nvidia-devices",
            "--gpus all",
        ),
        (
            "no unified memory device",
            &|root| fs::remove_file(root.join("dev/nvidia-uvm")).unwrap(),
            "nvidia-devices",
            "nvidia-modprobe -u",
        ),
        (
            "an AMD card without ROCm's driver",
            &|root| {
                let card = "sys/class/drm/card0/device";
                write(root, &format!("{card}/uevent"), "DRIVER=amdgpu\nPCI_SLOT_NAME=0000:03:00.0\n");
                write(root, &format!("{card}/mem_info_vram_total"), "25753026560\n");
            },
            "amd-devices",
            "--device=/dev/kfd",
        ),
    ];
    for (name, break_it, subject, next) in cases {
        let root = healthy();
        break_it(root.path());
        let checks = examine(&machine, root.path());
        let check = find(&checks, subject);
        assert_eq!(check.status, Status::Problem, "{name}: {check:?}");
        assert!(check.next_en.contains(next), "{name}: {check:?}");
    }
}

#[test]
fn what_the_driver_says_of_itself_and_of_each_device_is_told() {
    let machine = Machine::new("2xH100");
    let root = healthy();
    machine.fake.update(|state| {
        state.gpus[0].lost = true;
        state.cuda.init_error = Some(999);
    });
    let checks = examine(&machine, root.path());
    let lost = find(&checks, "device");
    assert_eq!(lost.status, Status::Problem);
    assert!(lost.en.contains("fell off the bus"));
    let cuda = find(&checks, "cuda");
    assert!(cuda.status == Status::Problem && cuda.en.contains("999"), "{cuda:?}");

    machine.fake.update(|state| {
        state.gpus[0].lost = false;
        state.cuda.init_error = None;
        let free = state.gpus[0].total - state.gpus[0].reserved;
        state.gpus[0].processes.push(ExternalProcess::compute(4_000_000_000, "vllm", free - GIB / 64));
    });
    assert_eq!(find(&examine(&machine, root.path()), "cuda").status, Status::Note, "full is no fault");

    machine.fake.update(|state| state.init_error = Some(18));
    let detection = find(&examine(&machine, root.path()), "detection").clone();
    assert_eq!(detection.status, Status::Problem);
    assert!(detection.en.contains("different versions"));
}
