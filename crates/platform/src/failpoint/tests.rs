//! Tests of actions and of what `fp!` and `strikes` make of them.

use super::*;

#[test]
fn actions_round_trip() {
    let text = "a=panic;b=sleep(5); c=return(full) ;d=abort;e=return;f=off;g=exit";
    let parsed = parse(text).unwrap();
    assert_eq!(parsed.len(), 7);
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
    let armed = || {
        let ours =
            |name: &String| ["platform-test-plain", "platform-test-return"].contains(&&**name);
        places().iter().filter(|(name, place)| ours(name) && place.action.is_some()).count()
    };
    assert_eq!(passes(), Ok(1));
    configure("platform-test-return=return(no);platform-test-plain=sleep(1)").unwrap();
    assert_eq!(passes(), Err("no".to_owned()));
    assert_eq!(armed(), 2);
    set("platform-test-plain", Action::Off);
    set("platform-test-return", Action::Off);
    assert_eq!((armed(), passes()), (0, Ok(1)));
    let place = places()["platform-test-return"].clone();
    assert_eq!((place.passed, place.struck), (3, 1));
    set("platform-test-plain", Action::Panic);
    assert!(std::panic::catch_unwind(passes).is_err());
    disarm("platform-test-plain");
}

#[cfg(feature = "failpoints")]
#[test]
fn a_fault_strikes_every_nth_time() {
    const NAME: &str = "platform-test-fault";
    assert!(!strikes(NAME, 0));
    configure("platform-test-fault=return(3)").unwrap();
    assert!(strikes(NAME, 6) && !strikes(NAME, 7));
    configure("platform-test-fault=return").unwrap();
    assert!(strikes(NAME, 7));
    disarm(NAME);
}
