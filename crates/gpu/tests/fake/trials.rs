use std::time::Duration;

use domain::DeviceId;
use fakegpu::ExternalProcess;
use gpu::{Trial, TrialError, TrialReport, trial};

use crate::machine::{DEADLINE, GIB, Machine};

const CONTEXT: u64 = 600 << 20;

fn machine() -> Machine {
    let machine = Machine::new("2xH100");
    machine.fake.update(|state| state.cuda.context_bytes = CONTEXT);
    machine
}

fn free(machine: &Machine, gpu: usize) -> u64 {
    machine.sweep().devices[gpu].memory.unwrap().free
}

fn run(machine: &Machine, device: &str, bytes: u64, free_before: Option<u64>) -> Result<TrialReport, TrialError> {
    let device = DeviceId(device.into());
    let command = machine.command("gpu-trial");
    trial(&Trial { command: &command, device: &device, bytes, free_before, task: None, deadline: DEADLINE })
}

#[test]
fn what_fits_fits_with_its_context_and_is_given_back() {
    let machine = machine();
    let uuid = &machine.fake.state().unwrap().gpus[1].uuid;
    let free = free(&machine, 1);
    let report = run(&machine, uuid, free, Some(free)).expect("everything, the context included");
    assert_eq!(report.context_bytes, Some(CONTEXT));
    assert_eq!(report.allocated_bytes, free - CONTEXT);
    assert_eq!(report.free_bytes, free - CONTEXT);
    assert!(report.seconds > 0.0 && !report.skipped);
    assert_eq!(machine.fake.claims(), [], "given back");

    let without = run(&machine, uuid, 10 * GIB, None).unwrap();
    assert_eq!((without.context_bytes, without.allocated_bytes), (None, 10 * GIB));
}

#[test]
fn what_somebody_else_holds_does_not_fit() {
    let machine = machine();
    let gpu = machine.fake.state().unwrap().gpus.remove(0);
    let before = free(&machine, 0);
    machine.fake.update(|state| state.gpus[0].processes.push(ExternalProcess::compute(1, "vllm", 61_000_000_000)));
    let after = before - 61_000_000_000;
    assert_eq!(
        run(&machine, &gpu.uuid, 40 * GIB, Some(after)),
        Err(TrialError::NotEnough { free: after, needed: 40 * GIB })
    );
    assert!(run(&machine, &gpu.uuid, 15 * GIB, Some(after)).is_ok(), "beside it there is room");
    // It came between the reading and the trial: what the context took cannot be told then.
    let raced = run(&machine, &gpu.uuid, 40 * GIB, Some(before));
    assert_eq!(raced, Err(TrialError::NotEnough { free: after - CONTEXT, needed: 40 * GIB }));

    machine.fake.update(|state| state.cuda.oom_above = Some(5 * GIB));
    let liar = run(&machine, &gpu.uuid, 10 * GIB, Some(after));
    assert!(matches!(liar, Err(TrialError::NotEnough { needed, .. }) if needed == 10 * GIB), "{liar:?}");
}

#[test]
fn a_mig_instance_has_its_own_memory() {
    let machine = machine();
    machine.fake.update(|state| assert!(state.gpus[0].split(2)));
    let instance = machine.fake.state().unwrap().gpus[0].instances()[1].clone();
    assert!(run(&machine, &instance.uuid, 8 * GIB, None).is_ok());
    let too_much = run(&machine, &instance.uuid, 20 * GIB, None);
    assert!(matches!(too_much, Err(TrialError::NotEnough { free, .. }) if free < 10 * GIB), "{too_much:?}");
}

#[test]
fn a_device_that_is_not_there_is_an_error_of_cuda() {
    let machine = machine();
    let result = run(&machine, "GPU-00000000-0000-4000-8000-000000000099", GIB, None);
    assert_eq!(result, Err(TrialError::Cuda { code: 100, name: "CUDA_ERROR_NO_DEVICE".into() }));
}

#[test]
fn a_library_that_is_missing_and_a_command_that_does_not_exist_are_told() {
    let machine = machine();
    for name in ["libcuda.so.1", "libcuda.so"] {
        std::fs::remove_file(machine.fake.library_folder().join(name)).unwrap();
    }
    let uuid = &machine.fake.state().unwrap().gpus[0].uuid;
    let result = run(&machine, uuid, GIB, None);
    assert!(matches!(result, Err(TrialError::NoLibrary(_))), "{result:?}");

    let device = DeviceId(uuid.clone());
    let command = ["/nonexistent/sage".into()];
    let nobody =
        Trial { command: &command, device: &device, bytes: 1, free_before: None, task: None, deadline: DEADLINE };
    assert!(matches!(trial(&nobody), Err(TrialError::Died(_))));
}

#[test]
fn a_trial_does_not_wait_longer_than_its_deadline() {
    let machine = machine();
    machine.fake.update(|state| state.cuda.init_seconds = 30.0);
    let device = DeviceId(machine.fake.state().unwrap().gpus[0].uuid.clone());
    let command = machine.command("gpu-trial");
    let deadline = Duration::from_millis(300);
    let began = std::time::Instant::now();
    let result =
        trial(&Trial { command: &command, device: &device, bytes: GIB, free_before: None, task: None, deadline });
    assert_eq!(result, Err(TrialError::TimedOut(deadline)));
    assert!(began.elapsed() < DEADLINE);
}

#[test]
fn only_nvidia_devices_are_tried() {
    let machine = machine();
    assert!(run(&machine, "SIM-0", GIB, None).unwrap().skipped);
    assert!(run(&machine, "AMD-0000:03:00.0", GIB, None).unwrap().skipped);
}
