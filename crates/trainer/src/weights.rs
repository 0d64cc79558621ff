//! Reading safetensors: single files and sharded models, tensor by tensor, never a whole file at once.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde::Deserialize;

use crate::cpu::Bf16;
use crate::{Hint, TrainError, files};

/// Bytes of a header; the format allows no more.
const LARGEST_HEADER: u64 = 100_000_000;

/// A frozen weight, in the type in which the file has it (f16 is widened).
pub struct Frozen {
    pub rows: usize,
    pub columns: usize,
    pub numbers: Numbers,
}

pub enum Numbers {
    F32(Vec<f32>),
    Bf16(Vec<Bf16>),
}

impl Frozen {
    pub fn bytes(&self) -> usize {
        match &self.numbers {
            Numbers::F32(n) => 4 * n.len(),
            Numbers::Bf16(n) => 2 * n.len(),
        }
    }
}

/// The tensors of one or more safetensors files.
pub struct Weights {
    files: Vec<Tensors>,
    index: HashMap<String, usize>,
}

/// One safetensors file with its header.
struct Tensors {
    path: PathBuf,
    /// Bytes before the first tensor.
    start: u64,
    info: HashMap<String, TensorInfo>,
}

/// model.safetensors.index.json.
#[derive(Deserialize)]
struct Shards {
    weight_map: HashMap<String, String>,
}

impl Weights {
    /// The weights of a model folder.
    pub fn of_model(dir: &Path) -> Result<Self, TrainError> {
        let path = dir.join("model.safetensors.index.json");
        let Some(shards) = files::read_json_if_present::<Shards>(&path)? else {
            return Self::open(&[dir.join("model.safetensors")]);
        };
        let mut names: Vec<String> = shards.weight_map.into_values().collect();
        names.sort();
        names.dedup();
        if let Some(name) = names.iter().find(|name| Path::new(name).components().count() != 1) {
            return Err(TrainError::bad_file(path, format!("{name:?} is not a file name")));
        }
        Self::open(&names.iter().map(|name| dir.join(name)).collect::<Vec<_>>())
    }

    pub fn open(paths: &[PathBuf]) -> Result<Self, TrainError> {
        let files = paths.iter().map(|path| Tensors::open(path)).collect::<Result<Vec<_>, _>>()?;
        let names = files.iter().enumerate().flat_map(|(i, file)| file.info.keys().map(move |name| (name.clone(), i)));
        let index = names.collect();
        Ok(Self { files, index })
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.index.keys().map(String::as_str)
    }

    pub fn has(&self, name: &str) -> bool {
        self.index.contains_key(name)
    }

    /// A weight matrix.
    pub fn matrix(&self, name: &str, rows: usize, columns: usize) -> Result<Frozen, TrainError> {
        let numbers = self.read(name, &[rows, columns])?;
        Ok(Frozen { rows, columns, numbers })
    }

