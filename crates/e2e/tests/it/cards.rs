//! Twelve trainings of mixed size share four cards, and check themselves that none gets in another's way.

use std::{collections::BTreeMap, fs};

use api_types::{CommandRequest, SubmitTask};
use domain::{FineTune, Recipe};

use crate::{
    machine::{Machine, beside_sage},
    support::{tiny, wait_status},
};

const GIB: u64 = 1 << 30;
/// GPUs, GiB on each, epochs.
const TASKS: [(u32, u64, u32); 12] = [
    (1, 10, 6),
    (2, 20, 3),
    (1, 6, 9),
    (1, 22, 4),
    (1, 3, 12),
    (4, 12, 2),
    (1, 8, 6),
    (2, 5, 5),
    (1, 21, 3),
    (1, 11, 8),
    (1, 2, 10),
    (3, 9, 2),
];

#[test]
fn nothing_overlaps_beyond_its_grant() {
    let machine = Machine::new("4xRTX4090");
    let (model, data) = tiny(&machine.studio);
    let home = machine.studio.home().root().to_owned();
    // Takes on each of its cards what it was granted, which the driver refuses where there is not so much, trains for
    // real, and writes down when it had which card.
    let body = r#"
for card in $(echo "$CUDA_VISIBLE_DEVICES" | tr , ' '); do
    mkfifo "$SAGE_TASK_ID.$card"
    "$HOLD" --device "$card" --bytes "$BYTES" < "$SAGE_TASK_ID.$card" > "held.$SAGE_TASK_ID.$card" || echo "$SAGE_TASK_ID on $card" >> refused &
    eval "exec $((3 + n))> $SAGE_TASK_ID.$card"; n=$((n + 1))
    until [ -s "held.$SAGE_TASK_ID.$card" ] || [ -e refused ]; do sleep 0.005; done
done
began=$(date +%s%N)
"$SAGE" train --recipe "$RECIPE" --output "out.$SAGE_TASK_ID" --no-probe; code=$?
ended=$(date +%s%N)
for card in $(echo "$CUDA_VISIBLE_DEVICES" | tr , ' '); do echo "$card $BYTES $began $ended" >> used; done
exec 3>&- 4>&- 5>&- 6>&-; wait
exit $code
"#;
    let submit = |(gpus, gib, epochs): (u32, u64, u32)| {
        let recipe = home.join(format!("recipe-{gpus}-{gib}-{epochs}.json"));
        let fine_tune = FineTune {
            model_name: model.display().to_string(),
            dataset_file: data.display().to_string(),
            num_epochs: epochs,
            batch_size: 4,
            max_length: 64,
            ..FineTune::default()
        };
        fs::write(&recipe, serde_json::to_string(&Recipe::FineTune(fine_tune)).unwrap()).unwrap();
        let env = [
            ("HOLD", beside_sage("fakegpu-hold").display().to_string()),
            ("SAGE", beside_sage("sage").display().to_string()),
            ("RECIPE", recipe.display().to_string()),
            ("BYTES", format!("{gib}GiB")),
            ("n", "0".into()),
        ];
        let command = CommandRequest {
            argv: ["sh", "-c", body].map(str::to_owned).to_vec(),
            cwd: home.display().to_string(),
            env: env.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            // The driver's own part of a process that uses the card comes on top.
            memory_bytes: Some(gib * GIB + GIB / 2),
            gpus: Some(gpus),
            share: true,
        };
        machine.submit(&SubmitTask { command: Some(command), ..SubmitTask::default() })
    };
    let tasks: Vec<String> = TASKS.into_iter().map(submit).collect();
    for task in &tasks {
        wait_status(&machine.client(), task, "completed");
    }
    assert!(!home.join("refused").exists(), "{:?}", fs::read_to_string(home.join("refused")));

    let used = fs::read_to_string(home.join("used")).unwrap();
    let mut cards: BTreeMap<&str, Vec<(u64, u64, u64)>> = BTreeMap::new();
    for line in used.lines() {
        let [card, gib, began, ended] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let gib = gib.trim_end_matches("GiB").parse().unwrap();
        cards.entry(card).or_default().push((began.parse().unwrap(), ended.parse().unwrap(), gib));
    }
    let stays: usize = cards.values().map(Vec::len).sum();
    assert_eq!((cards.len(), stays), (4, TASKS.iter().map(|task| task.0 as usize).sum()));
    println!("idle between tasks, median: {:.1} ms", median(cards.values().flat_map(|stays| gaps(stays)).collect()));
    for (card, stays) in &cards {
        for (at, ..) in stays {
            let there = stays.iter().filter(|(began, ended, _)| began <= at && at < ended);
            let (count, gib) = there.fold((0, 0), |(count, sum), (.., gib)| (count + 1, sum + gib));
            assert!(count <= 3 && gib <= 24, "{count} tasks with {gib} GiB at once on {card}");
        }
    }
}

/// Milliseconds in which a card had nothing to do although one that waited took it afterwards; starting programs, taking
/// memory and making ready are part of it.
fn gaps(stays: &[(u64, u64, u64)]) -> Vec<f64> {
    let mut stays = stays.to_vec();
    stays.sort_unstable();
    let mut free_at = u64::MAX;
    let mut gaps = Vec::new();
    for (began, ended, _) in stays {
        if began > free_at {
            gaps.push((began - free_at) as f64 / 1e6);
        }
        free_at = if free_at == u64::MAX { ended } else { free_at.max(ended) };
    }
    gaps
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(0.0)
}
