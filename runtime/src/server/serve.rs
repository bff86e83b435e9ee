//! Accepting connections, and ending in good order.

use std::io;
use std::time::Duration;

use tokio::net::TcpListener;

use super::router;
use super::state::AppState;

/// How long connections get to send the last bytes after the last answer has ended.
const FAREWELL: Duration = Duration::from_secs(2);
/// Between two foldings of metrics samples.
const UPKEEP: Duration = Duration::from_secs(5);

/// Serves on `listener` until `shutdown` resolves, then drains: `/ready` answers 503 at once, new requests are refused,
/// running ones go on for [`shutdown_timeout`](super::ServerConfig::shutdown_timeout) and then end with an error.
/// The listener stays open meanwhile, so that routers can read `/ready`. Call it in a tokio run-time.
///
/// # Errors
/// The listener fails.
pub async fn serve(
    listener: TcpListener,
    state: AppState,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let (drained, wait_drained) = tokio::sync::oneshot::channel::<()>();
    let router = router(state.clone());
    let server = axum::serve(listener, router).with_graceful_shutdown(async move {
        // A dropped sender also means the end.
        let _ = wait_drained.await;
    });
    let drain = async {
        shutdown.await;
        state.drain().await;
        let _ = drained.send(());
        tokio::time::sleep(FAREWELL).await;
    };
    tokio::select! {
        ended = server.into_future() => ended,
        () = drain => Ok(()),
        () = upkeep(&state) => Ok(()),
    }
}

async fn upkeep(state: &AppState) {
    let mut ticks = tokio::time::interval(UPKEEP);
    loop {
        ticks.tick().await;
        state.metrics().run_upkeep();
    }
}

/// Resolves at the first SIGTERM or SIGINT (ctrl-c); where signals cannot be watched, never.
pub async fn termination() {
    let interrupt = async {
        if let Err(error) = tokio::signal::ctrl_c().await {
            tracing::warn!(%error, "ctrl-c is not watched");
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = interrupt => {}
        () = terminate() => {}
    }
}

#[cfg(unix)]
async fn terminate() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut signals) => {
            signals.recv().await;
        }
        Err(error) => {
            tracing::warn!(%error, "SIGTERM is not watched");
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(not(unix))]
async fn terminate() {
    std::future::pending::<()>().await;
}
