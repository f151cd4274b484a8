//! Failpoints: named places where a test makes the program stumble.
//!
//! A place is marked with [`fp!`](crate::fp). Without the feature `failpoints` the mark expands to
//! nothing. With it, the place looks up its name in a registry that tests fill with [`set`] and
//! that the environment variable `ETCD_RS_FAILPOINTS` fills at the first look-up, for example
//! `wal-before-sync=panic;raft-after-save=sleep(5);snap-before-save=return(full)`. A process with
//! the feature whose environment has `ETCD_RS_FAILPOINTS_HTTP=127.0.0.1:port` can be told later too,
//! once it has called `serve_control`.
//!
//! [`strikes`] marks a planted fault: a promise that the program breaks on purpose when a test asks
//! for it, so that the test shows that it would notice.

#[cfg(feature = "failpoints")]
mod control;
#[cfg(feature = "failpoints")]
mod registry;

use std::fmt;

/// What a failpoint does when the program passes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Off,
    /// Panics with the name of the failpoint.
    Panic,
    /// Ends the process at once, as a program does that finds itself wrong.
    Abort,
    /// Ends the process as `kill -9` does, after a line on standard error that says where.
    Exit,
    /// Sleeps this many milliseconds.
    Sleep(u64),
    /// Makes `fp!("name", |argument| …)` return from the function around it. A mark without a
    /// closure ignores it.
    Return(Option<String>),
}

/// A text that is no [`Action`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown failpoint action {0:?}")]
pub struct UnknownAction(String);

impl std::str::FromStr for Action {
    type Err = UnknownAction;

    fn from_str(text: &str) -> Result<Self, UnknownAction> {
        let (verb, argument) = match text.trim().split_once('(') {
            Some((verb, rest)) => match rest.strip_suffix(')') {
                Some(argument) => (verb, Some(argument)),
                None => return Err(UnknownAction(text.to_owned())),
            },
            None => (text.trim(), None),
        };
        match (verb, argument) {
            ("off", None) => Ok(Self::Off),
            ("panic", None) => Ok(Self::Panic),
            ("abort", None) => Ok(Self::Abort),
            ("exit", None) => Ok(Self::Exit),
            ("sleep", Some(millis)) => {
                millis.parse().map(Self::Sleep).map_err(|_| UnknownAction(text.to_owned()))
            }
            ("return", argument) => Ok(Self::Return(argument.map(str::to_owned))),
            _ => Err(UnknownAction(text.to_owned())),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Panic => f.write_str("panic"),
            Self::Abort => f.write_str("abort"),
            Self::Exit => f.write_str("exit"),
            Self::Sleep(millis) => write!(f, "sleep({millis})"),
            Self::Return(None) => f.write_str("return"),
            Self::Return(Some(argument)) => write!(f, "return({argument})"),
        }
    }
}

/// Name of the environment variable that arms failpoints at start.
pub const ENVIRONMENT_VARIABLE: &str = "ETCD_RS_FAILPOINTS";
/// Name of the environment variable that says where `serve_control` listens.
pub const CONTROL_VARIABLE: &str = "ETCD_RS_FAILPOINTS_HTTP";

#[cfg(feature = "failpoints")]
pub use control::serve_control;
#[cfg(feature = "failpoints")]
pub use registry::{Place, call, clear, configure, disarm, eval, places, set};

/// Whether the planted fault `name` strikes at `number`, which may be an index, a revision or an
/// id: never unless it is armed, always with `return`, at the multiples of n with `return(n)`.
///
/// # Panics
///
/// If the argument of `return` is no number above 0.
#[cfg(feature = "failpoints")]
#[must_use]
pub fn strikes(name: &str, number: u64) -> bool {
    let Some(argument) = eval(name) else { return false };
    let every = argument.map_or(1, |text| text.parse().expect("a fault strikes every n-th time"));
    assert!(every > 0, "fault {name} strikes every 0-th time");
    number.is_multiple_of(every)
}

/// Whether the planted fault `name` strikes. This build leaves failpoints out: never.
#[cfg(not(feature = "failpoints"))]
#[must_use]
#[inline(always)]
pub const fn strikes(_name: &str, _number: u64) -> bool {
    false
}

/// Reads `name=action;name=action`.
#[cfg(any(test, feature = "failpoints"))]
fn parse(text: &str) -> Result<Vec<(String, Action)>, UnknownAction> {
    text.split(';')
        .map(str::trim)
        .filter(|term| !term.is_empty())
        .map(|term| {
            let (name, action) =
                term.split_once('=').ok_or_else(|| UnknownAction(term.to_owned()))?;
            Ok((name.trim().to_owned(), action.parse()?))
        })
        .collect()
}

/// Marks a failpoint: `fp!("name")`, or `fp!("name", |argument| expression)`, which returns the
/// value of the expression from the function around it when the failpoint is armed with `return`.
/// The argument is an `Option<String>`.
#[cfg(feature = "failpoints")]
#[macro_export]
macro_rules! fp {
    ($name:expr) => {{
        let _ = $crate::failpoint::eval($name);
    }};
    ($name:expr, $closure:expr) => {{
        if let Some(argument) = $crate::failpoint::eval($name) {
            return $crate::failpoint::call($closure, argument);
        }
    }};
}

/// Marks a failpoint: `fp!("name")`, or `fp!("name", |argument| expression)`, which returns the
/// value of the expression from the function around it when the failpoint is armed with `return`.
/// The argument is an `Option<String>`. This build leaves failpoints out.
#[cfg(not(feature = "failpoints"))]
#[macro_export]
macro_rules! fp {
    ($name:expr) => {{}};
    ($name:expr, $closure:expr) => {{}};
}

#[cfg(test)]
mod tests;
