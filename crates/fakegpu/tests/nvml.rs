//! The library as `nvml-wrapper` sees it, in a process of its own for each test.

mod support;

use std::{process::Command, time::Duration};

use fakegpu::{Ecc, ExternalProcess, MemoryReport, Mig, ProcessList};
use nvml_wrapper::{
    Nvml,
    bitmasks::event::EventTypes,
    enum_wrappers::device::{EccCounter, MemoryError, TemperatureSensor},
    enums::device::{DeviceArchitecture, UsedGpuMemory},
    error::NvmlError,
    struct_wrappers::event::EventData,
};

use support::{Held, eventually, on_a_machine};

const GB: u64 = 1_000_000_000;
const MIB: u64 = 1 << 20;

#[test]
fn eight_gpus_tell_what_they_are() {
    let Some(folder) = on_a_machine("eight_gpus_tell_what_they_are", "8xH100") else { return };
    let nvml = Nvml::init().unwrap();
    assert_eq!(nvml.device_count().unwrap(), 8);
    assert_eq!(nvml.sys_driver_version().unwrap(), folder.state().unwrap().driver_version);
    assert_eq!(nvml.sys_cuda_driver_version().unwrap(), 13000);
    let mut uuids: Vec<String> = (0..8).map(|index| nvml.device_by_index(index).unwrap().uuid().unwrap()).collect();

    let gpu = nvml.device_by_uuid(uuids[3].as_str()).unwrap();
    assert_eq!(gpu.index().unwrap(), 3);
    assert_eq!(gpu.name().unwrap(), "NVIDIA H100 80GB HBM3");
    assert_eq!(gpu.architecture().unwrap(), DeviceArchitecture::Hopper);
    assert_eq!(gpu.cuda_compute_capability().unwrap().major, 9);
    assert_eq!(gpu.temperature(TemperatureSensor::Gpu).unwrap(), 35);
    assert_eq!(gpu.enforced_power_limit().unwrap(), 700_000);
    assert_eq!(gpu.utilization_rates().unwrap().gpu, 0);
    assert!(matches!(gpu.fan_speed(0), Err(NvmlError::NotSupported)));
    let pci = gpu.pci_info().unwrap();
    assert_eq!((pci.bus, pci.bus_id.as_str()), (4, "00000000:04:00.0"));
    assert_eq!(nvml.device_by_pci_bus_id(pci.bus_id).unwrap().index().unwrap(), 3);

    uuids.sort();
    uuids.dedup();
    assert_eq!(uuids.len(), 8);
    assert!(matches!(nvml.device_by_index(8), Err(NvmlError::InvalidArg)));
    assert!(matches!(nvml.device_by_uuid("GPU-0"), Err(NvmlError::NotFound)));
}

#[test]
fn reserved_memory_is_used_in_v1_only_and_free_in_neither() {
    let name = "reserved_memory_is_used_in_v1_only_and_free_in_neither";
    let Some(folder) = on_a_machine(name, "1xRTX3060") else { return };
    folder.update(|state| state.gpus[0].unattributed = 100 * MIB);
    let nvml = Nvml::init().unwrap();
    let gpu = nvml.device_by_index(0).unwrap();

    let v2 = gpu.memory_info().unwrap();
    assert_eq!([v2.total, v2.reserved, v2.used, v2.free], [12288 * MIB, 246 * MIB, 100 * MIB, 11942 * MIB]);
    let v1 = support::memory_v1(&gpu).unwrap();
    assert_eq!([v1.total, v1.used, v1.free], [12288 * MIB, 346 * MIB, 11942 * MIB]);

    for (report, v2_error, v1_works) in [
        (MemoryReport::V1Only, NvmlError::FunctionNotFound, true),
        (MemoryReport::V2UnknownError, NvmlError::Unknown, true),
        (MemoryReport::UnknownError, NvmlError::Unknown, false),
        (MemoryReport::NotSupported, NvmlError::NotSupported, false),
    ] {
        folder.update(|state| state.gpus[0].memory = report);
        let error = gpu.memory_info().unwrap_err();
        assert_eq!(error.to_string(), v2_error.to_string(), "{report:?}");
        assert_eq!(support::memory_v1(&gpu).is_ok(), v1_works, "{report:?}");
    }
}

