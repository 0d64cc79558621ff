//! What the journal says of a move, in Chinese: it is written down in English.

/// The sentence itself where it is none of those that the engine writes; codes are the same in both languages.
pub fn in_chinese(why: &str) -> String {
    if let Some((_, zh)) = SENTENCES.iter().find(|(en, _)| *en == why) {
        return (*zh).into();
    }
    if let Some(zh) = failure(why) {
        return format!("{zh}（{why}）");
    }
    let after = |start: &str| why.strip_prefix(start);
    if let Some(other) = after("put before ") {
        return format!("移到 {other} 之前");
    }
    let priority = after("its priority is ").and_then(|rest| rest.strip_suffix(" now"));
    if let Some(priority) = priority {
        return format!("优先级改为 {priority}");
    }
    if let Some(other) = after("kept before ") {
        return format!("保持在 {other} 之前");
    }
    if let Some(code) = why.strip_suffix("; tried again") {
        return format!("{}，将重试（{code}）", failure(code).unwrap_or("失败"));
    }
    if after("out of memory; next with: ").is_some() {
        return "显存不足，改用更省显存的配置继续".into();
    }
    if let Some(reason) = after("paused: ") {
        return format!("在检查点暂停：{}", paused(reason));
    }
    why.to_owned()
}

fn paused(reason: &str) -> String {
    if reason == "to move to an idle GPU" {
        return "移到空闲的 GPU".into();
    }
    if let Some(by) = reason.strip_prefix("to make room for ") {
        return format!("为 {by} 让出设备");
    }
    let within = |start: &str, end: &str| reason.strip_prefix(start)?.strip_suffix(end);
    if let Some(with) = within("sharing a GPU with ", " did not pay") {
        return format!("与 {with} 共用 GPU 得不偿失");
    }
    if let Some(left) = within("the disk has ", " left") {
        return format!("磁盘只剩 {left}");
    }
    if let Some(left) = within("the machine has ", " of memory left") {
        return format!("主机内存只剩 {left}");
    }
    match reason.split_once(" took back its memory on ") {
        Some((service, device)) => format!("{service} 收回了 {device} 的显存"),
        None => reason.to_owned(),
    }
}

fn failure(code: &str) -> Option<&'static str> {
    FAILURES.iter().find(|(known, _)| *known == code).map(|(_, zh)| *zh)
}

const SENTENCES: [(&str, &str); 11] = [
    ("submitted", "已提交"),
    ("its turn", "轮到它了"),
    ("launched", "已启动"),
    ("training began", "训练开始"),
    ("the training ended well", "训练正常结束"),
    ("cancelled on request", "按要求取消"),
    ("held", "已暂缓"),
    ("released", "已放行"),
    ("put at the head of the queue", "移到队首"),
    ("the trial allocation failed", "试分配显存失败"),
    ("its supervisor was told to stop, not by this studio", "其监督进程被要求停止，并非由本 Studio 发出"),
];

const FAILURES: [(&str, &str); 10] = [
    ("exit-code", "程序以非零退出码结束"),
    ("signal", "被信号终止"),
    ("timed-out", "超过时间限制"),
    ("exec-failed", "无法启动程序"),
    ("supervisor-lost", "监督进程被终止"),
    ("interrupted", "训练被中断"),
    ("out-of-host-memory", "主机内存不足"),
    ("out-of-device-memory", "设备显存不足"),
    ("device-lost", "设备失效"),
    ("launch-failed", "无法启动任务"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_engine_writes_is_said_in_chinese() {
        for (en, zh) in [
            ("its turn", "轮到它了"),
            ("exit-code", "程序以非零退出码结束（exit-code）"),
            ("device-lost; tried again", "设备失效，将重试（device-lost）"),
            ("out of memory; next with: gradient checkpointing on", "显存不足，改用更省显存的配置继续"),
            ("paused: to make room for finetune_1_2", "在检查点暂停：为 finetune_1_2 让出设备"),
            ("paused: the disk has 1.0 GiB left", "在检查点暂停：磁盘只剩 1.0 GiB"),
            ("paused: vllm took back its memory on GPU 0", "在检查点暂停：vllm 收回了 GPU 0 的显存"),
            ("put before finetune_1_2", "移到 finetune_1_2 之前"),
            ("dataset-empty", "dataset-empty"),
        ] {
            assert_eq!(in_chinese(en), zh);
        }
    }
}
