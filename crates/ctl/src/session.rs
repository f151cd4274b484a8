//! Settings of a run: flags over environment over defaults, and the client they make.

use std::time::Duration;

use etcdrs_client::{Client, Config, Credentials, ErrorKind};

use crate::cli::Global;
use crate::failure::Failure;
use crate::go;
use crate::print::{Format, Printer};
use crate::secure;

const DIAL_TIMEOUT: Duration = Duration::from_secs(2);
const COMMAND_TIMEOUT: Duration = Duration::from_secs(5);
const KEEPALIVE_TIME: Duration = Duration::from_secs(2);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(6);

/// A client and a printer, ready for a command.
pub(crate) struct Session {
    pub(crate) printer: Printer,
    pub(crate) endpoints: Vec<String>,
    /// Whether `--command-timeout` was given, which matters to `snapshot save` alone.
    pub(crate) timeout_given: bool,
    command_timeout: Duration,
    config: Config,
}

/// Takes a flag from the environment (ctl.md §1.3). Given in both places it is refused; what
/// does not parse there is as good as absent.
fn merge<T>(
    flag: &mut Option<T>,
    name: &str,
    read: impl FnOnce(&str) -> Option<T>,
    env: &impl Fn(&str) -> Option<String>,
) -> Result<(), Failure> {
    let Some(text) = env(name).filter(|text| !text.is_empty()) else { return Ok(()) };
    if flag.is_some() {
        // Logged like other fatal things, not told like an error.
        eprintln!(
            "{{\"level\":\"fatal\",\"msg\":\"conflicting environment variable is shadowed by \
             corresponding command-line flag (either unset environment variable or disable \
             flag))\",\"environment-variable\":\"{name}\"}}"
        );
        return Err(Failure::silent());
    }
    *flag = read(&text);
    Ok(())
}

/// Every global flag, with the environment's values put in where no flag is.
fn with_environment(
    mut global: Global,
    env: &impl Fn(&str) -> Option<String>,
) -> Result<Global, Failure> {
    let text = |text: &str| Some(text.to_owned());
    let list = |text: &str| Some(text.split(',').map(str::to_owned).collect());
    let duration = |text: &str| go::parse_duration(text).ok();
    let number = |text: &str| go::parse_int(text, 10).ok();
    let switch = |text: &str| text.parse().ok();
    let g = &mut global;
    merge(&mut g.endpoints, "ETCDCTL_ENDPOINTS", list, env)?;
    merge(&mut g.write_out, "ETCDCTL_WRITE_OUT", text, env)?;
    merge(&mut g.hex, "ETCDCTL_HEX", switch, env)?;
    merge(&mut g.debug, "ETCDCTL_DEBUG", switch, env)?;
    merge(&mut g.dial_timeout, "ETCDCTL_DIAL_TIMEOUT", duration, env)?;
    merge(&mut g.command_timeout, "ETCDCTL_COMMAND_TIMEOUT", duration, env)?;
    merge(&mut g.keepalive_time, "ETCDCTL_KEEPALIVE_TIME", duration, env)?;
    merge(&mut g.keepalive_timeout, "ETCDCTL_KEEPALIVE_TIMEOUT", duration, env)?;
    merge(&mut g.max_request_bytes, "ETCDCTL_MAX_REQUEST_BYTES", number, env)?;
    merge(&mut g.max_recv_bytes, "ETCDCTL_MAX_RECV_BYTES", number, env)?;
    merge(&mut g.insecure_transport, "ETCDCTL_INSECURE_TRANSPORT", switch, env)?;
    merge(&mut g.insecure_discovery, "ETCDCTL_INSECURE_DISCOVERY", switch, env)?;
    merge(&mut g.insecure_skip_tls_verify, "ETCDCTL_INSECURE_SKIP_TLS_VERIFY", switch, env)?;
    merge(&mut g.cert, "ETCDCTL_CERT", text, env)?;
    merge(&mut g.key, "ETCDCTL_KEY", text, env)?;
    merge(&mut g.cacert, "ETCDCTL_CACERT", text, env)?;
    merge(&mut g.user, "ETCDCTL_USER", text, env)?;
    merge(&mut g.password, "ETCDCTL_PASSWORD", text, env)?;
    merge(&mut g.auth_jwt_token, "ETCDCTL_AUTH_JWT_TOKEN", text, env)?;
    merge(&mut g.discovery_srv, "ETCDCTL_DISCOVERY_SRV", text, env)?;
    merge(&mut g.discovery_srv_name, "ETCDCTL_DISCOVERY_SRV_NAME", text, env)?;
    Ok(global)
}

