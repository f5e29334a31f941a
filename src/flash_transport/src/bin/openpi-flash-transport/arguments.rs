//! The command line. Names and defaults are those that users of the protocol know.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use flash_transport::congestion::Sharing;
use flash_transport::quic::server::ServerId;
use flash_transport::quic::settings::LinkSettings;
use flash_transport::relay::forwarding::RelayLimits;
use flash_transport::relay::DEFAULT_PORT;

/// From two datagrams, the minimum window, to what a connection keeps unacknowledged.
const INITIAL_WINDOWS: RangeInclusive<u64> = 2904..=32 << 20;

/// Carries policy requests between QUIC and a local unix socket, and between networks.
#[derive(Parser)]
#[command(version)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Listen on QUIC, and ask a policy that listens on a local socket
    Server(ServerArguments),
    /// Listen on a local socket, and ask a server over QUIC
    Client(ClientArguments),
    /// Forward between servers and clients that cannot reach each other; both connect to it
    Relay(RelayArguments),
}

#[derive(Args)]
pub struct ServerArguments {
    /// Address to listen on
    #[arg(long, default_value = "0.0.0.0")]
    pub listen_host: IpAddr,
    /// UDP port; 0 lets the system choose
    #[arg(long, default_value_t = 5555)]
    pub listen_port: u16,
    /// Socket that the policy listens on
    #[arg(long)]
    pub backend_socket_path: PathBuf,
    /// Where the certificate and its key are kept; without it each start makes a new one
    #[arg(long)]
    pub certificate_dir: Option<PathBuf>,
    /// API key that clients may use; may be given several times
    #[arg(long, env = "OPENPI_FLASH_API_KEY", hide_env_values = true)]
    pub api_key: Vec<String>,
    /// What a load balancer routes by: 0x and 16 hexadecimal digits, in each connection id as QUIC-LB says
    #[arg(long)]
    pub server_id: Option<ServerId>,
    /// Name or address of a relay, with or without its port (5557), at which to register as well
    #[arg(long, requires_all = ["relay_name", "relay_token_file"])]
    pub relay: Option<String>,
    /// Name under which clients find this server at the relay
    #[arg(long, requires = "relay")]
    pub relay_name: Option<String>,
    /// File with the token of that name
    #[arg(long, requires = "relay")]
    pub relay_token_file: Option<PathBuf>,
    #[command(flatten)]
    pub link: LinkArguments,
}

#[derive(Args)]
pub struct ClientArguments {
    /// Name or address of the server, with or without its port: gpu, 10.0.0.5:5555, [::1]:5555; with --relay its name there
    #[arg(long)]
    pub server_host: String,
    /// Its UDP port [default: the one in the host, else 5555]
    #[arg(long)]
    pub server_port: Option<u16>,
    /// UDP port to send from, for one local program at a time; 0 lets the system choose, for any number
    #[arg(long, default_value_t = 0)]
    pub local_port: u16,
    /// Socket to listen on, for local programs
    #[arg(long)]
    pub local_socket_path: PathBuf,
    /// API key, if the server requires one
    #[arg(long, env = "OPENPI_FLASH_API_KEY", hide_env_values = true)]
    pub api_key: Option<String>,
    /// SHA-256 of the server's certificate, which it prints at its start
    #[arg(long, group = "trust")]
    pub server_fingerprint: Option<String>,
    /// PEM file of the authorities that sign the server's certificate
    #[arg(long, group = "trust")]
    pub ca_file: Option<PathBuf>,
    /// File of known servers; a new server is added to it
    #[arg(long, group = "trust")]
    pub known_servers: Option<PathBuf>,
    /// Name or address of the relay through which the server is reached, with or without its port (5557)
    #[arg(long, requires = "relay_token_file")]
    pub relay: Option<String>,
    /// File with the token of the server's name there
    #[arg(long, requires = "relay")]
    pub relay_token_file: Option<PathBuf>,
    #[command(flatten)]
    pub link: LinkArguments,
}

#[derive(Args)]
pub struct RelayArguments {
    /// Address to listen on; :: is every address of IPv6 and IPv4
    #[arg(long, default_value = "0.0.0.0")]
    pub listen_host: IpAddr,
    /// UDP port; 0 lets the system choose
    #[arg(long, default_value_t = DEFAULT_PORT)]
    pub listen_port: u16,
    /// File of the names that may be used, each on a line with its token
    #[arg(long)]
    pub token_file: PathBuf,
    /// Megabits a second of each client, in each direction
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub client_mbps: u32,
    /// Clients at a time, of all names
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub max_clients: u32,
}

