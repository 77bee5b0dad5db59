//! Log lines: which are written, in what form and where to.
//!
//! What happens becomes a line here (`line`), which goes to standard error and, for a server, into files of the data
//! directory (`file`); each way has a bounded queue and a thread of its own (`outlet`), so that nobody waits for a disk or a
//! terminal. All of it can change while the program runs. What is in a line is the matter of who writes it; none has a
//! secret or a document's text in it.

mod line;

mod outlet;

mod file;

use std::{
    any::Any,
    cell::Cell,
    io::{self, IsTerminal, Write},
    panic::{self, PanicHookInfo},
    path::Path,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use arc_swap::ArcSwapOption;
use tracing::{Level, Metadata, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    Registry,
    filter::Targets,
    layer::{Context, Filter, Layer, SubscriberExt},
    registry::LookupSpan,
    reload,
    util::SubscriberInitExt,
};

use crate::{
    otlp,
    output::BARS,
    settings::{LogFormat, LogSettings, OtlpSettings, environment},
};
use file::{LogFile, SharedLimits};
use line::{Event, Form, SpanFields};
use outlet::{Outlet, Sink};

/// What lines about the log itself are called.
pub const ABOUT_THE_LOG: &str = "holdfast::log";
/// How long the end of the program waits for lines on their way.
const FLUSH_PATIENCE: Duration = Duration::from_secs(2);
/// The folder of log files in the data directory.
const FOLDER: &str = "logs";

static LOG: OnceLock<Log> = OnceLock::new();

/// Who reads the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// Somebody who runs a server.
    Operator,
    /// Nobody looks at standard error: it has what is about the log itself and no more.
    LaterOperator,
    /// Somebody who gave a command: only what went wrong is of interest, unless they asked for more.
    User,
}

/// The log of this process; cloning is shallow.
#[derive(Clone)]
pub struct Log {
    levels: reload::Handle<Levels, Registry>,
    ways: Arc<Ways>,
    reader: Reader,
}

/// Starts logging for the whole process. Only the first call has an effect.
///
/// # Errors
/// Where a collector is named that cannot be one.
pub fn start(settings: &LogSettings, otlp: &OtlpSettings, reader: Reader) -> Result<Log> {
    // What is written and what is exported have filters of their own: traces are kept also where the log says little.
    let exported = if LOG.get().is_none() && reader != Reader::User { otlp::start(otlp)? } else { None };
    let start = || {
        let (filter, levels) = reload::Layer::new(Levels::of(settings, reader));
        let ways = Arc::new(Ways::new(reader));
        ways.stderr_form.store(form_of(settings.format, reader) as u8, Ordering::Relaxed);
        let lines = Lines { ways: Arc::clone(&ways) }.with_filter(filter);
        // Fails where something else in this process logs already, as a test might; that goes on, then.
        let _ = tracing_subscriber::registry().with(lines).with(exported).try_init();
        tell_of_panics();
        Log { levels, ways, reader }
    };
    Ok(LOG.get_or_init(start).clone())
}

/// Waits for what was logged to be written, but not for ever. Nothing where logging has not begun.
pub fn flush() {
    if let Some(log) = LOG.get() {
        log.ways.stderr.flush();
        if let Some(file) = &*log.ways.file.load() {
            file.outlet.flush(FLUSH_PATIENCE);
        }
    }
}

impl Log {
    /// Logs as these settings say from now on. Files are begun or ended in a data directory that this process holds.
    pub fn reconfigure(&self, settings: &LogSettings, data_dir: &Path) {
        // Fails only where the subscriber is gone, and with it what could be written.
        let _ = self.levels.reload(Levels::of(settings, self.reader));
        self.ways.stderr_form.store(form_of(settings.format, self.reader) as u8, Ordering::Relaxed);
        self.write_files(settings, data_dir);
    }

