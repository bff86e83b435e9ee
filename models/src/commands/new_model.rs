//! `trefoil new-model`: a first graph for a model that none serves.
//!
//! `differences` holds one graph against a configuration and, by `tensors`, against a checkpoint's tensors: everything in
//! which they differ is something to decide. `nearest` ranks the graphs by how little that is. `write` makes the
//! nearest one's text into the new one's.

mod differences;
mod nearest;
pub(crate) mod tensors;
mod write;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, ensure};
use serde_json::Value;
use trefoil_ir::diag::meant;
use trefoil_runtime::weights::Inventory;

use crate::args::NewModelArgs;
use crate::exit::{Exit, OrExit, Outcome};
use crate::study;
use nearest::Candidate;

/// How many of the ranking are shown.
const SHOWN: usize = 3;

/// The model that a graph is wanted for.
struct Subject {
    config: Value,
    architectures: Vec<String>,
    tensors: Option<Inventory>,
}

/// Runs the command.
pub(crate) fn run(args: &NewModelArgs) -> Outcome {
    let subject = Subject::read(&args.from).or_exit(Exit::Invalid)?;
    let ranking = nearest::ranking(&subject).or_exit(Exit::Other)?;
    print_ranking(&ranking, &subject);
    let served = ranking.iter().find(|candidate| candidate.serves(&subject.architectures));
    if let Some(served) = served.filter(|served| served.differences.is_empty() && !args.force) {
        eprintln!(
            "the graph {} serves this model as it is, and nothing was written: `trefoil serve` takes the checkpoint, --force \
             writes a graph",
            served.name
        );
        return Ok(());
    }
    let chosen = choose(&ranking, args.graph.as_deref()).or_exit(Exit::Usage)?;
    let text = write::graph(chosen, &subject);
    let out = args.out.clone().unwrap_or_else(|| default_file(&subject));
    if out == Path::new("-") {
        print!("{text}");
    } else {
        let is_taken = out.exists() && !args.force;
        ensure_free(is_taken, &out).or_exit(Exit::Usage)?;
        fs::write(&out, &text).with_context(|| format!("cannot write {}", out.display())).or_exit(Exit::Usage)?;
    }
    print_summary(&out, args, chosen, served);
    Ok(())
}

fn ensure_free(is_taken: bool, out: &Path) -> anyhow::Result<()> {
    ensure!(!is_taken, "{} exists: give another --out, or --force to overwrite it", out.display());
    Ok(())
}

impl Subject {
    fn read(from: &Path) -> anyhow::Result<Self> {
        let config = study::read_config(from)?;
        let names = config["architectures"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let architectures: Vec<_> = names.map(str::to_owned).collect();
        ensure!(
            !architectures.is_empty(),
            "{}: `architectures` is {}; a graph needs a list of class names for it, as [\"LlamaForCausalLM\"]",
            from.display(),
            config["architectures"]
        );
        let tensors = from.is_dir().then(|| Inventory::open(from));
        if let Some(Err(error)) = &tensors {
            eprintln!("note: tensors are not compared: {error}");
        }
        Ok(Self { config, architectures, tensors: tensors.and_then(Result::ok) })
    }

    /// How the configuration calls the family; without that, the architecture's name.
    fn family(&self) -> &str {
        self.config["model_type"].as_str().unwrap_or_else(|| nearest::stem(&self.architectures[0]))
    }
}

fn choose<'a>(ranking: &'a [Candidate], asked: Option<&str>) -> anyhow::Result<&'a Candidate> {
    let found = match asked {
        None => ranking.first(),
        Some(name) => ranking.iter().find(|candidate| candidate.name == name),
    };
    found.ok_or_else(|| {
        let known: Vec<_> = ranking.iter().map(|candidate| candidate.name).collect();
        let asked = asked.unwrap_or_default();
        let near = meant(asked, &known).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        anyhow!("no graph `{asked}`{near}")
    })
}

/// The family's name as a file's, beside the other graphs where those are.
fn default_file(subject: &Subject) -> PathBuf {
    let plain = |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '_' };
    let mut name: String = subject.family().chars().map(plain).collect();
    if !name.starts_with(|first: char| first.is_ascii_alphabetic()) {
        name.insert_str(0, "model_");
    }
    let graphs = Path::new("models/graphs");
    let folder = if graphs.is_dir() { graphs } else { Path::new("") };
    folder.join(name + ".ron")
}

fn print_ranking(ranking: &[Candidate], subject: &Subject) {
    let with = match &subject.tensors {
        Some(tensors) => format!("its config and the names and shapes of its {} tensors", tensors.num_tensors()),
        None => "its config; a checkpoint's folder tells more".to_owned(),
    };
    eprintln!("nearest to {} by {with}:", subject.architectures.join(", "));
    for (place, candidate) in ranking.iter().take(SHOWN).enumerate() {
        eprintln!("  {}. {}", place + 1, candidate.reasons());
    }
}

fn print_summary(out: &Path, args: &NewModelArgs, chosen: &Candidate, served: Option<&Candidate>) {
    let count = chosen.differences.len();
    let lines = if count == 1 { "1 line".to_owned() } else { format!("{count} lines") };
    let is_shown = out == Path::new("-");
    let file = if is_shown { "FILE".to_owned() } else { out.display().to_string() };
    eprintln!(
        "{}begun from {}: {lines} to decide",
        if is_shown { String::new() } else { format!("{file}, ") },
        chosen.name
    );
    if let Some(served) = served {
        eprintln!(
            "note: the graph {} serves this architecture already, and no two graphs may: extend that one, or take the name out",
            served.name
        );
    }
    if count > 0 {
        eprintln!("each is a comment that begins with DECIDE, beside what it is about; take it out when it is decided");
    }
    eprintln!("next: trefoil check {file} --config {}", args.from.display());
}
