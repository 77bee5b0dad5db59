//! Log lines: which are written, and in what form. They go to standard error, around any progress bar.
//!
//! What is in a line is the matter of who writes it; none has a secret or a document's text in it.

use std::io::{self, Write};

use tracing::Level;
use tracing_subscriber::{
    filter::Targets,
    fmt::{self, MakeWriter},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use crate::{
    output::BARS,
    settings::{LogFormat, LogSettings},
};

/// Who reads the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// Somebody who runs a server.
    Operator,
    /// Somebody who gave a command: only what went wrong is of interest, unless they asked for more.
    User,
}

/// Starts logging for the whole process. Only the first call has an effect.
pub fn start(settings: LogSettings, reader: Reader) {
    let ours = match (reader, settings.level) {
        (Reader::User, Level::INFO) => Level::WARN,
        (_, level) => level,
    };
    let filter = Targets::new().with_default(Level::WARN.min(ours)).with_target("holdfast", ours);
    let registry = tracing_subscriber::registry().with(filter);
    // A second call, as a test might make, leaves the first in place.
    let _ = match settings.format {
        LogFormat::Text => {
            registry.with(fmt::layer().with_writer(AroundBars).with_ansi(false).with_target(false)).try_init()
        }
        LogFormat::Json => registry.with(fmt::layer().with_writer(AroundBars).json().flatten_event(true)).try_init(),
    };
}

/// Standard error, line by line, with progress bars out of the way.
struct AroundBars;

impl<'a> MakeWriter<'a> for AroundBars {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line
    }
}

/// One log line on its way out.
struct Line;

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        BARS.suspend(|| io::stderr().lock().write_all(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().lock().flush()
    }
}
