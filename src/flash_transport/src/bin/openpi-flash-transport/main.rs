//! `openpi-flash-transport`: the protocol between QUIC and a local unix socket, for programs that are not Python.
//!
//! ```text
//! robot in C++ ── unix socket ──> client ── QUIC ──> server ── unix socket ──> policy
//! ```
//!
//! Both subcommands are one bridge with its ends exchanged. A third one is the relay at which servers
//! and clients meet that cannot reach each other.

mod arguments;
mod bridge;

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;

use clap::Parser;
use flash_transport::link::address::ServerAddress;
use flash_transport::link::keys::{ApiKey, ApiKeyError};
use flash_transport::local::server::{LocalServer, LocalServerConfig};
use flash_transport::quic::client::ClientConfig;
use flash_transport::quic::relay::service::{RelayConfig, RelayService};
use flash_transport::quic::server::{Server, ServerConfig};
use flash_transport::relay::access::RelayAccess;
use flash_transport::relay::token_file::{access_warning, read_tokens};
use flash_transport::trust::{
    danger::AcceptAnyServer, Authorities, Identity, KnownServers, ServerTrust,
};

use arguments::{Arguments, ClientArguments, Command, RelayArguments, ServerArguments};
use bridge::Bridge;

/// Time for accepted requests to finish after the order to stop.
const PATIENCE: Duration = Duration::from_secs(5);

/// The server's, unless configured otherwise.
const DEFAULT_PORT: u16 = 5555;

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let run = match Arguments::parse().command {
        Command::Client(arguments) => client(&arguments),
        Command::Server(arguments) => server(&arguments),
        Command::Relay(arguments) => relay(&arguments),
    };
    match run {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// On the robot: local programs connect to a socket, and their requests leave over QUIC.
fn client(arguments: &ClientArguments) -> Result<(), Failure> {
    let server =
        ServerAddress::parse(&arguments.server_host, arguments.server_port.map(i64::from))?;
    let port = server.port.unwrap_or(DEFAULT_PORT);
    let mut upstream = ClientConfig::new(server.host, port, trust(arguments)?);
    upstream.link = arguments.link.settings();
    upstream.local_port = arguments.local_port;
    if let (Some(relay), Some(file)) = (&arguments.relay, &arguments.relay_token_file) {
        warn(access_warning(file));
        upstream.relay = Some(RelayAccess::read(relay, &upstream.host, file)?);
    }
    upstream.hello.api_key = arguments.api_key.as_deref().map(ApiKey::new).transpose()?;
    let downstream = LocalServer::bind(LocalServerConfig::new(&arguments.local_socket_path, None))?;
    println!(
        "listening on {}, for {}",
        downstream.path().display(),
        upstream.server()
    );
    if matches!(upstream.trust, ServerTrust::DangerAnyServer(_)) {
        eprintln!("warning: the server is not authenticated: an attacker on the network path could impersonate it and move the robot; set --server-fingerprint, --ca-file or --known-servers");
    }
    let stopped = stop_signal()?;
    Bridge::new(upstream).run(&downstream, &stopped);
    downstream.stop_accepting();
    downstream.wait_settled(PATIENCE);
    downstream.close();
    Ok(())
}

/// Beside the policy: robots connect over QUIC, and their requests go to the policy's socket.
fn server(arguments: &ServerArguments) -> Result<(), Failure> {
    let backend = format!("unix:{}", arguments.backend_socket_path.display());
    let upstream = ClientConfig::new(backend, 0, ServerTrust::DangerAnyServer(AcceptAnyServer));
    let identity = match &arguments.certificate_dir {
        Some(directory) => Identity::load_or_create(directory)?,
        None => Identity::ephemeral()?,
    };
    let mut config = ServerConfig::new(
        (arguments.listen_host, arguments.listen_port).into(),
        identity,
        None,
    );
    config.api_keys = accepted_keys(&arguments.api_key)?;
    let has_keys = !config.api_keys.is_empty();
    config.link = arguments.link.settings();
    config.server_id = arguments.server_id;
    if let (Some(relay), Some(name), Some(file)) = (
        &arguments.relay,
        &arguments.relay_name,
        &arguments.relay_token_file,
    ) {
        warn(access_warning(file));
        config.relay = Some(RelayAccess::read(relay, name, file)?);
    }
    let downstream = Server::bind(config)?;
    println!(
        "listening on UDP {}, for {}; certificate {}",
        downstream.address(),
        upstream.server(),
        downstream.fingerprint()
    );
    if !has_keys && !arguments.listen_host.is_loopback() {
        eprintln!("warning: anybody who reaches this port can use the policy; set --api-key");
    }
    let stopped = stop_signal()?;
    Bridge::new(upstream).run(&downstream, &stopped);
    downstream.stop_accepting();
    downstream.wait_settled(PATIENCE);
    downstream.close();
    Ok(())
}

/// In between: both connect to it, and it forwards their datagrams.
fn relay(arguments: &RelayArguments) -> Result<(), Failure> {
    let tokens = read_tokens(&arguments.token_file)?;
    warn(access_warning(&arguments.token_file));
    let names = tokens.len();
    let config = RelayConfig {
        address: (arguments.listen_host, arguments.listen_port).into(),
        tokens,
        limits: arguments.limits(),
    };
    let service = RelayService::bind(config, |event| {
        // Whoever started it may have closed the pipe.
        let _ = writeln!(io::stdout(), "{event}");
    })
    .map_err(|error| {
        let port = arguments.listen_port;
        format!(
            "cannot listen on UDP {} port {port}: {error}",
            arguments.listen_host
        )
    })?;
    println!("relaying on UDP {}; names: {names}", service.address());
    warn(service.socket_buffers().shortage());
    let stopped = stop_signal()?;
    // Fails only if nothing can stop it any more.
    let _ = stopped.recv();
    service.close();
    println!("stopped; datagrams forwarded: {}", service.forwarded());
    Ok(())
}

fn warn(warning: Option<String>) {
    if let Some(warning) = warning {
        eprintln!("warning: {warning}");
    }
}

/// An empty variable counts as unset.
fn accepted_keys(texts: &[String]) -> Result<Vec<ApiKey>, ApiKeyError> {
    let given = texts.iter().filter(|text| !text.is_empty());
    given.map(ApiKey::accepted).collect()
}

fn trust(arguments: &ClientArguments) -> Result<ServerTrust, Failure> {
    Ok(
        match (
            &arguments.server_fingerprint,
            &arguments.ca_file,
            &arguments.known_servers,
        ) {
            (Some(fingerprint), _, _) => ServerTrust::Pinned(fingerprint.parse()?),
            (_, Some(file), _) => ServerTrust::Authorities(Authorities::load(file)?),
            (_, _, Some(file)) => ServerTrust::OnFirstUse(KnownServers::new(file)),
            _ => ServerTrust::DangerAnyServer(AcceptAnyServer),
        },
    )
}

/// Receives at SIGINT or SIGTERM.
fn stop_signal() -> Result<mpsc::Receiver<()>, Failure> {
    let (tell, stopped) = mpsc::channel();
    ctrlc::set_handler(move || {
        let _ = tell.send(());
    })?;
    Ok(stopped)
}
