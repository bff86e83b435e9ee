//! The engine's thread.

use std::sync::Arc;

use super::handle::{Command, Post};
use super::{EngineObserver, Event, Failure, Phase};
use crate::executor::Executor;

pub(super) fn serve<E: Executor>(executor: E, post: Post, _observer: Arc<dyn EngineObserver>) {
    while let Ok(command) = post.inbox.recv() {
        match command {
            Command::Submit(s) => {
                let _ = (s.id, s.request, s.place, s.arrived);
                let _ = s.events.send(Event::Failed(Failure::ShutDown));
            }
            Command::Cancel(_) => {}
            Command::Drain => drop(post.phase.send_replace(Phase::Drained)),
            Command::ShutDown => break,
        }
    }
    let _ = post.stats;
    drop(executor);
    post.phase.send_replace(Phase::Stopped(Failure::ShutDown));
}
