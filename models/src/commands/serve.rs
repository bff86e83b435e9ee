//! `trefoil serve`: the OpenAI-compatible server. It listens at once, says so on standard output, and is ready when
//! the model is loaded.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use trefoil_runtime::checkpoint::Checkpoint;
use trefoil_runtime::engine::{EngineConfig, EngineHandle, Phase};
use trefoil_runtime::metrics::Metrics;
use trefoil_runtime::server::{self, AppState, ServedModel, ServerConfig};
use trefoil_runtime::text::ChatTemplate;

use crate::args::ServeArgs;
use crate::exit::{CommandError, Exit, OrExit, Outcome};
use crate::startup::{self, Loaded, Ready};

/// Runs the command.
pub(crate) fn run(args: &ServeArgs) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("http")
        .enable_all()
        .build()
        .context("cannot start the threads of the server")?;
    runtime.block_on(serve(args))
}

async fn serve(args: &ServeArgs) -> Outcome {
    let address = (args.host.as_str(), args.port);
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {}:{}; choose another --port", args.host, args.port))?;
    let url = format!("http://{}", listener.local_addr()?);
    let names = names(args);
    let name = names[0].clone();
    let metrics = Arc::new(Metrics::new(&name).context("cannot set up the metrics")?);
    let shutdown_timeout = Duration::from_secs(args.shutdown_timeout);
    let state = AppState::new(ServerConfig { shutdown_timeout, ..ServerConfig::default() }, Arc::clone(&metrics));
    println!("listening on {url}");

    let server = tokio::spawn(server::serve(listener, state.clone(), server::termination()));
    let engine = tokio::task::block_in_place(|| load(args, names, &metrics, &state))?;
    announce(&url, &name);
    let mut stopped = std::pin::pin!(stopped(&engine));
    tokio::select! {
        ended = server => ended.context("the server's thread failed")?.context("the server failed")?,
        failure = &mut stopped => return Err(CommandError { exit: Exit::Device, error: failure }),
    }
    tracing::info!("drained");
    Ok(())
}

fn names(args: &ServeArgs) -> Vec<String> {
    if !args.served_model_name.is_empty() {
        return args.served_model_name.clone();
    }
    let dir = startup::model_dir(&args.model);
    let dir = dir.canonicalize().unwrap_or(dir);
    vec![dir.file_name().map_or_else(|| "model".into(), |name| name.to_string_lossy().into_owned())]
}

fn load(
    args: &ServeArgs,
    names: Vec<String>,
    metrics: &Arc<Metrics>,
    state: &AppState,
) -> Result<EngineHandle, CommandError> {
    let Ready { mut checkpoint, loaded: Loaded { executor, description, .. } } = startup::ready(&args.model, false)?;
    replace_template(args, &mut checkpoint).or_exit(Exit::Invalid)?;
    let config = EngineConfig {
        max_num_queued_reqs: args.max_num_queued_reqs,
        max_logprobs: args.max_logprobs,
        observer: metrics.clone(),
    };
    tracing::info!(
        "{}: {} weights, {} threads, {}; {}",
        description.model,
        description.weights,
        description.threads,
        description.instruction_set,
        description.memory
    );
    let engine = startup::engine(executor, config)?;
    let mut model = ServedModel::new(checkpoint, engine.clone()).or_exit(Exit::Invalid)?;
    model.names = names;
    state.install(model);
    Ok(engine)
}

fn replace_template(args: &ServeArgs, checkpoint: &mut Checkpoint) -> anyhow::Result<()> {
    let Some(path) = &args.chat_template else { return Ok(()) };
    let source = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let template = ChatTemplate::new(&source, &checkpoint.special)
        .with_context(|| format!("{} is no chat template", path.display()))?;
    checkpoint.template = Some(template);
    Ok(())
}

fn announce(url: &str, name: &str) {
    tracing::info!("ready: {name} at {url}/v1, metrics at {url}/metrics");
    tracing::info!(
        r#"try: curl {url}/v1/completions -H 'content-type: application/json' -d '{{"model": "{name}", "prompt": "It was a", "max_tokens": 60}}'"#
    );
}

/// Resolves when the engine has ended by itself.
async fn stopped(engine: &EngineHandle) -> anyhow::Error {
    let phase = engine.stopped().await;
    match phase {
        Phase::Stopped(failure) => anyhow::Error::new(failure).context("the engine has stopped"),
        other => anyhow::anyhow!("the engine has ended ({other:?})"),
    }
}