    /// Writes files in this data directory, which this process holds, if the settings say so.
    pub fn write_files(&self, settings: &LogSettings, data_dir: &Path) {
        let always = (self.reader == Reader::LaterOperator).then_some(file::USUAL);
        match (settings.file.or(always), &*self.ways.file.load()) {
            (Some(limits), Some(file)) => file.limits.set(limits),
            (Some(limits), None) => {
                let limits = SharedLimits::new(limits);
                let sink = LogFile::new(data_dir.join(FOLDER), limits.clone());
                let outlet = Outlet::start("file", Form::Json, sink);
                self.ways.file.store(Some(Arc::new(FileWay { outlet, limits })));
            }
            (None, Some(_)) => self.end_files(),
            (None, None) => {}
        }
    }

    /// Writes what is on its way into files, and no more after that.
    pub fn end_files(&self) {
        if let Some(file) = self.ways.file.swap(None) {
            file.outlet.end(FLUSH_PATIENCE);
            metrics::gauge!("holdfast_log_files_bytes").set(0.0);
        }
    }

    /// Makes what is counted of this log known to the metrics, also while it is zero.
    pub fn register_metrics(&self) {
        metrics::gauge!("holdfast_log_files_bytes").increment(0.0);
        for name in ["stderr", "file"] {
            outlet::register(name);
        }
    }
}

/// Which lines are written.
struct Levels(Targets);

impl Levels {
    fn of(settings: &LogSettings, reader: Reader) -> Self {
        let ours = match (reader, settings.level) {
            (Reader::User, Level::INFO) => Level::WARN,
            (_, level) => level,
        };
        let targets = Targets::new().with_default(Level::WARN.min(ours)).with_target("holdfast", ours);
        Self(targets.with_targets(settings.levels.iter().cloned()))
    }

    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        // Spans carry the ids of requests, which every line of them has, whatever its level.
        let carries_ids = metadata.is_span() && *metadata.level() <= Level::INFO;
        carries_ids || self.0.would_enable(metadata.target(), metadata.level())
    }
}

impl<S> Filter<S> for Levels {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        self.wants(metadata)
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> tracing::subscriber::Interest {
        if self.wants(metadata) {
            tracing::subscriber::Interest::always()
        } else {
            tracing::subscriber::Interest::never()
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        let most = self.0.iter().map(|(_, level)| level).max().unwrap_or(LevelFilter::OFF);
        Some(most.max(LevelFilter::INFO))
    }
}

/// The ways that lines go.
struct Ways {
    stderr: Stderr,
    stderr_form: AtomicU8,
    file: ArcSwapOption<FileWay>,
}

struct FileWay {
    outlet: Outlet,
    limits: SharedLimits,
}

/// The way to standard error.
enum Stderr {
    /// At once: a command that writes little, and is over soon.
    Direct,
    /// Through a queue.
    Queued(Outlet),
    /// The same for what is about the log itself.
    AboutTheLog(Outlet),
}

impl Ways {
    fn new(reader: Reader) -> Self {
        let queued = || Outlet::start("stderr", Form::Text, StandardError);
        let stderr = match reader {
            Reader::User => Stderr::Direct,
            Reader::Operator => Stderr::Queued(queued()),
            Reader::LaterOperator => Stderr::AboutTheLog(queued()),
        };
        Self { stderr, stderr_form: AtomicU8::new(Form::Text as u8), file: ArcSwapOption::empty() }
    }

    fn write(&self, event: &Event<'_>) {
        let file = self.file.load();
        let for_file = Option::as_ref(&file).map(|file| (file, event.line(Form::Json)));
        let form = Form::from_number(self.stderr_form.load(Ordering::Relaxed));
        let line = || match &for_file {
            Some((_, line)) if form == Form::Json => line.clone(),
            _ => event.line(form),
        };
        match &self.stderr {
            // Where nobody can hear, there is nothing to be done about it.
            Stderr::Direct => drop(StandardError.write(line().as_bytes())),
            Stderr::Queued(outlet) => outlet.put(line(), form),
            Stderr::AboutTheLog(outlet) if event.target() == ABOUT_THE_LOG => outlet.put(line(), form),
            Stderr::AboutTheLog(_) => {}
        }
        if let Some((file, line)) = for_file {
            file.outlet.put(line, Form::Json);
        }
    }
}

impl Stderr {
    fn flush(&self) {
        match self {
            Self::Direct => {}
            Self::Queued(outlet) | Self::AboutTheLog(outlet) => outlet.flush(FLUSH_PATIENCE),
        }
    }
}

/// Standard error, with progress bars out of the way.
struct StandardError;

impl Sink for StandardError {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        BARS.suspend(|| io::stderr().lock().write_all(lines))
    }