impl RelayArguments {
    pub fn limits(&self) -> RelayLimits {
        RelayLimits {
            bytes_per_second: f64::from(self.client_mbps) * 1e6 / 8.0,
            clients: self.max_clients as usize,
            ..RelayLimits::default()
        }
    }
}

#[derive(Debug, Args)]
pub struct LinkArguments {
    /// Seconds of silence after which the connection is closed
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub max_idle_timeout_secs: u64,
    /// Seconds of silence after which a client sends a keep-alive
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub keep_alive_interval_secs: u64,
    /// Bytes that a new connection may have in flight before its first loss. Default: 4 MiB, and on long round trips up to 8
    #[arg(long, value_parser = clap::value_parser!(u64).range(INITIAL_WINDOWS))]
    pub initial_window_bytes: Option<u64>,
    /// Nothing else uses the link: send requests at full rate, whatever is lost
    #[arg(long, conflicts_with = "initial_window_bytes")]
    pub dedicated_link: bool,
}

impl LinkArguments {
    pub fn settings(&self) -> LinkSettings {
        let mut link = LinkSettings::with_dedicated_link(self.dedicated_link);
        if let Sharing::Shared(shared) = &mut link.sharing {
            if let Some(bytes) = self.initial_window_bytes {
                (shared.initial_window, shared.largest_initial_window) = (bytes, bytes);
            }
        }
        link.idle = Duration::from_secs(self.max_idle_timeout_secs);
        link.keep_alive = Duration::from_secs(self.keep_alive_interval_secs);
        link
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use flash_transport::congestion::LatencyFirstConfig;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    fn client(arguments: &[&str]) -> Result<ClientArguments, clap::Error> {
        let needed = [
            "openpi-flash-transport",
            "client",
            "--server-host=gpu",
            "--local-socket-path=/tmp/s",
        ];
        let parsed = Arguments::try_parse_from(needed.iter().chain(arguments))?;
        match parsed.command {
            Command::Client(client) => Ok(client),
            Command::Server(_) | Command::Relay(_) => unreachable!("a client was asked for"),
        }
    }

    /// Before and after the round trip is known.
    fn initial_windows(arguments: &[&str]) -> Option<(u64, u64)> {
        match client(arguments).expect("sound").link.settings().sharing {
            Sharing::Shared(shared) => Some((shared.initial_window, shared.largest_initial_window)),
            Sharing::DedicatedLink(_) => None,
        }
    }

    #[test]
    fn the_first_flight_is_as_large_as_it_was_asked_to_be() {
        assert_eq!(
            initial_windows(&["--initial-window-bytes=100000"]),
            Some((100_000, 100_000))
        );
        let default = LatencyFirstConfig::default();
        assert_eq!(
            initial_windows(&[]),
            Some((default.initial_window, default.largest_initial_window))
        );
        assert_eq!(initial_windows(&["--dedicated-link"]), None);
        assert!(client(&["--dedicated-link", "--initial-window-bytes=100000"]).is_err());
    }

    #[test]
    fn a_relay_needs_a_token_and_has_the_limits_that_were_asked_for() {
        assert!(client(&["--relay=meet"]).is_err());
        assert!(client(&["--relay-token-file=t"]).is_err());
        assert!(client(&["--relay=meet", "--relay-token-file=t"]).is_ok());
        let limits = |arguments: &[&str]| {
            let needed = ["openpi-flash-transport", "relay", "--token-file=t"];
            let parsed = Arguments::try_parse_from(needed.iter().chain(arguments)).expect("sound");
            match parsed.command {
                Command::Relay(relay) => relay.limits(),
                Command::Client(_) | Command::Server(_) => unreachable!("a relay was asked for"),
            }
        };
        assert_eq!(limits(&[]), RelayLimits::default());
        let narrow = limits(&["--client-mbps=8", "--max-clients=3"]);
        assert_eq!((narrow.bytes_per_second, narrow.clients), (1e6, 3));
    }

    #[test]
    fn a_server_is_trusted_in_one_way() {
        let both = [
            "openpi-flash-transport",
            "client",
            "--server-host=gpu",
            "--local-socket-path=/tmp/s",
            "--ca-file=ca.pem",
            "--known-servers=known",
        ];
        assert!(Arguments::try_parse_from(both).is_err());
        assert!(Arguments::try_parse_from(&both[..5]).is_ok());
    }
}
