//! What both APIs do with a task before the engine gets it, and what they add to its answer.

use std::path::Path;

use api_types::AlternativeView;
use axum::http::StatusCode;
use domain::{
    Condition, Dependency, Estimate, FineTune, Objective, Priority, Recipe, StateKind, TaskId, Terms, Warning,
};
use engine::{Submission, Submitted};
use recipes::{
    advice,
    dataset::{self, DatasetReport, Format},
    fit::{Alternative, Fit},
    models,
};
use store::Role;

use crate::{
    app::{App, Shared},
    auth::Who,
    datasets,
    error::{ApiError, Result, blocking},
    files,
    needs::{Needs, Situation},
    quota::Room,
};

/// Longest name of a task, in characters.
const NAME_LENGTH: usize = 200;

/// A task as a request asks for it.
#[derive(Clone)]
pub struct Request {
    pub name: Option<String>,
    pub recipe: Recipe,
    pub time_limit: Option<u64>,
    pub hold: bool,
    pub priority: Priority,
    pub after: Vec<Dependency>,
    pub terms: Terms,
    /// Rather change the recipe than let it wait for memory that this machine does not have.
    pub fit: bool,
}

/// A task that was taken, and what would fit where it does not.
pub struct Accepted {
    pub submitted: Submitted,
    pub alternatives: Vec<AlternativeView>,
}

/// Validates the task with its data set and model, and submits it.
pub async fn submit(app: &Shared, request: Request, who: &Who) -> Result<Accepted> {
    check(app, &request, who).await?;
    admit(app, who, &request.recipe).await?;
    let Ready { submission, alternatives } = match &request.recipe {
        // Nothing to read, so no thread is needed.
        Recipe::Command(_) => Ready::command(request)?,
        Recipe::FineTune(_) => {
            app.detected().await;
            let (app, who) = (app.clone(), who.clone());
            let prepare = move || {
                let situation = Situation::now(&app)?;
                ready(&Asker { app: &app, who: &who, situation, alternatives: true }, request)
            };
            blocking(prepare).await?
        }
    };
    let submitted = app.engine.submit(submission, who).await?;
    Ok(Accepted { submitted, alternatives })
}

/// Validates tasks that differ in nothing but their recipes, and submits all of them or none; each with what sets it
/// apart.
pub async fn submit_group(app: &Shared, members: Vec<(Request, String)>, who: &Who) -> Result<Vec<TaskId>> {
    if let Some((first, _)) = members.first() {
        check(app, first, who).await?;
        admit(app, who, &first.recipe).await?;
    }
    app.detected().await;
    let prepare = {
        let (app, who) = (app.clone(), who.clone());
        move || {
            let situation = Situation::now(&app)?;
            let asker = Asker { app: &app, who: &who, situation, alternatives: false };
            let submission = |(request, label): (Request, String)| match ready(&asker, request) {
                Ok(Ready { submission, .. }) => Ok((submission, label)),
                Err(error) => Err(ApiError {
                    detail: format!("{label}: {}", error.detail),
                    zh: error.zh.map(|zh| format!("{label}：{zh}")),
                    ..error
                }),
            };
            members.into_iter().map(submission).collect()
        }
    };
    let submissions: Vec<(Submission, String)> = blocking(prepare).await?;
    Ok(app.engine.submit_group(submissions, who).await?)
}

/// All of a request but its recipe.
async fn check(app: &Shared, request: &Request, who: &Who) -> Result<()> {
    let Request { name, time_limit, after, priority, .. } = request;
    may_have(who, *priority)?;
    if name.as_ref().is_some_and(|name| name.trim().chars().count() > NAME_LENGTH) {
        return Err(ApiError::invalid(
            format!("name is longer than {NAME_LENGTH} characters"),
            format!("name 超过了 {NAME_LENGTH} 个字符"),
        ));
    }
    if *time_limit == Some(0) {
        return Err(ApiError::invalid(
            "time_limit_seconds is 0; use 1 or more, or leave it out",
            "time_limit_seconds 为 0；请用 1 或更大的数，或不填",
        ));
    }
    if !after.is_empty() {
        let (app, after) = (app.clone(), after.clone());
        blocking(move || after.iter().try_for_each(|dependency| check_dependency(&app, dependency))).await?;
    }
    Ok(())
}

