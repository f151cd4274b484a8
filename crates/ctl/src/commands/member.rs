//! member add, remove, update, list, promote.

use std::ffi::OsString;

use crate::cli::{Global, MemberAddArgs, MemberCommand, MemberUpdateArgs};
use crate::commands::text;
use crate::failure::Failure;
use crate::go;
use crate::print::Answer;
use crate::session::Session;

pub(super) async fn run(global: Global, command: MemberCommand) -> Result<(), Failure> {
    match command {
        MemberCommand::Add(flags) => add(global, &flags).await,
        MemberCommand::Remove(words) => {
            let id = member_id(&words.args)?;
            let session = Session::new(global).await?;
            let response = session.client().await?.member_remove(id).await?;
            session.printer.show(&Answer::MemberRemove { id, response: &response })
        }
        MemberCommand::Update(flags) => update(global, &flags).await,
        MemberCommand::List(flags) => {
            let linearizable = match flags.consistency.as_str() {
                "l" => true,
                "s" => false,
                other => {
                    let message = format!("unknown consistency flag {other:?}");
                    return Err(Failure::bad_feature(message));
                }
            };
            let session = Session::new(global).await?;
            let response = session.client().await?.member_list(linearizable).await?;
            session.printer.show(&Answer::MemberList(&response))
        }
        MemberCommand::Promote(words) => {
            let id = member_id(&words.args)?;
            let session = Session::new(global).await?;
            let response = session.client().await?.member_promote(id).await?;
            session.printer.show(&Answer::MemberPromote { id, response: &response })
        }
    }
}

fn member_id(args: &[OsString]) -> Result<u64, Failure> {
    let [id] = args else { return Err(Failure::bad_args("member ID is not provided")) };
    go::parse_uint(&text(id), 16)
        .map_err(|why| Failure::bad_args(format!("bad member ID arg ({why}), expecting ID in Hex")))
}

fn peer_urls(urls: &str) -> Result<Vec<String>, Failure> {
    if urls.is_empty() {
        return Err(Failure::bad_args("member peer urls not provided"));
    }
    Ok(urls.split(',').map(str::to_owned).collect())
}

async fn add(global: Global, flags: &MemberAddArgs) -> Result<(), Failure> {
    let name = match flags.args.as_slice() {
        [] => return Err(Failure::bad_args("member name not provided")),
        [name] => text(name),
        words => {
            // A URL among the words is mostly a forgotten flag.
            let hints: String = words
                .iter()
                .map(|word| text(word))
                .filter(|word| word.starts_with("http"))
                .map(|url| format!(", did you mean --peer-urls={url}"))
                .collect();
            return Err(Failure::bad_args(format!("too many arguments{hints}")));
        }
    };
    let urls = peer_urls(&flags.peer_urls)?;
    let session = Session::new(global).await?;
    let response = session.client().await?.member_add(urls, flags.learner).await?;
    session.printer.show(&Answer::MemberAdd { name: &name, response: &response })
}

async fn update(global: Global, flags: &MemberUpdateArgs) -> Result<(), Failure> {
    let id = member_id(&flags.args)?;
    let urls = peer_urls(&flags.peer_urls)?;
    let session = Session::new(global).await?;
    let response = session.client().await?.member_update(id, urls).await?;
    session.printer.show(&Answer::MemberUpdate { id, response: &response })
}
