//! Reads a graph as porters write it: RON with names and expressions in strings.
//!
//! ```ron
//! Model(
//!     serves: ["LlamaForCausalLM"],                              // `architectures` of config.json
//!     expects: { "hidden_act": "silu", "scaling": OneOf([None, "linear"]), "unused": Any },
//!     dims: { "hidden": "config.hidden_size", "tokens": "step", "seqs": "step", … },
//!     params: { "eps": "config.rms_norm_eps ?? 1e-5" },
//!     inputs: { "ids": Tensor(i32, ["tokens"]), "last": Tensor(i32, ["seqs"]) },
//!     blocks: { "decoder": Block(weights: "model.layers.{layer}", takes: …, keeps: …, nodes: …, gives: "h2") },
//!     nodes: { "emb": Embed(…), "h": Repeat(blocks: ["decoder"], times: "layers", with: { "h": "emb" }), … },
//!     gives: "logits",
//! )
//! ```
//!
//! - A size is an expression over `dims`; a setting is the name of one of `params`.
//! - `weight: "mlp.up_proj"` is the tensor `mlp.up_proj.weight`, in a block below the block's `weights`; with
//!   `bias: true`, a product also adds `mlp.up_proj.bias`. Nodes that name one tensor share it.
//! - `Stored(tensor: "attn.c_attn.weight", transposed: true, rows: Slice(of: "3 * hidden", from: "hidden"), plus: 1.0)`
//!   in a weight's place is a tensor by its exact name that the checkpoint holds as `[in, out]`, in one with others (so
//!   many of its rows, `take` of each `every` where these are given), or less a number.
//! - `tied: "model.embed_tokens"` names the weight used where the config ties the two, or the checkpoint lacks this one.
//! - A `Route` named `route` gives two values, `route.experts` and `route.shares`.
//! - `groups: Best(of: "groups", top: "top_groups")` of a `Route` has experts chosen of the best groups only, or
//!   `BestTwo(..)`, which judges a group by its two best experts.
//! - `KvCache(heads: "heads", head: "qk_head", value: "v_head")`: values of another width than keys; attention gives that.
//! - `Join(a: "q_nope", b: "q_rope", heads: "heads")`: of each head the columns of `a`, then those of `b`, which may also
//!   be of one head, for all.
//! - `weight: "mlp.experts.{expert}.up_proj"` of an `ExpertLinear` is one tensor for each of `num_experts` experts;
//!   a name without `{expert}` is one tensor whose first axis counts them.
//! - `Variant(of: "local", with: { "window": "none" })` is a block with the text of another, and other sizes or settings.
//! - `Repeat(blocks: ["local", "global"], …)` cycles through blocks; with `kinds: Kinds(of: "config.layer_types", are: {
//!   "sliding_attention": "local", … })` the config says which layer has which, where it has that list.
//! - `scaling: Llama3(factor: …, low_freq_factor: …, high_freq_factor: …, original_context: …)` of a `Rope` names
//!   settings, so that a config without scaling gives neutral values.
//! - A block reads what it takes, its own values and the inputs of the step; the main body reads its own and the inputs.
//! - The main body is: nodes, one or several chained `Repeat`s, nodes.
//!
//! All mistakes of a file are reported at once, except that a file which is no RON has only that one. Names that come
//! out of a mistake are not complained about again.
//!
//! | code | mistake |
//! |---|---|
//! | T0101 | the file is not RON |
//! | T0102 | another kind of thing should stand here |
//! | T0103 | no such operator or variant |
//! | T0104 | no such field |
//! | T0105 | a field is missing |
//! | T0106 | a field stands twice |
//! | T0107 | not an expression |
//! | T0108 | not a name |
//! | T0201 | a name is defined twice |
//! | T0202 | no such size or setting, or only after this |
//! | T0203 | no such value |
//! | T0204 | a value is read before it is defined |
//! | T0205 | a value of another body |
//! | T0206 | no such block |
//! | T0207 | no such cache |
//! | T0208 | no such input of a step |
//! | T0209 | nothing reads a value |
//! | T0210 | a variant replaces what its block does not read, or is of a variant |
//! | T0301 | shapes do not agree |
//! | T0302 | elements do not agree |
//! | T0303 | columns are no whole number of heads, of groups, or of parts to be combined; or more is chosen than there is |
//! | T0304 | not a size |
//! | T0305 | a size of a step where one of the model should be, or the other way round |
//! | T0306 | an input with a type of its own invention |
//! | T0307 | a product of experts and its router count different experts |
//! | T0401 | one tensor with two shapes or two ties |
//! | T0402 | a block's `weights` without `{layer}` |
//! | T0403 | a cache that is not used by exactly one attention |
//! | T0404 | tied to a weight that nothing reads |
//! | T0405 | not the name of a weight |
//! | T0406 | a slice that says half of how it strides |
//! | T0501 | a block takes other than one value |
//! | T0502 | a layer gives another type than it takes |
//! | T0503 | `with` passes other than what the blocks take |
//! | T0504 | the blocks of one `Repeat` take different things |
//! | T0505 | the main body is not nodes, chained repeats, nodes |
//! | T0506 | the model gives no row per sequence |
//! | T0507 | a `Repeat` without blocks, or without kinds of layers |
//! | T0508 | a block that is never repeated |
//! | T0509 | no architecture is served |
//! | T0510 | kinds of layers that come from no key of the config |

