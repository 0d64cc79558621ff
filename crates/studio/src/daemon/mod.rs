//! The studio itself: one process that owns a home, serves its ports and runs its queue.

pub mod database;
mod listen;
mod lock;
mod log;
mod owner;

use std::{
    fs, io,
    net::{IpAddr, SocketAddr},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use client::{Endpoint, ProcessId};
use domain::Home;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{Signal, SignalKind, signal};

pub use lock::{Holder, HomeLock};
pub use owner::{account as owner_account, name as owner_name};

use crate::{
    config::{self, Config, ForeignUse},
    error::{CliError, Result},
    text::text,
};

/// Where to answer; kept beside the lock, so that a restart answers in the same place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    pub listen: IpAddr,
    /// 0: any free one.
    pub port: u16,
    /// 0: none.
    pub second_port: u16,
    /// `None`: plain HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsFiles>,
}

/// PEM files: the certificate with its chain, and its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Serves until SIGTERM or SIGINT. `ready` is told the address, and what is not as asked for, as soon as requests are
/// answered.
pub fn run(
    home: &Home,
    ports: Ports,
    config: &Config,
    ready: impl FnOnce(&str, Option<&str>) -> io::Result<()>,
) -> Result<()> {
    runner::keep_heap_small();
    guard_address(home, ports.listen, config)?;
    let tls = ports.tls.as_ref().map(listen::certificate).transpose()?;
    make_private(home).map_err(|error| unwritable(home, home.root(), &error))?;
    let mut lock = HomeLock::take(home)?;
    for folder in [home.models(), home.uploads(), home.tasks()] {
        fs::create_dir_all(&folder).map_err(|error| unwritable(home, &folder, &error))?;
    }
    log::start(&home.log()).map_err(|error| unwritable(home, &home.log(), &error))?;
    database::recover(home)?;
    open_many_files();
    let gpu = config.gpu_options(home)?;

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(16)
        .thread_keep_alive(Duration::from_secs(2))
        .thread_stack_size(1 << 20)
        .enable_all()
        .build()
        .map_err(|error| CliError::new("runtime", error.to_string()))?;
    let answer = runtime.block_on(async {
        let end = Shutdown::new().map_err(|error| CliError::new("signals", error.to_string()))?;
        let listen::Bound { listeners, address, page, warning } = listen::bind(&ports, tls).await?;
        // A free port that was found is kept by a restart, so that open pages find the studio again.
        let port = listeners[0].socket.local_addr().map_or(ports.port, |address| address.port());
        lock.describe(&page, &Ports { port, ..ports }).map_err(|error| unwritable(home, &home.lock(), &error))?;

        let engine =
            engine::start(engine::Options { home: home.clone(), sage: own_path()?, settings: settings(config), gpu })
                .map_err(|error| CliError::new("studio-start-failed", error.to_string()))?;
        let accounts = store::Accounts::open(&home.database())
            .map_err(|error| CliError::new("studio-start-failed", error.to_string()))?;
        hide_databases(home);
        let allowances = accounts.allowances();
        engine.set_allowances(allowances.map_err(|error| CliError::new("studio-start-failed", error.to_string()))?);
        let token = config.server.authentication.then(|| owner::open_session(&accounts)).transpose()?;
        let endpoint = Endpoint {
            process: ProcessId::current().map_err(|error| CliError::file("/proc".as_ref(), &error))?,
            page: (page != address).then(|| page.clone()),
            address,
            token,
        };
        endpoint.write(home).map_err(|error| unwritable(home, &home.endpoint(), &error))?;
        tracing::info!("SAGE Studio {} listening on {page}", env!("CARGO_PKG_VERSION"));
        if let Some(warning) = &warning {
            tracing::warn!("{warning}");
        }
        // Whoever started us may be gone by now; the studio serves all the same.
        let _ = ready(&page, warning.as_deref());
        database::look_after(home);

        let served = server::serve(engine.clone(), accounts, server_options(config), listeners, end.wait()).await;
        engine.shutdown().await;
        endpoint.remove(home);
        tracing::info!("SAGE Studio stopped");
        served.map_err(|error| CliError::new("serve-failed", error.to_string()))
    });
    // A driver call that hangs must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    answer
}

/// A home that is made is its owner's alone; one that is there stays as it is.
fn make_private(home: &Home) -> io::Result<()> {
    match fs::DirBuilder::new().recursive(true).mode(0o700).create(home.root()) {
        Err(error) if !home.root().is_dir() => Err(error),
        _ => Ok(()),
    }
}

