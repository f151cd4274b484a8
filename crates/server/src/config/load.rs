//! Reads flags and the environment, with the rules of Go's `flag` package (operations.md §1.1).

use std::collections::BTreeSet;
use std::ffi::OsString;

use super::flags::{self, FLAGS, Flag};
use super::{Config, Gate, PEER_TIMEOUT_MIN, usage};

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Loaded {
    /// Run a server.
    Run {
        /// With this configuration.
        config: Box<Config>,
        /// What to say about the environment once logging works: (warning, text).
        notes: Vec<(bool, String)>,
    },
    /// Print this on standard output and end well.
    Print(String),
}

/// Why the configuration cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The command line is not one: exit code 2, after the usage.
    #[error("{0}")]
    Usage(String),
    /// The values do not fit: exit code 1.
    #[error("{0}")]
    Verify(String),
}

impl ConfigError {
    /// The exit code that etcd would have.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Verify(_) => 1,
        }
    }
}

/// What `--version` prints.
fn version() -> String {
    format!(
        "etcd Version: {}\netcd-rs Version: {}\nOS/Arch: {}/{}\n",
        crate::ETCD_VERSION,
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH
    )
}

impl Config {
    /// Reads the command line (without the program's name) and the environment.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with etcd's text.
    pub fn load(
        arguments: impl Iterator<Item = OsString>,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Loaded, ConfigError> {
        let mut config = Self::default();
        let mut given = BTreeSet::new();
        if let Some(print) = parse_flags(arguments, &mut config, &mut given)? {
            return Ok(Loaded::Print(print));
        }
        let mut notes = parse_environment(environment, &mut config, &mut given)?;
        if given.contains("listen-client-urls") && !given.contains("advertise-client-urls") {
            // Nobody could reach the default; check() says so in its turn.
            config.advertise_client_urls.clear();
        }
        config.settle(&mut notes);
        config.check().map_err(ConfigError::Verify)?;
        Ok(Loaded::Run { config: Box::new(config), notes })
    }

    /// Puts right what etcd puts right by itself, with a note of each.
    fn settle(&mut self, notes: &mut Vec<(bool, String)>) {
        let default = Self::default();
        let mut note = |text: String| notes.push((false, text));
        for (name, timeout) in [
            ("raft-read-timeout", &mut self.peer_read_timeout),
            ("raft-write-timeout", &mut self.peer_write_timeout),
        ] {
            if *timeout < PEER_TIMEOUT_MIN {
                note(format!("{name} increased to minimum value {}s", PEER_TIMEOUT_MIN.as_secs()));
                *timeout = PEER_TIMEOUT_MIN;
            }
        }
        for (name, count, default) in [
            ("snapshot-count", &mut self.snapshot_count, default.snapshot_count),
            (
                "snapshot-catchup-entries",
                &mut self.snapshot_catchup_entries,
                default.snapshot_catchup_entries,
            ),
        ] {
            if *count == 0 {
                note(format!("updating {name} to default {default}"));
                *count = default;
            }
        }
        self.settle_gates(notes);
    }

    /// Puts the former names of gates into them.
    fn settle_gates(&mut self, notes: &mut Vec<(bool, String)>) {
        for (gate, former, is_set) in [
            (
                "LeaseCheckpoint",
                "experimental-enable-lease-checkpoint",
                self.experimental_lease_checkpoint,
            ),
            (
                "LeaseCheckpointPersist",
                "experimental-enable-lease-checkpoint-persist",
                self.experimental_lease_checkpoint_persist,
            ),
        ] {
            if is_set {
                let text =
                    format!("--{former} is deprecated, use --feature-gates={gate}=true instead");
                notes.push((true, text));
                self.feature_gates.default_on(gate);
            }
        }
        let is_on = |gate| self.feature_gates.is_on(gate);
        if is_on(Gate::LeaseCheckpoint) && !is_on(Gate::LeaseCheckpointPersist) {
            let text = "Detected that checkpointing is enabled without persistence. Consider enabling feature gate LeaseCheckpointPersist";
            notes.push((true, text.into()));
        }
    }
}

fn parse_flags(
    arguments: impl Iterator<Item = OsString>,
    config: &mut Config,
    given: &mut BTreeSet<&'static str>,
) -> Result<Option<String>, ConfigError> {
    let mut arguments = arguments.map(|word| word.to_string_lossy().into_owned());
    while let Some(word) = arguments.next() {
        let stripped = word.strip_prefix("--").or_else(|| word.strip_prefix('-'));
        let body = match stripped {
            Some("") if word == "--" => return leftover(arguments.next()).map(|()| None),
            Some(body) if !body.is_empty() => body,
            _ => return leftover(Some(word)).map(|()| None),
        };
        let (name, value) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (body, None),
        };
        match name {
            "h" | "help" => return Ok(Some(usage())),
            "version" if value.as_deref() != Some("false") => return Ok(Some(version())),
            "version" => continue,
            _ => {}
        }
        let Some(flag) = flags::find(name) else {
            return Err(ConfigError::Usage(format!("flag provided but not defined: -{name}")));
        };
        let value = match value {
            Some(value) => value,
            None if flag.boolean => "true".into(),
            None => arguments
                .next()
                .ok_or_else(|| ConfigError::Usage(format!("flag needs an argument: -{name}")))?,
        };
        set(flag, config, &value).map_err(|why| {
            ConfigError::Usage(format!("invalid value {value:?} for flag -{name}: {why}"))
        })?;
        given.insert(flag.name);
    }
    Ok(None)
}

