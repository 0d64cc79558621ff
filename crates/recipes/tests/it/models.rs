use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use domain::Home;
use recipes::models::{self, HubCache, LocalModel, ModelError, ModelRef, Source};

struct Machine {
    temp: tempfile::TempDir,
    home: Home,
    cache: HubCache,
}

impl Machine {
    fn new() -> Machine {
        let temp = tempfile::tempdir().unwrap();
        let home = Home::new(temp.path().join("home"));
        let cache = HubCache { root: Some(temp.path().join("hub")) };
        Machine { temp, home, cache }
    }

    fn resolve(&self, name: &str) -> Result<ModelRef, ModelError> {
        models::resolve(name, &self.home, &self.cache)
    }

    /// A model as Hugging Face's tools cache it: content under blobs, links under snapshots.
    fn cached(&self, folder: &str, commit: &str) -> PathBuf {
        let model = self.cache.root.as_ref().unwrap().join(folder);
        let (blobs, snapshot) = (model.join("blobs"), model.join("snapshots").join(commit));
        make_model(&blobs);
        fs::create_dir_all(&snapshot).unwrap();
        for name in ["config.json", "model.safetensors"] {
            symlink(format!("../../blobs/{name}"), snapshot.join(name)).unwrap();
        }
        snapshot
    }
}

fn make_model(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("config.json"), r#"{"architectures":["Qwen2ForCausalLM"]}"#).unwrap();
    fs::write(folder.join("model.safetensors"), [0; 1000]).unwrap();
}

#[test]
fn a_folder_is_a_model_if_it_has_all_of_one() {
    let machine = Machine::new();
    let folder = machine.temp.path().canonicalize().unwrap().join("my model");
    let name = folder.to_str().unwrap();
    assert!(matches!(machine.resolve(name), Err(ModelError::NoConfig { .. })));
    make_model(&folder);
    assert_eq!(machine.resolve(name), Ok(ModelRef::Local(folder.clone())));

    fs::remove_file(folder.join("model.safetensors")).unwrap();
    assert_eq!(machine.resolve(name), Err(ModelError::NoWeights { folder: folder.clone() }));
    let index = r#"{"weight_map":{"a":"model-1.safetensors","b":"model-2.safetensors","c":"model-2.safetensors"}}"#;
    fs::write(folder.join("model.safetensors.index.json"), index).unwrap();
    fs::write(folder.join("model-1.safetensors"), "").unwrap();
    assert_eq!(machine.resolve(name), Err(ModelError::NoWeights { folder: folder.clone() }), "a shard is missing");
    fs::write(folder.join("model-2.safetensors"), "").unwrap();
    assert_eq!(machine.resolve(name), Ok(ModelRef::Local(folder)));
}

#[test]
fn names_are_looked_up_at_home_then_in_the_cache_then_left_to_the_hub() {
    let machine = Machine::new();
    let id = "Qwen/Tiny-0.5B";
    assert_eq!(machine.resolve(id), Ok(ModelRef::Hub { id: id.into() }));

    let snapshot = machine.cached("models--Qwen--Tiny-0.5B", "abc");
    assert_eq!(machine.resolve(id), Ok(ModelRef::Local(snapshot)), "without a ref the newest snapshot is taken");
    let main = machine.cached("models--Qwen--Tiny-0.5B", "def");
    fs::create_dir_all(main.join("../../refs")).unwrap();
    fs::write(main.join("../../refs/main"), "def\n").unwrap();
    assert_eq!(machine.resolve(id), Ok(ModelRef::Local(main)));

    let own = models::folder_of(id, &machine.home);
    make_model(&own);
    assert_eq!(machine.resolve(id), Ok(ModelRef::Local(own.clone())));
    assert_eq!(machine.resolve("Qwen--Tiny-0.5B"), Ok(ModelRef::Local(own)));

    for unknown in ["tiny", "", "..", "a/b/c", "Qwen/../x", "qwen model", "~/model"] {
        assert!(machine.resolve(unknown).is_err(), "{unknown:?}");
    }
}

#[test]
fn a_cached_model_with_a_missing_blob_is_none() {
    let machine = Machine::new();
    let snapshot = machine.cached("models--a--b", "abc");
    fs::remove_file(snapshot.join("../../blobs/model.safetensors")).unwrap();
    assert_eq!(machine.resolve("a/b"), Ok(ModelRef::Hub { id: "a/b".into() }));
    assert_eq!(models::list(&machine.home, &machine.cache), []);
}

#[test]
fn the_list_has_every_complete_model_once() {
    let machine = Machine::new();
    assert_eq!(models::list(&machine.home, &machine.cache), []);
    assert_eq!(models::list(&machine.home, &HubCache::default()), []);
    machine.cached("models--Qwen--Tiny", "abc");
    let other = machine.cached("models--Aya--Other", "abc");
    machine.cached("datasets--x--y", "abc");
    make_model(&machine.home.models().join("Qwen--Tiny"));
    make_model(&machine.home.models().join("mine"));
    make_model(&machine.home.models().join(".fetching"));
    fs::create_dir_all(machine.home.models().join("empty")).unwrap();

    let listed = models::list(&machine.home, &machine.cache);
    let model = |name: &str, source, path| LocalModel {
        name: name.into(),
        source,
        path,
        bytes: 1000 + 38,
        architecture: Some("Qwen2ForCausalLM".into()),
    };
    let expected = [
        model("Aya/Other", Source::HubCache, other),
        model("Qwen/Tiny", Source::Home, machine.home.models().join("Qwen--Tiny")),
        model("mine", Source::Home, machine.home.models().join("mine")),
    ];
    assert_eq!(listed, expected);
    for model in listed {
        assert_eq!(machine.resolve(&model.name), Ok(ModelRef::Local(model.path)));
    }
}
