use std::{
    fs::OpenOptions,
    io::{self, BufRead, BufReader, Read, Write},
    net::IpAddr,
    path::PathBuf,
    process::{Command, Stdio},
};

use clap::Args;
use domain::Home;

use crate::{
    config::Config,
    daemon::{self, Ports, TlsFiles},
    error::{CliError, FAILED, Result},
    output,
    text::{self, text},
};

#[derive(Args)]
pub struct Start {
    /// Stay in the foreground until Ctrl-C
    #[arg(long)]
    foreground: bool,
    /// Port of API and page; 0: any free one [default: 8080]
    #[arg(long, value_name = "N")]
    port: Option<u16>,
    /// Second port that answers the same; none: no such port [default: 4200]
    #[arg(long, value_name = "N|none", value_parser = second_port)]
    second_port: Option<u16>,
    /// Address to listen on; others than loopback need authentication [default: 127.0.0.1]
    #[arg(long, value_name = "ADDR")]
    listen: Option<IpAddr>,
    /// Certificate with its chain (PEM), to serve with TLS
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Private key of the certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Leave the terminal once it serves: the background half of a start
    #[arg(long, hide = true, requires = "foreground")]
    detach: bool,
}

/// What the foreground says on stdout when it serves; tests and the background half wait for it.
const READY: &str = "SAGE Studio listening on ";

pub fn run(home: &Home, command: Start) -> Result<()> {
    let config = Config::read(&home.config())?;
    let ports = command.ports(home, &config)?;
    if !command.foreground {
        let address = in_background(home, Some(&ports))?;
        return announce(&address);
    }
    if command.detach {
        // Fails only for a process that leads its group already, which then has no terminal to leave.
        let _ = rustix::process::setsid();
    }
    daemon::run(home, ports, &config, |address, warning| {
        let mut stdout = io::stdout().lock();
        match warning {
            // The other half shows it.
            Some(warning) if command.detach => writeln!(stdout, "{warning}")?,
            Some(warning) => eprintln!("{warning}"),
            None => {}
        }
        writeln!(stdout, "{READY}{address}")?;
        stdout.flush()?;
        if command.detach { leave_terminal(home) } else { Ok(()) }
    })
}

impl Start {
    fn ports(&self, home: &Home, config: &Config) -> Result<Ports> {
        let server = &config.server;
        let port = self.port.unwrap_or(server.port);
        // Whoever asks for any free port wants to be alone with it.
        let second = if port == 0 { 0 } else { server.second_port };
        let tls = match (&self.tls_cert, &self.tls_key) {
            // Said on the command line: from the folder where that was.
            (Some(certificate), Some(key)) => {
                let absolute = |path| std::path::absolute(path).map_err(|error| CliError::file(path, &error));
                Some(TlsFiles { certificate: absolute(certificate)?, key: absolute(key)? })
            }
            _ => server.tls(home),
        };
        let (listen, second_port) = (self.listen.unwrap_or(server.listen), self.second_port.unwrap_or(second));
        Ok(Ports { listen, port, second_port, tls })
    }
}

fn second_port(word: &str) -> std::result::Result<u16, String> {
    match word {
        "none" => Ok(0),
        _ => word.parse().map_err(|_| text("应为端口号或 none", "expected a port number or none").to_owned()),
    }
}

/// Starts a studio that outlives this program and answers its address. `None`: the configured ports.
pub fn in_background(home: &Home, ports: Option<&Ports>) -> Result<String> {
    let failed = |error: io::Error| CliError::new("studio-start-failed", error.to_string());
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    command.args(["studio", "start", "--foreground", "--detach", "--lang", text::word()]);
    command.arg("--home").arg(home.root());
    if let Some(Ports { listen, port, second_port, tls }) = ports {
        command.args(["--listen", &listen.to_string()]);
        command.args(["--port", &port.to_string(), "--second-port", &second_port.to_string()]);
        if let Some(TlsFiles { certificate, key }) = tls {
            command.arg("--tls-cert").arg(certificate).arg("--tls-key").arg(key);
        }
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    let stdout = child.stdout.take().expect("it is piped");
    for line in BufReader::new(stdout).lines() {
        let line = line.map_err(failed)?;
        match line.strip_prefix(READY) {
            Some(address) => return Ok(address.to_owned()),
            None => eprintln!("{line}"),
        }
    }
    // It said why on stderr, in our own words already.
    let mut reason = String::new();
    let _ = child.stderr.take().expect("it is piped").read_to_string(&mut reason);
    let status = child.wait().map_err(failed)?;
    if reason.is_empty() {
        let log = home.log();
        let (log, status) = (log.display(), status.to_string());
        return Err(CliError::new(
            "studio-start-failed",
            text(format!("Studio 没有启动（{status}）"), format!("the studio did not start ({status})")),
        )
        .next(text(format!("查看 {log}"), format!("look at {log}"))));
    }
    eprint!("{reason}");
    std::process::exit(status.code().unwrap_or(i32::from(FAILED)));
}

pub fn announce(address: &str) -> Result<()> {
    output::print(&text(format!("SAGE Studio 已启动：{address}\n"), format!("SAGE Studio is running: {address}\n")))
}

/// From here on stdout and stderr are the log, so that a late panic is not lost with the terminal.
fn leave_terminal(home: &Home) -> io::Result<()> {
    let log = OpenOptions::new().append(true).open(home.log())?;
    rustix::stdio::dup2_stdout(&log)?;
    rustix::stdio::dup2_stderr(&log)?;
    std::env::set_current_dir(home.root())
}