    /// Any tensor, as f32.
    pub fn f32(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, TrainError> {
        Ok(match self.read(name, shape)? {
            Numbers::F32(numbers) => numbers,
            Numbers::Bf16(numbers) => numbers.iter().map(|n| f32::from_bits((n.0 as u32) << 16)).collect(),
        })
    }

    /// Bytes that a tensor takes once it is read.
    pub fn held_bytes(&self, name: &str) -> u64 {
        self.find(name).map_or(0, |(_, info)| {
            let count = info.shape.iter().map(|side| *side as u64).product::<u64>();
            count * if info.dtype == Dtype::BF16 { 2 } else { 4 }
        })
    }

    fn find(&self, name: &str) -> Result<(&Tensors, &TensorInfo), TrainError> {
        let missing = || TrainError::MissingTensor { name: name.into() };
        let file = &self.files[*self.index.get(name).ok_or_else(missing)?];
        Ok((file, &file.info[name]))
    }

    fn read(&self, name: &str, shape: &[usize]) -> Result<Numbers, TrainError> {
        let (file, info) = self.find(name)?;
        if info.shape != shape {
            let (expected, found) = (shape.to_vec(), info.shape.clone());
            return Err(TrainError::TensorShape { name: name.into(), expected, found });
        }
        if !matches!(info.dtype, Dtype::F32 | Dtype::BF16 | Dtype::F16) {
            return Err(TrainError::TensorType { name: name.into(), found: format!("{:?}", info.dtype) });
        }
        let bytes = file.read(info)?;
        Ok(match info.dtype {
            Dtype::BF16 => Numbers::Bf16(bytes.as_chunks().0.iter().map(|b| Bf16(u16::from_le_bytes(*b))).collect()),
            Dtype::F16 => Numbers::F32(bytes.as_chunks().0.iter().map(|b| widen_f16(u16::from_le_bytes(*b))).collect()),
            _ => Numbers::F32(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()),
        })
    }
}

impl Tensors {
    fn open(path: &Path) -> Result<Self, TrainError> {
        const HINT: Hint = [
            "the weights have to be in safetensors format. Download the model again, or convert it",
            "权重必须是 safetensors 格式。请重新下载模型，或转换格式",
        ];
        if !path.exists() {
            return Err(TrainError::MissingFile { path: path.into(), hint: HINT });
        }
        let bad = |reason: String| TrainError::bad_file(path, reason);
        let io = |e| TrainError::read(path, e);
        let mut file = File::open(path).map_err(io)?;
        let total = file.metadata().map_err(io)?.len();
        let mut length = [0; 8];
        file.read_exact(&mut length).map_err(|_| bad("it is shorter than a safetensors header".into()))?;
        let length = u64::from_le_bytes(length);
        let start = length.checked_add(8).filter(|&start| start <= total);
        let start = start.ok_or_else(|| bad("its header is cut off".into()))?;
        if length > LARGEST_HEADER {
            return Err(bad(format!("its header would have {length} bytes, and {LARGEST_HEADER} are allowed")));
        }
        let mut header = vec![0; length as usize];
        file.read_exact(&mut header).map_err(io)?;
        let header: Metadata = serde_json::from_slice(&header).map_err(|e| bad(format!("its header is wrong: {e}")))?;
        let info: HashMap<String, TensorInfo> =
            header.tensors().into_iter().map(|(name, info)| (name, info.clone())).collect();
        for (name, info) in &info {
            let (from, to) = info.data_offsets;
            let count = info.shape.iter().try_fold(1usize, |count, side| count.checked_mul(*side));
            let bits = count.and_then(|count| count.checked_mul(info.dtype.bitsize()));
            let fits = from <= to && start.checked_add(to as u64).is_some_and(|end| end <= total);
            if !fits {
                return Err(bad(format!("tensor {name:?} lies beyond the end of the file")));
            }
            if bits != (to - from).checked_mul(8) {
                return Err(bad(format!("tensor {name:?} has a size that does not go with its shape")));
            }
        }
        Ok(Self { path: path.into(), start, info })
    }

    fn read(&self, info: &TensorInfo) -> Result<Vec<u8>, TrainError> {
        let (from, to) = info.data_offsets;
        let mut bytes = vec![0; to - from];
        let read = File::open(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.start + from as u64))?;
            file.read_exact(&mut bytes)
        });
        read.map_err(|e| TrainError::read(&self.path, e))?;
        Ok(bytes)
    }
}

/// Half precision (1 sign, 5 exponent, 10 fraction bits) to f32.
fn widen_f16(bits: u16) -> f32 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, fraction) = ((bits >> 10) & 31, (bits & 1023) as f32);
    match exponent {
        0 => sign * fraction * 2f32.powi(-24),
        31 if fraction == 0.0 => sign * f32::INFINITY,
        31 => f32::NAN,
        _ => sign * (1.0 + fraction / 1024.0) * 2f32.powi(exponent as i32 - 15),
    }
}

/// Serialises f32 tensors.
pub fn to_safetensors<'a>(tensors: impl IntoIterator<Item = (String, Vec<usize>, &'a [f32])>) -> Vec<u8> {
    struct Numbers<'a>(Vec<usize>, &'a [f32]);
    impl safetensors::View for Numbers<'_> {
        fn dtype(&self) -> Dtype {
            Dtype::F32
        }
        fn shape(&self) -> &[usize] {
            &self.0
        }
        fn data(&self) -> std::borrow::Cow<'_, [u8]> {
            self.1.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<_>>().into()
        }
        fn data_len(&self) -> usize {
            4 * self.1.len()
        }
    }
    let tensors = tensors.into_iter().map(|(name, shape, numbers)| (name, Numbers(shape, numbers)));
    let about = HashMap::from([("format".to_string(), "pt".to_string())]);
    safetensors::serialize(tensors, Some(about)).expect("names are unique and sizes go with shapes")
}

#[cfg(test)]
mod tests {
    use super::widen_f16;

    #[test]
    fn f16_is_widened_exactly() {
        let cases =
            [(0x3c00, 1.0), (0xc000, -2.0), (0x7bff, 65504.0), (0x0001, 2f32.powi(-24)), (0x3555, 0.333_251_95)];
        for (bits, value) in cases {
            assert_eq!(widen_f16(bits), value);
        }
        assert!(widen_f16(0x7e00).is_nan());
    }
}
