use api_types::ErrorBody;
use axum::{
    Extension,
    extract::State,
    response::{IntoResponse, Response},
};
use domain::{FineTune, Priority, Recipe};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{
    task_object::{Rendered, TaskObject},
    tasks,
};
use crate::{
    app::Shared,
    audit::About,
    auth::Caller,
    error::{ApiError, Result},
    extract::Json,
    submit,
};

/// A fine-tune as the first generation's clients ask for it
#[derive(ToSchema)]
#[allow(unused)]
pub struct CreateTask {
    model_name: String,
    /// Path that the upload answered.
    dataset_file: String,
    #[schema(default = 3)]
    num_epochs: Option<u32>,
    #[schema(default = 1)]
    batch_size: Option<u32>,
    #[schema(default = 16)]
    gradient_accumulation_steps: Option<u32>,
    #[schema(default = 5e-5)]
    learning_rate: Option<f64>,
    #[schema(default = 1024)]
    max_length: Option<u32>,
    #[schema(default = true)]
    load_in_8bit: Option<bool>,
}

/// Submit a fine-tune
///
/// It starts at once or waits for a device. Unknown fields are ignored; numbers may come as text.
#[utoipa::path(post, path = "/api/finetune/create", operation_id = "finetune_create", tag = "first generation", request_body = CreateTask, responses(
    (status = 200, body = TaskObject<'static>),
    (status = 400, description = "The data set or the model cannot be used", body = ErrorBody),
    (status = 401, body = ErrorBody),
    (status = 413, body = ErrorBody),
    (status = 415, body = ErrorBody),
    (status = 422, description = "A field is missing or of the wrong type", body = ErrorBody),
))]
pub async fn create(
    State(app): State<Shared>,
    Caller(who): Caller,
    Json(body): Json<Map<String, Value>>,
) -> Result<Response> {
    let recipe = Recipe::FineTune(fine_tune(&Fields(&body))?);
    let (priority, after) = (Priority::Normal, Vec::new());
    let request = submit::Request {
        name: None,
        recipe,
        time_limit: None,
        hold: false,
        priority,
        after,
        terms: domain::Terms::default(),
        fit: false,
    };
    let submit::Accepted { submitted, .. } = submit::submit(&app, request, &who).await.map_err(ApiError::in_chinese)?;
    let warning = submit::queue_warning(&app, &submitted);
    let mut out = Vec::new();
    let warning = warning.as_ref().map(|warning| warning.zh.as_str());
    Rendered::new(&submitted.snapshot, app.engine.home(), warning, app.options.authentication).write(&mut out, &who);
    let about = About::target(submitted.snapshot.task.id.to_string());
    Ok((Extension(about), tasks::json(out)).into_response())
}

fn fine_tune(fields: &Fields<'_>) -> Result<FineTune> {
    let default = FineTune::default();
    Ok(FineTune {
        model_name: fields.text("model_name")?,
        dataset_file: fields.text("dataset_file")?,
        num_epochs: fields.whole("num_epochs", default.num_epochs)?,
        batch_size: fields.whole("batch_size", default.batch_size)?,
        gradient_accumulation_steps: fields
            .whole("gradient_accumulation_steps", default.gradient_accumulation_steps)?,
        learning_rate: fields.real("learning_rate", default.learning_rate)?,
        max_length: fields.whole("max_length", default.max_length)?,
        load_in_8bit: fields.flag("load_in_8bit", default.load_in_8bit)?,
        ..default
    })
}

/// Reads fields as leniently as the first generation did: `"3"` and `3.0` are 3, `"true"` and 1 are true.
struct Fields<'a>(&'a Map<String, Value>);

impl Fields<'_> {
    fn text(&self, name: &str) -> Result<String> {
        match self.0.get(name) {
            None => Err(ApiError::invalid(format!("缺少字段 {name}"), format!("缺少字段 {name}"))),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(other) => Err(wrong(name, "字符串", other)),
        }
    }

    fn whole(&self, name: &str, default: u32) -> Result<u32> {
        let Some(value) = self.0.get(name) else { return Ok(default) };
        let number = match value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse::<i64>().ok().map(|number| number as f64),
            _ => None,
        };
        let whole = number.filter(|number| number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(number));
        whole.map(|number| number as u32).ok_or_else(|| wrong(name, "非负整数", value))
    }

    fn real(&self, name: &str, default: f64) -> Result<f64> {
        let Some(value) = self.0.get(name) else { return Ok(default) };
        let number = match value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        number.filter(|number| number.is_finite()).ok_or_else(|| wrong(name, "数字", value))
    }

    fn flag(&self, name: &str, default: bool) -> Result<bool> {
        let Some(value) = self.0.get(name) else { return Ok(default) };
        let word = match value {
            Value::Bool(flag) => return Ok(*flag),
            Value::Number(number) => number.to_string(),
            Value::String(text) => text.trim().to_ascii_lowercase(),
            _ => String::new(),
        };
        match word.as_str() {
            "1" | "true" | "t" | "yes" | "y" | "on" => Ok(true),
            "0" | "false" | "f" | "no" | "n" | "off" => Ok(false),
            _ => Err(wrong(name, "true 或 false", value)),
        }
    }
}

fn wrong(name: &str, expected: &str, got: &Value) -> ApiError {
    let got: String = got.to_string().chars().take(80).collect();
    let said = format!("字段 {name} 应为{expected}，收到 {got}");
    ApiError::invalid(said.clone(), said)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(body: Value) -> std::result::Result<FineTune, String> {
        let Value::Object(body) = body else { panic!("an object") };
        fine_tune(&Fields(&body)).map_err(|error| error.detail)
    }

    #[test]
    fn bodies_are_read_as_leniently_as_by_the_first_generation() {
        let least = read(json!({"model_name": "m", "dataset_file": "d", "who_knows": [1]})).unwrap();
        let expected = FineTune { model_name: "m".into(), dataset_file: "d".into(), ..FineTune::default() };
        assert_eq!(least, expected);

        let texts = read(json!({
            "model_name": "m", "dataset_file": "d", "num_epochs": "5", "batch_size": 2.0,
            "learning_rate": "1e-4", "load_in_8bit": 0
        }))
        .unwrap();
        assert_eq!((texts.num_epochs, texts.batch_size), (5, 2));
        assert_eq!((texts.learning_rate, texts.load_in_8bit), (1e-4, false));

        for (field, value, sentence) in [
            ("num_epochs", json!(2.5), "字段 num_epochs 应为非负整数，收到 2.5"),
            ("num_epochs", json!(-1), "字段 num_epochs 应为非负整数，收到 -1"),
            ("max_length", json!(null), "字段 max_length 应为非负整数，收到 null"),
            ("learning_rate", json!("fast"), "字段 learning_rate 应为数字，收到 \"fast\""),
            ("learning_rate", json!("nan"), "字段 learning_rate 应为数字，收到 \"nan\""),
            ("load_in_8bit", json!("maybe"), "字段 load_in_8bit 应为true 或 false，收到 \"maybe\""),
            ("model_name", json!(7), "字段 model_name 应为字符串，收到 7"),
        ] {
            let mut body = json!({"model_name": "m", "dataset_file": "d"});
            body[field] = value;
            assert_eq!(read(body).unwrap_err(), sentence);
        }
        assert_eq!(read(json!({"model_name": "m"})).unwrap_err(), "缺少字段 dataset_file");
    }
}