/// Hashes of passwords and tokens are nobody else's to look at, whatever the home's own mode is. Where that cannot be
/// changed, it is as before.
fn hide_databases(home: &Home) {
    for database in [home.database(), home.audit()] {
        for beside in ["", "-wal", "-shm"] {
            let mut path = database.clone().into_os_string();
            path.push(beside);
            let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o600));
        }
    }
}

/// Each listener and each running task holds files open, and the usual limit of 1,024 is only a default. Tasks inherit
/// it, and some programs look at every file that could be open: so not as many as are allowed.
fn open_many_files() {
    const MANY: u64 = 65_536;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.map_or(MANY, |maximum| maximum.min(MANY));
    if current.is_some_and(|current| current < wanted)
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum })
    {
        tracing::warn!("no more than {current:?} files can be open: {error}");
    }
}

fn settings(config: &Config) -> engine::Settings {
    engine::Settings {
        default_time_limit: config.queue.time_limit.as_secs(),
        queue_warning: config.queue.warn_above,
        grace: config.tasks.grace,
        retry_after: config.tasks.retry_after,
        min_free: config.disk.min_free,
        min_free_memory: config.memory.min_free,
        meminfo: std::env::var_os("SAGE_MEMINFO").map(Into::into),
        log_cap: config.tasks.log_cap_mb << 20,
        limits: engine::Limits { host_memory: config.tasks.host_memory, processes: config.tasks.processes },
        keep_checkpoints: config.tasks.keep_checkpoints,
        policy: engine::Policy {
            tasks_per_gpu: config.gpus.tasks_per_gpu,
            exclusive: config.gpus.foreign_use == ForeignUse::Exclusive,
            ..config.queue.policy()
        },
        start_hours: config.queue.start_hours.clone(),
        packing_trial: config.gpus.packing_trial,
    }
}

fn server_options(config: &Config) -> server::Options {
    let config::Server { authentication, trust_members, hsts, allowed_origins, hosts, upload_limit_gb, .. } =
        config.server.clone();
    let defaults = server::Options::default();
    let base_model = std::env::var("SAGE_FINETUNE_BASE_MODEL").ok().filter(|model| !model.is_empty());
    server::Options {
        authentication,
        trust_members,
        hsts,
        allowed_origins,
        hosts,
        upload_limit: (upload_limit_gb * (1u64 << 30) as f64) as u64,
        base_model: base_model.unwrap_or(defaults.base_model),
        started_at: defaults.started_at,
    }
}

fn guard_address(home: &Home, listen: IpAddr, config: &Config) -> Result<()> {
    if listen.is_loopback() || config.server.authentication {
        return Ok(());
    }
    let path = home.config();
    let path = path.display();
    Err(CliError::usage(
        "listen-needs-authentication",
        text(
            format!("在 {listen} 上监听会让网络上的任何人都能提交任务，而认证未开启"),
            format!("listening on {listen} would let anybody on the network submit tasks, and authentication is off"),
        ),
    )
    .next(text(
        format!("创建账号（sage user add 用户名），在 {path} 的 [server] 下设置 authentication = true；或使用 SSH 隧道"),
        format!("make an account (sage user add NAME) and set authentication = true under [server] in {path}, or use an SSH tunnel"),
    )))
}

/// The home cannot be used for what the studio needs it for.
fn unwritable(home: &Home, path: &Path, error: &io::Error) -> CliError {
    let (root, path) = (home.root().display(), path.display());
    CliError::new(
        "home-not-writable",
        text(
            format!("无法写入主目录 {root}（{path}：{error}）"),
            format!("the home {root} cannot be written ({path}: {error})"),
        ),
    )
    .next(text("检查权限，或用 --home 指定另一个目录", "check its permissions, or name another folder with --home"))
}

/// Supervisors and trainings run the same program as this one, also after it was replaced on disk.
fn own_path() -> Result<PathBuf> {
    std::env::current_exe().map_err(|error| CliError::file("/proc/self/exe".as_ref(), &error))
}

/// The signals that end the studio, heard from the moment this exists.
struct Shutdown {
    terminate: Signal,
    interrupt: Signal,
}

impl Shutdown {
    fn new() -> io::Result<Shutdown> {
        Ok(Shutdown { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn wait(mut self) {
        let name = tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        };
        tracing::info!("{name}: stopping; trainings go on");
    }
}

/// Such as `http://127.0.0.1:8080`.
fn url(scheme: &str, address: SocketAddr) -> String {
    // What listens everywhere is reached here by the loopback address.
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
        ip => ip,
    };
    format!("{scheme}://{}", SocketAddr::new(ip, address.port()))
}
