//! What people read of reasons, in Chinese and English.

use jiff::Timestamp;

use crate::{Failure, MemoryHolder, QuotaKind, WaitCause, WaitReason};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    Zh,
    En,
}

impl WaitReason {
    /// One sentence for people.
    pub fn sentence(&self, language: Language) -> String {
        let now = self.of_now(language);
        let paused = self.paused().map(|cause| cause.of_pause(language));
        match (paused, language) {
            (None, _) => now,
            (Some(paused), Language::Zh) => format!("已在检查点暂停：{paused}；目前：{now}"),
            (Some(paused), Language::En) => format!("paused: {paused}; now: {now}"),
        }
    }

    fn of_now(&self, language: Language) -> String {
        let position = self.position;
        match (&*self.cause, language) {
            (WaitCause::DevicesBusy { wanted: wanted @ 2.., free, .. }, Language::Zh) => {
                format!("排在第 {position} 位，同时需要 {wanted} 个设备，目前空闲 {free} 个")
            }
            (WaitCause::DevicesBusy { wanted: wanted @ 2.., free, .. }, Language::En) => {
                format!("position {position}; wants {wanted} devices at once, {free} of them free now")
            }
            (WaitCause::DevicesBusy { running, busy: 1, .. }, Language::Zh) => {
                format!("排在第 {position} 位，等待 {running} 释放设备")
            }
            (WaitCause::DevicesBusy { running, busy: 1, .. }, Language::En) => {
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
            (WaitCause::Planning, Language::Zh) => format!("排在第 {position} 位，马上安排"),
            (WaitCause::Planning, Language::En) => format!("position {position}; about to be planned"),
            (WaitCause::DeviceMemory { needed, device, free, holders }, _) => {
                let (needed, missing, free) = (gib(*needed), gib(needed.saturating_sub(*free)), gib(*free));
                let held = held(holders, language);
                match language {
                    Language::Zh => format!(
                        "排在第 {position} 位，等待显存：需要 {needed}，{device} 可用 {free}，还差 {missing}{held}"
                    ),
                    Language::En => format!(
                        "position {position}; waiting for GPU memory: needs {needed}, {device} has {free} free, \
                         {missing} short{held}"
                    ),
                }
            }
            (WaitCause::WholeDevice { device, free, total, holders }, _) => {
                let (free, total, held) = (gib(*free), gib(*total), held(holders, language));
                match language {
                    Language::Zh => format!(
                        "排在第 {position} 位，等待一块空闲的 GPU：{device} 的 {total} 中只有 {free} 可用{held}。\
                         用 --memory 说明所需显存即可提前开始"
                    ),
                    Language::En => format!(
                        "position {position}; waiting for a GPU to itself: {device} has {free} of {total} free{held}. \
                         Say with --memory what it needs and it can start sooner"
                    ),
                }
            }
            (WaitCause::ForeignUse { device, holders }, Language::Zh) => {
                format!("排在第 {position} 位，{device} 正被其他程序使用{}，按设置不与其共用", held(holders, language))
            }
            (WaitCause::ForeignUse { device, holders }, Language::En) => format!(
                "position {position}; other programs use {device}{}, and by the settings it is not shared with them",
                held(holders, language)
            ),
            (WaitCause::TooLarge { needed, device, largest }, Language::Zh) => format!(
                "排在第 {position} 位，本机没有足够大的 GPU：需要 {}，最大的 {device} 为 {}。请减小批大小或序列长度，或使用量化",
                gib(*needed),
                gib(*largest)
            ),
            (WaitCause::TooLarge { needed, device, largest }, Language::En) => format!(
                "position {position}; no GPU here is large enough: needs {}, the largest, {device}, has {}. Use a \
                 smaller batch, shorter sequences or quantisation",
                gib(*needed),
                gib(*largest)
            ),
            (WaitCause::TooManyDevices { wanted, usable }, Language::Zh) => {
                format!("排在第 {position} 位，需要 {wanted} 块 GPU，可用的只有 {usable} 块")
            }
            (WaitCause::TooManyDevices { wanted, usable }, Language::En) => {
                format!("position {position}; wants {wanted} GPUs at once, {usable} are usable")
            }
            (WaitCause::DeviceUnusable { wanted: ..=1, device, zh, .. }, Language::Zh) => {
                format!("排在第 {position} 位，只有 {device} 能满足，但它目前不可用：{zh}")
            }
            (WaitCause::DeviceUnusable { wanted: ..=1, device, en, .. }, Language::En) => {
                format!("position {position}; only {device} would do, and it cannot be used now: {en}")
            }
            (WaitCause::DeviceUnusable { wanted, usable, device, zh, .. }, Language::Zh) => {
                format!("排在第 {position} 位，同时需要 {wanted} 块 GPU，目前可用 {usable} 块；{device} 不可用：{zh}")
            }
            (WaitCause::DeviceUnusable { wanted, usable, device, en, .. }, Language::En) => format!(
                "position {position}; wants {wanted} GPUs at once, {usable} can be used now; {device} cannot: {en}"
            ),
            (WaitCause::TrialFailed { device, needed, free, holder, message }, _) => {
                let needed = gib(*needed);
                let held = holder.as_ref().map(|holder| holder.describe(language));
                let held = held.map_or_else(String::new, |held| match language {
                    Language::Zh => format!("（{held}）"),
                    Language::En => format!(" ({held})"),
                });
                match (language, free) {
                    (Language::Zh, Some(free)) => format!(
                        "排在第 {position} 位，启动前在 {device} 上试分配 {needed} 失败，只有 {} 可用{held}；稍后重试",
                        gib(*free)
                    ),
                    (Language::En, Some(free)) => format!(
                        "position {position}; allocating {needed} on {device} just before the start failed, {} was \
                         free{held}; it will be tried again",
                        gib(*free)
                    ),
                    (Language::Zh, None) => {
                        format!("排在第 {position} 位，启动前在 {device} 上试分配 {needed} 失败：{message}；稍后重试")
                    }
                    (Language::En, None) => format!(
                        "position {position}; allocating {needed} on {device} just before the start failed: {message}; \
                         it will be tried again"
                    ),
                }
            }
            (WaitCause::Dependency { task }, Language::Zh) => format!("等待 {task} 结束"),
            (WaitCause::Dependency { task }, Language::En) => format!("waiting for {task} to end"),
            (WaitCause::Moving, Language::Zh) => format!("排在第 {position} 位，正在移到一块空闲的 GPU"),
            (WaitCause::Moving, Language::En) => format!("position {position}; moving to an idle GPU"),
            (WaitCause::Preempted { by }, Language::Zh) => {
                format!("排在第 {position} 位，已在检查点暂停，为 {by} 让出设备")
            }
            (WaitCause::Preempted { by }, Language::En) => {
                format!("position {position}; paused at a checkpoint to make room for {by}")
            }
            (WaitCause::Reserved { task, devices, .. }, Language::Zh) => {
                format!("排在第 {position} 位，设备已为 {task} 预留（{devices} 个）")
            }
            (WaitCause::Reserved { task, devices: 1, .. }, Language::En) => {
                format!("position {position}; reserved for {task} (1 GPU)")
            }
            (WaitCause::Reserved { task, devices, .. }, Language::En) => {
                format!("position {position}; reserved for {task} ({devices} GPUs)")
            }
            (WaitCause::QueuePaused { by }, Language::Zh) => format!("排在第 {position} 位，队列已由 {by} 暂停"),
            (WaitCause::QueuePaused { by }, Language::En) => {
                format!("position {position}; the queue was paused by {by}")
            }
            (WaitCause::QuietHours { until }, Language::Zh) => {
                format!("排在第 {position} 位，静默时段，{} 之后才会启动", clock(until))
            }
            (WaitCause::QuietHours { until }, Language::En) => {
                format!("position {position}; quiet hours until {}", clock(until))
            }
            (WaitCause::NotBefore { at }, Language::Zh) => format!("按要求在 {} 之后启动", clock(at)),
            (WaitCause::NotBefore { at }, Language::En) => format!("asked not to start before {}", clock(at)),
            (WaitCause::Retry { failure, retry, at }, Language::Zh) => {
                format!("因 {failure} 中断，将在 {} 进行第 {retry} 次重试", clock(at))
            }
            (WaitCause::Retry { failure, retry, at }, Language::En) => {
                format!("an attempt ended with {failure}; retry {retry} at {}", clock(at))
            }
            (WaitCause::Quota { kind, used, limit }, _) => quota(position, *kind, *used, *limit, language),
            (WaitCause::Measuring { task }, Language::Zh) => {
                format!("排在第 {position} 位，{task} 正在其 GPU 上单独测速（最初几步），之后即可共用")
            }
            (WaitCause::Measuring { task }, Language::En) => format!(
                "position {position}; {task} is measured alone on its GPU for its first steps, then another may join it"
            ),
            (cause @ WaitCause::NotPaying { .. }, Language::Zh) => {
                format!("排在第 {position} 位，已在检查点暂停：{}", cause.of_pause(language))
            }
            (cause @ WaitCause::NotPaying { .. }, Language::En) => {
                format!("position {position}; paused at a checkpoint: {}", cause.of_pause(language))
            }
            (WaitCause::Reclaimed { device, service }, Language::Zh) => {
                format!("排在第 {position} 位，已在检查点暂停：{service} 收回了 {device} 的显存")
            }
            (WaitCause::Reclaimed { device, service }, Language::En) => {
                format!("position {position}; paused at a checkpoint: {service} took back its memory on {device}")
            }
            (WaitCause::DiskFull { free, limit }, Language::Zh) => format!(
                "排在第 {position} 位，磁盘空间不足：剩余 {}，低于 {} 时不启动任务。请清理磁盘",
                gib(*free),
                gib(*limit)
            ),
            (WaitCause::DiskFull { free, limit }, Language::En) => format!(
                "position {position}; the disk is almost full: {} free, and nothing starts below {}. Free some space",
                gib(*free),
                gib(*limit)
            ),
            (WaitCause::HostMemory { free, limit }, Language::Zh) => format!(
                "排在第 {position} 位，主机内存不足：可用 {}，低于 {} 时不启动任务。请结束占用内存的程序",
                gib(*free),
                gib(*limit)
            ),
            (WaitCause::HostMemory { free, limit }, Language::En) => format!(
                "position {position}; the machine is short of memory: {} available, and nothing starts below {}. End what \
                 holds it",
                gib(*free),
                gib(*limit)
            ),
            (WaitCause::Behind { task }, Language::Zh) => format!("排在第 {position} 位，在 {task} 之后"),
            (WaitCause::Behind { task }, Language::En) => format!("position {position}; after {task}"),
        }
    }
}

impl WaitCause {
    /// Why a task was stopped at a checkpoint, as part of a sentence.
    pub fn of_pause(&self, language: Language) -> String {
        let zh = language == Language::Zh;
        match self {
            WaitCause::Moving if zh => "移到空闲的 GPU".into(),
            WaitCause::Moving => "to move to an idle GPU".into(),
            WaitCause::Preempted { by } if zh => format!("为 {by} 让出设备"),
            WaitCause::Preempted { by } => format!("to make room for {by}"),
            WaitCause::NotPaying { with, gain_percent } => {
                let gain = f64::from(*gain_percent) / 100.0;
                if zh {
                    format!("与 {with} 共用 GPU 得不偿失（合计仅 {gain:.2} 倍）")
                } else {
                    format!("packing did not pay (with {with} on one GPU {gain:.2}× of one alone)")
                }
            }
            WaitCause::Reclaimed { device, service } if zh => format!("{service} 收回了 {device} 的显存"),
            WaitCause::Reclaimed { device, service } => format!("{service} took back its memory on {device}"),
            WaitCause::DiskFull { free, .. } if zh => format!("磁盘只剩 {}", gib(*free)),
            WaitCause::DiskFull { free, .. } => format!("the disk has {} left", gib(*free)),
            WaitCause::HostMemory { free, .. } if zh => format!("主机内存只剩 {}", gib(*free)),
            WaitCause::HostMemory { free, .. } => format!("the machine has {} of memory left", gib(*free)),
            // Nothing else pauses a task.
            other => WaitReason::new(1, other.clone()).sentence(language),
        }
    }
}

impl Failure {
    /// What happened and what to do next, in one or two sentences.
    pub fn sentence(&self, language: Language) -> String {
        let zh = language == Language::Zh;
        match self {
            Failure::Reported { message_zh: Some(message), .. } if zh => message.clone(),
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
            Failure::DeviceLost { device, zh: detail, .. } if zh => {
                format!("训练所用的 {device} 失效：{detail}之后请重新提交任务。")
            }
            Failure::DeviceLost { device, en: detail, .. } => {
                format!("{device}, on which it trained, is gone: {detail} Then submit the task again.")
            }
            Failure::DependencyFailed { task } if zh => {
                format!("所依赖的任务 {task} 没有成功完成，因此没有启动。请解决其问题后重新提交。")
            }
            Failure::DependencyFailed { task } => {
                format!("{task}, which had to complete first, did not. See to that one, then submit this one again.")
            }
            Failure::LaunchFailed { message } if zh => format!("无法启动任务：{message}"),
            Failure::LaunchFailed { message } => format!("the task could not be launched: {message}"),
        }
    }
}

impl Failure {
    /// The same without anything that the program itself has said, for whoever may not read what it prints; `None` if
    /// there is nothing of that kind in it.
    pub fn sentence_to_others(&self, language: Language) -> Option<String> {
        let zh = language == Language::Zh;
        let happened = match self {
            Failure::Reported { error_code, .. } if zh => format!("训练报告了错误 {error_code}"),
            Failure::Reported { error_code, .. } => format!("the training reported {error_code}"),
            Failure::ExitCode { exit_code, .. } if zh => format!("程序以退出码 {exit_code} 结束"),
            Failure::ExitCode { exit_code, .. } => format!("the program ended with exit code {exit_code}"),
            Failure::ExecFailed { .. } if zh => "无法启动程序".into(),
            Failure::ExecFailed { .. } => "the program could not be started".into(),
            Failure::OutOfDeviceMemory { .. } if zh => "设备显存不足".into(),
            Failure::OutOfDeviceMemory { .. } => "the device ran out of memory".into(),
            _ => return None,
        };
        Some(if zh {
            format!("{happened}。日志只有提交者和所有者可以查看。")
        } else {
            format!("{happened}. Its log is for who submitted it and for owners of the studio.")
        })
    }
}

impl MemoryHolder {
    /// `vllm, pid 4242, holds 17.0 GiB`.
    pub fn describe(&self, language: Language) -> String {
        let zh = language == Language::Zh;
        let mut parts = Vec::new();
        match (&self.task, &self.name, self.pid) {
            (Some(task), _, _) => parts.push(task.to_string()),
            (None, Some(name), _) => parts.push(name.clone()),
            (None, None, None) => parts.push(if zh { "未知进程" } else { "an unknown process" }.into()),
            (None, None, Some(_)) => {}
        }
        if let (None, Some(pid)) = (self.task, self.pid) {
            parts.push(format!("pid {pid}"));
        }
        if let Some(bytes) = self.bytes {
            parts.push(format!("{} {}", if zh { "占用" } else { "holds" }, gib(bytes)));
        }
        parts.join(if zh { "，" } else { ", " })
    }
}

/// Day and time in the studio's own time zone.
fn clock(at: &Timestamp) -> String {
    at.to_zoned_datetime(jiff::tz::TimeZone::system()).strftime("%m-%d %H:%M").to_string()
}

fn quota(position: u32, kind: QuotaKind, used: u64, limit: u64, language: Language) -> String {
    let hours = |seconds: u64| format!("{:.1} h", seconds as f64 / 3600.0);
    match (kind, language) {
        (QuotaKind::Running, Language::Zh) => {
            format!("排在第 {position} 位，已达用户配额：同时运行 {used} 个任务（上限 {limit}）")
        }
        (QuotaKind::Running, Language::En) => {
            format!("position {position}; user quota: {used} of {limit} tasks run already")
        }
        (QuotaKind::Gpus, Language::Zh) => {
            format!("排在第 {position} 位，已达用户配额：正在使用 {used} 块 GPU（上限 {limit}）")
        }
        (QuotaKind::Gpus, Language::En) => format!("position {position}; user quota: {used} of {limit} GPUs in use"),
        (QuotaKind::GpuTime, Language::Zh) => {
            format!("排在第 {position} 位，已达用户配额：24 小时内已用 {} GPU 时（上限 {}）", hours(used), hours(limit))
        }
        (QuotaKind::GpuTime, Language::En) => format!(
            "position {position}; user quota: {} of {} GPU time used in the last 24 hours",
            hours(used),
            hours(limit)
        ),
    }
}

fn held(holders: &[MemoryHolder], language: Language) -> String {
    let said: Vec<String> = holders.iter().take(3).map(|holder| holder.describe(language)).collect();
    match language {
        _ if said.is_empty() => String::new(),
        Language::Zh => format!("（{}）", said.join("；")),
        Language::En => format!(" ({})", said.join("; ")),
    }
}

/// `18253611008` → `17.0 GiB`, and smaller than 0.1 GiB → `52 MiB`.
pub fn gib(bytes: u64) -> String {
    const MIB: u64 = 1 << 20;
    if bytes < 100 * MIB {
        return format!("{} MiB", bytes.div_ceil(MIB));
    }
    format!("{:.1} GiB", bytes as f64 / (1u64 << 30) as f64)
}

/// `21600` → `6h`, `90` → `1m 30s`.
pub fn duration(seconds: u64) -> String {
    let parts = [(seconds / 3600, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    let words: Vec<String> =
        parts.into_iter().filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count}{unit}")).collect();
    if words.is_empty() { "0s".into() } else { words.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TaskId;

    #[test]
    fn a_pause_is_told_with_what_is_waited_for_now() {
        let [with, running] = [TaskId::new(0, 1), TaskId::new(0, 2)];
        let paused = WaitCause::NotPaying { with, gain_percent: 105 };
        let told = |cause: WaitCause| {
            let reason = WaitReason { paused: Some(paused.clone().into()), ..WaitReason::new(1, cause) };
            [reason.sentence(Language::Zh), reason.sentence(Language::En)]
        };
        let [zh, en] = told(WaitCause::DevicesBusy { running, busy: 1, wanted: 1, free: 0 });
        assert_eq!(
            en,
            format!(
                "paused: packing did not pay (with {with} on one GPU 1.05× of one alone); now: position 1; waiting for the \
                 device that {running} holds"
            )
        );
        assert!(zh.starts_with("已在检查点暂停：") && zh.contains("；目前：排在第 1 位"), "{zh}");
        let [_, still] = told(paused.clone());
        assert_eq!(still.matches("paused").count(), 1, "{still}");
    }
}
