//! Models whose shape is known without their config.json: the values published with each.

use std::sync::LazyLock;

use serde::Deserialize;

use crate::estimate::ModelShape;

/// Models of one shape.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Hub ids.
    pub ids: Vec<String>,
    /// Those of them to recommend to somebody who has no model yet.
    pub recommend: Vec<String>,
    pub shape: ModelShape,
}

/// All entries, families together and the smallest first in each.
pub fn models() -> &'static [Entry] {
    static MODELS: LazyLock<Vec<Entry>> = LazyLock::new(|| {
        serde_json::from_str(include_str!("../data/models.json")).expect("the shipped catalogue is sound")
    });
    &MODELS
}

/// Shape of the model with this hub id.
pub fn shape(id: &str) -> Option<&'static ModelShape> {
    let has_it = |entry: &&Entry| entry.ids.iter().any(|known| known.eq_ignore_ascii_case(id));
    models().iter().find(has_it).map(|entry| &entry.shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shapes_have_the_parameters_that_their_publishers_count() {
        for (id, parameters) in [
            ("Qwen/Qwen2.5-0.5B-Instruct", 494_032_768),
            ("Qwen/Qwen2.5-Coder-1.5B", 1_543_714_304),
            ("Qwen/Qwen2.5-3B", 3_085_938_688),
            ("qwen/qwen2.5-7b-instruct", 7_615_616_512),
            ("Qwen/Qwen2.5-14B", 14_770_033_664),
            ("Qwen/Qwen2.5-Coder-32B-Instruct", 32_763_876_352),
            ("Qwen/Qwen2.5-72B-Instruct", 72_706_203_648),
            ("Qwen/Qwen3-0.6B", 596_049_920),
            ("Qwen/Qwen3-1.7B", 1_720_574_976),
            ("Qwen/Qwen3-4B", 4_022_468_096),
            ("Qwen/Qwen3-8B", 8_190_735_360),
            ("Qwen/Qwen3-14B", 14_768_307_200),
            ("Qwen/Qwen3-32B", 32_762_123_264),
            ("meta-llama/Llama-3.2-1B", 1_235_814_400),
            ("meta-llama/Llama-3.2-3B-Instruct", 3_212_749_824),
            ("meta-llama/Llama-3.1-8B", 8_030_261_248),
            ("meta-llama/Llama-3.3-70B-Instruct", 70_553_706_496),
            ("meta-llama/Llama-2-7b-hf", 6_738_415_616),
            ("meta-llama/Llama-2-13b-hf", 13_015_864_320),
            ("meta-llama/Llama-2-70b-hf", 68_976_648_192),
            ("mistralai/Mistral-7B-v0.1", 7_241_732_096),
            ("mistralai/Mistral-7B-Instruct-v0.3", 7_248_023_552),
        ] {
            assert_eq!(shape(id).map(ModelShape::parameters), Some(parameters), "{id}");
        }
        assert_eq!(shape("somebody/else"), None);
    }

    #[test]
    fn what_is_recommended_is_listed_and_nothing_twice() {
        let mut ids: Vec<&String> = models().iter().flat_map(|entry| &entry.ids).collect();
        let count = ids.len();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), count);
        for entry in models() {
            assert!(entry.recommend.iter().all(|id| entry.ids.contains(id)), "{:?}", entry.recommend);
        }
    }
}
