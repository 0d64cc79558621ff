use serde::{Deserialize, Serialize};

use crate::TaskId;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    Zh,
    En,
}

/// Why a queued task is not running now. Every queued task has one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitReason {
    /// 1 for the task that starts next.
    pub position: u32,
    pub cause: WaitCause,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum WaitCause {
    /// All usable devices are taken; `running` holds one of them.
    DevicesBusy { running: TaskId, busy: u32 },
    /// No device can be used at present; `detail` says why, for example the state of the only GPU.
    NoUsableDevice { zh: String, en: String },
    /// Detection has not answered yet.
    Detecting,
}

impl WaitReason {
    pub fn code(&self) -> &'static str {
        match self.cause {
            WaitCause::DevicesBusy { .. } => "devices_busy",
            WaitCause::NoUsableDevice { .. } => "no_usable_device",
            WaitCause::Detecting => "detecting",
        }
    }

    /// The running task this one waits for, if it waits for one.
    pub fn running(&self) -> Option<TaskId> {
        match self.cause {
            WaitCause::DevicesBusy { running, .. } => Some(running),
            _ => None,
        }
    }

    /// One sentence for people.
    pub fn sentence(&self, language: Language) -> String {
        let position = self.position;
        match (&self.cause, language) {
            (WaitCause::DevicesBusy { running, busy: 1 }, Language::Zh) => {
                format!("排在第 {position} 位，等待 {running} 释放设备")
            }
            (WaitCause::DevicesBusy { running, busy: 1 }, Language::En) => {
                format!("position {position}; waiting for the device that {running} holds")
            }
            (WaitCause::DevicesBusy { busy, .. }, Language::Zh) => {
                format!("排在第 {position} 位，{busy} 个设备都在使用中")
            }
            (WaitCause::DevicesBusy { busy, .. }, Language::En) => {
                format!("position {position}; all {busy} devices are busy")
            }
            (WaitCause::NoUsableDevice { zh, .. }, Language::Zh) => {
                format!("排在第 {position} 位，没有可用的设备：{zh}")
            }
            (WaitCause::NoUsableDevice { en, .. }, Language::En) => {
                format!("position {position}; no usable device: {en}")
            }
            (WaitCause::Detecting, Language::Zh) => format!("排在第 {position} 位，正在检测 GPU"),
            (WaitCause::Detecting, Language::En) => format!("position {position}; GPUs are being detected"),
        }
    }
}

/// Why a task failed: always one of these, never just "failed".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum Failure {
    /// The training said itself what is wrong (bad data, model not found, loss not a number, …).
    Reported { error_code: String, message: String },
    /// Ended with this exit code and said nothing we understand; `last_line` is the end of its log.
    ExitCode { exit_code: i32, last_line: Option<String> },
    /// Ended by this signal, which nobody here sent.
    Signal { signal: i32 },
    /// Still running at the task's time limit (seconds).
    TimedOut { limit: u64 },
    /// The program could not be started at all.
    ExecFailed { program: String, message: String },
    /// The supervisor was killed and nobody saw how the training ended.
    SupervisorLost,
    /// The machine went down while the task ran.
    Interrupted,
    /// The kernel ended the training because the machine ran out of memory.
    OutOfHostMemory,
    /// The device had not enough memory for the training.
    OutOfDeviceMemory { message: String },
    /// The studio could not launch the attempt.
    LaunchFailed { message: String },
}

impl Failure {
    pub fn code(&self) -> &str {
        match self {
            Failure::Reported { error_code, .. } => error_code,
            Failure::ExitCode { .. } => "exit-code",
            Failure::Signal { .. } => "signal",
            Failure::TimedOut { .. } => "timed-out",
            Failure::ExecFailed { .. } => "exec-failed",
            Failure::SupervisorLost => "supervisor-lost",
            Failure::Interrupted => "interrupted",
            Failure::OutOfHostMemory => "out-of-host-memory",
            Failure::OutOfDeviceMemory { .. } => "out-of-device-memory",
            Failure::LaunchFailed { .. } => "launch-failed",
        }
    }

    /// What happened and what to do next, in one or two sentences.
    pub fn sentence(&self, language: Language) -> String {
        let zh = language == Language::Zh;
        match self {
            Failure::Reported { message, .. } => message.clone(),
            Failure::ExitCode { exit_code, last_line } => {
                let line = last_line.as_deref().unwrap_or(if zh { "（日志为空）" } else { "(the log is empty)" });
                if zh {
                    format!("程序以退出码 {exit_code} 结束：{line}。请查看任务日志。")
                } else {
                    format!("the program ended with exit code {exit_code}: {line}. See the task's log.")
                }
            }
            Failure::Signal { signal } if zh => format!("训练进程被信号 {signal} 终止。请查看系统日志后重新提交。"),
            Failure::Signal { signal } => {
                format!("the training was ended by signal {signal}. Check the system log, then submit again.")
            }
            Failure::TimedOut { limit } if zh => {
                format!("超过时间限制（{}），已停止。请提高时间限制或减少训练轮数。", duration(*limit))
            }
            Failure::TimedOut { limit } => {
                format!("stopped at its time limit of {}. Raise the limit or train for fewer epochs.", duration(*limit))
            }
            Failure::ExecFailed { program, message } if zh => {
                format!("无法启动 {program}：{message}。请检查程序路径和执行权限。")
            }
            Failure::ExecFailed { program, message } => {
                format!("could not start {program}: {message}. Check its path and that it may be executed.")
            }
            Failure::SupervisorLost if zh => "监督进程被终止，训练的结果未知。请重新提交任务。".into(),
            Failure::SupervisorLost => {
                "the supervisor was killed and the training's exit is unknown. Submit the task again.".into()
            }
            Failure::Interrupted if zh => "训练期间机器重启。请重新提交任务。".into(),
            Failure::Interrupted => "the machine went down while the task ran. Submit the task again.".into(),
            Failure::OutOfHostMemory if zh => "主机内存不足，训练被内核终止。请减小批大小或序列长度。".into(),
            Failure::OutOfHostMemory => {
                "the machine ran out of memory and ended the training. Use a smaller batch or shorter sequences.".into()
            }
            Failure::OutOfDeviceMemory { message } if zh => {
                format!("设备显存不足：{message}。请减小批大小或序列长度。")
            }
            Failure::OutOfDeviceMemory { message } => {
                format!("the device ran out of memory: {message}. Use a smaller batch or shorter sequences.")
            }
            Failure::LaunchFailed { message } if zh => format!("无法启动任务：{message}"),
            Failure::LaunchFailed { message } => format!("the task could not be launched: {message}"),
        }
    }
}

/// `21600` → `6h`, `90` → `1m 30s`.
fn duration(seconds: u64) -> String {
    let parts = [(seconds / 3600, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    let words: Vec<String> =
        parts.into_iter().filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count}{unit}")).collect();
    if words.is_empty() { "0s".into() } else { words.join(" ") }
}
