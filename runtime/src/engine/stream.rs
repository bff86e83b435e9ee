//! The events of one request, as its owner reads them.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::sync::mpsc::UnboundedReceiver;

use super::handle::Door;
use super::{Event, Failure};
use crate::sequence::SequenceId;

/// The events of one request: tokens, then exactly one end, then `None`. Dropping it cancels the request.
pub struct Stream {
    id: SequenceId,
    events: UnboundedReceiver<Event>,
    door: Arc<Door>,
    ended: bool,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("id", &self.id).field("ended", &self.ended).finish_non_exhaustive()
    }
}

impl Stream {
    pub(super) fn new(id: SequenceId, events: UnboundedReceiver<Event>, door: Arc<Door>) -> Self {
        Self { id, events, door, ended: false }
    }

    /// The engine's number for this request, for logs.
    pub fn id(&self) -> SequenceId {
        self.id
    }

    /// The next event; `None` after the last.
    pub async fn next(&mut self) -> Option<Event> {
        std::future::poll_fn(|context| self.poll_event(context)).await
    }

    /// The next event, for threads that are not part of an asynchronous run-time (in one, it panics).
    pub fn blocking_next(&mut self) -> Option<Event> {
        if self.ended {
            return None;
        }
        let event = self.events.blocking_recv();
        Some(self.pass_on(event))
    }

    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Option<Event>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let event = ready!(self.events.poll_recv(context));
        Poll::Ready(Some(self.pass_on(event)))
    }

    /// A channel that closes before the last event means that the request came too late for an engine that was
    /// ending; the owner still gets its one end.
    fn pass_on(&mut self, event: Option<Event>) -> Event {
        let event = event.unwrap_or(Event::Failed(Failure::NeverBegun));
        self.ended = !matches!(event, Event::Token(_));
        event
    }
}

impl futures::Stream for Stream {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        self.get_mut().poll_event(context)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.ended {
            self.door.cancel(self.id);
        }
    }
}
