//! `sage studio install-service`: the studio as a service of the user's systemd.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use clap::Args;
use domain::Home;

use crate::{
    error::{CliError, Result},
    output,
    text::text,
};

const NAME: &str = "sage-studio.service";

#[derive(Args)]
pub struct InstallService {
    /// Print the unit instead of installing it
    #[arg(long)]
    print: bool,
}

pub fn install(home: &Home, command: &InstallService) -> Result<()> {
    let program = env::current_exe().map_err(|error| CliError::file("/proc/self/exe".as_ref(), &error))?;
    let unit = unit(&program, home.root())?;
    if command.print {
        return output::print(&unit);
    }
    let path = unit_path()?;
    let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, unit));
    written.map_err(|error| CliError::file(&path, &error))?;
    output::print(&text(format!("已写入 {}\n", path.display()), format!("wrote {}\n", path.display())))?;
    if !systemctl(&["daemon-reload"]) || !systemctl(&["enable", "--now", NAME]) {
        return Err(no_systemd(&path));
    }
    output::print(text(
        "服务已启动，登录时自动启动。注销后继续运行：loginctl enable-linger\n",
        "the service runs and starts at login. To keep it after logout: loginctl enable-linger\n",
    ))
}

/// Trainings go on.
pub fn uninstall() -> Result<()> {
    let path = unit_path()?;
    // It may not be running, or not under systemd.
    systemctl(&["disable", "--now", NAME]);
    match fs::remove_file(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let missing = path.display();
            return output::print(&text(format!("没有 {missing}\n"), format!("there is no {missing}\n")));
        }
        removed => removed.map_err(|error| CliError::file(&path, &error))?,
    }
    systemctl(&["daemon-reload"]);
    output::print(&text(format!("已删除 {}\n", path.display()), format!("removed {}\n", path.display())))
}

/// A stop or restart of the unit ends the studio's own process only: the supervisors and trainings live in the unit's
/// cgroup, which a double fork does not leave.
fn unit(program: &Path, home: &Path) -> Result<String> {
    let (program, home) = (quoted(program)?, quoted(home)?);
    Ok(format!(
        "[Unit]\n\
         Description=SAGE Studio\n\
         After=network.target\n\
         \n\
         [Service]\n\
         ExecStart={program} studio start --foreground --home {home}\n\
         # Trainings go on when the studio stops.\n\
         KillMode=process\n\
         # A control group for each training, beside the studio's own.\n\
         Delegate=yes\n\
         DelegateSubgroup=studio\n\
         TimeoutStopSec=30\n\
         Restart=on-failure\n\
         RestartSec=2\n\
         # One training that runs out of memory must not take the others along.\n\
         OOMPolicy=continue\n\
         TasksMax=infinity\n\
         LimitNOFILE=65536\n\
         \n\
         [Install]\n\
         WantedBy=default.target\n"
    ))
}

/// As systemd reads one argument: specifiers and variables stand for themselves.
fn quoted(path: &Path) -> Result<String> {
    let word = path.to_str().filter(|word| !word.contains(char::is_control));
    let word = word.ok_or_else(|| {
        let path = path.display();
        CliError::new(
            "service-path",
            text(format!("路径 {path:?} 不能写进服务"), format!("the path {path:?} cannot be written into a service")),
        )
        .next(text("换一个路径", "use another path"))
    })?;
    let word = word.replace('\\', r"\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    Ok(format!("\"{word}\""))
}

/// `~/.config/systemd/user/sage-studio.service`
fn unit_path() -> Result<PathBuf> {
    let variable = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let config = variable("XDG_CONFIG_HOME").or_else(|| Some(variable("HOME")?.join(".config")));
    let config = config.ok_or_else(|| CliError::usage("no-home", text("没有设置 HOME", "HOME is not set")))?;
    Ok(config.join("systemd/user").join(NAME))
}

fn systemctl(arguments: &[&str]) -> bool {
    let mut command = Command::new("systemctl");
    command.arg("--user").args(arguments).output().is_ok_and(|output| output.status.success())
}

fn no_systemd(path: &Path) -> CliError {
    let path = path.display();
    CliError::new(
        "service-not-started",
        text(
            format!("已写入 {path}，但 systemctl --user 没有启动它"),
            format!("{path} was written, but systemctl --user did not start it"),
        ),
    )
    .next(text(
        "查看 systemctl --user status sage-studio；没有 systemd 的机器请用 sage studio start",
        "look at systemctl --user status sage-studio; on a machine without systemd use sage studio start",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_leaves_trainings_alone_and_survives_odd_paths() {
        let unit = unit("/opt/my sage/sage".as_ref(), "/home/ana/100%/$x\"".as_ref()).unwrap();
        assert!(unit.contains("\nKillMode=process\n"), "{unit}");
        assert!(unit.contains("\nDelegate=yes\nDelegateSubgroup=studio\n"), "{unit}");
        let start = r#"ExecStart="/opt/my sage/sage" studio start --foreground --home "/home/ana/100%%/$$x\"""#;
        assert!(unit.contains(start), "{unit}");
        assert!(quoted("/home/a\nExecStart=/bin/sh".as_ref()).is_err(), "no line of somebody else's");
    }
}
