//! `config.toml` in the home.

use std::{io, net::IpAddr, net::Ipv4Addr, path::Path, time::Duration};

use serde::{Deserialize, Deserializer, de};

use crate::{
    error::{CliError, Result},
    text::text,
};

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub server: Server,
    pub queue: Queue,
    pub tasks: Tasks,
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
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tasks {
    /// From the request to stop until the task is killed.
    #[serde(deserialize_with = "duration")]
    pub grace: Duration,
    /// Of a task's log on disk.
    pub log_cap_mb: u64,
}

impl Default for Server {
    fn default() -> Server {
        Server {
            port: 8080,
            second_port: 4200,
            listen: Ipv4Addr::LOCALHOST.into(),
            authentication: false,
            allowed_origins: Vec::new(),
            hosts: Vec::new(),
            upload_limit_gb: 10.0,
        }
    }
}

impl Default for Queue {
    fn default() -> Queue {
        Queue { time_limit: Duration::from_secs(6 * 3600), warn_above: 5 }
    }
}

impl Default for Tasks {
    fn default() -> Tasks {
        Tasks { grace: Duration::from_secs(30), log_cap_mb: 256 }
    }
}

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
            return Err(format!("server.upload_limit_gb = {limit}: expected a number above 0"));
        }
        if config.queue.time_limit.is_zero() {
            return Err("queue.time_limit = 0: expected a duration above 0, such as \"6h\"".into());
        }
        Ok(config)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_read_and_the_rest_keeps_its_default() {
        let config = Config::parse(
            "[server]\nport = 1\nsecond_port = 0\nlisten = \"0.0.0.0\"\nauthentication = true\n\
             allowed_origins = [\"http://a\"]\nhosts = [\"box:1\"]\nupload_limit_gb = 0.5\n\
             [queue]\ntime_limit = \"1h30m\"\nwarn_above = 9\n[tasks]\ngrace = \"5s\"\nlog_cap_mb = 1\n",
        )
        .unwrap();
        assert_eq!((config.server.port, config.server.second_port), (1, 0));
        assert_eq!(config.queue, Queue { time_limit: Duration::from_secs(5400), warn_above: 9 });
        assert_eq!(config.tasks, Tasks { grace: Duration::from_secs(5), log_cap_mb: 1 });
        assert_eq!(Config::parse("").unwrap(), Config::default());
    }

    #[test]
    fn a_mistake_is_named_with_its_line_and_what_is_known() {
        let error = Config::parse("[server]\n\nprot = 1\n").unwrap_err();
        assert!(error.contains("line 3") && error.contains("prot") && error.contains("port"), "{error}");
        let error = Config::parse("[queue]\ntime_limit = \"soon\"\n").unwrap_err();
        assert!(error.contains("line 2") && error.contains("6h"), "{error}");
        assert!(Config::parse("[server]\nupload_limit_gb = -1\n").is_err());
        assert!(Config::parse("[queue]\ntime_limit = \"0s\"\n").is_err());
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
}
