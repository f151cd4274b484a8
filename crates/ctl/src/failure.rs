//! How a command fails: an exit code and, mostly, a line for standard error (ctl.md §1.1).

use std::process::ExitCode;

/// Why the tool exits with something else than 0.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    code: u8,
    /// Printed after `Error: `; nothing is printed without one.
    message: Option<String>,
    /// Printed below the message as it is.
    usage: Option<String>,
    /// A line of log that comes before the message.
    warning: Option<String>,
}

impl Failure {
    fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: Some(message.into()), usage: None, warning: None }
    }

    /// Anything without a code of its own.
    pub(crate) fn error(message: impl Into<String>) -> Self {
        Self::new(1, message)
    }

    /// The client could not be made, or a lease call failed.
    pub(crate) fn bad_connection(message: impl Into<String>) -> Self {
        Self::new(2, message)
    }

    /// Interactive input that does not parse.
    pub(crate) fn invalid_input(message: impl Into<String>) -> Self {
        Self::new(3, message)
    }

    /// An option value that names nothing we have: a format, a sort order.
    pub(crate) fn bad_feature(message: impl Into<String>) -> Self {
        Self::new(4, message)
    }

    /// The server ended a watch, or a snapshot could not be saved.
    pub(crate) fn interrupted(message: impl Into<String>) -> Self {
        Self::new(5, message)
    }

    /// Wrong arguments.
    pub(crate) fn bad_args(message: impl Into<String>) -> Self {
        Self::new(128, message)
    }

    /// Exit code 1 where all has been said already.
    pub(crate) fn silent() -> Self {
        Self { code: 1, message: None, usage: None, warning: None }
    }

    /// With the text that tells how the command is used.
    pub(crate) fn with_usage(mut self, usage: impl Into<String>) -> Self {
        self.usage = Some(usage.into());
        self
    }

    /// With the reason why the client never got through, if that is the matter: the message alone
    /// says only that time ran out.
    pub(crate) fn after(mut self, error: &etcdrs_client::Error) -> Self {
        self.warning = error.connect_failure().map(|why| {
            let why = format!(
                "rpc error: code = DeadlineExceeded desc = latest balancer error: last connection \
                 error: connection error: desc = {why:?}"
            );
            let why = crate::print::json_string(&why);
            format!(
                "{{\"level\":\"warn\",\"logger\":\"etcd-client\",\
                 \"msg\":\"retrying of unary invoker failed\",\"error\":{why}}}"
            )
        });
        self
    }

    /// The line for standard error.
    pub(crate) fn text(&self) -> &str {
        self.message.as_deref().unwrap_or_default()
    }

    #[cfg(test)]
    pub(crate) fn message(&self) -> &str {
        self.text()
    }

    /// Prints the failure and gives its code.
    pub(crate) fn report(self) -> ExitCode {
        if let Some(warning) = &self.warning {
            eprintln!("{warning}");
        }
        if let Some(message) = &self.message {
            eprintln!("Error: {message}");
        }
        if let Some(usage) = &self.usage {
            eprintln!("{usage}");
        }
        ExitCode::from(self.code)
    }
}

impl From<etcdrs_client::Error> for Failure {
    fn from(error: etcdrs_client::Error) -> Self {
        let error_text = error.to_string();
        match error.kind() {
            etcdrs_client::ErrorKind::Config => Self::bad_args(error_text),
            _ => Self::error(error_text).after(&error),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            // Whoever read our output has had enough; there is nobody to tell.
            std::io::ErrorKind::BrokenPipe => Self::silent(),
            _ => Self::error(error.to_string()),
        }
    }
}