#[test]
fn a_foreign_process_is_seen_as_the_list_allows() {
    let Some(folder) = on_a_machine("a_foreign_process_is_seen_as_the_list_allows", "2xA100-80") else { return };
    folder.update(|state| {
        state.gpus[0].processes.push(ExternalProcess::compute(4711, "vllm", 61 * GB));
        state.gpus[0].processes.push(ExternalProcess::graphics(4712, "Xorg", GB));
        state.gpus[0].processes.push(ExternalProcess { bytes: None, ..ExternalProcess::compute(4713, "hidden", 0) });
    });
    let nvml = Nvml::init().unwrap();
    let gpu = nvml.device_by_index(0).unwrap();
    assert_eq!(gpu.memory_info().unwrap().used, 62 * GB);
    assert_eq!(nvml.device_by_index(1).unwrap().memory_info().unwrap().used, 0);
    let list = || -> Vec<(u32, Option<u64>)> {
        let processes = gpu.running_compute_processes().unwrap().into_iter();
        processes.map(|process| (process.pid, bytes(process.used_gpu_memory))).collect()
    };
    assert_eq!(list(), [(4711, Some(61 * GB)), (4713, None)]);
    assert_eq!(gpu.running_compute_processes_v2().unwrap().len(), 2);
    assert_eq!(gpu.running_graphics_processes().unwrap()[0].pid, 4712);
    assert_eq!(nvml.sys_process_name(4711, 64).unwrap(), "vllm");

    folder.update(|state| state.gpus[0].process_list = ProcessList::WithoutMemory);
    assert_eq!(list(), [(4711, None), (4713, None)]);
    folder.update(|state| state.gpus[0].process_list = ProcessList::OtherNamespace);
    assert!(list().iter().all(|(pid, _)| *pid > 1 << 22));
    folder.update(|state| state.gpus[0].process_list = ProcessList::Empty);
    assert_eq!(list(), []);
    folder.update(|state| state.gpus[0].process_list = ProcessList::NotSupported);
    assert!(matches!(gpu.running_compute_processes(), Err(NvmlError::NotSupported)));
    assert_eq!(gpu.memory_info().unwrap().used, 62 * GB);
}

#[test]
fn memory_is_held_as_long_as_its_process_lives() {
    let Some(folder) = on_a_machine("memory_is_held_as_long_as_its_process_lives", "2xRTX4090") else { return };
    let nvml = Nvml::init().unwrap();
    let gpu = nvml.device_by_index(1).unwrap();
    let mut held = Held::new(&gpu.uuid().unwrap(), 20 * GB);
    let process = &gpu.running_compute_processes().unwrap()[0];
    assert_eq!((process.pid, bytes(process.used_gpu_memory.clone())), (held.pid(), Some(20 * GB)));
    assert_eq!(gpu.memory_info().unwrap().used, 20 * GB);

    held.kill();
    // Nobody has waited for it yet: its memory is free although the process id is still taken.
    eventually("the memory is free", || gpu.memory_info().unwrap().used == 0);
    assert_eq!(gpu.running_compute_processes().unwrap().len(), 0);

    let mut other = Command::new("sleep").arg("60").spawn().unwrap();
    folder.claim(other.id(), &gpu.uuid().unwrap(), 3 * GB).unwrap();
    assert_eq!(gpu.memory_info().unwrap().used, 3 * GB);
    other.kill().unwrap();
    other.wait().unwrap();
    assert_eq!(gpu.memory_info().unwrap().used, 0);
}

#[test]
fn instances_are_devices_of_their_own() {
    let Some(folder) = on_a_machine("instances_are_devices_of_their_own", "2xH100") else { return };
    let nvml = Nvml::init().unwrap();
    let gpu = nvml.device_by_index(1).unwrap();
    assert!(matches!(gpu.mig_device_by_index(0), Err(NvmlError::NotFound)));
    folder.update(|state| assert!(state.gpus[1].split(4)));
    let instance = folder.state().unwrap().gpus[1].instances()[2].clone();
    folder.update(|state| {
        let process = ExternalProcess::compute(4711, "vllm", GB);
        state.gpus[1].processes.push(ExternalProcess { instance: Some(instance.uuid.clone()), ..process });
    });
    let _held = Held::new(&instance.uuid, 2 * GB);

    assert_eq!(gpu.mig_mode().unwrap().current, 1);
    assert_eq!(gpu.mig_device_count().unwrap(), 7);
    assert!(matches!(gpu.mig_device_by_index(4), Err(NvmlError::NotFound)));
    let third = gpu.mig_device_by_index(2).unwrap();
    assert_eq!(third.uuid().unwrap(), instance.uuid);
    assert!(third.uuid().unwrap().starts_with("MIG-"));
    assert_eq!(third.mig_parent_device().unwrap().uuid().unwrap(), gpu.uuid().unwrap());
    assert_eq!(nvml.device_by_uuid(instance.uuid.as_str()).unwrap().name().unwrap(), third.name().unwrap());
    assert_eq!(third.attributes().unwrap().multiprocessor_count, 16);
    assert_eq!(third.memory_info().unwrap().used, 3 * GB);
    assert_eq!(third.running_compute_processes().unwrap().len(), 2);
    assert_eq!(gpu.mig_device_by_index(1).unwrap().memory_info().unwrap().used, 0);
    assert!(matches!(third.utilization_rates(), Err(NvmlError::NotSupported)));
    assert!(matches!(gpu.utilization_rates(), Err(NvmlError::NotSupported)));
    // The whole GPU counts what its instances use, and says which instance it is.
    assert_eq!(gpu.memory_info().unwrap().used, 3 * GB);
    let processes = gpu.running_compute_processes().unwrap();
    assert!(processes.iter().all(|process| process.gpu_instance_id == Some(instance.gpu_instance)));

    folder.update(|state| state.gpus[1].mig = Mig::Instances(Vec::new()));
    assert!(third.memory_info().is_err());
}