    /// Of a file on a disk, whether that has room. Of a terminal or a pipe nothing is known without a line.
    fn check(&mut self) -> io::Result<()> {
        let stderr = io::stderr();
        let found = rustix::fs::fstat(&stderr)?;
        match rustix::fs::FileType::from_raw_mode(found.st_mode) {
            rustix::fs::FileType::RegularFile => file::has_room(&stderr),
            _ => Ok(()),
        }
    }

    fn look_after(&mut self) {}
}

/// The form of lines on standard error.
fn form_of(format: LogFormat, reader: Reader) -> Form {
    let is_terminal = io::stderr().is_terminal();
    match (format, reader) {
        (LogFormat::Json, _) => Form::Json,
        // Whoever gives a command reads what it says, wherever that goes.
        (LogFormat::Auto, Reader::Operator | Reader::LaterOperator) if !is_terminal => Form::Json,
        _ if is_terminal && !environment::no_color() => Form::Coloured,
        _ => Form::Text,
    }
}

/// Makes lines of what happens.
struct Lines {
    ways: Arc<Ways>,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn on_new_span(&self, attributes: &tracing::span::Attributes<'_>, id: &tracing::Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(SpanFields::of(attributes));
        }
    }

    fn on_record(&self, id: &tracing::Id, values: &tracing::span::Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<SpanFields>()
        {
            fields.record(values);
        }
    }

    fn on_event(&self, event: &tracing::Event<'_>, context: Context<'_, S>) {
        let mut made = Event::of(event);
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(fields) = span.extensions().get::<SpanFields>() {
                made.within(fields);
            }
        }
        self.ways.write(&made);
    }
}

/// A panic is a line like others, in one piece, whatever is in its message.
fn tell_of_panics() {
    panic::set_hook(Box::new(|info| {
        thread_local! { static IS_TELLING: Cell<bool> = const { Cell::new(false) } }
        // A panic on the way of its own line would come here for ever.
        if IS_TELLING.replace(true) {
            return;
        }
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
        let message = message_of(info);
        tracing::error!(target: "holdfast::panic", place, thread, "a thread panicked: {message}");
        IS_TELLING.set(false);
    }));
}

fn message_of<'a>(info: &'a PanicHookInfo<'_>) -> &'a str {
    let payload: &dyn Any = info.payload();
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(level: Level, levels: &[(&str, LevelFilter)]) -> LogSettings {
        let levels = levels.iter().map(|(module, level)| ((*module).to_owned(), *level)).collect();
        LogSettings { level, levels, format: LogFormat::Auto, file: None }
    }

    fn wants(levels: &Levels, target: &str, level: Level) -> bool {
        levels.0.would_enable(target, &level)
    }

    #[test]
    fn libraries_are_quiet_and_modules_have_levels_of_their_own() {
        let overrides = [("holdfast_storage::sql", LevelFilter::TRACE), ("holdfast_server", LevelFilter::OFF)];
        let levels = Levels::of(&settings(Level::INFO, &overrides), Reader::Operator);
        assert!(wants(&levels, "holdfast_storage", Level::INFO) && !wants(&levels, "holdfast_storage", Level::DEBUG));
        assert!(wants(&levels, "holdfast_storage::sql::writer", Level::TRACE));
        assert!(!wants(&levels, "holdfast_server::gate", Level::ERROR));
        assert!(wants(&levels, "hyper", Level::WARN) && !wants(&levels, "hyper", Level::INFO));
        assert_eq!(Filter::<Registry>::max_level_hint(&levels), Some(LevelFilter::TRACE));
    }

    #[test]
    fn a_command_says_only_what_went_wrong_unless_asked() {
        let levels = |level| Levels::of(&settings(level, &[]), Reader::User);
        assert!(!wants(&levels(Level::INFO), "holdfast", Level::INFO));
        assert!(wants(&levels(Level::DEBUG), "holdfast", Level::DEBUG));
        assert!(!wants(&levels(Level::ERROR), "hyper", Level::WARN));
    }
}