mod body;
mod form;
mod mistakes;
mod ops;
mod settings;
mod source;
mod structure;
mod variant;
mod weights;

use std::collections::BTreeSet;

use body::Scope;
use form::ModelForm;
use source::{Reader, Text};
use variant::Renames;

use crate::diag::{Diagnostic, Place};
use crate::graph::Graph;
use crate::ids::ValueId;

/// Reads the graph `name` from the text of its file.
///
/// # Errors
///
/// Everything that is wrong with the text, in the order of its places.
pub fn load(name: &str, source: &str) -> Result<Graph, Vec<Diagnostic>> {
    let mut loader = Loader::new(name, source);
    if loader.reader.check_syntax()
        && let Some(form) = loader.reader.read::<ModelForm<'_>>(loader.reader.whole())
    {
        loader.model(form);
    }
    let mut mistakes = loader.reader.mistakes;
    mistakes.sort_by_key(|mistake| mistake.place);
    // A block's mistakes are those of its variants too.
    mistakes.dedup();
    if mistakes.is_empty() { Ok(loader.graph) } else { Err(mistakes) }
}

struct Loader<'a> {
    reader: Reader<'a>,
    graph: Graph,
    /// Values whose type is unknown because of a mistake that has been reported.
    untyped: BTreeSet<ValueId>,
    /// Blocks that a mistake, which has been reported, keeps from being known.
    lost_blocks: BTreeSet<String>,
    /// Ties, to be checked when all weights are known: the tensor's name, and where it is named.
    ties: Vec<(String, Place)>,
    /// What the variant of a block that is being read puts in place of sizes and settings.
    renames: Renames,
}

impl<'a> Loader<'a> {
    fn new(name: &str, source: &'a str) -> Self {
        let reader = Reader::new(source);
        Self {
            reader,
            graph: Graph::empty(name),
            untyped: BTreeSet::new(),
            lost_blocks: BTreeSet::new(),
            ties: Vec::new(),
            renames: Renames::default(),
        }
    }

    fn model(&mut self, form: ModelForm<'a>) {
        self.serves(form.serves);
        if let Some(expects) = form.expects {
            self.expects(expects);
        }
        self.dims(form.dims);
        if let Some(params) = form.params {
            self.params(params);
        }
        self.graph.prefixes = self.texts(form.prefixes);
        self.graph.ignores = self.texts(form.ignores);
        self.graph.context = form.context.and_then(|context| self.context(context));
        let inputs = self.inputs(form.inputs);
        let blocks = self.block_forms(form.blocks);
        let nodes = self.reader.entries(form.nodes);
        let main = Scope::main(&inputs, &nodes, &blocks);
        for block in &blocks {
            self.with_renames(block, |loader| loader.block(block, &inputs, &main));
        }
        self.main(main, nodes, form.gives);
        self.check_structure(form.nodes);
    }

    /// Whether `name` can name a thing.
    fn accept_name(&mut self, name: &Text<'a>) -> bool {
        let is_first = |c: char| c.is_ascii_alphabetic() || c == '_';
        let is_name = name.value.starts_with(is_first)
            && name.value.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && !["config", "step"].contains(&name.value.as_str());
        if !is_name {
            let mistake =
                Diagnostic::new("T0108", self.reader.place(name.raw), format!("`{}` is not a name", name.value));
            self.reader
                .report(mistake.help("letters, digits and `_`, not a digit first; `config` and `step` are taken"));
        }
        is_name
    }

    fn report_twice(&mut self, kind: &str, name: &Text<'a>) {
        let place = self.reader.place(name.raw);
        let mistake = Diagnostic::new("T0201", place, format!("the {kind} `{}` is defined twice", name.value));
        self.reader.report(mistake.help("rename or remove one of the two"));
    }
}
