//! The models there are to choose from: on this machine, on a hub, and tuned here.

use api_types::ModelView;
use domain::{Recipe, StateKind};
use recipes::{advice, models};
use store::Filter;

use crate::{app::App, auth::Who, error::Result};

/// Models on this machine, then those worth fetching, then the tuned ones that are theirs, newest first. May block.
pub fn models(app: &App, who: &Who) -> Result<Vec<ModelView>> {
    let home = app.engine.home();
    let local = models::list(home, &app.hub_cache);
    let here = |id: &str| {
        let folder = models::folder_of(id, home);
        local.iter().any(|model| model.name == id || model.path == folder)
    };
    let known = advice::base_models(&app.inventory());
    let known = known.recommended_for_rtx3060.into_iter().chain(known.advanced_models);
    let hub = known.filter(|model| !here(model.name)).map(|model| ModelView {
        name: model.name.into(),
        kind: "base".into(),
        source: "hub".into(),
        description: model.description.into(),
        bytes: None,
        task_id: None,
        created_at: None,
    });
    let mut views: Vec<ModelView> = local
        .iter()
        .map(|model| ModelView {
            name: model.name.clone(),
            kind: "base".into(),
            source: "local".into(),
            description: model.architecture.clone().unwrap_or_default(),
            bytes: Some(model.bytes),
            task_id: None,
            created_at: None,
        })
        .chain(hub)
        .collect();

    let completed = Filter { kind: Some(StateKind::Completed), ..Filter::default() };
    for snapshot in app.engine.tasks(completed)? {
        let Recipe::FineTune(recipe) = &snapshot.task.recipe else { continue };
        if !who.owns(&snapshot.task.owner) {
            continue;
        }
        views.push(ModelView {
            name: home.task(snapshot.task.id).display().to_string(),
            kind: "finetuned".into(),
            source: "local".into(),
            description: format!("LoRA · {}", recipe.model_name),
            bytes: None,
            task_id: Some(snapshot.task.id.to_string()),
            created_at: snapshot.task.state.ended_at().map(|at| at.to_string()),
        });
    }
    Ok(views)
}