/// Tells of variables that look like ours and mean nothing, `ETCDCTL_API` among them since 3.6.
fn warn_of_unknown(environment: impl Iterator<Item = (String, String)>) {
    use clap::Args;
    let flags = Global::augment_args(clap::Command::new("flags"));
    for (name, value) in environment {
        let Some(end) = name.strip_prefix("ETCDCTL_") else { continue };
        let flag = end.to_lowercase().replace('_', "-");
        let watch = flag == "watch-key" || flag == "watch-range-end";
        if watch || flags.get_arguments().any(|known| known.get_long() == Some(&flag)) {
            continue;
        }
        let variable = crate::print::json_string(&format!("{name}={value}"));
        eprintln!(
            "{{\"level\":\"warn\",\"msg\":\"unrecognized environment variable\",\
             \"environment-variable\":{variable}}}"
        );
    }
}

fn credentials(global: &Global) -> Result<Option<Credentials>, Failure> {
    let Some(user) = global.user.as_deref().filter(|user| !user.is_empty()) else {
        return Ok(None);
    };
    let (user, password) = match (&global.password, user.split_once(':')) {
        (Some(password), _) => (user, password.as_str()),
        (None, Some(both)) => both,
        (None, None) => {
            let message = "no password for --user: write --user name:password or --password";
            return Err(Failure::bad_args(message));
        }
    };
    Ok(Some(Credentials { user: user.to_owned(), password: password.to_owned() }))
}

/// A size flag: 0 for the default.
fn bytes_or(given: Option<i64>, default: usize) -> usize {
    given.and_then(|bytes| usize::try_from(bytes).ok()).filter(|&n| n > 0).unwrap_or(default)
}

impl Session {
    /// Settles every setting; asks nobody anything yet but, with `--discovery-srv`, DNS.
    pub(crate) async fn new(global: Global) -> Result<Self, Failure> {
        let global = with_environment(global, &|name| std::env::var(name).ok())?;
        warn_of_unknown(std::env::vars());
        if global.debug == Some(true) {
            print_settings(&global);
        }
        if global.auth_jwt_token.is_some() {
            return Err(Failure::bad_args("--auth-jwt-token is not supported yet"));
        }
        let format = global.write_out.as_deref().unwrap_or("simple");
        let format = Format::from_name(format)
            .ok_or_else(|| Failure::bad_feature("unsupported output format"))?;
        let endpoints = secure::endpoints(&global).await?;
        let command_timeout = global.command_timeout.unwrap_or(COMMAND_TIMEOUT);
        let mut config = Config::new(endpoints.clone());
        config.tls = secure::tls(&global)?;
        config.dial_timeout = global.dial_timeout.unwrap_or(DIAL_TIMEOUT);
        config.call_timeout = Some(command_timeout);
        config.keepalive_time = Some(global.keepalive_time.unwrap_or(KEEPALIVE_TIME));
        config.keepalive_timeout = global.keepalive_timeout.unwrap_or(KEEPALIVE_TIMEOUT);
        config.credentials = credentials(&global)?;
        config.send_bytes_max = bytes_or(global.max_request_bytes, config.send_bytes_max);
        config.receive_bytes_max = bytes_or(global.max_recv_bytes, config.receive_bytes_max);
        Ok(Self {
            printer: Printer::new(format, global.hex == Some(true)),
            endpoints,
            timeout_given: global.command_timeout.is_some(),
            command_timeout,
            config,
        })
    }

    /// A client whose calls obey `--command-timeout`.
    pub(crate) async fn client(&self) -> Result<Client, Failure> {
        connect(self.config.clone()).await
    }

    /// A client that waits as long as it takes.
    pub(crate) async fn patient_client(&self) -> Result<Client, Failure> {
        Ok(self.client().await?.with_timeout(None))
    }

