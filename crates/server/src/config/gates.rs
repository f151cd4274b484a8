//! Feature gates: `--feature-gates=Name=true,...` (operations.md §1.9).

use std::collections::BTreeMap;

/// A feature that can be turned on or off, under etcd's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Tell health checks that nothing is served while a member defragments.
    StopGRPCServiceOnDefrag,
    /// A detail of bbolt, without a counterpart here.
    TxnModeWriteWithSharedBuffer,
    /// Compare hashes with the peers before anything is served.
    InitialCorruptCheck,
    /// The leader compares hashes of compactions.
    CompactHashCheck,
    /// The leader records what is left of leases (LE-11).
    LeaseCheckpoint,
    /// Records are stored in clusters below 3.6, too.
    LeaseCheckpointPersist,
    /// Peers are dialed from the address that is advertised.
    SetMemberLocalAddr,
    /// A leader renews a lease that it knows without waiting for what is committed (LE-06).
    FastLeaseKeepAlive,
    /// Requests of the cluster itself go first.
    PriorityRequest,
}

/// How much a feature may be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Alpha,
    Beta,
}

/// One line of etcd's table.
struct Known {
    gate: Gate,
    name: &'static str,
    stage: Stage,
    default: bool,
    /// Whether both values are built.
    has_both: bool,
}

const fn known(gate: Gate, name: &'static str, stage: Stage, default: bool) -> Known {
    Known { gate, name, stage, default, has_both: false }
}

const fn built(gate: Gate, name: &'static str, stage: Stage, default: bool) -> Known {
    Known { has_both: true, ..known(gate, name, stage, default) }
}

const ALL: [Known; 9] = [
    known(Gate::StopGRPCServiceOnDefrag, "StopGRPCServiceOnDefrag", Stage::Alpha, false),
    built(Gate::TxnModeWriteWithSharedBuffer, "TxnModeWriteWithSharedBuffer", Stage::Beta, true),
    known(Gate::InitialCorruptCheck, "InitialCorruptCheck", Stage::Alpha, false),
    known(Gate::CompactHashCheck, "CompactHashCheck", Stage::Alpha, false),
    built(Gate::LeaseCheckpoint, "LeaseCheckpoint", Stage::Alpha, false),
    built(Gate::LeaseCheckpointPersist, "LeaseCheckpointPersist", Stage::Alpha, false),
    known(Gate::SetMemberLocalAddr, "SetMemberLocalAddr", Stage::Alpha, false),
    known(Gate::FastLeaseKeepAlive, "FastLeaseKeepAlive", Stage::Beta, true),
    known(Gate::PriorityRequest, "PriorityRequest", Stage::Alpha, false),
];

/// Gates that stand for all of a stage; what a gate itself was given wins.
const STAGES: [(Stage, &str); 2] = [(Stage::Alpha, "AllAlpha"), (Stage::Beta, "AllBeta")];

/// What the gates were given, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeatureGates(BTreeMap<&'static str, bool>);

