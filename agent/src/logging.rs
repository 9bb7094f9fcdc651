//! Log lines on standard error: text for people or one JSON object a line.
//!
//! Field names are the same everywhere: `block`, `range`, `peer`, `source`, `url`, `fork`, `count`,
//! `elapsed_ms`, `error`. JSON lines carry `timestamp` (RFC 3339, UTC), `level`, `target`, `message` and those
//! fields at the top level, and the names of the spans they were written in.

use std::io;

use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{LogFormat, LoggingConfig};

/// Logging that could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The filter does not parse.
    #[error("LOG is not a filter: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// Something in this process has set up logging before.
    #[error("logging is set up already: {0}")]
    AlreadySet(#[from] tracing_subscriber::util::TryInitError),
}

/// Sets up logging of this process; call once, at its start.
pub fn init(config: &LoggingConfig) -> Result<(), LoggingError> {
    subscriber(config, io::stderr)?.try_init()?;
    Ok(())
}

/// What writes log lines to `writer`.
fn subscriber<W>(
    config: &LoggingConfig,
    writer: W,
) -> Result<Box<dyn Subscriber + Send + Sync>, tracing_subscriber::filter::ParseError>
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(config.filter.as_str())?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // It would say on standard error that standard error cannot be written, and panic.
        .log_internal_errors(false)
        .with_writer(writer);
    Ok(match config.format {
        LogFormat::Text => {
            // Colour codes belong on a terminal only.
            let colours = io::IsTerminal::is_terminal(&io::stderr());
            Box::new(lines.with_ansi(colours).finish())
        }
        LogFormat::Json => Box::new(lines.json().flatten_event(true).with_current_span(false).finish()),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(filter: &str, format: LogFormat) -> String {
        let lines = Lines::default();
        let config = LoggingConfig {
            filter: filter.parse().unwrap(),
            format,
        };
        let writer = lines.clone();
        let subscriber = subscriber(&config, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!("commit", peer = "a");
            let _entered = span.enter();
            tracing::info!(block = 7, "committed");
            tracing::debug!("detail");
        });
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_json_line_has_its_fields_at_the_top() {
        let text = written("info", LogFormat::Json);
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["block"], 7);
        assert_eq!(line["message"], "committed");
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["spans"][0]["peer"], "a");
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'), "{line}");
    }

    #[test]
    fn the_filter_decides_what_is_written() {
        assert!(written("debug", LogFormat::Text).contains("detail"));
        assert!(!written("info", LogFormat::Text).contains("detail"));
        assert_eq!(written("off", LogFormat::Text), "");
    }
}
