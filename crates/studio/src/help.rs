//! Help and usage errors in Chinese. English is what the doc comments of the arguments say.

use clap::{
    Command,
    error::{ContextKind, ContextValue, ErrorKind},
};
use domain::Language;

use crate::text::language;

/// The tree with every text replaced by its translation.
pub fn in_chinese(command: Command) -> Command {
    let about = command.get_about().map(|about| chinese(&about.to_string()));
    let command = command
        .help_template("{before-help}{about-with-newline}\n用法：{usage}\n\n{all-args}{after-help}")
        .subcommand_help_heading("命令")
        .subcommand_value_name("命令")
        .mut_args(|argument| {
            let heading = if argument.is_positional() { "参数" } else { "选项" };
            let help = argument.get_help().map(|help| chinese(&help.to_string()));
            let argument = argument.help_heading(heading);
            match help {
                Some(help) => argument.help(help),
                None => argument,
            }
        })
        .mut_subcommands(in_chinese);
    match about {
        Some(about) => command.about(about),
        None => command,
    }
}

/// Prints what clap has to say and ends the program: help and version with 0, mistakes with 2.
pub fn exit(error: &clap::Error) -> ! {
    let mistake = error.use_stderr() && error.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    match language() {
        Language::Zh if mistake => {
            eprintln!("错误：{}\n\n更多信息请用 --help 查看。", mistake_in_chinese(error));
            std::process::exit(i32::from(crate::error::USAGE));
        }
        _ => error.exit(),
    }
}

fn mistake_in_chinese(error: &clap::Error) -> String {
    let get = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.join("、"),
        Some(value) => value.to_string(),
        None => String::new(),
    };
    let (argument, value) = (get(ContextKind::InvalidArg), get(ContextKind::InvalidValue));
    let sentence = match error.kind() {
        ErrorKind::InvalidValue if value.is_empty() => format!("{argument} 需要一个值"),
        ErrorKind::InvalidValue => {
            format!("{argument} 的值 {value:?} 无效，可用：{}", get(ContextKind::ValidValue))
        }
        ErrorKind::ValueValidation => {
            let reason = std::error::Error::source(error).map(|source| format!("：{source}")).unwrap_or_default();
            format!("{argument} 的值 {value:?} 无效{reason}")
        }
        ErrorKind::UnknownArgument => format!("无法识别的参数 {argument}"),
        ErrorKind::InvalidSubcommand => format!("无法识别的命令 {}", get(ContextKind::InvalidSubcommand)),
        ErrorKind::MissingRequiredArgument => format!("缺少必需的参数：{argument}"),
        ErrorKind::MissingSubcommand => format!("缺少命令，可用：{}", get(ContextKind::ValidSubcommand)),
        ErrorKind::ArgumentConflict => format!("{argument} 不能与 {} 一起使用", get(ContextKind::PriorArg)),
        _ => return error.to_string(),
    };
    let suggestion = match get(ContextKind::SuggestedArg) + &get(ContextKind::SuggestedSubcommand) {
        empty if empty.is_empty() => String::new(),
        suggestion => format!("（是否想用 {suggestion}？）"),
    };
    sentence + &suggestion
}

fn chinese(english: &str) -> String {
    let found = CHINESE.iter().find(|(en, _)| *en == english);
    found.map_or_else(|| english.to_owned(), |(_, zh)| (*zh).to_owned())
}