/// An urgent task stops other people's.
pub fn may_have(who: &Who, priority: Priority) -> Result<()> {
    if priority < Priority::Urgent || who.role == Role::Owner {
        return Ok(());
    }
    let detail = "an urgent task interrupts those of others, so only owners submit or make one urgent";
    Err(ApiError::new(StatusCode::FORBIDDEN, "urgent-for-owners", detail)
        .zh("紧急任务会打断他人的任务，因此只有所有者可以提交或设置")
        .next("Use the priority high, or ask an owner"))
}

/// Whether somebody may submit tasks of this kind, by their role and the room that is left for them.
async fn admit(app: &Shared, who: &Who, recipe: &Recipe) -> Result<()> {
    if matches!(recipe, Recipe::Command(_)) && !who.is_admin() && !app.options.trust_members {
        // It could read the files from which everybody's rights follow.
        let detail = "a command can do whatever the studio's own user can, so only owners submit commands";
        return Err(ApiError::new(StatusCode::FORBIDDEN, "commands-for-owners", detail)
            .zh("命令以 Studio 自身用户的权限运行，因此只有所有者可以提交；请提交微调任务，或请所有者开启 trust_members")
            .next("Submit a fine-tune, or let an owner set trust_members"));
    }
    Room::of(app, who).left().await.map(drop)
}

/// What the engine is to get, and what would fit where that does not.
struct Ready {
    submission: Submission,
    alternatives: Vec<AlternativeView>,
}

impl Ready {
    fn command(request: Request) -> Result<Ready> {
        validate(&request.recipe)?;
        let recipe = request.recipe.clone();
        Ok(Ready::new(request, Prepared { recipe, estimate: None, warnings: Vec::new(), alternatives: Vec::new() }))
    }

    fn new(request: Request, prepared: Prepared) -> Ready {
        let Request { name, recipe: _, time_limit, hold, priority, after, terms, fit: _ } = request;
        let Prepared { recipe, estimate, warnings, alternatives } = prepared;
        let name = name.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
        let submission = Submission { name, recipe, time_limit, priority, after, terms, hold, warnings, estimate };
        Ready { submission, alternatives }
    }
}

/// Who asks for what in which situation.
struct Asker<'a> {
    app: &'a App,
    who: &'a Who,
    situation: Situation<'a>,
    /// Wants to know what would fit where the task does not.
    alternatives: bool,
}

/// May block.
fn ready(asker: &Asker<'_>, request: Request) -> Result<Ready> {
    let Recipe::FineTune(recipe) = &request.recipe else { return Ready::command(request) };
    validate(&request.recipe)?;
    let prepared = prepare(asker, recipe.clone(), request.fit)?;
    Ok(Ready::new(request, prepared))
}

/// It is there, and can still end as it has to. May block.
fn check_dependency(app: &App, dependency: &Dependency) -> Result<()> {
    let Dependency { task, condition } = dependency;
    let found = app.engine.task(*task)?;
    let found = found.ok_or_else(|| {
        ApiError::invalid(
            format!("after names {task}, which is no task here"),
            format!("after 中的 {task} 不存在，可能已被删除"),
        )
    })?;
    let kind = found.task.state.kind();
    if *condition == Condition::Any || !kind.is_final() || kind == StateKind::Completed {
        return Ok(());
    }
    let detail = format!("after names {task}, which has to complete but is {kind}");
    Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "dependency-failed", detail)
        .zh(format!("所依赖的任务 {task} 没有成功完成，本任务永远无法启动。请去掉该依赖，或写成 {task},any"))
        .next(format!("Leave it out, or write {task},any if any end will do")))
}

pub fn validate(recipe: &Recipe) -> Result<()> {
    recipes::validate(recipe).map_err(|invalid| {
        ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-recipe", invalid.message)
            .zh(invalid.message_zh)
            .next(format!("Correct {} and submit again", invalid.field))
    })
}

/// A recipe that is ready for the engine, and what to tell whoever submits it.
struct Prepared {
    recipe: Recipe,
    estimate: Option<Estimate>,
    warnings: Vec<Warning>,
    alternatives: Vec<AlternativeView>,
}

