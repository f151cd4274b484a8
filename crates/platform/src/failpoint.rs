//! Failpoints: named places where a test makes the program stumble.
//!
//! A place is marked with [`fp!`](crate::fp). Without the feature `failpoints` the mark expands to
//! nothing. With it, the place looks up its name in a registry that tests fill with [`set`] and
//! that the environment variable `ETCD_RS_FAILPOINTS` fills at the first look-up, for example
//! `wal-before-sync=panic;apply-after-write=sleep(5);snap-save=return(full)`.
//!
//! [`strikes`] marks a planted fault: a promise that the program breaks on purpose when a test asks
//! for it, so that the test shows that it would notice.

use std::fmt;

/// What a failpoint does when the program passes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Off,
    /// Panics with the name of the failpoint.
    Panic,
    /// Ends the process at once, like a crash.
    Abort,
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
            Self::Sleep(millis) => write!(f, "sleep({millis})"),
            Self::Return(None) => f.write_str("return"),
            Self::Return(Some(argument)) => write!(f, "return({argument})"),
        }
    }
}

/// Name of the environment variable that arms failpoints at start.
pub const ENVIRONMENT_VARIABLE: &str = "ETCD_RS_FAILPOINTS";

#[cfg(feature = "failpoints")]
mod registry {
    use std::collections::BTreeMap;
    use std::sync::{LazyLock, Mutex, MutexGuard};
    use std::time::Duration;

    use super::{Action, ENVIRONMENT_VARIABLE, UnknownAction};

    static ARMED: LazyLock<Mutex<BTreeMap<String, Action>>> = LazyLock::new(|| {
        let text = std::env::var(ENVIRONMENT_VARIABLE).unwrap_or_default();
        let armed = super::parse(&text)
            .unwrap_or_else(|err| panic!("environment variable {ENVIRONMENT_VARIABLE}: {err}"));
        Mutex::new(armed.into_iter().collect())
    });

    fn armed() -> MutexGuard<'static, BTreeMap<String, Action>> {
        // A panic action unwinds outside the lock, so a poisoned one still holds a whole map.
        ARMED.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Arms the failpoint `name`, or disarms it with [`Action::Off`].
    pub fn set(name: &str, action: Action) {
        match action {
            Action::Off => armed().remove(name),
            action => armed().insert(name.to_owned(), action),
        };
    }

    /// Arms failpoints from a text in the form of the environment variable.
    pub fn configure(text: &str) -> Result<(), UnknownAction> {
        for (name, action) in super::parse(text)? {
            set(&name, action);
        }
        Ok(())
    }

    /// Disarms every failpoint.
    pub fn clear() {
        armed().clear();
    }

    /// The failpoints that are armed.
    pub fn list() -> Vec<(String, Action)> {
        armed().iter().map(|(name, action)| (name.clone(), action.clone())).collect()
    }

    /// Does what the failpoint `name` is armed with; the argument of a `return`, if it is one.
    #[doc(hidden)]
    pub fn eval(name: &str) -> Option<Option<String>> {
        let action = armed().get(name).cloned()?;
        match action {
            Action::Off => None,
            Action::Panic => panic!("failpoint {name}"),
            Action::Abort => std::process::abort(),
            Action::Sleep(millis) => {
                crate::thread::sleep(Duration::from_millis(millis));
                None
            }
            Action::Return(argument) => Some(argument),
        }
    }

    /// Gives the closure of `fp!` its argument type.
    #[doc(hidden)]
    pub fn call<R>(closure: impl FnOnce(Option<String>) -> R, argument: Option<String>) -> R {
        closure(argument)
    }
}

#[cfg(feature = "failpoints")]
pub use registry::{call, clear, configure, eval, list, set};

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
mod tests {
    use super::*;

    #[test]
    fn actions_round_trip() {
        let text = "a=panic;b=sleep(5); c=return(full) ;d=abort;e=return;f=off;";
        let parsed = parse(text).unwrap();
        assert_eq!(parsed.len(), 6);
        assert_eq!(parsed[2], ("c".to_owned(), Action::Return(Some("full".to_owned()))));
        for (_, action) in parsed {
            assert_eq!(action.to_string().parse(), Ok(action));
        }
        assert!(parse("a=sleep").is_err() && parse("a").is_err() && parse("a=return(x").is_err());
    }

    #[cfg(feature = "failpoints")]
    #[test]
    fn an_armed_failpoint_returns() {
        fn passes() -> Result<u32, String> {
            crate::fp!("platform-test-plain");
            crate::fp!("platform-test-return", |argument: Option<String>| Err(
                argument.unwrap_or_default()
            ));
            Ok(1)
        }
        assert_eq!(passes(), Ok(1));
        configure("platform-test-return=return(no);platform-test-plain=sleep(1)").unwrap();
        assert_eq!(passes(), Err("no".to_owned()));
        assert_eq!(list().len(), 2);
        clear();
        assert_eq!(passes(), Ok(1));
        set("platform-test-plain", Action::Panic);
        assert!(std::panic::catch_unwind(passes).is_err());
        clear();
        assert!(!strikes("platform-test-fault", 0));
        configure("platform-test-fault=return(3)").unwrap();
        assert!(strikes("platform-test-fault", 6) && !strikes("platform-test-fault", 7));
        configure("platform-test-fault=return").unwrap();
        assert!(strikes("platform-test-fault", 7));
        clear();
    }
}