impl FeatureGates {
    /// Reads `Name=true,Other=false`.
    ///
    /// # Errors
    ///
    /// A text in etcd's words that names the part that is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut gates = Self::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let Some((name, value)) = part.split_once('=') else {
                return Err(format!("missing bool value for {}", part.trim()));
            };
            let (name, value) = (name.trim(), value.trim());
            let on = super::flags::boolean(value).map_err(|_| {
                format!("invalid value of {name}={value}, err: strconv.ParseBool: parsing {value:?}: invalid syntax")
            })?;
            let mut names = ALL.iter().map(|known| known.name).chain(STAGES.map(|(_, name)| name));
            let Some(name) = names.find(|known| *known == name) else {
                return Err(format!("unrecognized feature gate: {name}"));
            };
            gates.0.insert(name, on);
        }
        Ok(gates)
    }

    /// The text that [`Self::parse`] reads, by name.
    #[must_use]
    pub fn text(&self) -> String {
        let given: Vec<String> = self.0.iter().map(|(name, on)| format!("{name}={on}")).collect();
        given.join(",")
    }

    /// Whether a feature is on.
    #[must_use]
    pub fn is_on(&self, gate: Gate) -> bool {
        let known = ALL.iter().find(|known| known.gate == gate);
        known.is_some_and(|known| self.value(known))
    }

    fn value(&self, known: &Known) -> bool {
        let stage = STAGES.iter().find(|(stage, _)| *stage == known.stage);
        let of_stage = stage.and_then(|(_, name)| self.0.get(name));
        *self.0.get(known.name).or(of_stage).unwrap_or(&known.default)
    }

    /// Turns a feature on, unless it was given a value.
    pub(super) fn default_on(&mut self, name: &'static str) {
        self.0.entry(name).or_insert(true);
    }

    /// Checks that the gates fit each other, and that what they ask for is built.
    ///
    /// # Errors
    ///
    /// A text that names the gate.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.is_on(Gate::LeaseCheckpointPersist) && !self.is_on(Gate::LeaseCheckpoint) {
            return Err(
                "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint"
                    .into(),
            );
        }
        let absent = |known: &&Known| !known.has_both && self.value(known) != known.default;
        match ALL.iter().find(absent) {
            Some(Known { name, default, .. }) => {
                Err(format!("feature gate {name}={} is not available in this version", !default))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn parsed(text: &str) -> FeatureGates {
        FeatureGates::parse(text).expect("parses")
    }

    #[test]
    fn gates_have_etcds_defaults_and_take_values() {
        for (text, on) in [
            ("", [false, false, true]),
            ("LeaseCheckpoint=true", [true, false, true]),
            ("AllAlpha=1,LeaseCheckpointPersist=f", [true, false, true]),
            (" LeaseCheckpointPersist = false ,AllAlpha=T", [true, false, true]),
            ("AllBeta=false", [false, false, false]),
        ] {
            let gates = parsed(text);
            let found = [
                Gate::LeaseCheckpoint,
                Gate::LeaseCheckpointPersist,
                Gate::TxnModeWriteWithSharedBuffer,
            ];
            assert_eq!(found.map(|gate| gates.is_on(gate)), on, "{text:?}");
            assert_eq!(parsed(&gates.text()), gates);
        }
    }

    #[test]
    fn every_gate_is_in_the_table_once() {
        for (at, known) in ALL.iter().enumerate() {
            assert_eq!(format!("{:?}", known.gate), known.name);
            assert!(ALL[at + 1..].iter().all(|other| other.name != known.name));
        }
    }

    #[test]
    fn errors_have_etcds_texts() {
        let refused = |text| FeatureGates::parse(text).expect_err("refused");
        assert_eq!(refused("LeaseCheckpoint"), "missing bool value for LeaseCheckpoint");
        assert_eq!(refused("Bogus=true"), "unrecognized feature gate: Bogus");
        let text =
            "invalid value of AllBeta=x, err: strconv.ParseBool: parsing \"x\": invalid syntax";
        assert_eq!(refused("AllBeta=x"), text);
        let alone = parsed("LeaseCheckpointPersist=true").check().expect_err("needs the other");
        assert_eq!(
            alone,
            "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint"
        );
    }

    #[test]
    fn what_is_not_built_is_refused_unless_it_is_the_default() {
        for text in ["", "InitialCorruptCheck=false,FastLeaseKeepAlive=true", "AllBeta=true"] {
            assert_eq!(parsed(text).check(), Ok(()), "{text}");
        }
        for (text, gate) in [
            ("InitialCorruptCheck=true", "InitialCorruptCheck=true"),
            ("FastLeaseKeepAlive=false", "FastLeaseKeepAlive=false"),
            ("AllAlpha=true", "StopGRPCServiceOnDefrag=true"),
        ] {
            let why = parsed(text).check().expect_err("refused");
            assert_eq!(why, format!("feature gate {gate} is not available in this version"));
        }
    }
}