/// May block.
fn prepare(asker: &Asker<'_>, recipe: FineTune, fit: bool) -> Result<Prepared> {
    let Asker { app, who, situation, alternatives } = asker;
    let (asked, report) = check_files(app, who, recipe)?;
    let examples = Some(report.examples);
    let mut needs = situation.needs(asked.clone(), examples);
    let mut alternatives = if fit || *alternatives { situation.alternatives(&needs, examples) } else { Vec::new() };
    let mut fitted = None;
    if fit && needs.verdict.fit == Fit::Never {
        if alternatives.is_empty() {
            return Err(nothing_fits(&needs));
        }
        let nearest = alternatives.swap_remove(0);
        needs = situation.needs(nearest.recipe.clone(), examples);
        fitted = Some(changed(&nearest));
        alternatives.clear();
    }
    let Needs { recipe, estimate, .. } = needs;
    let mut warnings: Vec<Warning> = fitted.into_iter().collect();
    warnings.extend(advice::preflight(&recipe, &situation.inventory, estimate.as_ref()));
    warnings.extend(report.warnings.iter().cloned());
    let alternatives = alternatives.iter().map(|found| situation.alternative(&asked, found)).collect();
    Ok(Prepared { recipe: Recipe::FineTune(recipe), estimate, warnings, alternatives })
}

fn nothing_fits(needs: &Needs) -> ApiError {
    let verdict = &needs.verdict;
    let detail = format!("no configuration of this model fits: {}", verdict.en);
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "nothing-fits", detail)
        .zh(format!("该模型没有任何配置能放入本机的 GPU：{}。请选择更小的模型，或使用更多 GPU", verdict.zh))
        .next("Choose a smaller model or more GPUs; GET /api/v1/recommendations lists what fits")
}

fn changed(alternative: &Alternative) -> Warning {
    let Alternative { changes_zh, changes_en, .. } = alternative;
    Warning {
        code: "recipe-fitted".into(),
        zh: format!("已调整配置以适应本机的 GPU：{changes_zh}"),
        en: format!("changed so that it fits this machine's GPUs: {changes_en}"),
    }
}

/// The recipe with the data set's full path, and what is in that. May block.
pub fn check_files(app: &App, who: &Who, recipe: FineTune) -> Result<(FineTune, std::sync::Arc<DatasetReport>)> {
    let path = files::dataset(app, who, &recipe.dataset_file)?;
    let report = app.datasets.check(&path)?;
    check_objective(&path, &report, recipe.objective)?;
    check_model(app, who, &recipe)?;
    Ok((FineTune { dataset_file: path.display().to_string(), ..recipe }, report))
}

/// May block.
pub fn check_model(app: &App, who: &Who, recipe: &FineTune) -> Result<()> {
    files::check_model(app, who, &recipe.model_name)?;
    let resolved = models::resolve(&recipe.model_name, app.engine.home(), &app.hub_cache);
    resolved.map(drop).map_err(|error| ApiError::bad_request(error.code(), error.to_string()).zh(error.message_zh()))
}

/// Answers are learnt from conversations, preferences from pairs.
fn check_objective(path: &Path, report: &DatasetReport, objective: Objective) -> Result<()> {
    let wrong = match (objective, report.format == Format::Preference) {
        (Objective::Sft, true) => dataset::read(path).err(),
        (Objective::Dpo, false) => dataset::read_preferences(path).err(),
        _ => None,
    };
    wrong.map_or(Ok(()), |error| Err(datasets::invalid(error)))
}

/// Said to whoever submits to a long queue; not kept with the task, because queues move.
pub fn queue_warning(app: &App, submitted: &Submitted) -> Option<Warning> {
    let queued = submitted.snapshot.task.state.kind() == StateKind::Queued;
    queued.then(|| long_queue(app, submitted.waiting)).flatten()
}

pub fn long_queue(app: &App, waiting: usize) -> Option<Warning> {
    (waiting > app.engine.settings().queue_warning as usize).then(|| Warning {
        code: "queue-long".into(),
        zh: format!("⚠️ 队列较长：当前有 {waiting} 个任务在等待，本任务可能需要较长时间才能开始"),
        en: format!("the queue is long: {waiting} tasks wait, so this one may start late"),
    })
}