const CHINESE: &[(&str, &str)] = &[
    ("The fine-tuning studio for the GPUs you own", "用自己的 GPU 微调模型的工作室"),
    ("Folder of the studio [default: ~/.sage]", "Studio 的目录 [默认：~/.sage]"),
    ("Language of all texts: zh or en [default: the system's]", "界面语言：zh 或 en [默认：跟随系统]"),
    ("Print help", "显示帮助"),
    ("Print the version", "显示版本"),
    ("Print JSON", "输出 JSON"),
    // studio
    ("Start, stop and look after the studio", "启动、停止和查看 Studio"),
    ("Start the studio in the background", "在后台启动 Studio"),
    ("Copy the database while the studio runs", "备份数据库，Studio 可以在运行"),
    ("Put a backup in the place of the database", "用备份替换数据库"),
    (
        "Run the studio as a service of your systemd; restarting it leaves trainings alone",
        "把 Studio 安装为您的 systemd 服务；重启服务不影响训练",
    ),
    ("Remove that service; trainings go on", "移除该服务，训练继续运行"),
    (
        "Where to; must not exist yet [default: a new file in backups/ of the home]",
        "目标文件，不能已存在 [默认：主目录 backups/ 中的新文件]",
    ),
    ("List the backups in the home instead", "改为列出主目录中的备份"),
    ("A file that `sage studio backup` has made", "由 `sage studio backup` 生成的文件"),
    ("Print the unit instead of installing it", "只打印服务单元，不安装"),
    ("Accept no new tasks, let all that were accepted end, then stop", "不再接受新任务，等已接受的任务全部结束后停止"),
    (
        "Cancel everything that runs, waits or is held, wait until its processes are gone, then stop",
        "取消所有运行中、排队中和暂存的任务，等其进程结束后停止",
    ),
    ("Stop the studio; trainings go on", "停止 Studio，训练继续运行"),
    ("Stop the studio and start it as it was; trainings go on", "按原来的选项重启 Studio，训练继续运行"),
    ("Say whether the studio runs, and where", "查看 Studio 是否在运行及其地址"),
    ("Open the page in the browser", "在浏览器中打开页面"),
    ("Print the studio's own log", "查看 Studio 自身的日志"),
    ("Stay in the foreground until Ctrl-C", "在前台运行，直到按下 Ctrl-C"),
    ("Port of API and page; 0: any free one [default: 8080]", "API 和页面的端口；0 表示任意空闲端口 [默认：8080]"),
    (
        "Second port that answers the same; none: no such port [default: 4200]",
        "提供相同服务的第二个端口；none 表示不使用 [默认：4200]",
    ),
    (
        "Address to listen on; others than loopback need authentication [default: 127.0.0.1]",
        "监听地址；非本机地址需要开启认证 [默认：127.0.0.1]",
    ),
    ("Leave the terminal once it serves: the background half of a start", "开始服务后脱离终端：后台启动的另一半"),
    ("Go on until Ctrl-C", "持续输出，直到按下 Ctrl-C"),
    ("Only the last lines", "只显示最后几行"),
    // trainer
    ("List the trainers, and install or delete what one needs", "列出训练器，安装或删除其所需的环境"),
    ("List the trainers, and what is installed of them", "列出训练器及其安装情况"),
    ("Install what a trainer needs, now instead of with its first task", "立即安装训练器所需的环境，不等首个任务"),
    ("Delete what was installed for a trainer", "删除为训练器安装的环境"),
    ("The trainer: peft", "训练器：peft"),
    ("Train one recipe here and now with trainer peft", "立即用 peft 训练器训练一个配方"),
    // queue, explain
    (
        "Show the plan, or change it: what runs, what waits for what, when it is expected to start",
        "查看或调整计划：谁在运行、谁在等什么、预计何时开始",
    ),
    ("Start nothing more; what runs goes on", "不再启动任务，运行中的继续"),
    ("Start tasks again after a pause or a drain", "暂停或排空之后恢复"),
    ("Accept no new tasks; those that were accepted run to their end", "不接受新任务，已接受的运行到结束"),
    ("Return when nothing runs and nothing waits any more", "等到没有任务在运行或等待时返回"),
    ("Put a waiting task at the head of its class", "把排队的任务提到同优先级的最前面"),
    ("Put a waiting task before another of its class", "把排队的任务移到同优先级的另一个之前"),
    ("The task that is to come after it", "应排在它之后的任务"),
    ("Take waiting tasks out of the queue until they are released", "把排队的任务移出队列，直到放行"),
    ("Move a waiting or held task to another class", "调整排队或保留的任务的优先级"),
    ("Say why a task is where it is, and what each device says to it", "说明任务为何处于当前位置，以及每个设备的情况"),
    ("The task's id", "任务编号"),
    // simulate
    (
        "Replay a recorded queue under a policy, on GPUs that need not be there",
        "按某种策略重放一份任务记录，不需要真实的 GPU",
    ),
    ("CSV with the columns submit_s, duration_s and gpus", "包含 submit_s、duration_s、gpus 三列的 CSV 文件"),
    ("GPUs of the machine", "机器上的 GPU 数量"),
    (
        "one, fifo, easy or full: one task at a time, order of arrival, with backfilling, the studio's own",
        "one、fifo、easy 或 full：一次一个任务、按到达顺序、带回填、本 Studio 的默认策略",
    ),
    (
        "Throughput of two tasks together on one GPU relative to one alone, such as 1.2; left out: no sharing",
        "两个任务共用一块 GPU 时的总吞吐与单独运行之比，例如 1.2；不写则不共用",
    ),
    (
        "Stretch the arrivals so that the GPU time asked for is this share of what there is; left out: as recorded",
        "拉伸到达时间，使所需 GPU 时间占可用时间的这一比例；不写则按记录",
    ),
    ("How far off the estimates of lengths are: true × exp(N(0, σ))", "时长估计的误差：真实值 × exp(N(0, σ))"),
    ("Cut longer tasks to so many hours", "把更长的任务截到这么多小时"),
    ("Decides the errors of the estimates", "决定估计误差的随机种子"),
    ("Draw what happened into this SVG file", "把过程画成 SVG 文件"),
    // estimate
    ("Say how much memory and time a fine-tune needs, before it runs", "在运行前估算微调所需的显存和时间"),
    ("A model's folder or config.json, or a hub id from the catalogue", "模型目录、其 config.json，或目录中的模型编号"),
    ("lora, qlora (a quantised base) or full", "lora、qlora（量化基座）或 full（全参数）"),
    ("Bits per weight of the base: 4 or 8 [default: 4 with qlora]", "基座权重的位数：4 或 8 [默认：qlora 为 4]"),
    ("Tokens per example", "每个样本的词元数"),
    (
        "all, letters of q k v o, or names such as q_proj,v_proj",
        "all、q k v o 中的若干字母，或 q_proj,v_proj 这样的名称",
    ),
    ("Keep activations instead of computing them again", "保留激活值，不重新计算"),
    ("How the loss is computed: hf, fused or chunked [default: hf]", "损失的计算方式：hf、fused 或 chunked [默认：hf]"),
    ("builtin or peft", "builtin 或 peft"),
    ("GPUs that train together", "共同训练的 GPU 数"),
    (
        "With several GPUs: ddp (each holds the model) or fsdp (each holds a part)",
        "多 GPU 时：ddp（各存整个模型）或 fsdp（各存一部分）",
    ),
    (
        "Memory of the card in GiB: says whether it fits, and what would",
        "显卡的显存（GiB）：说明是否放得下，以及怎样才放得下",
    ),
    ("Name of the card, for the time, such as \"RTX 4090\"", "显卡名称，用于估算时间，例如 \"RTX 4090\""),
    ("Examples of the data set, for the whole training's time", "数据集的样本数，用于估算总时间"),
    // task
    ("Submit fine-tunes and other tasks, and follow them", "提交微调等任务并跟踪它们"),
    ("Submit a fine-tune, or any command after --", "提交微调任务，或 -- 之后的任意命令"),
    ("List tasks, newest first", "列出任务，最新的在前"),
    ("Show one task in full", "显示一个任务的全部信息"),
    ("The id is of a group: show that, and its tasks", "编号是任务组的：显示该组及其任务"),
    ("The ids are of groups: do it to all of their tasks", "编号是任务组的：作用于组内所有任务"),
    ("A row for each task of a group, instead of one for the group", "任务组的每个任务各占一行"),
    ("Print a task's log", "查看任务日志"),
    ("Stop running or waiting tasks", "取消运行中或排队中的任务"),
    ("Put held tasks into the queue", "把保留的任务放入队列"),
    ("Delete ended tasks and their files", "删除已结束的任务及其文件"),
    ("Download the adapter of a completed task", "下载已完成任务的适配器"),
    ("The task, such as finetune_1760000000_1", "任务，例如 finetune_1760000000_1"),
    ("The tasks, such as finetune_1760000000_1", "一个或多个任务，例如 finetune_1760000000_1"),
    ("Go on until the task ends, and end with its exit status", "持续输出直到任务结束，并以任务的退出状态结束"),
    ("Only tasks in this state, such as queued or training", "只列出此状态的任务，例如 queued 或 training"),
    ("How many", "数量"),
    ("Only tasks older than this one", "只列出比它更早的任务"),
    ("File or folder to save it in; - for stdout", "保存到的文件或目录；- 表示标准输出"),
    // task submit
    ("A folder, a name from `sage model list`, or a hub id", "目录、`sage model list` 中的名称或模型库 id"),
    ("The data set, see `sage dataset check`", "数据集，见 `sage dataset check`"),
    ("Fills what is not given: safe, balanced or fast", "填充未指定的参数：safe、balanced 或 fast"),
    (
        "The program that trains: builtin or peft [default: the one that suits model and machine]",
        "训练程序：builtin 或 peft [默认：按模型和机器选择]",
    ),
    (
        "Train adapters beside the model, or the model itself: lora or full",
        "训练模型旁的适配器或模型本身：lora 或 full",
    ),
    (
        "Learn from preferences (chosen and rejected answers) instead of answers",
        "从偏好（chosen 和 rejected 回答）而不是回答中学习",
    ),
    ("Load the model in 16 bits", "以 16 位加载模型"),
    ("Load the model in 4 bits (QLoRA)", "以 4 位加载模型（QLoRA）"),
    ("After an out-of-memory, allow fewer bits than asked for", "显存不足后允许使用比要求更低的位数"),
    (
        "Keep activations instead of computing them again: faster, more memory",
        "保留激活值而不是重新计算：更快，占用更多显存",
    ),
    (
        "How the loss is computed: hf, fused or chunked [default: the trainer's choice]",
        "损失的计算方式：hf、fused 或 chunked [默认：由训练器选择]",
    ),
    (
        "Projections that get an adapter: all, qv, or names such as q_proj,v_proj",
        "加适配器的投影层：all、qv，或 q_proj,v_proj 这样的名称",
    ),
    (
        "How several GPUs share the work: ddp (each holds the model) or fsdp (each holds a part)",
        "多 GPU 的分工方式：ddp（各存整个模型）或 fsdp（各存一部分）",
    ),
    ("Does it not fit the GPUs, take the nearest configuration that does", "如果 GPU 放不下，则采用最接近的可行配置"),
    ("Only say what it needs, whether that fits, and what would", "只显示所需资源、能否放下以及可行的配置，不提交"),
    ("GPUs that it needs at once", "同时需要的 GPU 数"),
    (
        "low, normal, high or urgent; urgent tasks may interrupt others at a checkpoint",
        "low、normal、high 或 urgent；urgent 任务可以让其他任务在检查点暂停",
    ),
    (
        "Start only after this task has completed; ID,any: after it has ended in any way. Repeat for more",
        "该任务成功完成后才启动；写成 ID,any 则以任何方式结束后即可；可重复",
    ),
    ("Do not start it before: 2h from now, at 22:00, or a date and time", "最早启动时间：2h 后、22:00 或具体日期时间"),
    (
        "When it should have ended: 8h from now, at 08:00, or a date and time; the closer, the sooner its turn",
        "应完成的时间：8h 后、08:00 或具体日期时间；越近越早轮到",
    ),
    (
        "How often to try again after a failure that was not its own [default: the studio's]",
        "非自身原因失败后的重试次数 [默认：由 Studio 决定]",
    ),
    (
        "A task for each combination of values, such as lr=1e-4,5e-5 rank=8,16; a command has them as {lr}, {rank}",
        "每种取值组合一个任务，例如 lr=1e-4,5e-5 rank=8,16；命令中写作 {lr}、{rank}",
    ),
    (
        "The command once for each number, such as 0-9; it has it as {index}",
        "每个编号运行一次命令，例如 0-9；命令中写作 {index}",
    ),
    ("The command may run on a GPU beside other tasks", "允许该命令与其他任务共用一块 GPU"),
    (
        "GPU memory that the command needs on each GPU, such as 10GiB; left out, it gets GPUs to itself",
        "命令在每块 GPU 上需要的显存，例如 10GiB；不写则独占 GPU",
    ),
    ("Passes over the data", "训练轮数"),
    ("Examples per micro-batch", "每个微批的样本数"),
    ("Micro-batches per optimizer step", "每个优化步累积的微批数"),
    ("Peak learning rate", "最高学习率"),
    ("Tokens per example at most", "每条样本的最大 token 数"),
    ("Load the model in 8 bits, where the trainer can", "以 8 位加载模型（如果训练器支持）"),
    ("Inner dimension of the adapter", "适配器的秩"),
    ("The adapter is scaled by alpha / rank", "适配器按 alpha / rank 缩放"),
    ("Share of the steps spent warming up, 0 to 1", "预热步数所占比例，0 到 1"),
    ("How the learning rate falls: cosine, linear or constant", "学习率的下降方式：cosine、linear 或 constant"),
    ("Decoupled weight decay of AdamW", "AdamW 的解耦权重衰减"),
    ("Clips the gradient to this norm; 0: never", "梯度裁剪的范数上限；0 表示不裁剪"),
    ("Decides order, initialisation and split", "决定顺序、初始化和划分的随机种子"),
    ("Share of the examples kept for validation, 0 to 0.5", "留作验证的样本比例，0 到 0.5"),
    ("Optimizer steps between checkpoints", "两个检查点之间的优化步数"),
    ("Newest checkpoints to keep, the best besides", "保留的最新检查点数，最好的另外保留"),
    ("A name to know it by", "便于识别的名称"),
    ("Ends the task after this long, such as 90m or 2h", "超过此时长即结束任务，例如 90m 或 2h"),
    ("Keep it out of the queue until `sage task release`", "暂不排队，直到 `sage task release`"),
    ("Show the log until the task ends, and end with its exit status", "显示日志直到任务结束，并以任务的退出状态结束"),
    (
        "Set a variable for the command; NAME alone takes its value from here; repeat for more",
        "为命令设置环境变量；只写名称时取当前环境中的值；可重复",
    ),
    (
        "Any program with its arguments, run here, with the granted GPUs",
        "任意程序及其参数，在当前目录运行，使用分配到的 GPU",
    ),
    // gpu, dataset, model
    ("Show the GPUs, what is free on them and which models fit", "显示 GPU、空闲显存和适合的模型"),
    (
        "Watch the GPUs, who uses them and who waits for what, until Ctrl-C",
        "实时查看 GPU、占用者和等待的任务，直到按下 Ctrl-C",
    ),
    (
        "Start nothing new on a GPU, or use it again; what runs there goes on",
        "维护某块 GPU：不再启动新任务，或恢复使用",
    ),
    ("The GPU's number or UUID, as `sage gpu` shows them", "GPU 的编号或 UUID，见 `sage gpu`"),
    ("on or off", "on（开始维护）或 off（结束维护）"),
    ("Look for what keeps GPUs from being used, and say what to do", "检查 GPU 无法使用的原因，并给出处理方法"),
    ("Look at data sets", "查看数据集"),
    ("Check a data set and show its first examples", "检查数据集并显示前几条样本"),
    ("JSON or JSONL in alpaca, sharegpt or messages format", "alpaca、sharegpt 或 messages 格式的 JSON 或 JSONL"),
    ("List models, or make a tiny one to practise on", "列出模型，或生成一个练习用的微型模型"),
    ("List the models that can be trained", "列出可以训练的模型"),
    ("Make a tiny random model to practise on, without any download", "生成练习用的随机微型模型，无需下载"),
    ("Folder to make; it must be new or empty", "要创建的目录，必须不存在或为空"),
    // generate
    ("Ask a model, with an adapter if you like", "向模型提问，可加载适配器"),
    ("Folder of an adapter, such as a completed task's output", "适配器目录，例如已完成任务的输出目录"),
    ("Tokens of answer at most", "回答的最大 token 数"),
    ("0: always the most likely word; above: the higher, the freer", "0：总取最可能的词；越大越随机"),
    ("Choose among the words that make up this share of the probability", "只在累计概率达到此值的词中选取"),
    ("Decides what is chosen", "决定选取结果的随机种子"),
    ("What the model shall behave like", "系统提示词"),
    ("What to ask", "要问的问题"),
    ("Certificate with its chain (PEM), to serve with TLS", "证书及其证书链（PEM），用于 TLS"),
    ("Private key of the certificate (PEM)", "证书的私钥（PEM）"),
    // user, token, audit
    ("Say who may use the studio, and how much of it", "管理谁可以使用 Studio 以及可用多少资源"),
    ("Make an account; asks for its password", "创建账号，会询问密码"),
    ("List the accounts with their roles and quotas", "列出账号及其角色和配额"),
    ("Make somebody owner, member or viewer", "设置角色：owner、member 或 viewer"),
    ("Set a new password, which ends the account's sessions", "设置新密码，并结束该账号的会话"),
    ("Limit what somebody may have of the machine", "限制某个用户可用的资源"),
    ("Remove an account with its sessions and tokens; its tasks stay", "删除账号及其会话和令牌；其任务保留"),
    ("The account's name", "账号名"),
    (
        "owner, member or viewer [default: owner for the first, then member]",
        "owner、member 或 viewer [默认：第一个为 owner，之后为 member]",
    ),
    ("Read the password from the first line of stdin", "从标准输入的第一行读取密码"),
    ("Only tasks of this person", "只列出此人的任务"),
    ("Only one's own tasks", "只列出自己的任务"),
    (
        "Hand over the tasks and data sets that a removed account of this name has left behind",
        "把同名的已删除账号留下的任务和数据集移交给该账号",
    ),
    ("No password: the account can only use tokens", "不设密码：该账号只能使用令牌"),
    (
        "owner: everything; member: tasks and data sets of their own; viewer: looks on",
        "owner：全部权限；member：自己的任务和数据集；viewer：只能查看",
    ),
    (
        "Share of the GPU time beside others who want more than there is [default: 1]",
        "GPU 不够用时相对其他用户的份额 [默认：1]",
    ),
    ("Tasks that run at once; none: no limit", "同时运行的任务数；none 表示不限"),
    ("Tasks that wait at once; none: no limit", "同时排队的任务数；none 表示不限"),
    ("GPUs in use at once; none: no limit", "同时使用的 GPU 数；none 表示不限"),
    ("GPU-hours within 24 hours; none: no limit", "24 小时内的 GPU 小时数；none 表示不限"),
    (
        "Room for data sets and task folders, such as 200GiB; none: no limit",
        "数据集和任务目录的空间，例如 200GiB；none 表示不限",
    ),
    ("Make, list and revoke tokens for scripts and other machines", "创建、列出和吊销令牌，用于脚本和其他机器"),
    ("Make a token and print its secret, this once", "创建令牌并显示其密钥（仅此一次）"),
    ("List tokens, without their secrets", "列出令牌，不含密钥"),
    ("Make tokens worthless", "吊销令牌"),
    ("What it is for", "用途"),
    (
        "read: look on; submit: also submit and manage one's own; admin: all that the account may",
        "read：只能查看；submit：还可提交和管理自己的任务；admin：该账号的全部权限",
    ),
    ("Days until it expires; left out: never", "多少天后到期；不写则不过期"),
    ("Whose it is [default: yours]", "属于哪个用户 [默认：自己]"),
    ("Everybody's", "所有人的"),
    ("Numbers of the tokens, from `sage token list`", "令牌编号，见 `sage token list`"),
    ("Look at who did what", "查看谁做了什么"),
    ("List who did what, newest first", "列出操作记录，最新的在前"),
    ("Compute every hash again: was an entry changed, removed or put in?", "重新计算所有哈希，检查记录是否被篡改"),
    ("Only what this account did", "只列出此账号的操作"),
    (
        "Only this action, such as task.submit, or all of a kind: task, account, token",
        "只列出此操作，例如 task.submit，或某一类：task、account、token",
    ),
    ("Only entries older than this one", "只列出比它更早的记录"),
    ("A head that was printed earlier: it must still be in the chain", "先前输出的链头，必须仍在链中"),
    // demo, train, completions
    ("See it all at work in a minute: three fine-tunes of a tiny model", "一分钟看完全过程：对微型模型做三次微调"),
    ("Leave the studio running, to look at its page", "保留运行中的 Studio，以便查看页面"),
    ("Train one recipe here and now, as the studio's tasks do", "直接训练一个配方，与 Studio 的任务相同"),
    ("recipe.json, as the studio writes it", "recipe.json，由 Studio 写出"),
    ("Receives the adapter, checkpoints/ and metrics.jsonl", "存放适配器、checkpoints/ 和 metrics.jsonl 的目录"),
    ("Begin without measuring what the longest batch takes", "不先测量最长批次的占用，直接开始训练"),
    ("Print a shell's completions", "输出 shell 的补全脚本"),
    ("The shell to complete for", "要补全的 shell"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn texts(command: &Command, into: &mut Vec<String>) {
        into.extend(command.get_about().map(|about| about.to_string()));
        into.extend(command.get_arguments().filter_map(|argument| argument.get_help()).map(|help| help.to_string()));
        command.get_subcommands().for_each(|command| texts(command, into));
    }

    #[test]
    fn every_help_text_has_its_chinese_and_no_translation_is_left_over() {
        let mut used = Vec::new();
        texts(&crate::cli::Cli::command(), &mut used);
        for text in &used {
            assert!(CHINESE.iter().any(|(en, _)| en == text), "no Chinese for {text:?}");
        }
        for (english, _) in CHINESE {
            assert!(used.iter().any(|text| text == english), "nobody says {english:?}");
        }
    }

    #[test]
    fn the_arguments_are_consistent() {
        crate::cli::Cli::command().debug_assert();
        in_chinese(crate::cli::Cli::command()).debug_assert();
    }

    #[test]
    fn mistakes_are_explained_in_chinese() {
        let mistake = |arguments: &[&str]| {
            let command = in_chinese(crate::cli::Cli::command());
            mistake_in_chinese(&command.try_get_matches_from(arguments).unwrap_err())
        };
        assert_eq!(mistake(&["sage", "taks"]), "无法识别的命令 taks（是否想用 task？）");
        assert_eq!(mistake(&["sage", "gpu", "--jsn"]), "无法识别的参数 --jsn（是否想用 --json？）");
        assert!(mistake(&["sage", "dataset", "check"]).starts_with("缺少必需的参数"));
        assert!(mistake(&["sage", "--lang", "fr", "gpu"]).contains("可用：zh、en"));
    }
}