fn leftover(word: Option<String>) -> Result<(), ConfigError> {
    match word {
        None => Ok(()),
        Some(word) => Err(ConfigError::Verify(format!("{word:?} is not a valid flag"))),
    }
}

fn set(flag: &Flag, config: &mut Config, value: &str) -> Result<(), String> {
    (flag.set)(config, value)
}

fn variable(flag: &Flag) -> String {
    format!("ETCD_{}", flag.name.to_uppercase().replace('-', "_"))
}

fn parse_environment(
    environment: impl Iterator<Item = (String, String)>,
    config: &mut Config,
    given: &mut BTreeSet<&'static str>,
) -> Result<Vec<(bool, String)>, ConfigError> {
    let mut notes = Vec::new();
    for (name, value) in environment {
        if !name.starts_with("ETCD_") || value.is_empty() || name.starts_with("ETCD_RS_") {
            continue;
        }
        let Some(flag) = FLAGS.iter().find(|flag| variable(flag) == name) else {
            notes.push((true, format!("unrecognized environment variable {name}={value}")));
            continue;
        };
        if given.contains(flag.name) {
            return Err(ConfigError::Verify(format!(
                "conflicting environment variable {name:?} is shadowed by corresponding command-line flag (either unset environment variable or disable flag))"
            )));
        }
        set(flag, config, &value).map_err(|why| {
            ConfigError::Verify(format!("invalid value {value:?} for {name}: {why}"))
        })?;
        given.insert(flag.name);
        notes.push((false, format!("recognized and used environment variable {name}={value}")));
    }
    Ok(notes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn load(words: &[&str], environment: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
        Config::load(
            words.iter().map(OsString::from),
            environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        )
    }

    #[track_caller]
    fn config(words: &[&str], environment: &[(&str, &str)]) -> Config {
        match load(words, environment).expect("loads") {
            Loaded::Run { config, .. } => *config,
            Loaded::Print(text) => panic!("printed {text}"),
        }
    }

    #[test]
    fn one_and_two_dashes_with_and_without_equals() {
        for words in [&["-name", "a"][..], &["--name", "a"], &["-name=a"], &["--name=a"]] {
            assert_eq!(config(words, &[]).name, "a");
        }
        assert!(!config(&["--pre-vote=false"], &[]).pre_vote);
        assert_eq!(config(&["--max-txn-ops", "0x10"], &[]).txn_ops_max, 16);
    }

    #[test]
    fn errors_have_etcds_texts_and_codes() {
        let fails = |words: &[&str], code, text: &str| {
            let error = load(words, &[]).expect_err("fails");
            assert_eq!((error.exit_code(), error.to_string().as_str()), (code, text));
        };
        fails(&["--bogus"], 2, "flag provided but not defined: -bogus");
        fails(&["--max-txn-ops", "x"], 2, "invalid value \"x\" for flag -max-txn-ops: parse error");
        fails(&["--name"], 2, "flag needs an argument: -name");
        fails(&["--pre-vote", "false"], 1, "\"false\" is not a valid flag");
        fails(
            &["--heartbeat-interval", "300"],
            1,
            "--election-timeout[1000ms] should be at least as 5 times as --heartbeat-interval[300ms]",
        );
        fails(
            &["--listen-client-urls", "http://127.0.0.1:1"],
            1,
            "--advertise-client-urls is required when --listen-client-urls is set explicitly",
        );
    }

    #[test]
    fn the_environment_fills_in_and_must_not_conflict() {
        assert_eq!(config(&[], &[("ETCD_MAX_TXN_OPS", "7"), ("HOME", "/")]).txn_ops_max, 7);
        let error = load(&["--name", "a"], &[("ETCD_NAME", "b")]).expect_err("conflict");
        assert!(error.to_string().starts_with("conflicting environment variable \"ETCD_NAME\""));
        let error = load(&[], &[("ETCD_SNAPSHOT_COUNT", "abc")]).expect_err("bad value");
        assert_eq!(error.exit_code(), 1);
        assert_eq!(error.to_string(), "invalid value \"abc\" for ETCD_SNAPSHOT_COUNT: parse error");
    }

    #[test]
    fn low_and_absent_values_are_put_right_with_a_note() {
        let words = ["--raft-read-timeout", "1s", "--snapshot-count=0"];
        let Ok(Loaded::Run { config, notes }) = load(&words, &[]) else { panic!("loads") };
        assert_eq!((config.peer_read_timeout.as_secs(), config.snapshot_count), (5, 10_000));
        let notes: Vec<&str> = notes.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(
            notes,
            [
                "raft-read-timeout increased to minimum value 5s",
                "updating snapshot-count to default 10000"
            ]
        );
    }

    #[test]
    fn gates_have_former_names_that_still_work_with_a_warning() {
        let loaded = load(&["--experimental-enable-lease-checkpoint"], &[]);
        let Ok(Loaded::Run { config, notes }) = loaded else { panic!("loads") };
        assert_eq!(config.lease_checkpoint_interval_ms(), Some(300_000));
        assert!(!config.feature_gates.is_on(Gate::LeaseCheckpointPersist));
        assert_eq!(notes.len(), 2, "the name, and what is missing: {notes:?}");
        assert!(notes.iter().all(|(warning, _)| *warning));
        let both = "--feature-gates=LeaseCheckpoint=true,LeaseCheckpointPersist=true";
        let Ok(Loaded::Run { config, notes }) = load(&[both], &[]) else { panic!("loads") };
        assert!(config.feature_gates.is_on(Gate::LeaseCheckpointPersist) && notes.is_empty());
        // What the gate itself is given wins.
        let words = [
            "--experimental-enable-lease-checkpoint=true",
            "--feature-gates=LeaseCheckpoint=false",
        ];
        assert_eq!(self::config(&words, &[]).lease_checkpoint_interval_ms(), None);
        let persist = [("ETCD_EXPERIMENTAL_ENABLE_LEASE_CHECKPOINT_PERSIST", "true")];
        let error = load(&[], &persist).expect_err("needs the other");
        assert!(error.to_string().ends_with("requires enabling feature gate LeaseCheckpoint"));
        let error = load(&["--feature-gates=Bogus=true"], &[]).expect_err("no such gate");
        assert_eq!(
            error.to_string(),
            "invalid value \"Bogus=true\" for flag -feature-gates: unrecognized feature gate: Bogus"
        );
    }

    #[test]
    fn booleans_take_no_word() {
        assert!(
            !config(&["--strict-reconfig-check=true", "--auto-tls=false"], &[]).client_tls.auto
        );
        let error = load(&["--force-new-cluster", "false"], &[]).expect_err("a word is left");
        assert_eq!(error.to_string(), "\"false\" is not a valid flag");
        for flag in FLAGS.iter().filter(|flag| flag.boolean) {
            let shown = (flag.get)(&Config::default());
            assert!(shown == "true" || shown == "false", "{} is no boolean", flag.name);
        }
        let booleans = FLAGS
            .iter()
            .filter(|flag| matches!((flag.get)(&Config::default()).as_str(), "true" | "false"));
        assert!(booleans.into_iter().all(|flag| flag.boolean));
    }

    #[test]
    fn every_flag_takes_its_own_default_and_is_in_the_help() {
        let help = usage();
        for flag in FLAGS {
            let mut config = Config::default();
            let shown = (flag.get)(&config);
            set(flag, &mut config, &shown).unwrap_or_else(|why| panic!("{}: {why}", flag.name));
            assert_eq!(config, Config::default(), "{}", flag.name);
            assert!(help.contains(&format!("--{} '{shown}'", flag.name)));
        }
    }
}
