//! The files that hold a checkpoint's tensors, and where each tensor is: headers only, no data.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde_json::Value;

use super::{WeightFault, WeightsError};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// Bytes of the header's length.
const LENGTH_BYTES: u64 = 8;
/// Longest header that is read; the format's own limit.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// The opened files of a checkpoint.
#[derive(Debug)]
pub(super) struct Shards {
    pub(super) dir: PathBuf,
    pub(super) files: Vec<Shard>,
    tensors: BTreeMap<String, Tensor>,
}

/// An opened file.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) name: String,
    pub(super) file: File,
}

/// Where a tensor is and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tensor {
    /// Index of its file.
    pub(super) shard: usize,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    /// First byte, from the start of the file.
    pub(super) first_byte: usize,
    pub(super) num_bytes: usize,
}

impl Shards {
    /// Opens a checkpoint's files and reads their headers.
    pub(super) fn open(dir: &Path) -> Result<Self, WeightsError> {
        let mut shards = Self { dir: dir.to_owned(), files: Vec::new(), tensors: BTreeMap::new() };
        let faults = match read_index(dir) {
            Ok(Some(index)) => shards.open_sharded(&index),
            Ok(None) if dir.join(SINGLE).exists() => shards.open_file(SINGLE).err().into_iter().collect(),
            Ok(None) => vec![WeightFault::NoWeights { has_pickle: has_pickle(dir) }],
            Err(fault) => vec![fault],
        };
        if faults.is_empty() { Ok(shards) } else { Err(WeightsError { dir: dir.to_owned(), faults }) }
    }

    pub(super) fn has(&self, tensor: &str) -> bool {
        self.tensors.contains_key(tensor)
    }

    pub(super) fn get(&self, tensor: &str) -> Option<&Tensor> {
        self.tensors.get(tensor)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    fn open_sharded(&mut self, index: &BTreeMap<String, String>) -> Vec<WeightFault> {
        let mut files: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (tensor, file) in index {
            files.entry(file).or_default().push(tensor);
        }
        let faults = files.iter().filter_map(|(file, tensors)| self.open_shard(file, tensors).err());
        let mut faults: Vec<_> = faults.collect();
        if faults.is_empty() {
            faults.extend(index.iter().filter_map(|(tensor, file)| self.misplaced(tensor, file)));
        }
        faults
    }

    fn open_shard(&mut self, file: &str, tensors: &[&str]) -> Result<(), WeightFault> {
        let is_plain = Path::new(file).file_name().is_some_and(|name| name == file);
        if !is_plain {
            let what = format!("names `{file}`, which is not a plain file name");
            return Err(WeightFault::Malformed { file: INDEX.into(), what });
        }
        if !self.dir.join(file).exists() {
            let tensor = tensors.first().map(|tensor| (*tensor).to_owned()).unwrap_or_default();
            return Err(WeightFault::ShardAbsent { file: file.into(), num_tensors: tensors.len(), tensor });
        }
        self.open_file(file)
    }

    fn misplaced(&self, tensor: &str, file: &str) -> Option<WeightFault> {
        let is_there = self.get(tensor).is_some_and(|found| self.files[found.shard].name == file);
        (!is_there).then(|| WeightFault::NotInShard { tensor: tensor.into(), file: file.into() })
    }

    fn open_file(&mut self, name: &str) -> Result<(), WeightFault> {
        let path = self.dir.join(name);
        let unreadable = |error: std::io::Error| WeightFault::Unreadable { file: name.into(), what: error.to_string() };
        let mut file = File::open(path).map_err(unreadable)?;
        let found_bytes = file.metadata().map_err(unreadable)?.len();
        let header = read_header(&mut file, found_bytes).map_err(unreadable)?;
        let header = header.ok_or_else(|| not_safetensors(name, &mut file))?;
        let metadata = parse_header(name, &header)?;
        let data_start = LENGTH_BYTES + header.len() as u64;
        let expected_bytes = data_start.saturating_add(metadata.data_len() as u64);
        if found_bytes != expected_bytes {
            return Err(WeightFault::WrongLength { file: name.into(), found_bytes, expected_bytes });
        }
        self.add(Shard { name: name.into(), file }, &metadata, data_start as usize)
    }

    fn add(&mut self, file: Shard, metadata: &Metadata, data_start: usize) -> Result<(), WeightFault> {
        let shard = self.files.len();
        for (name, info) in metadata.tensors() {
            let (start, end) = info.data_offsets;
            let (first_byte, num_bytes) = (data_start + start, end - start);
            let tensor = Tensor { shard, dtype: info.dtype, shape: info.shape.clone(), first_byte, num_bytes };
            if let Some(first) = self.tensors.get(&name) {
                let what = format!("holds `{name}`, which {} holds too", self.files[first.shard].name);
                return Err(WeightFault::Malformed { file: file.name, what });
            }
            self.tensors.insert(name, tensor);
        }
        self.files.push(file);
        Ok(())
    }
}

fn malformed(file: &str, what: impl Into<String>) -> WeightFault {
    WeightFault::Malformed { file: file.into(), what: what.into() }
}

/// The usual reason is a clone without the large files.
fn not_safetensors(name: &str, file: &mut File) -> WeightFault {
    const POINTER: &[u8] = b"version https://git-lfs";
    let mut start = [0; POINTER.len()];
    let is_pointer = file.seek(SeekFrom::Start(0)).is_ok() && file.read_exact(&mut start).is_ok() && start == POINTER;
    let pointer = "a Git LFS pointer, not the file itself: run `git lfs pull` in the checkpoint";
    malformed(name, if is_pointer { pointer } else { "not a safetensors file" })
}

/// The header's bytes, `None` if the file cannot have one.
fn read_header(file: &mut File, file_bytes: u64) -> std::io::Result<Option<Vec<u8>>> {
    if file_bytes < LENGTH_BYTES {
        return Ok(None);
    }
    let mut length = [0; LENGTH_BYTES as usize];
    file.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER_BYTES || length > file_bytes - LENGTH_BYTES {
        return Ok(None);
    }
    let mut header = vec![0; length as usize];
    file.read_exact(&mut header)?;
    Ok(Some(header))
}

/// Offsets that overlap, leave gaps or disagree with the shapes are refused by the library.
fn parse_header(name: &str, header: &[u8]) -> Result<Metadata, WeightFault> {
    serde_json::from_slice(header).map_err(|error| malformed(name, format!("the header is not usable: {error}")))
}

/// Tensor to file, `None` where there is no index.
fn read_index(dir: &Path) -> Result<Option<BTreeMap<String, String>>, WeightFault> {
    let path = dir.join(INDEX);
    if !path.exists() {
        return Ok(None);
    }
    let text =
        std::fs::read(path).map_err(|error| WeightFault::Unreadable { file: INDEX.into(), what: error.to_string() })?;
    let index: Value = serde_json::from_slice(&text).map_err(|error| malformed(INDEX, format!("not JSON: {error}")))?;
    let map = index.get("weight_map").and_then(Value::as_object);
    let map = map.ok_or_else(|| malformed(INDEX, "there is no object `weight_map`"))?;
    let entry = |(tensor, file): (&String, &Value)| match file.as_str() {
        Some(file) => Ok((tensor.clone(), file.to_owned())),
        None => Err(malformed(INDEX, format!("the file of `{tensor}` is {file}, not a name"))),
    };
    map.iter().map(entry).collect::<Result<_, _>>().map(Some)
}

fn has_pickle(dir: &Path) -> bool {
    ["pytorch_model.bin", "pytorch_model.bin.index.json"].iter().any(|name| dir.join(name).exists())
}
