//! Notices what is logged at level ERROR: in a simulation nothing may be.

use std::fmt::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Dispatch, Event, Level, Metadata, Subscriber};

/// Collects the errors of one world.
#[derive(Clone, Debug)]
pub(crate) struct LogWatch {
    errors: Arc<Mutex<Vec<String>>>,
    dispatch: Dispatch,
}

impl LogWatch {
    pub(crate) fn new() -> Self {
        let errors = Arc::new(Mutex::new(Vec::new()));
        let dispatch = Dispatch::new(Errors(errors.clone()));
        Self { errors, dispatch }
    }

    /// Acts with errors being collected.
    pub(crate) fn during<R>(&self, act: impl FnOnce() -> R) -> R {
        tracing::dispatcher::with_default(&self.dispatch, act)
    }

    /// Takes what was collected.
    pub(crate) fn take(&self) -> Vec<String> {
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut errors)
    }
}

struct Errors(Arc<Mutex<Vec<String>>>);

impl Subscriber for Errors {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::ERROR
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::ERROR)
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(event.metadata().target().to_owned());
        event.record(&mut text);
        let mut errors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        errors.push(text.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a String does not fail.
        let _ = write!(self.0, " {field}={value:?}");
    }
}
