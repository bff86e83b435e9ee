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
        self.faults.iter().try_for_each(|fault| write!(f, "\n  {fault}"))?;
        let has = |is: fn(&WeightFault) -> bool| self.faults.iter().any(is);
        if has(|fault| matches!(fault, WeightFault::Extra { .. })) {
            write!(f, "\n  {WHAT_TO_DO_ABOUT_EXTRA}")?;
        }
        if has(|fault| matches!(fault, WeightFault::Dtype { .. } | WeightFault::Quantised { .. })) {
            write!(f, "\n  {WHAT_TO_DO_ABOUT_TYPES}")?;
        }
        Ok(())
    }
}

const WHAT_TO_DO_ABOUT_EXTRA: &str = "another architecture variant: add what they are for to the graph, or name them in \
                                      `ignores`; serve anyway with --ignore-extra-weights";
const WHAT_TO_DO_ABOUT_TYPES: &str = "quantised checkpoints (FP8, integers, MXFP4) cannot be served: take the model's \
                                      bfloat16, float16 or float32 checkpoint, or convert this one to bfloat16";

/// One fault. Files are named without their directory. A fault that tensors share which differ in the numbers of their
/// names is one, for `layers.{0..31}.norm.weight`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, thiserror::Error)]
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
    /// A tensor that the model needs, of which there are only the parts of a quantised form.
    #[error("`{tensor}` is quantised: there are tensors that end with {ends} instead ({file})")]
    Quantised {
        /// The tensor.
        tensor: String,
        /// The file that holds the first of the parts.
        file: String,
        /// How the names of the parts end.
        ends: String,
    },
    /// A part of a tensor that is not in it, by the sizes of the configuration.
    #[error("`{tensor}` cannot be divided as the graph says: {what}")]
    Misfit {
        /// The tensor.
        tensor: String,
        /// What does not go together.
        what: String,
    },
    /// Tensors that the model neither reads nor ignores.
    #[error("{}", extra(.tensors, *.num_tensors))]
    Extra {
        /// Their name, of several with the numbers they have: `layers.{0..31}.norm.weight`.
        tensors: String,
        /// How many there are.
        num_tensors: usize,
    },
}

impl WeightFault {
    /// The tensor that is at fault, of those that the model needs.
    pub(super) fn tensor_mut(&mut self) -> Option<&mut String> {
        match self {
            WeightFault::Missing { tensor, .. }
            | WeightFault::Shape { tensor, .. }
            | WeightFault::Dtype { tensor, .. }
            | WeightFault::Quantised { tensor, .. }
            | WeightFault::Misfit { tensor, .. } => Some(tensor),
            WeightFault::NoWeights { .. }
            | WeightFault::Unreadable { .. }
            | WeightFault::Malformed { .. }
            | WeightFault::WrongLength { .. }
            | WeightFault::ShardAbsent { .. }
            | WeightFault::NotInShard { .. }
            | WeightFault::Extra { .. } => None,
        }
    }
}

fn extra(tensors: &str, num_tensors: usize) -> String {
    match num_tensors {
        1 => format!("`{tensors}` is not read by this graph"),
        _ => format!("`{tensors}` ({num_tensors} tensors) are not read by this graph"),
    }
}