#[test]
fn a_gpu_falls_off_the_bus_and_its_error_is_told() {
    let Some(folder) = on_a_machine("a_gpu_falls_off_the_bus_and_its_error_is_told", "2xA100-40") else { return };
    folder.update(|state| {
        state.gpus[1].xids.push(31);
        state.gpus[1].ecc = Some(Ecc { enabled: true, uncorrected: 2, ..Ecc::default() });
    });
    let nvml = Nvml::init().unwrap();
    let gpu = nvml.device_by_index(1).unwrap();
    assert_eq!(gpu.total_ecc_errors(MemoryError::Uncorrected, EccCounter::Volatile).unwrap(), 2);
    let set = nvml.create_event_set().unwrap();
    let set = gpu.register_events(EventTypes::CRITICAL_XID_ERROR, set).map_err(|error| error.error).unwrap();
    // The old error is not news.
    assert!(matches!(set.wait(0), Err(NvmlError::Timeout)));

    let uuid = gpu.uuid().unwrap();
    folder.update(|state| {
        let gpu = state.gpu_mut(&uuid).unwrap();
        gpu.xids.push(79);
        gpu.lost = true;
    });
    let EventData { event_data, .. } = set.wait(5000).unwrap();
    assert_eq!(format!("{event_data:?}"), format!("{:?}", Some(nvml_wrapper::enums::event::XidError::Value(79))));
    assert!(matches!(gpu.memory_info(), Err(NvmlError::GpuLost)));
    assert!(matches!(gpu.temperature(TemperatureSensor::Gpu), Err(NvmlError::GpuLost)));
    assert!(matches!(nvml.device_by_index(1), Err(NvmlError::GpuLost)));
    assert_eq!(nvml.device_count().unwrap(), 2);
    assert!(nvml.device_by_index(0).unwrap().memory_info().is_ok());

    folder.update(|state| state.gpus[1].lost = false);
    assert!(gpu.memory_info().is_ok());
}

#[test]
fn a_driver_that_does_not_work_says_why() {
    let Some(folder) = on_a_machine("a_driver_that_does_not_work_says_why", "1xL4") else { return };
    for (code, expected) in
        [(9, NvmlError::DriverNotLoaded), (4, NvmlError::NoPermission), (18, NvmlError::LibRmVersionMismatch)]
    {
        folder.update(|state| state.init_error = Some(code));
        let error = Nvml::init().expect_err("the driver does not work");
        assert_eq!(error.to_string(), expected.to_string());
    }
    folder.update(|state| state.init_error = None);
    assert_eq!(Nvml::init().unwrap().device_count().unwrap(), 1);
}

#[test]
fn a_gpu_hangs_until_it_is_let_go() {
    let Some(folder) = on_a_machine("a_gpu_hangs_until_it_is_let_go", "2xL40S") else { return };
    let nvml = Nvml::init().unwrap();
    let (first, second) = (nvml.device_by_index(0).unwrap(), nvml.device_by_index(1).unwrap());
    folder.update(|state| state.gpus[1].hang_seconds = 600.0);
    std::thread::scope(|scope| {
        let (told, hears) = std::sync::mpsc::channel();
        scope.spawn(move || told.send(second.temperature(TemperatureSensor::Gpu).unwrap()));
        assert!(first.temperature(TemperatureSensor::Gpu).is_ok());
        assert!(hears.recv_timeout(Duration::from_millis(300)).is_err());
        folder.update(|state| state.gpus[1].hang_seconds = 0.0);
        assert_eq!(hears.recv_timeout(Duration::from_secs(10)), Ok(33));
    });
}

#[test]
fn no_gpus_are_no_error() {
    let Some(folder) = on_a_machine("no_gpus_are_no_error", "1xT4") else { return };
    folder.update(|state| state.gpus.clear());
    assert_eq!(Nvml::init().unwrap().device_count().unwrap(), 0);
}

fn bytes(memory: UsedGpuMemory) -> Option<u64> {
    match memory {
        UsedGpuMemory::Used(bytes) => Some(bytes),
        UsedGpuMemory::Unavailable => None,
    }
}
