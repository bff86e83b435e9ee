//! What can be wrong with a checkpoint's weights.

use std::fmt;
use std::path::PathBuf;

/// Everything that is wrong with a checkpoint's weights, at once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct WeightsError {
    /// The checkpoint's directory.
    pub dir: PathBuf,
    /// At least one.
    pub faults: Vec<WeightFault>,
}

impl fmt::Display for WeightsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the weights in {} cannot be used:", self.dir.display())?;
        self.faults.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

/// One fault. Files are named without their directory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WeightFault {
    /// Neither a weights file nor an index.
    #[error(
        "there is no model.safetensors and no model.safetensors.index.json{}",
        if *.has_pickle { "; the pytorch_model.bin beside it can run code when read: convert it to safetensors" } else { "" }
    )]
    NoWeights {
        /// There are PyTorch pickles instead.
        has_pickle: bool,
    },
    /// A file that the system does not let us read.
    #[error("{file}: {what}")]
    Unreadable {
        /// The file.
        file: String,
        /// The system's words.
        what: String,
    },
    /// A file that does not hold what its name promises.
    #[error("{file}: {what}")]
    Malformed {
        /// The file.
        file: String,
        /// What is wrong.
        what: String,
    },
    /// A file shorter or longer than its header says: an interrupted download.
    #[error("{file} has {found_bytes} bytes, its header promises {expected_bytes}: download it again")]
    WrongLength {
        /// The file.
        file: String,
        /// Its length.
        found_bytes: u64,
        /// The length that its header implies.
        expected_bytes: u64,
    },
    /// The index names a file that is not there.
    #[error("{file} is not there, but the index places {num_tensors} tensors in it, `{tensor}` among them")]
    ShardAbsent {
        /// The file.
        file: String,
        /// Tensors that the index places in it.
        num_tensors: usize,
        /// The first of them.
        tensor: String,
    },
    /// The index places a tensor in a file that does not hold it.
    #[error("{file} does not hold `{tensor}`, though the index says so")]
    NotInShard {
        /// The tensor.
        tensor: String,
        /// The file.
        file: String,
    },
    /// A tensor that the model needs is nowhere.
    #[error("`{tensor}` is missing{}", similar.as_ref().map(|name| format!("; did you mean `{name}`?")).unwrap_or_default())]
    Missing {
        /// The tensor.
        tensor: String,
        /// An unused tensor with a similar name.
        similar: Option<String>,
    },
    /// A tensor of another shape.
    #[error("`{tensor}` is {found:?}, the model needs {expected:?} ({file})")]
    Shape {
        /// The tensor.
        tensor: String,
        /// The file that holds it.
        file: String,
        /// Its shape.
        found: Vec<usize>,
        /// The shape that the configuration implies.
        expected: Vec<usize>,
    },
    /// A tensor of a type that the kernels do not read.
    #[error("`{tensor}` is {found}; bfloat16, float16 and float32 can be read ({file})")]
    Dtype {
        /// The tensor.
        tensor: String,
        /// The file that holds it.
        file: String,
        /// Its type, as safetensors calls it.
        found: String,
    },
}
