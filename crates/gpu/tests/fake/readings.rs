use domain::{DeviceKind, TaskId};
use fakegpu::{ExternalProcess, MemoryReport, Mig, ProcessList};
use gpu::{Options, Service};

use crate::machine::{GIB, Machine, code, codes, has_finding};

#[test]
fn eight_gpus_one_of_them_in_mig_instances() {
    let machine = Machine::new("8xH100");
    machine.fake.update(|state| {
        assert!(state.gpus[1].split(2));
        state.gpus[0].utilisation = Some(87);
        state.gpus[0].ecc.as_mut().unwrap().uncorrected = 3;
        state.gpus[2].ecc.as_mut().unwrap().remap_pending = true;
    });
    let state = machine.fake.state().unwrap();
    let inventory = machine.sweep();
    assert_eq!(inventory.detection_error, None);
    assert_eq!(inventory.devices.len(), 9, "seven GPUs and two instances");
    assert!(inventory.devices.iter().enumerate().all(|(position, reading)| reading.device.index == position as u32));
    assert!(codes(&inventory).iter().all(Option::is_none), "{inventory:#?}");

    let first = &inventory.devices[0];
    assert_eq!(first.device.id.0, state.gpus[0].uuid);
    assert_eq!(first.device.name, "NVIDIA H100 80GB HBM3");
    assert_eq!(first.device.kind, DeviceKind::Nvidia);
    assert_eq!(first.device.architecture.as_deref(), Some("Hopper"));
    assert_eq!(first.device.pci_bus_id.as_deref(), Some("00000000:01:00.0"));
    assert_eq!((first.device.mig.as_ref(), first.device.unified_memory), (None, false));
    let memory = first.memory.unwrap();
    assert_eq!(memory.total, state.gpus[0].total);
    assert_eq!(memory.reserved, Some(state.gpus[0].reserved));
    assert_eq!(memory.free, memory.total - state.gpus[0].reserved, "what is reserved is not free");
    assert_eq!((first.utilisation, first.temperature, first.power), (Some(87), Some(32), Some(105.0)));
    assert_eq!(first.clocks.unwrap().memory, Some(2619));
    assert_eq!(first.health.uncorrected_ecc_errors, Some(3));
    assert_eq!(first.health.row_remap_pending, Some(false));
    assert_eq!(first.unattributed, Some(0));

    let Mig::Instances(instances) = &state.gpus[1].mig else { panic!("{state:?}") };
    for (reading, instance) in inventory.devices[1..3].iter().zip(instances) {
        assert_eq!(reading.device.id.0, instance.uuid);
        let mig = reading.device.mig.as_ref().unwrap();
        assert_eq!(mig.parent.0, state.gpus[1].uuid);
        assert_eq!(mig.profile.as_deref(), Some("1g.10gb"));
        assert_eq!((mig.gpu_instance, mig.compute_instance), (Some(instance.gpu_instance), Some(0)));
        assert_eq!(reading.memory.unwrap().total, instance.total);
        assert_eq!(reading.utilisation, None, "an unknown figure is never 0");
    }
    assert!(has_finding(&inventory, "gpu-row-remap-pending"));
    assert_eq!(inventory.devices[3].health.row_remap_pending, Some(true), "and yet it is usable");
}

#[test]
fn each_way_in_which_the_driver_fails_has_its_finding_and_the_cpu_stands_in() {
    for (error, expected) in [
        (9, "nvidia-driver-not-loaded"),
        (4, "nvidia-no-permission"),
        (18, "nvidia-driver-mismatch"),
        (999, "nvml-failed"),
    ] {
        let machine = Machine::new("1xH100");
        machine.fake.update(|state| state.init_error = Some(error));
        let inventory = machine.sweep();
        assert_eq!(inventory.findings[0].code, expected);
        assert_eq!(inventory.detection_error.as_ref(), Some(&inventory.findings[0].zh));
        assert_eq!(inventory.devices[0].device.kind, DeviceKind::Cpu);
        assert!(inventory.devices[0].is_usable());
    }
    let none = Machine::new("0xH100").sweep();
    assert_eq!((none.findings[0].code.as_str(), none.detection_error), ("no-nvidia-gpu", None));
}

#[test]
fn a_gpu_is_unusable_for_a_reason_and_the_others_are_not() {
    let machine = Machine::new("5xA100-40");
    machine.fake.update(|state| {
        state.gpus[1].lost = true;
        state.gpus[2].memory = MemoryReport::NotSupported;
        state.gpus[3].memory = MemoryReport::UnknownError;
        assert!(state.gpus[4].split(0));
    });
    let inventory = machine.sweep();
    let expected =
        [None, Some("gpu-lost"), Some("gpu-memory-unknown"), Some("gpu-memory-unknown"), Some("mig-without-instances")];
    assert_eq!(codes(&inventory), expected);
    assert!(inventory.devices[1..].iter().all(|reading| reading.memory.is_none()), "never 0");
}

