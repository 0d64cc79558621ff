//! What people write: cards, sizes, and the state itself.

use fakegpu::{Folder, Mig, State, parse_bytes};

#[test]
fn every_card_is_known_by_its_name_and_survives_its_file() {
    let known = "nonsense".parse::<State>().unwrap_err().to_string();
    let known = known.split_once("known cards: ").unwrap().1;
    assert_eq!(known.split(' ').count(), 18);
    let directory = tempfile::tempdir().unwrap();
    for card in known.split(' ') {
        let mut state: State = format!("2x{card}").parse().unwrap();
        assert_ne!(state.gpus[0].uuid, state.gpus[1].uuid);
        let splits = state.gpus[0].split(7);
        assert_eq!(splits, state.gpus[1].mig != Mig::NotSupported, "{card}");
        let instances: u64 = state.gpus[0].instances().iter().map(|instance| instance.total).sum();
        assert!(instances <= state.gpus[0].total - state.gpus[0].reserved, "{card}");
        let folder = Folder::create(directory.path(), &state).unwrap();
        assert_eq!(folder.state().unwrap(), state);
    }
}

#[test]
fn machines_are_described_in_a_word() {
    let names =
        |spec: &str| -> Vec<String> { spec.parse::<State>().unwrap().gpus.into_iter().map(|gpu| gpu.name).collect() };
    assert_eq!(names("8xH100").len(), 8);
    assert_eq!(names("h100"), ["NVIDIA H100 80GB HBM3"]);
    assert_eq!(names("2xA100-40+1xRTX3060")[1..], ["NVIDIA A100-SXM4-40GB", "NVIDIA GeForce RTX 3060"]);
    assert_eq!(names("0xH100").len(), 0);
    for bad in ["", "8x", "8xH1000", "xH100", "-1xH100", "65xH100", "2xH100+", "8 x H100"] {
        let error = bad.parse::<State>().unwrap_err().to_string();
        assert!(error.contains("8xH100") && error.contains("RTX4090"), "{bad}: {error}");
    }
}

#[test]
fn sizes_are_written_as_people_do() {
    assert_eq!(parse_bytes("61GB"), Ok(61_000_000_000));
    assert_eq!(parse_bytes("24GiB"), Ok(24 << 30));
    assert_eq!(parse_bytes("1.5 gb"), Ok(1_500_000_000));
    assert_eq!(parse_bytes("4096"), Ok(4096));
    for bad in ["", "GB", "-1GB", "lots", "1TBB", "inf"] {
        assert!(parse_bytes(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_misspelt_switch_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let folder = Folder::create(directory.path(), &"1xL4".parse().unwrap()).unwrap();
    let text = std::fs::read_to_string(folder.state_file()).unwrap();
    std::fs::write(folder.state_file(), text.replace("\"lost\"", "\"losst\"")).unwrap();
    assert!(folder.state().unwrap_err().to_string().contains("losst"));
}
