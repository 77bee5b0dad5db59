//! Log lines: which are written, and in what form. They go to standard error, around any progress bar.
//!
//! What is in a line is the matter of who writes it; none has a secret or a document's text in it.

use std::io::{self, Write};

use anyhow::Result;
use tracing::Level;
use tracing_subscriber::{
    Layer,
    filter::Targets,
    fmt::{self, MakeWriter},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use crate::{
    log_health,
    otlp::{self, OtlpSettings},
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
///
/// # Errors
/// Where a collector is named that cannot be one.
pub fn start(settings: LogSettings, otlp: &OtlpSettings, reader: Reader) -> Result<()> {
    let ours = match (reader, settings.level) {
        (Reader::User, Level::INFO) => Level::WARN,
        (_, level) => level,
    };
    let filter = Targets::new().with_default(Level::WARN.min(ours)).with_target("holdfast", ours);
    let exported = if reader == Reader::Operator { otlp::start(otlp)? } else { None };
    // What is written and what is exported have filters of their own: traces are kept also where the log says little.
    let registry = tracing_subscriber::registry().with(exported);
    // A second call, as a test might make, leaves the first in place.
    let _ = match settings.format {
        LogFormat::Text => {
            let text = fmt::layer().with_writer(AroundBars).with_ansi(false).with_target(false);
            registry.with(text.with_filter(filter)).try_init()
        }
        LogFormat::Json => {
            let json = fmt::layer().with_writer(AroundBars).json().flatten_event(true);
            registry.with(json.with_filter(filter)).try_init()
        }
    };
    Ok(())
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
        let written = BARS.suspend(|| io::stderr().lock().write_all(bytes));
        log_health::note(&written);
        written?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().lock().flush()
    }
}
