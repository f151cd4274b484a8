//! The command line as clap sees it, and the flags that differ from clap's habits.

use super::*;

fn cli(line: &str) -> Result<Option<Cli>, Failure> {
    let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
    parse(&args)
}

#[track_caller]
fn command(line: &str) -> Command {
    cli(line).expect("the line is right").expect("no help was asked for").command
}

#[track_caller]
fn refused(line: &str, message: &str) {
    assert_eq!(cli(line).expect_err("the line is wrong").message(), message);
}

#[test]
fn the_parser_is_sound() {
    like_pflag(Cli::command()).debug_assert();
}

#[test]
fn flags_may_stand_anywhere_and_be_switched_off() {
    let Command::Get(get) = command("etcdctl -w json get a --prefix b --rev -1 --keys-only=false")
    else {
        panic!("a get");
    };
    assert_eq!(get.args, ["a", "b"]);
    assert!(get.prefix && !get.keys_only && get.rev == -1);
}

#[test]
fn names_may_be_shortened_and_the_last_flag_wins() {
    assert!(matches!(command("etcdctl mem li"), Command::Member(MemberCommand::List(_))));
    let Command::Get(get) = command("etcdctl g k --limit 1 --limit=2") else { panic!("a get") };
    assert_eq!(get.limit, 2);
}

#[test]
fn what_follows_two_dashes_is_no_flag() {
    let Command::Put(put) = command("etcdctl put k -- -v") else { panic!("a put") };
    assert_eq!(put.args, ["k", "-v"]);
    let Command::Watch(watch) = command("etcdctl watch foo --rev 1 bar -- echo --x") else {
        panic!("a watch");
    };
    assert_eq!((watch.args.len(), watch.rev), (2, 1));
    assert_eq!(watch.exec, ["echo", "--x"]);
}

#[test]
fn endpoints_are_a_list() {
    let parsed = cli("etcdctl --endpoints a:1,b:2 --endpoints c:3 version");
    let endpoints = parsed.expect("right").expect("no help").global.endpoints;
    assert_eq!(endpoints.expect("given"), ["a:1", "b:2", "c:3"]);
}

#[test]
fn refusals_are_cobras() {
    refused("etcdctl nosuch", "unknown command \"nosuch\" for \"etcdctl\"");
    refused("etcdctl get --bogus", "unknown flag: --bogus");
    refused("etcdctl put k -v", "unknown shorthand flag: 'v' in -v");
    refused(
        "etcdctl get a --limit abc",
        "invalid argument \"abc\" for \"--limit\" flag: strconv.ParseInt: parsing \"abc\": invalid syntax",
    );
    refused("etcdctl get a --limit", "flag needs an argument: --limit");
    refused(
        "etcdctl --command-timeout 5 get a",
        "invalid argument \"5\" for \"--command-timeout\" flag: time: missing unit in duration \"5\"",
    );
}

#[test]
fn a_wrong_word_in_a_group_is_answered_with_help() {
    assert!(cli("etcdctl member bogus").is_ok_and(|cli| cli.is_none()));
    assert!(cli("etcdctl member").is_ok_and(|cli| cli.is_none()));
}
