use std::collections::BTreeMap;
use std::io::{self, Read};
use std::os::unix::fs::symlink;
use std::{fs, path::Path};

use domain::TaskId;
use flate2::read::GzDecoder;
use recipes::archive;

const ID: TaskId = TaskId { unix_seconds: 1_760_000_000, number: 4 };

fn entries(bytes: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(GzDecoder::new(bytes));
    let read = |entry: io::Result<tar::Entry<'_, _>>| {
        let mut entry: tar::Entry<'_, GzDecoder<&[u8]>> = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        assert_eq!(entry.header().entry_type(), tar::EntryType::Regular);
        (entry.path().unwrap().display().to_string(), content)
    };
    archive.entries().unwrap().map(read).collect()
}

fn write(folder: &Path, name: &str, content: &[u8]) {
    fs::create_dir_all(folder.join(name).parent().unwrap()).unwrap();
    fs::write(folder.join(name), content).unwrap();
}

#[test]
fn the_archive_holds_the_results_and_nothing_else() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("task");
    let weights: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
    write(&folder, "adapter_model.safetensors", &weights);
    write(&folder, "adapter_config.json", b"{}");
    write(&folder, "training.log", b"done\n");
    write(&folder, "checkpoints/step-1/adapter_model.safetensors", b"old");
    write(&folder, "attempts/1/exit.json", b"{}");
    write(temp.path(), "secret", b"secret");
    symlink(temp.path().join("secret"), folder.join("metrics.jsonl")).unwrap();
    fs::create_dir(folder.join("README.md")).unwrap();

    let mut bytes = Vec::new();
    archive::write_adapter_archive(&folder, ID, &mut bytes).unwrap();
    let prefix = "finetune_1760000000_4_finetuned_model";
    let expected = [
        ("adapter_config.json", b"{}".to_vec()),
        ("adapter_model.safetensors", weights),
        ("training.log", b"done\n".to_vec()),
    ];
    assert_eq!(entries(&bytes), expected.map(|(name, content)| (format!("{prefix}/{name}"), content)).into());
    assert_eq!(archive::file_name(ID), format!("{prefix}.tar.gz"));
}

#[test]
fn without_an_adapter_there_is_no_archive() {
    let temp = tempfile::tempdir().unwrap();
    write(temp.path(), "training.log", b"started\n");
    let error = archive::write_adapter_archive(temp.path(), ID, io::sink()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);

    let link = temp.path().join("link");
    write(temp.path(), "real/adapter_model.safetensors", b"x");
    symlink(temp.path().join("real"), &link).unwrap();
    assert!(archive::write_adapter_archive(&link, ID, io::sink()).is_err(), "a task's folder is no link");
}

#[test]
fn a_full_fine_tune_gives_its_model() {
    let temp = tempfile::tempdir().unwrap();
    let files =
        ["model/config.json", "model/model-00001-of-00002.safetensors", "model/model-00002-of-00002.safetensors"];
    for name in files {
        write(temp.path(), name, name.as_bytes());
    }
    write(temp.path(), "recipe.json", b"{}");
    write(temp.path(), "secret", b"secret");
    symlink(temp.path().join("secret"), temp.path().join("model/linked.json")).unwrap();
    fs::create_dir(temp.path().join("model/folder")).unwrap();

    let mut bytes = Vec::new();
    archive::write_adapter_archive(temp.path(), ID, &mut bytes).unwrap();
    let found = entries(&bytes);
    let prefix = "finetune_1760000000_4_finetuned_model";
    let expected = files.iter().chain(&["recipe.json"]).map(|name| format!("{prefix}/{name}"));
    assert_eq!(found.keys().cloned().collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    assert_eq!(found[&format!("{prefix}/model/config.json")], b"model/config.json");

    for name in &files[1..] {
        fs::remove_file(temp.path().join(name)).unwrap();
    }
    let error = archive::write_adapter_archive(temp.path(), ID, io::sink()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound, "a model without weights is none");
}