    /// A client whose watches end when the server loses its leader.
    pub(crate) async fn watching_client(&self) -> Result<Client, Failure> {
        let config = Config { require_leader: true, call_timeout: None, ..self.config.clone() };
        connect(config).await
    }

    /// A client of one endpoint.
    pub(crate) async fn client_at(&self, endpoint: &str) -> Result<Client, Failure> {
        connect(Config { endpoints: vec![endpoint.to_owned()], ..self.config.clone() }).await
    }

    /// The endpoints to work on: the given ones or, with `--cluster`, those of all members.
    pub(crate) async fn all_endpoints(&self, cluster: bool) -> Result<Vec<String>, Failure> {
        if !cluster {
            return Ok(self.endpoints.clone());
        }
        let members = self.client().await?.member_list(true).await.map_err(|error| {
            Failure::error(format!(
                "failed to fetch endpoints from etcd cluster member list: {error}"
            ))
        })?;
        Ok(members.members.into_iter().flat_map(|member| member.client_urls).collect())
    }

    /// See `--command-timeout`.
    pub(crate) fn command_timeout(&self) -> Duration {
        self.command_timeout
    }
}

async fn connect(config: Config) -> Result<Client, Failure> {
    Client::connect(config).await.map_err(|error| match error.kind() {
        ErrorKind::Config => Failure::bad_args(error.to_string()),
        _ => Failure::bad_connection(error.to_string()).after(&error),
    })
}

/// `--debug`: the settings as environment variables, without the secrets.
fn print_settings(global: &Global) {
    let duration = |value: Option<Duration>, default| go::format_duration(value.unwrap_or(default));
    let endpoints = secure::given_endpoints(global);
    for (name, value) in [
        ("CACERT", global.cacert.clone().unwrap_or_default()),
        ("CERT", global.cert.clone().unwrap_or_default()),
        ("COMMAND_TIMEOUT", duration(global.command_timeout, COMMAND_TIMEOUT)),
        ("DEBUG", "true".to_owned()),
        ("DIAL_TIMEOUT", duration(global.dial_timeout, DIAL_TIMEOUT)),
        ("DISCOVERY_SRV", global.discovery_srv.clone().unwrap_or_default()),
        ("DISCOVERY_SRV_NAME", global.discovery_srv_name.clone().unwrap_or_default()),
        ("ENDPOINTS", format!("[{}]", endpoints.join(","))),
        ("HEX", global.hex.unwrap_or(false).to_string()),
        ("INSECURE_DISCOVERY", global.insecure_discovery.unwrap_or(true).to_string()),
        ("INSECURE_SKIP_TLS_VERIFY", global.insecure_skip_tls_verify.unwrap_or(false).to_string()),
        ("INSECURE_TRANSPORT", global.insecure_transport.unwrap_or(true).to_string()),
        ("KEEPALIVE_TIME", duration(global.keepalive_time, KEEPALIVE_TIME)),
        ("KEEPALIVE_TIMEOUT", duration(global.keepalive_timeout, KEEPALIVE_TIMEOUT)),
        ("KEY", global.key.clone().unwrap_or_default()),
        ("USER", global.user.as_deref().and_then(|u| u.split(':').next()).unwrap_or("").to_owned()),
        ("WRITE_OUT", global.write_out.clone().unwrap_or_else(|| "simple".to_owned())),
    ] {
        eprintln!("ETCDCTL_{name}={value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_fills_in_what_no_flag_says() {
        let env = |name: &str| match name {
            "ETCDCTL_ENDPOINTS" => Some("a:1,b:2".to_owned()),
            "ETCDCTL_DIAL_TIMEOUT" => Some("xx".to_owned()),
            _ => None,
        };
        let global = with_environment(Global::default(), &env).expect("no conflict");
        assert_eq!(global.endpoints.expect("from the environment"), ["a:1", "b:2"]);
        assert_eq!(global.dial_timeout, None, "a bad value is as good as none");
    }

    #[test]
    fn a_flag_and_its_variable_together_are_refused() {
        let global = Global { write_out: Some("json".to_owned()), ..Global::default() };
        let env = |name: &str| (name == "ETCDCTL_WRITE_OUT").then(|| "table".to_owned());
        assert!(with_environment(global, &env).is_err());
    }
}
