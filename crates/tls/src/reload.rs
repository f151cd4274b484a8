//! A value made from files that follows them.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Semaphore;

use crate::error::ConfigError;
use crate::files::Contents;

type Build<T> = dyn Fn(&Contents) -> Result<T, ConfigError> + Send + Sync;

/// Makes a `T` of some files and makes it anew when their content changes.
///
/// The files are compared by content: they are small, they lie in the page cache, and no clock
/// can be too coarse to see a change.
pub(crate) struct Reloading<T> {
    files: Vec<PathBuf>,
    build: Box<Build<T>>,
    state: Mutex<State<T>>,
    /// One look at the files at a time; who comes meanwhile takes what there is.
    looking: Semaphore,
}

/// Invariant: `value` was built from `contents`.
struct State<T> {
    contents: Contents,
    value: Arc<T>,
    /// What was wrong with the files when they were last looked at.
    trouble: Option<String>,
}

impl<T: Send + Sync + 'static> Reloading<T> {
    /// Reads the files for the first time; every problem is an error here.
    pub(crate) fn new(
        files: Vec<PathBuf>,
        build: impl Fn(&Contents) -> Result<T, ConfigError> + Send + Sync + 'static,
    ) -> Result<Self, ConfigError> {
        let contents = Contents::read(&files)?;
        let value = Arc::new(build(&contents)?);
        let state = Mutex::new(State { contents, value, trouble: None });
        Ok(Self { files, build: Box::new(build), state, looking: Semaphore::new(1) })
    }

    /// The value as of the last look.
    pub(crate) fn last(&self) -> Arc<T> {
        Arc::clone(&self.lock().value)
    }

    /// Looks at the files, away from the tasks of connections, and gives the value.
    pub(crate) async fn current(self: &Arc<Self>) -> Arc<T> {
        if !self.files.is_empty()
            && let Ok(_turn) = self.looking.try_acquire()
        {
            let this = Arc::clone(self);
            // A look that did not happen leaves what there is.
            let _ = tokio::task::spawn_blocking(move || this.look()).await;
        }
        self.last()
    }

    fn look(&self) {
        let made = match Contents::read(&self.files) {
            Ok(contents) if contents == self.lock().contents => Ok(None),
            Ok(contents) => (self.build)(&contents).map(|value| Some((contents, value))),
            Err(error) => Err(error),
        };
        let mut state = self.lock();
        match made {
            Ok(None) => state.trouble = None,
            Ok(Some((contents, value))) => {
                tracing::info!(files = ?self.files, "reloaded TLS files");
                *state = State { contents, value: Arc::new(value), trouble: None };
            }
            Err(error) => {
                let trouble = error.to_string();
                if state.trouble.as_ref() != Some(&trouble) {
                    tracing::warn!(%error, "keeping the TLS files read before");
                    state.trouble = Some(trouble);
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().expect("nothing panics while it holds the lock")
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// The number in a file.
    fn number(dir: &Path) -> Arc<Reloading<Contents>> {
        let path = dir.join("ca.pem");
        let build = move |contents: &Contents| {
            contents.authorities(&path)?;
            Contents::read(std::slice::from_ref(&path))
        };
        Arc::new(Reloading::new(vec![dir.join("ca.pem")], build).unwrap())
    }

    fn certificate() -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        rcgen::CertificateParams::new([]).unwrap().self_signed(&key).unwrap().pem()
    }

    #[tokio::test]
    async fn trouble_keeps_the_old_value_until_it_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        fs::write(&path, certificate()).unwrap();
        let value = number(dir.path());
        let first = value.current().await;
        assert!(Arc::ptr_eq(&first, &value.current().await), "nothing changed");

        let next = certificate();
        fs::write(&path, &next[..next.len() / 2]).unwrap();
        assert!(Arc::ptr_eq(&first, &value.current().await), "half a file");
        assert!(value.lock().trouble.is_some());
        fs::remove_file(&path).unwrap();
        assert!(Arc::ptr_eq(&first, &value.current().await), "no file");

        fs::write(&path, &next).unwrap();
        assert!(!Arc::ptr_eq(&first, &value.current().await), "a whole file");
        assert!(value.lock().trouble.is_none());
    }
}
