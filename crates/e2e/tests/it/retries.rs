//! Failures that are not a training's own are tried again; its own are not.

use crate::{
    machine::Machine,
    support::{fine_tune, path, script, since_launch, tiny, wait_status, wait_until},
};

#[test]
fn a_training_whose_gpu_is_lost_goes_on_on_another() {
    let machine = Machine::configured("2xRTX3060", "[tasks]\nretry_after = \"0s\"\n", |_| {});
    let client = machine.client();
    let mut task = fine_tune(&tiny(&machine.studio), 100);
    task.fine_tune.as_mut().unwrap().seed = Some(7);
    let last_loss = |id: &str| client.metrics(id).unwrap().train.last().expect("it made steps").loss;
    let undisturbed = machine.submit(&task);
    wait_status(&client, &undisturbed, "completed");

    let id = machine.submit(&task);
    wait_until(&client, &id, "to make some steps", |task| task.progress.step > 20);
    let first = client.task(&id).unwrap().attempt.unwrap().devices;
    assert_eq!(first, [machine.uuid(0)]);
    machine.gpus.update(|state| {
        state.gpus[0].xids.push(79);
        state.gpus[0].lost = true;
    });
    wait_status(&client, &id, "completed");
    assert_eq!(since_launch(&client, &id), ["preparing", "training", "queued", "preparing", "training", "completed"]);
    let why = client.journal(&id).unwrap().into_iter().rfind(|entry| entry.to == "queued").unwrap().why;
    assert_eq!(why, "device-lost; tried again");
    let (with, without) = (last_loss(&id), last_loss(&undisturbed));
    assert!((with - without).abs() < 1e-6, "{with} instead of {without}");

    let own_fault = machine.submit(&script(&machine.studio, "exit 3"));
    wait_status(&client, &own_fault, "failed");
    assert_eq!(path(&client, &own_fault).iter().filter(|state| *state == "preparing").count(), 1);
}
