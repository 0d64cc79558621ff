use std::fs::File;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use runner::{Chunk, End, FileFollower};

use crate::fixture::{Dice, Fixture};

pub async fn appends_are_seen_as_they_come(f: Fixture) {
    let path = f.path("grows");
    let mut follower = FileFollower::open(&path, 0).unwrap();
    let mut late = FileFollower::open(&path, 6).unwrap();
    assert_eq!(follower.read_now().unwrap(), None);

    let next = tokio::spawn(async move { (follower.next().await.unwrap(), follower) });
    tokio::task::yield_now().await;
    let mut file = File::create(&path).unwrap();
    file.write_all(b"first ").unwrap();
    let (chunk, mut follower) = next.await.unwrap();
    assert_eq!(chunk, Chunk { offset: 0, bytes: b"first ".to_vec() });

    let next = tokio::spawn(async move { (follower.next().await.unwrap(), follower) });
    tokio::task::yield_now().await;
    file.write_all(b"second").unwrap();
    let (chunk, mut follower) = next.await.unwrap();
    assert_eq!(chunk, Chunk { offset: 6, bytes: b"second".to_vec() });
    assert_eq!(late.next().await.unwrap(), chunk);
    assert_eq!(follower.read_now().unwrap(), None);

    file.write_all(&[b'x'; 100_000]).unwrap();
    assert_eq!(follower.next().await.unwrap(), Chunk { offset: 12, bytes: vec![b'x'; 65_536] });
    assert_eq!(follower.next().await.unwrap(), Chunk { offset: 65_548, bytes: vec![b'x'; 34_464] });

    file.set_len(0).unwrap();
    assert_eq!(follower.read_now().unwrap(), None, "an empty file has nothing to read again");
}

pub async fn a_capped_log_keeps_its_offsets(f: Fixture) {
    const LINES: u64 = 2 << 20;
    let mut spec = f.spec(&format!("yes 0123456789abcde | head -n {LINES}; echo end"));
    spec.log_cap = 4 << 20;
    f.launcher.launch(&spec).unwrap();
    let record = f.end().await;
    assert_eq!(record.end, End::Exited { exit_code: 0 });

    let log = std::fs::metadata(&spec.log).unwrap();
    let size = LINES * 16 + 4;
    assert_eq!(log.len(), size);
    assert!(log.blocks() * 512 <= spec.log_cap + 8192, "{} bytes on disk", log.blocks() * 512);
    assert!(size - record.lost_log_bytes <= spec.log_cap, "{} lost", record.lost_log_bytes);

    let mut follower = FileFollower::open(&spec.log, 0).unwrap();
    let (mut read, mut holes, mut next) = (Vec::new(), 0, 0);
    while let Some(chunk) = follower.read_now().unwrap() {
        holes += chunk.offset - next;
        next = chunk.offset + chunk.bytes.len() as u64;
        // Every byte is where the task wrote it.
        let line = b"0123456789abcde\n";
        let expected = (chunk.offset..next)
            .map(|at| if at < size - 4 { line[at as usize % 16] } else { b"end\n"[(at + 4 - size) as usize] });
        assert!(expected.eq(chunk.bytes.iter().copied()), "at {}", chunk.offset);
        read.extend(chunk.bytes);
    }
    assert_eq!((holes, next), (record.lost_log_bytes, size));
    assert!(read.len() >= 1 << 20 && holes > 0);
}

/// 1 GiB as fast as it can be written: the disk stays bounded all the while, and who follows the log stays responsive.
pub async fn a_flood_neither_fills_the_disk_nor_keeps_its_reader_busy(f: Fixture) {
    const SIZE: u64 = 1 << 30;
    let mut spec = f.spec(&format!("head -c {SIZE} /dev/zero | tr '\\0' x; echo; echo end"));
    spec.log_cap = 16 << 20;
    f.start(&spec).await;
    let mut follower = FileFollower::open(&spec.log, 0).unwrap().keep_up(1 << 20);
    let attempt = f.attempt();
    let mut end = std::pin::pin!(runner::wait_end(&attempt));
    let (mut read, mut most_on_disk, mut longest_pause, mut last) = (0, 0, Duration::ZERO, Instant::now());
    let mut tick = tokio::time::interval(Duration::from_millis(5));
    let ended = loop {
        tokio::select! {
            biased;
            end = &mut end => break end.unwrap(),
            chunk = follower.next() => read += chunk.unwrap().bytes.len() as u64,
            // What else lives on this thread, such as the answer to somebody's request.
            _ = tick.tick() => {
                longest_pause = longest_pause.max(last.elapsed());
                last = Instant::now();
                most_on_disk = most_on_disk.max(std::fs::metadata(&spec.log).unwrap().blocks() * 512);
            }
        }
    };
    let runner::AttemptEnd::Ended(record) = ended else { panic!("{ended:?}") };
    assert_eq!(record.end, End::Exited { exit_code: 0 });
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    eprintln!(
        "{:.0} MiB/s written, {:.0} MiB of them read, at most {:.0} MiB on disk, others waited at most {longest_pause:?}",
        mib(SIZE) / record.seconds,
        mib(read),
        mib(most_on_disk)
    );
    // The supervisor looks 20 times a second, but on a busy machine it is not always its turn.
    let written_between_looks = (SIZE as f64 / record.seconds) as u64;
    assert!(most_on_disk < spec.log_cap + written_between_looks, "{most_on_disk} bytes on disk");
    assert!(read < SIZE, "what was written faster than it was read is left out");
    // Without giving way it would be all the seconds that the flood takes.
    assert!(longest_pause < Duration::from_secs(2), "{longest_pause:?}");

    let mut rest = Vec::new();
    while let Some(chunk) = follower.read_now().unwrap() {
        rest.extend(chunk.bytes);
    }
    assert!(rest.ends_with(b"\nend\n"), "the end of the log is always read");
    assert_eq!(std::fs::metadata(&spec.log).unwrap().len(), SIZE + 5, "offsets are those that the task wrote at");
}

pub async fn a_follower_leaves_out_only_what_it_is_told_to(f: Fixture) {
    let path = f.path("grows");
    std::fs::write(&path, "0123456789").unwrap();
    let mut all = FileFollower::open(&path, 0).unwrap();
    let mut newest = FileFollower::open(&path, 0).unwrap().keep_up(4);
    assert_eq!(all.next().await.unwrap(), Chunk { offset: 0, bytes: b"0123456789".to_vec() });
    assert_eq!(newest.next().await.unwrap(), Chunk { offset: 6, bytes: b"6789".to_vec() });
    let mut dice = Dice::new(3);
    let mut file = File::options().append(true).open(&path).unwrap();
    let mut seen = Vec::new();
    for _ in 0..50 {
        file.write_all(&vec![b'a'; 1 + dice.below(4) as usize]).unwrap();
        seen.extend(newest.read_now().unwrap().unwrap().bytes);
    }
    assert_eq!(seen.len() as u64, file.metadata().unwrap().len() - 10, "nothing is left out while it keeps up");
}
