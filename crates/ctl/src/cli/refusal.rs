//! clap's refusals in cobra's words (ctl.md §1.4).

use std::ffi::OsString;

use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, Error, ErrorKind};

use crate::cli::Cli;
use crate::failure::Failure;

/// Commands that only have commands below them: cobra answers a wrong one with the group's help.
const GROUPS: [&str; 5] = ["lease", "member", "endpoint", "alarm", "snapshot"];

/// Prints help where it was asked for, else says what is wrong with the command line.
pub(super) fn explain(error: &Error, args: &[OsString]) -> Result<(), Failure> {
    let message = match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        | ErrorKind::MissingSubcommand => {
            print!("{}", error.render());
            return Ok(());
        }
        ErrorKind::InvalidSubcommand => {
            let name = context(error, ContextKind::InvalidSubcommand);
            if let Some(group) = group_before(args, &name) {
                if let Some(command) = Cli::command().find_subcommand_mut(group) {
                    print!("{}", command.render_help());
                }
                return Ok(());
            }
            let message = format!("unknown command {name:?} for \"etcdctl\"");
            return Err(Failure::error(message).with_usage("Run 'etcdctl --help' for usage."));
        }
        ErrorKind::UnknownArgument => {
            let flag = context(error, ContextKind::InvalidArg);
            match flag.strip_prefix('-') {
                Some(letters) if !letters.starts_with('-') => {
                    let letter = letters.chars().next().unwrap_or('-');
                    format!("unknown shorthand flag: '{letter}' in {flag}")
                }
                _ => format!("unknown flag: {flag}"),
            }
        }
        ErrorKind::ValueValidation | ErrorKind::InvalidValue | ErrorKind::NoEquals => {
            let (flag, value) = (flag_name(error), context(error, ContextKind::InvalidValue));
            match std::error::Error::source(error) {
                _ if value.is_empty() => format!("flag needs an argument: {flag}"),
                Some(why) => format!("invalid argument {value:?} for {flag:?} flag: {why}"),
                None => format!("invalid argument {value:?} for {flag:?} flag"),
            }
        }
        _ => error.to_string(),
    };
    let usage = context(error, ContextKind::Usage);
    Err(Failure::error(message).with_usage(usage))
}

/// A piece of the refusal as text; empty if it has none of the kind.
fn context(error: &Error, kind: ContextKind) -> String {
    match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::StyledStr(text)) => text.to_string(),
        _ => String::new(),
    }
}

/// The flag a refusal is about, without the value's name that clap puts behind it, as pflag
/// writes it: `-w, --write-out`.
fn flag_name(error: &Error) -> String {
    let shown = context(error, ContextKind::InvalidArg);
    let name = shown.split([' ', '=', '[']).next().unwrap_or_default();
    match name {
        "--write-out" => format!("-w, {name}"),
        "--discovery-srv" => format!("-d, {name}"),
        _ => name.to_owned(),
    }
}

/// The group that stands before the word `name`, which some group does not know.
fn group_before(args: &[OsString], name: &str) -> Option<&'static str> {
    let before = args.iter().skip(1).take_while(|arg| *arg != name);
    before
        .filter_map(|arg| arg.to_str())
        .find_map(|arg| GROUPS.into_iter().find(|group| !arg.is_empty() && group.starts_with(arg)))
}
