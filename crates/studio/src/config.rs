//! `config.toml` in the home.

mod policy;

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    time::Duration,
};

use domain::Home;
use engine::{Policy, StartHours};
use jiff::SignedDuration;
use serde::{Deserialize, Deserializer, de};

pub use policy::{Factor, PolicyName};

use crate::{
    daemon::TlsFiles,
    error::{CliError, Result},
    text::text,
};

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub server: Server,
    pub queue: Queue,
    pub tasks: Tasks,
    pub gpus: Gpus,
    pub disk: Disk,
    pub memory: Memory,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Disk {
    /// Of the disk with the home: below it nothing new starts, and trainings pause before it is full. `0`: no limit.
    #[serde(deserialize_with = "bytes")]
    pub min_free: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Memory {
    /// Of the machine: below it nothing new starts, and below a quarter of it the youngest training pauses. `0`: no limit;
    /// not given: 2 GiB, or a twentieth of the memory where that is less.
    #[serde(deserialize_with = "some_bytes")]
    pub min_free: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    pub port: u16,
    /// 0: none.
    pub second_port: u16,
    /// Anything but loopback needs `authentication`.
    pub listen: IpAddr,
    /// Ask everybody for a sign-in.
    pub authentication: bool,
    /// Members may submit commands and use any file of the machine, as the studio's own user could.
    pub trust_members: bool,
    /// Certificate with its chain and private key, both PEM: serves with TLS. Paths are relative to the home.
    pub tls_cert: Option<PathBuf>,
    pub tls_key: Option<PathBuf>,
    /// With TLS: browsers are told to reach this host name by nothing else for a year. That holds for all ports of the
    /// name, so `false` where other programs serve it without TLS.
    pub hsts: bool,
    /// Pages from elsewhere that may use the API, such as `http://localhost:5173`.
    pub allowed_origins: Vec<String>,
    /// Names besides localhost under which people reach the studio, with the port: `gpu-box:8080`.
    pub hosts: Vec<String>,
    /// Largest upload.
    pub upload_limit_gb: f64,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Queue {
    /// Of a task that does not say otherwise.
    #[serde(deserialize_with = "duration")]
    pub time_limit: Duration,
    /// More waiting tasks than this and whoever submits is warned.
    pub warn_above: u32,
    /// In which order tasks start.
    pub policy: PolicyName,
    /// What of it is left out.
    pub without: Vec<Factor>,
    /// No attempt is interrupted for another task earlier than this.
    #[serde(deserialize_with = "duration")]
    pub preempt_after: Duration,
    /// When tasks may start, such as `22:00-08:00`, `sat-sun` or `mon-fri 19:00-07:00`; empty: always.
    #[serde(deserialize_with = "start_hours")]
    pub start_hours: StartHours,
}

impl Server {
    pub fn tls(&self, home: &Home) -> Option<TlsFiles> {
        let file = |path: &Option<PathBuf>| path.as_ref().map(|path| home.root().join(path));
        Some(TlsFiles { certificate: file(&self.tls_cert)?, key: file(&self.tls_key)? })
    }
}

impl Queue {
    /// The named policy with this file's figures.
    pub fn policy(&self) -> Policy {
        let mut policy = self.policy.build();
        self.without.iter().for_each(|factor| factor.leave_out(&mut policy));
        if let Some(preemption) = &mut policy.preemption {
            preemption.after = SignedDuration::try_from(self.preempt_after).unwrap_or(SignedDuration::MAX);
        }
        policy
    }
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tasks {
    /// From the request to stop until the task is killed.
    #[serde(deserialize_with = "duration")]
    pub grace: Duration,
    /// A task is tried again after this, when it failed through no fault of its own.
    #[serde(deserialize_with = "duration")]
    pub retry_after: Duration,
    /// Of a task's log on disk.
    pub log_cap_mb: u64,
    /// Of the machine's memory, for each task, where it has a control group; not given: no limit.
    #[serde(deserialize_with = "some_bytes")]
    pub host_memory: Option<u64>,
    /// Processes and threads of each task, where it has a control group; not given: no limit.
    pub processes: Option<u64>,
    /// So many of a training's checkpoints are kept, the best besides; not given: the trainer's choice.
    pub keep_checkpoints: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gpus {
    /// Tasks that may train on one GPU at a time if their memory fits beside each other.
    pub tasks_per_gpu: u32,
    pub foreign_use: ForeignUse,
    /// Tasks that share a GPU are watched for so long before it is judged whether that pays.
    #[serde(deserialize_with = "duration")]
    pub packing_trial: Duration,
    /// How long measuring may take before the GPUs that are still silent count as not answering.
    #[serde(deserialize_with = "duration")]
    pub sweep_deadline: Duration,
    /// Inference services to recognise beside those that are known anyway.
    pub services: Vec<Service>,
}

/// What to do with a GPU that other programs use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ForeignUse {
    /// Use what they leave.
    Share,
    /// Leave it alone.
    Exclusive,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    pub name: String,
    /// Part of the command line of its processes.
    pub command_contains: String,
}

impl Default for Server {
    fn default() -> Server {
        Server {
            port: 8080,
            second_port: 4200,
            listen: Ipv4Addr::LOCALHOST.into(),
            authentication: false,
            trust_members: false,
            tls_cert: None,
            hsts: true,
            tls_key: None,
            allowed_origins: Vec::new(),
            hosts: Vec::new(),
            upload_limit_gb: 10.0,
        }
    }
}

impl Default for Queue {
    fn default() -> Queue {
        Queue {
            time_limit: Duration::from_secs(6 * 3600),
            warn_above: 5,
            policy: PolicyName::default(),
            without: Vec::new(),
            preempt_after: Duration::from_secs(600),
            start_hours: StartHours::default(),
        }
    }
}

impl Default for Disk {
    fn default() -> Disk {
        Disk { min_free: 5 << 30 }
    }
}

impl Default for Tasks {
    fn default() -> Tasks {
        Tasks {
            grace: Duration::from_secs(30),
            retry_after: Duration::from_secs(10),
            log_cap_mb: 256,
            host_memory: None,
            processes: None,
            keep_checkpoints: None,
        }
    }
}

impl Default for Gpus {
    fn default() -> Gpus {
        Gpus {
            tasks_per_gpu: 3,
            foreign_use: ForeignUse::Share,
            packing_trial: Duration::from_secs(120),
            sweep_deadline: Duration::from_secs(2),
            services: Vec::new(),
        }
    }
}

/// With less no program starts at all.
const LEAST_HOST_MEMORY: u64 = 64 << 20;
const LEAST_PROCESSES: u64 = 16;

impl Config {
    /// The defaults where there is no file.
    pub fn read(path: &Path) -> Result<Config> {
        let content = match std::fs::read_to_string(path) {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Config::default()),
            Err(error) => return Err(CliError::file(path, &error)),
        };
        Config::parse(&content).map_err(|reason| {
            let path = path.display();
            CliError::new(
                "config-invalid",
                text(format!("{path} 有错误：{reason}"), format!("{path} is wrong: {reason}")),
            )
            .next(text("改正这一行，然后重新启动", "correct that line, then start again"))
        })
    }

    fn parse(content: &str) -> std::result::Result<Config, String> {
        let config: Config = toml::from_str(content).map_err(|error| error.to_string().trim_end().to_owned())?;
        let limit = config.server.upload_limit_gb;
        if !(limit > 0.0 && limit <= 1_000_000.0) {
            return Err(text(
                format!("server.upload_limit_gb = {limit}：应为大于 0 的数"),
                format!("server.upload_limit_gb = {limit}: expected a number above 0"),
            ));
        }
        if config.server.tls_cert.is_some() != config.server.tls_key.is_some() {
            let zh = "server.tls_cert 和 server.tls_key：须同时给出，或都不给出";
            return Err(text(zh, "server.tls_cert and server.tls_key: give both or neither").into());
        }
        if config.queue.time_limit.is_zero() {
            let zh = "queue.time_limit = 0：应为大于 0 的时长，例如 \"6h\"";
            return Err(text(zh, "queue.time_limit = 0: expected a duration above 0, such as \"6h\"").into());
        }
        if config.tasks.host_memory.is_some_and(|bytes| bytes < LEAST_HOST_MEMORY) {
            return Err("tasks.host_memory: expected 64MiB or more".into());
        }
        if config.tasks.processes.is_some_and(|processes| processes < LEAST_PROCESSES) {
            return Err(format!("tasks.processes: expected {LEAST_PROCESSES} or more"));
        }
        if config.tasks.keep_checkpoints.is_some_and(|kept| !(1..=1000).contains(&kept)) {
            return Err("tasks.keep_checkpoints: expected 1 to 1000".into());
        }
        if config.gpus.tasks_per_gpu == 0 {
            let zh = "gpus.tasks_per_gpu = 0：应为 1 或更大的数";
            return Err(text(zh, "gpus.tasks_per_gpu = 0: expected 1 or more").into());
        }
        if config.gpus.sweep_deadline.is_zero() {
            let zh = "gpus.sweep_deadline = 0：应为大于 0 的时长，例如 \"2s\"";
            return Err(text(zh, "gpus.sweep_deadline = 0: expected a duration above 0, such as \"2s\"").into());
        }
        let unnamed = |service: &&Service| service.name.is_empty() || service.command_contains.is_empty();
        if let Some(Service { name, command_contains }) = config.gpus.services.iter().find(unnamed) {
            let given = format!("name = {name:?}, command_contains = {command_contains:?}");
            return Err(text(
                format!("gpus.services（{given}）：两者都不能为空"),
                format!("gpus.services with {given}: neither may be empty"),
            ));
        }
        Ok(config)
    }

    /// What to look for on the machine: by the environment and this file. Processes of this home's tasks count as ours.
    pub fn gpu_options(&self, home: &Home) -> Result<gpu::Options> {
        let options = gpu::Options::from_env();
        let options = options.map_err(|error| CliError::usage("gpu-option-invalid", error.to_string()))?;
        let service = |service: &Service| gpu::Service {
            name: service.name.clone(),
            command_contains: service.command_contains.clone(),
        };
        Ok(gpu::Options {
            home: Some(home.root().to_owned()),
            services: self.gpus.services.iter().map(service).collect(),
            deadline: Some(self.gpus.sweep_deadline),
            ..options
        })
    }
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Duration, D::Error> {
    let word = String::deserialize(deserializer)?;
    parse_duration(&word).map_err(de::Error::custom)
}

/// `6h`, `1h30m`, `90s`, `2d`; a bare number counts seconds.
pub fn parse_duration(word: &str) -> std::result::Result<Duration, String> {
    let wrong = || format!("{word:?} is not a duration; write for example 90s, 30m, 6h, 1h30m or 2d");
    let mut seconds = 0u64;
    let mut rest = word.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
        let count: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        let unit = rest[digits..].chars().next();
        let factor = match unit {
            None | Some('s') => 1,
            Some('m') => 60,
            Some('h') => 3600,
            Some('d') => 86400,
            Some(_) => return Err(wrong()),
        };
        seconds = count.checked_mul(factor).and_then(|more| seconds.checked_add(more)).ok_or_else(wrong)?;
        rest = rest[digits + unit.map_or(0, char::len_utf8)..].trim_start();
    }
    Ok(Duration::from_secs(seconds))
}

/// `10GiB`, `24 GB`, `512MiB` as bytes; GB and MB count in thousands. A bare number would mean anything.
pub fn parse_bytes(word: &str) -> std::result::Result<u64, String> {
    let wrong = || {
        text(
            format!("{word:?} 不是显存大小，请写成例如 10GiB、24GB 或 512MiB"),
            format!("{word:?} is not a size; write for example 10GiB, 24GB or 512MiB"),
        )
    };
    let word = word.trim();
    let split = word.find(|letter: char| letter.is_ascii_alphabetic()).ok_or_else(wrong)?;
    let (figure, unit) = word.split_at(split);
    let factor = match unit.to_ascii_lowercase().as_str() {
        "gib" => (1u64 << 30) as f64,
        "mib" => (1u64 << 20) as f64,
        "gb" => 1e9,
        "mb" => 1e6,
        _ => return Err(wrong()),
    };
    let figure: f64 = figure.trim().parse().map_err(|_| wrong())?;
    let bytes = figure * factor;
    if (1.0..1e18).contains(&bytes) { Ok(bytes as u64) } else { Err(wrong()) }
}

fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<u64, D::Error> {
    let word = String::deserialize(deserializer)?;
    if word.trim() == "0" { Ok(0) } else { parse_bytes(&word).map_err(de::Error::custom) }
}

fn some_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<u64>, D::Error> {
    bytes(deserializer).map(Some)
}

fn start_hours<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<StartHours, D::Error> {
    let lines = Vec::<String>::deserialize(deserializer)?;
    let wrong = lines.iter().find(|line| StartHours::parse([line.as_str()]).is_err());
    if let Some(line) = wrong {
        return Err(de::Error::custom(text(
            format!("{line:?} 不是一周中的时段；写法如 `22:00-08:00`、`sat-sun` 或 `mon-fri 19:00-07:00`"),
            format!("{line:?} is no time of the week; write it like `22:00-08:00`, `sat-sun` or `mon-fri 19:00-07:00`"),
        )));
    }
    StartHours::parse(lines.iter().map(String::as_str)).map_err(de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_read_and_the_rest_keeps_its_default() {
        let config = Config::parse(
            "[server]\nport = 1\nsecond_port = 0\nlisten = \"0.0.0.0\"\nauthentication = true\ntrust_members = true\nhsts = false\ntls_cert = \"c.pem\"\ntls_key = \"k.pem\"\n\
             allowed_origins = [\"http://a\"]\nhosts = [\"box:1\"]\nupload_limit_gb = 0.5\n\
             [queue]\ntime_limit = \"1h30m\"\nwarn_above = 9\npolicy = \"easy\"\nwithout = [\"backfill\"]\npreempt_after = \"1m\"\nstart_hours = [\"sat-sun\"]\n[tasks]\ngrace = \"5s\"\nretry_after = \"3s\"\nlog_cap_mb = 1\nhost_memory = \"32GiB\"\nprocesses = 4096\nkeep_checkpoints = 4\n\
             [gpus]\ntasks_per_gpu = 1\nforeign_use = \"exclusive\"\npacking_trial = \"9s\"\nsweep_deadline = \"4s\"\n\
             [disk]\nmin_free = \"2GiB\"\n[memory]\nmin_free = \"512MiB\"\n\
             [[gpus.services]]\nname = \"chat\"\ncommand_contains = \"serve.py\"\n",
        )
        .unwrap();
        assert_eq!((config.server.port, config.server.second_port), (1, 0));
        assert!(!config.server.hsts && Config::parse("").unwrap().server.hsts);
        assert_eq!(
            config.queue,
            Queue {
                time_limit: Duration::from_secs(5400),
                warn_above: 9,
                policy: PolicyName::Easy,
                without: vec![Factor::Backfill],
                preempt_after: Duration::from_secs(60),
                start_hours: StartHours::parse(["sat-sun"]).unwrap(),
            }
        );
        let retry_after = Duration::from_secs(3);
        let tasks = Tasks {
            grace: Duration::from_secs(5),
            retry_after,
            log_cap_mb: 1,
            host_memory: Some(32 << 30),
            processes: Some(4096),
            keep_checkpoints: Some(4),
        };
        assert_eq!(config.tasks, tasks);
        let services = vec![Service { name: "chat".into(), command_contains: "serve.py".into() }];
        let gpus = Gpus {
            tasks_per_gpu: 1,
            foreign_use: ForeignUse::Exclusive,
            packing_trial: Duration::from_secs(9),
            sweep_deadline: Duration::from_secs(4),
            services,
        };
        assert_eq!(config.gpus, gpus);
        assert_eq!(config.disk, Disk { min_free: 2 << 30 });
        assert_eq!(config.memory, Memory { min_free: Some(512 << 20) });
        assert_eq!(Config::parse("").unwrap(), Config::default());
    }

    #[test]
    fn a_mistake_is_named_with_its_line_and_what_is_known() {
        let error = Config::parse("[server]\n\nprot = 1\n").unwrap_err();
        assert!(error.contains("line 3") && error.contains("prot") && error.contains("port"), "{error}");
        let error = Config::parse("[queue]\ntime_limit = \"soon\"\n").unwrap_err();
        assert!(error.contains("line 2") && error.contains("6h"), "{error}");
        assert!(Config::parse("[server]\nupload_limit_gb = -1\n").is_err());
        assert!(Config::parse("[server]\ntls_cert = \"c.pem\"\n").is_err());
        assert!(Config::parse("[queue]\ntime_limit = \"0s\"\n").is_err());
        assert!(Config::parse("[gpus]\ntasks_per_gpu = 0\n").is_err());
        assert!(Config::parse("[gpus]\nsweep_deadline = \"0s\"\n").is_err());
        assert!(Config::parse("[[gpus.services]]\nname = \"\"\ncommand_contains = \"x\"\n").is_err());
        let error = Config::parse("[gpus]\nforeign_use = \"ignore\"\n").unwrap_err();
        assert!(error.contains("`share` or `exclusive`"), "{error}");
    }

    #[test]
    fn durations() {
        let seconds = |word| parse_duration(word).map(|duration| duration.as_secs());
        assert_eq!(seconds("90"), Ok(90));
        assert_eq!(seconds("1h 30m"), Ok(5400));
        assert_eq!(seconds("2d"), Ok(172_800));
        for bad in ["", "h", "6 hours", "-1s", "1.5h", "99999999999999999999d", "6小时"] {
            assert!(parse_duration(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(parse_bytes("10GiB"), Ok(10 << 30));
        assert_eq!(parse_bytes("1.5 gib"), Ok(3 << 29));
        assert_eq!(parse_bytes("24GB"), Ok(24_000_000_000));
        assert_eq!(parse_bytes(" 512MiB "), Ok(512 << 20));
        for bad in ["", "10", "GiB", "-1GiB", "0GB", "10 TB", "nanGiB", "infGiB", "1e30GiB", "10GiBs"] {
            assert!(parse_bytes(bad).is_err(), "{bad:?}");
        }
    }
}
