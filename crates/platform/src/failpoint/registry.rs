//! What is armed, and what was passed.

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex, MutexGuard};
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};

use super::{Action, ENVIRONMENT_VARIABLE, UnknownAction};

/// A failpoint that was passed, or that is armed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// How often the program passed it.
    pub passed: u64,
    /// How often it acted since it was armed.
    pub struck: u64,
    /// What it does.
    pub action: Option<Action>,
}

static PLACES: LazyLock<Mutex<BTreeMap<String, Place>>> = LazyLock::new(|| {
    let text = std::env::var(ENVIRONMENT_VARIABLE).unwrap_or_default();
    let armed = super::parse(&text)
        .unwrap_or_else(|err| panic!("environment variable {ENVIRONMENT_VARIABLE}: {err}"));
    let place = |action| Place { action: Some(action), ..Place::default() };
    let armed = armed.into_iter().filter(|(_, action)| *action != Action::Off);
    Mutex::new(armed.map(|(name, action)| (name, place(action))).collect())
});

fn all() -> MutexGuard<'static, BTreeMap<String, Place>> {
    // A panic action unwinds outside the lock, so a poisoned one still holds a whole map.
    PLACES.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Arms the failpoint `name`, or disarms it with [`Action::Off`].
pub fn set(name: &str, action: Action) {
    if action == Action::Off {
        disarm(name);
        return;
    }
    let mut all = all();
    let place = all.entry(name.to_owned()).or_default();
    (place.struck, place.action) = (0, Some(action));
}

/// Disarms the failpoint `name`, and tells how often it acted. `None` if it was not armed.
pub fn disarm(name: &str) -> Option<u64> {
    let mut all = all();
    let place = all.get_mut(name)?;
    place.action.take().map(|_| place.struck)
}

/// Arms failpoints from a text in the form of the environment variable.
///
/// # Errors
///
/// [`UnknownAction`] names what is no action; nothing is armed then.
pub fn configure(text: &str) -> Result<(), UnknownAction> {
    for (name, action) in super::parse(text)? {
        set(&name, action);
    }
    Ok(())
}

/// Disarms every failpoint.
pub fn clear() {
    all().values_mut().for_each(|place| place.action = None);
}

/// Every failpoint that was passed or armed, by name.
pub fn places() -> BTreeMap<String, Place> {
    all().clone()
}

/// Does what the failpoint `name` is armed with; the argument of a `return`, if it is one.
#[doc(hidden)]
pub fn eval(name: &str) -> Option<Option<String>> {
    match pass(name)? {
        Action::Off => None,
        Action::Panic => panic!("failpoint {name}"),
        Action::Abort => std::process::abort(),
        Action::Exit => {
            eprintln!("failpoint exit: {name}");
            // Nothing runs after it: no destructor writes what a crash would have lost.
            let _ = kill_process(getpid(), Signal::KILL);
            std::process::abort()
        }
        Action::Sleep(millis) => {
            crate::thread::sleep(Duration::from_millis(millis));
            None
        }
        Action::Return(argument) => Some(argument),
    }
}

fn pass(name: &str) -> Option<Action> {
    let mut all = all();
    let place = match all.get_mut(name) {
        Some(place) => place,
        None => all.entry(name.to_owned()).or_default(),
    };
    place.passed += 1;
    place.struck += u64::from(place.action.is_some());
    place.action.clone()
}

/// Gives the closure of `fp!` its argument type.
#[doc(hidden)]
pub fn call<R>(closure: impl FnOnce(Option<String>) -> R, argument: Option<String>) -> R {
    closure(argument)
}