#[test]
fn older_drivers_and_wsl_have_the_first_version_of_memory() {
    for report in [MemoryReport::V1Only, MemoryReport::V2UnknownError] {
        let machine = Machine::new("1xRTX3060");
        machine.fake.update(|state| state.gpus[0].memory = report);
        let inventory = machine.sweep();
        let memory = inventory.devices[0].memory.unwrap_or_else(|| panic!("{report:?}: {inventory:?}"));
        let gpu = &machine.fake.state().unwrap().gpus[0];
        assert_eq!((memory.total, memory.reserved), (gpu.total, None));
        assert_eq!(memory.free, gpu.total - gpu.reserved);
        assert!(inventory.devices[0].is_usable());
    }
}

#[test]
fn a_unified_chip_has_the_memory_that_the_host_has() {
    let machine = Machine::new("1xGB10");
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("proc")).unwrap();
    let meminfo = "MemTotal: 125829120 kB\nMemFree: 3040870 kB\nMemAvailable: 121424773 kB\n";
    std::fs::write(root.path().join("proc/meminfo"), meminfo).unwrap();
    let options = Options { root: Some(root.path().to_owned()), ..Options::default() };
    let inventory = machine.sweep_with(&options);
    let reading = &inventory.devices[0];
    assert!(reading.is_usable() && reading.device.unified_memory, "{reading:#?}");
    let memory = reading.memory.unwrap();
    assert_eq!((memory.total, memory.free), (120 * GIB, 121_424_773 * 1024), "the page cache can be had");
    assert_eq!(reading.unattributed, None, "the rest is the host's programs");
}

#[test]
fn whoever_holds_memory_is_named_and_ours_are_told_apart() {
    let machine = Machine::new("2xH100");
    let home = tempfile::tempdir().unwrap();
    let task: TaskId = "finetune_1700000000_7".parse().unwrap();
    let home_text = home.path().to_str().unwrap();
    let ours = machine.process("trainer", &[("SAGE_HOME", home_text), ("SAGE_TASK_ID", "finetune_1700000000_7")]);
    let others = machine.process("trainer", &[("SAGE_HOME", "/other"), ("SAGE_TASK_ID", "finetune_1700000000_7")]);
    let known = machine.process("VLLM::EngineCore", &[]);
    let registered = machine.process("our-chat-server --api-key secret", &[]);
    let gpus = machine.fake.state().unwrap().gpus;
    let holders = [(&ours, 10 * GIB), (&others, 5 * GIB), (&known, 20 * GIB), (&registered, 2 * GIB)];
    for (process, bytes) in &holders {
        machine.fake.claim(process.0.id(), &gpus[0].uuid, *bytes).unwrap();
    }
    machine.fake.update(|state| {
        state.gpus[0].unattributed = GIB;
        state.gpus[1].processes.push(ExternalProcess::compute(4_000_000_000, "hidden", 61_000_000_000));
    });
    let services = vec![Service { name: "chat".into(), command_contains: "our-chat-server".into() }];
    let options = Options { home: Some(home.path().to_owned()), services, ..Options::default() };
    let inventory = machine.sweep_with(&options);

    let reading = &inventory.devices[0];
    let find = |process: &crate::machine::Process| {
        let found = reading.processes.iter().find(|seen| seen.pid == process.0.id());
        found.unwrap_or_else(|| panic!("{reading:#?}"))
    };
    assert_eq!(reading.processes.len(), 4);
    assert_eq!((find(&ours).task, find(&ours).bytes), (Some(task), Some(10 * GIB)));
    assert!(find(&ours).user.is_some() && find(&ours).name.is_some());
    assert_eq!((find(&others).task, find(&others).service.as_deref()), (None, None), "another studio's");
    assert_eq!(find(&known).service.as_deref(), Some("vLLM"));
    assert_eq!(find(&registered).service.as_deref(), Some("chat"));
    assert_eq!(reading.unattributed, Some(GIB));
    assert_eq!(reading.memory.unwrap().free, gpus[0].total - gpus[0].reserved - 38 * GIB);

    let foreign = &inventory.devices[1].processes[0];
    assert_eq!((foreign.pid, foreign.bytes), (4_000_000_000, Some(61_000_000_000)));
    assert_eq!(foreign.name, None, "of a pid that means nothing here");
}

#[test]
fn hidden_processes_leave_a_remainder_or_an_unknown_one() {
    let machine = Machine::new("3xH100");
    machine.fake.update(|state| {
        for (gpu, list) in
            state.gpus.iter_mut().zip([ProcessList::Empty, ProcessList::WithoutMemory, ProcessList::NotSupported])
        {
            gpu.processes.push(ExternalProcess::compute(4_000_000_000, "vllm", 30 * GIB));
            gpu.process_list = list;
        }
    });
    let inventory = machine.sweep();
    let [empty, without_memory, not_supported] = &inventory.devices[..] else { panic!("{inventory:#?}") };
    assert_eq!((empty.processes.len(), empty.unattributed), (0, Some(30 * GIB)));
    assert_eq!((without_memory.processes[0].bytes, without_memory.unattributed), (None, None));
    assert_eq!((not_supported.processes.len(), not_supported.unattributed), (0, None));
    assert!(inventory.devices.iter().all(|reading| code(reading).is_none()));
}
